"""Dual encoder: query and document are embedded apart and meet only in a dot product (Equation 2) or a cosine."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel

from .base import RankingModel, RankingModelConfig
from .batching import run_in_blocks
from .checkpoints import published_fields, query_arguments, read_projection, starting_fields, starting_prompts
from .encoders import freeze_unused, load_encoder, make_encoder
from .gathering import gather_rows
from .outputs import RankingOutput
from .repository import split_keywords
from .scoring import COSINE_SCALE, ScoreScale


def first_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Take the first token, [CLS]: hidden [N, L, H], mask [N, L] -> [N, H]."""
    return hidden[:, 0]


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the real tokens in float32: hidden [N, L, H], mask [N, L] -> [N, H]."""
    weights = attention_mask[..., None].float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)


def last_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Take the last real token, wherever the padding is: hidden [N, L, H], mask [N, L] -> [N, H]."""
    last = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


POOLINGS = {"cls": first_token, "mean": mean_pool, "last": last_token}


class DualEncoderConfig(RankingModelConfig):
    """The settings that change a score, saved with the weights, so that nobody encodes otherwise than was trained."""

    model_type = "dual_encoder"

    tied: bool = True  # one encoder for queries and documents
    pooling: str = "cls"  # the hidden state of the first token, the "mean" over tokens, or the "last" one (decoders)
    query_length: int = 30  # tokens kept, [CLS] and [SEP] included
    document_length: int = 200
    projection_size: int | None = None  # width of a linear layer after pooling; None: none
    output_norm: bool = False  # a LayerNorm after that (BERT's own last LayerNorm is always there)
    normalize: bool = False  # embeddings of unit length: scores are cosines times the scale
    scale: float | None = None  # factor on all scores; None: 20 for cosines, else 1
    learn_scale: bool = False  # the scale is where a learned one starts
    embedding_dropout: float = 0.1  # Appendix B
    # Another model that embeds the documents: {"name": …, "fingerprints": {number format: …}}; None: this one does.
    document_model: dict | None = None

    def __post_init__(self, **kwargs):
        """Raise ValueError for a pooling or a scale that cannot be, or two encoders of documents."""
        self.check_choice("pooling", *POOLINGS)
        self.check_scale()
        if self.document_model is not None and not self.tied:
            raise ValueError("tied must be true where another model embeds the documents")
        super().__post_init__(**kwargs)
        if self.pooling != "mean" and not self.has_layers():
            raise ValueError(f"pooling must be 'mean' with layers 0, where tokens never meet, got {self.pooling!r}")

    def start_scale(self) -> float:
        """Return the factor on all scores before any training."""
        return (COSINE_SCALE if self.normalize else 1.0) if self.scale is None else self.scale


