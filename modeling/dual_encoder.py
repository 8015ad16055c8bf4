"""Dual encoder: query and document are embedded apart and meet only in a dot product (Equation 2)."""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from .batching import run_in_blocks
from .checkpoints import hub_arguments, published_fields, refuse_others, starting_pooling
from .gathering import gather_rows
from .outputs import RankingOutput


class DualEncoderConfig(PreTrainedConfig):
    """What changes a score is saved with the weights, so that nobody encodes otherwise than was trained."""

    model_type = "dual_encoder"
    sub_configs = {"encoder_config": AutoConfig}

    encoder_config: dict | PreTrainedConfig | None = None
    tied: bool = True  # one encoder for queries and documents
    pooling: str = "cls"  # "cls" | "mean"
    query_length: int = 30  # tokens kept, [CLS] and [SEP] included
    document_length: int = 200
    projection_size: int | None = None  # width of a linear layer after pooling; None: none
    output_norm: bool = False  # a LayerNorm after that (BERT's own last LayerNorm is always there)
    embedding_dropout: float = 0.1  # Appendix B

    def __post_init__(self, **kwargs):
        if isinstance(self.encoder_config, dict):
            self.encoder_config = AutoConfig.for_model(**self.encoder_config)
        if self.pooling not in ("cls", "mean"):
            raise ValueError(f"pooling must be 'cls' or 'mean', got {self.pooling!r}")
        super().__post_init__(**kwargs)


class DualEncoder(PreTrainedModel):
    """Embeds queries and documents with one encoder (`tied`) or two, and scores by inner product."""

    config_class = DualEncoderConfig
    base_model_prefix = "encoder"
    main_input_name = "document_input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # forward returns no loss: Trainer must divide by the accumulation steps itself
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

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
        self.chunk_size: int | None = None  # texts encoded at a time, see `run_in_blocks`; a matter of memory only
        freeze_poolers(self)
        self.post_init()

    @classmethod
    def from_encoder(cls, name_or_path: str, *, layers: int | None = None, **config_fields) -> "DualEncoder":
        """Wrap a pretrained encoder (Hub id or path), optionally its first `layers` layers only.

        `config_fields` are those of `DualEncoderConfig`, and `revision`, `token` and the like of the Hub. A
        sentence-transformers model is pooled as it says, unless `pooling` is given. New layers (projection, output
        norm) start at random.
        """
        hub = hub_arguments(config_fields)
        fields = {name: value for name, value in config_fields.items() if name not in hub}
        if "pooling" not in fields:
            fields |= starting_pooling(name_or_path, **hub)
        encoder = load_encoder(AutoModel, name_or_path, layers, **hub)
        model = cls(DualEncoderConfig(encoder_config=encoder.config, **fields))
        model.encoder.load_state_dict(encoder.state_dict())
        if model.document_encoder is not None:
            model.document_encoder.load_state_dict(encoder.state_dict())
        return model

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint of this class, a published folder, or any dense sentence-transformers model."""
        hub = hub_arguments(kwargs)
        fields = published_fields(pretrained_model_name_or_path, cls.config_class.model_type, **hub)
        if fields is None:
            kwargs["use_safetensors"] = True
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        refuse_others(pretrained_model_name_or_path, kwargs)
        return cls.from_encoder(pretrained_model_name_or_path, **fields, **hub).eval()

    def embed(self, input_ids: Tensor, attention_mask: Tensor, side: str = "query") -> Tensor:
        """Token ids and mask [N, L] -> embeddings [N, H], float32; `side` matters only to untied encoders."""
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
        """`embed`, computed in blocks of similar length: the same embeddings [N, H] without the cost of padding."""

        def encode(rows: Tensor, length: int) -> Tensor:
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

        query_* [B, Q] and document_* [N, D] (distinct documents, right-padded); document_index [B, K] points into the
        N documents, -1 for none. With `gather_documents` it points into the documents of all processes, in rank
        order. Returns scores [B, K].
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
    """Average of the real tokens in float32: hidden [N, L, H], mask [N, L] -> [N, H]."""
    weights = attention_mask[..., None].float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)


def load_encoder(auto_class, name_or_path: str, layers: int | None, **config_fields) -> PreTrainedModel:
    """A pretrained model by its auto class, cut to its first `layers` transformer layers.

    `config_fields` change its config, or are the Hub's (`revision`, `token` …).
    """
    config = AutoConfig.from_pretrained(name_or_path, **config_fields)
    if hasattr(config, "encoder_config"):
        raise ValueError(
            f"{name_or_path} is a {config.model_type} checkpoint, not an encoder: publish.py makes it one"
        )
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ValueError(f"layers must be 1 to {config.num_hidden_layers} for {name_or_path}, got {layers}")
        config.num_hidden_layers = layers
    hub = hub_arguments(config_fields)
    # Pickled weights are never read, whatever a repository has.
    return auto_class.from_pretrained(name_or_path, config=config, dtype=torch.float32, use_safetensors=True, **hub)


def freeze_poolers(model: nn.Module) -> None:
    """BERT's pooler takes no part in our scores: without gradient it needs no optimiser state and no all-reduce."""
    for name, parameter in model.named_parameters():
        if ".pooler." in name:
            parameter.requires_grad_(False)


DualEncoderConfig.register_for_auto_class()
DualEncoder.register_for_auto_class("AutoModel")
AutoConfig.register(DualEncoderConfig.model_type, DualEncoderConfig)
AutoModel.register(DualEncoderConfig, DualEncoder)
