"""Dual encoder: query and document are embedded apart and meet only in a dot product (Equation 2)."""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from .base import RankingModel, RankingModelConfig
from .batching import run_in_blocks
from .checkpoints import starting_pooling, starting_prompts
from .encoders import freeze_poolers, load_encoder
from .gathering import gather_rows
from .outputs import RankingOutput
from .repository import split_keywords


class DualEncoderConfig(RankingModelConfig):
    """The settings that change a score, saved with the weights, so that nobody encodes otherwise than was trained."""

    model_type = "dual_encoder"

    tied: bool = True  # one encoder for queries and documents
    pooling: str = "cls"  # "cls" | "mean"
    query_length: int = 30  # tokens kept, [CLS] and [SEP] included
    document_length: int = 200
    projection_size: int | None = None  # width of a linear layer after pooling; None: none
    output_norm: bool = False  # a LayerNorm after that (BERT's own last LayerNorm is always there)
    embedding_dropout: float = 0.1  # Appendix B

    def __post_init__(self, **kwargs):
        """Refuse a pooling that does not exist; raises ValueError."""
        self.check_choice("pooling", "cls", "mean")
        super().__post_init__(**kwargs)


class DualEncoder(RankingModel):
    """A model that embeds queries and documents with one encoder (`tied`) or two, and scores by inner product."""

    config_class = DualEncoderConfig

    def __init__(self, config: DualEncoderConfig):
        super().__init__(config)
        width = config.projection_size or config.encoder_config.hidden_size
        self.encoder = AutoModel.from_config(config.encoder_config)
        self.document_encoder = None if config.tied else AutoModel.from_config(config.encoder_config)
        self.projection = self.document_projection = None
        if config.projection_size:
            self.projection = nn.Linear(config.encoder_config.hidden_size, width)
            self.document_projection = None if config.tied else nn.Linear(config.encoder_config.hidden_size, width)
        self.output_norm = nn.LayerNorm(width) if config.output_norm else None
        self.dropout = nn.Dropout(config.embedding_dropout)
        freeze_poolers(self)
        self.post_init()

    @classmethod
    def from_encoder(
        cls, name_or_path: str, *, layers: int | None = None, dropout: float | None = None, **config_fields
    ) -> "DualEncoder":
        """Wrap a pretrained encoder (Hub id or path); new layers (projection, output norm) start at random.

        A sentence-transformers model is pooled as it says, unless `pooling` is given, and has its prompts put before
        the texts, unless `query_prompt` or `document_prompt` are ("" for none).

        Args:
            name_or_path: Hub id or folder.
            layers: take the encoder's first layers only.
            dropout: rate inside the encoder; None: its own.
            config_fields: those of `DualEncoderConfig`, and `revision`, `token` and the like of the Hub.

        Raises:
            ValueError: as `load_encoder`, or a pooling that we do not have.
        """
        hub, fields = split_keywords(config_fields)
        if "pooling" not in fields:
            fields |= starting_pooling(name_or_path, **hub)
        fields = starting_prompts(name_or_path, **hub) | fields
        return cls.wrap(load_encoder(AutoModel, name_or_path, layers, dropout, **hub), **fields)

    def embed(self, input_ids: Tensor, attention_mask: Tensor, side: str = "query") -> Tensor:
        """Embed texts: ids and mask [N, L] -> embeddings [N, H], float32; `side` matters only to untied encoders."""
        untied = side == "document" and not self.config.tied
        encoder = self.document_encoder if untied else self.encoder
        projection = self.document_projection if untied else self.projection
        attention_mask = attention_mask.clone()
        attention_mask[:, 0] = 1  # a text without a token must not make attention, and every gradient, NaN
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [N, L, H]
        embeddings = hidden[:, 0] if self.config.pooling == "cls" else mean_pool(hidden, attention_mask)
        if projection is not None:
            embeddings = projection(embeddings)
        if self.output_norm is not None:
            embeddings = self.output_norm(embeddings)
        return self.dropout(embeddings.float())

    def embed_in_blocks(self, input_ids: Tensor, attention_mask: Tensor, side: str = "query") -> Tensor:
        """Do as `embed`, in blocks of similar length: the same embeddings [N, H] without the cost of padding."""

        def encode(rows: Tensor, length: int) -> Tensor:
            """Embed some rows, trimmed to `length` tokens."""
            return self.embed(input_ids[rows, :length], attention_mask[rows, :length], side)

        return run_in_blocks(encode, attention_mask.sum(dim=1), chunk_size=self.chunk_size)

    def forward(
        self,
        query_input_ids: Tensor,
        query_attention_mask: Tensor,
        document_input_ids: Tensor,
        document_attention_mask: Tensor,
        document_index: Tensor,
        gather_documents: bool = False,
    ) -> RankingOutput:
        """Score the documents of each query.

        Args:
            query_input_ids, query_attention_mask: [B, Q], right-padded.
            document_input_ids, document_attention_mask: [N, D], distinct documents.
            document_index: [B, K] rows of the N documents, -1 for none.
            gather_documents: `document_index` is of the documents of all processes, in rank order.

        Returns:
            Scores [B, K] float32, -inf where there is no document or one without a token.
        """
        queries = self.embed_in_blocks(query_input_ids, query_attention_mask, "query")
        documents = self.embed_in_blocks(document_input_ids, document_attention_mask, "document")
        empty = ~document_attention_mask.any(dim=1)
        if gather_documents:
            documents, empty = gather_rows(documents), gather_rows(empty)
        with torch.autocast(queries.device.type, enabled=False):  # 8 bits of mantissa would tie scores near 700
            scores = (queries @ documents.T).gather(1, document_index.clamp(min=0))
        absent = (document_index < 0) | empty[document_index]
        return RankingOutput(scores=scores.masked_fill(absent, -torch.inf))


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the real tokens in float32: hidden [N, L, H], mask [N, L] -> [N, H]."""
    weights = attention_mask[..., None].float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)


DualEncoderConfig.register_for_auto_class()
DualEncoder.register_for_auto_class("AutoModel")
AutoConfig.register(DualEncoderConfig.model_type, DualEncoderConfig)
AutoModel.register(DualEncoderConfig, DualEncoder)