class DualEncoder(RankingModel):
    """A model that embeds queries and documents with one encoder (`tied`) or two, and scores by their inner product.

    Scores are multiplied by the scale; embeddings are not.
    """

    config_class = DualEncoderConfig

    def __init__(self, config: DualEncoderConfig):
        super().__init__(config)
        width = config.projection_size or config.encoder_config.hidden_size
        self.encoder = make_encoder(config.encoder_config)
        self.document_encoder = None if config.tied else make_encoder(config.encoder_config)
        self.projection = self.document_projection = None
        if config.projection_size:
            self.projection = nn.Linear(config.encoder_config.hidden_size, width)
            self.document_projection = None if config.tied else nn.Linear(config.encoder_config.hidden_size, width)
        self.output_norm = nn.LayerNorm(width) if config.output_norm else None
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.score_scale = ScoreScale(config.start_scale(), config.learn_scale)
        if config.document_model is not None:
            self.main_input_name = "query_input_ids"
        freeze_unused(self, config.has_layers())
        self.post_init()

    @classmethod
    def from_encoder(
        cls, name_or_path: str, *, layers: int | None = None, dropout: float | None = None, **config_fields
    ) -> "DualEncoder":
        """Wrap a pretrained encoder (Hub id or path); new layers (projection, output norm) start at random.

        A sentence-transformers or published model keeps its pooling, its linear layers (the projection), its
        normalisation, its scale and its prompts, except for those among `config_fields` (a prompt "" is none). With
        `layers` only the pooling and the prompts are kept: the rest was trained for the last layer.

        Args:
            name_or_path: Hub id or folder.
            layers: take the encoder's first layers only; with 0 its embeddings of single tokens, with mean pooling.
            dropout: rate inside the encoder; None: its own.
            config_fields: those of `DualEncoderConfig`, and `revision`, `token` and the like of the Hub.

        Raises:
            ValueError: as `load_encoder`, or a pooling or layers after it that we do not have.
        """
        hub, fields = split_keywords(config_fields)
        hub = query_arguments(name_or_path, **hub)
        start = starting_fields(name_or_path, whole=layers is None, chosen=fields.keys(), **hub)
        projection = read_projection(name_or_path, **hub) if start.get("projection_size") else None
        start |= starting_prompts(name_or_path, **hub)
        model = cls.wrap(load_encoder(AutoModel, name_or_path, layers, dropout, **hub), **start | fields)
        return model.with_projection(projection)

    @classmethod
    def find_published(cls, name_or_path: str, hub: dict) -> Callable[[], "DualEncoder"] | None:
        """Return what loads a published folder; None for a checkpoint of this class. Raises as `published_fields`."""
        fields = published_fields(name_or_path, cls.config_class.model_type, **hub)
        return None if fields is None else partial(cls.from_published, name_or_path, fields, hub)

    @classmethod
    def from_published(cls, name_or_path: str, fields: dict, hub: dict) -> "DualEncoder":
        """Load a published folder whose config fields were read before."""
        hub = query_arguments(name_or_path, **hub)
        projection = read_projection(name_or_path, **hub) if fields.get("projection_size") else None
        fields = starting_prompts(name_or_path, **hub) | fields
        return cls.wrap(load_encoder(AutoModel, name_or_path, **hub), **fields).with_projection(projection)

    def with_projection(self, weights: dict[str, Tensor] | None) -> "DualEncoder":
        """Fill the projection of both sides with `weights`, unless they are None, and return the model."""
        for layer in (self.projection, self.document_projection):
            if weights is not None and layer is not None:
                layer.load_state_dict({"bias": torch.zeros_like(layer.bias)} | weights)
        return self

    def embed(self, input_ids: Tensor, attention_mask: Tensor, side: str = "query") -> Tensor:
        """Embed texts: ids and mask [N, L] -> embeddings [N, H], float32, of unit length where the config says so.

        `side` ("query" or "document") matters only to untied encoders.
        """
        untied = side == "document" and not self.config.tied
        encoder = self.document_encoder if untied else self.encoder
        projection = self.document_projection if untied else self.projection
        attention_mask = attention_mask.clone()
        attention_mask[:, 0] = 1  # a text without a token must not make attention, and every gradient, NaN
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [N, L, H]
        embeddings = POOLINGS[self.config.pooling](hidden, attention_mask)
        if projection is not None:
            embeddings = projection(embeddings)
        if self.output_norm is not None:
            embeddings = self.output_norm(embeddings)
        embeddings = self.dropout(embeddings.float())
        return normalize(embeddings, dim=-1) if self.config.normalize else embeddings

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
        document_input_ids: Tensor | None = None,
        document_attention_mask: Tensor | None = None,
        document_index: Tensor | None = None,
        gather_documents: bool = False,
        document_embeddings: Tensor | None = None,
    ) -> RankingOutput:
        """Score the documents of each query.

        Args:
            query_input_ids, query_attention_mask: [B, Q], right-padded.
            document_input_ids, document_attention_mask: [N, D], distinct documents.
            document_index: [B, K] rows of the N documents, -1 for none.
            gather_documents: `document_index` is of the documents of all processes, in rank order.
            document_embeddings: [N, H], where another model has embedded the documents; their tokens are not read.

        Returns:
            Scores [B, K] float32, -inf where there is no document or one without a token.
        """
        queries = self.embed_in_blocks(query_input_ids, query_attention_mask, "query")
        if document_embeddings is None:
            document_embeddings = self.embed_in_blocks(document_input_ids, document_attention_mask, "document")
            empty = ~document_attention_mask.any(dim=1)
        else:
            empty = torch.zeros(len(document_embeddings), dtype=torch.bool, device=document_embeddings.device)
        documents = document_embeddings
        if gather_documents:
            documents, empty = gather_rows(documents), gather_rows(empty)
        with torch.autocast(queries.device.type, enabled=False):  # 8 bits of mantissa would tie scores near 700
            scores = self.score_scale((queries @ documents.T).gather(1, document_index.clamp(min=0)))
        absent = (document_index < 0) | empty[document_index]
        return RankingOutput(scores.masked_fill(absent, -torch.inf), queries, document_embeddings)


DualEncoderConfig.register_for_auto_class()
DualEncoder.register_for_auto_class("AutoModel")
AutoConfig.register(DualEncoderConfig.model_type, DualEncoderConfig)
AutoModel.register(DualEncoderConfig, DualEncoder)
