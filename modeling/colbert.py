"""ColBERT: one embedding per token, and each query token meets the document token it likes best (MaxSim)."""

import string
from collections.abc import Callable
from functools import partial
from itertools import starmap

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, AutoTokenizer

from .base import RankingModel, RankingModelConfig
from .batching import run_in_blocks
from .checkpoints import starting_prompts
from .colbert_checkpoints import Checkpoint, layout, read_checkpoint
from .colbert_inputs import add_mask_tokens, insert_marker, token_fields, truncate
from .encoders import freeze_unused, load_encoder, make_encoder, set_dropout
from .gathering import gather_tokens
from .outputs import RankingOutput
from .repository import split_keywords
from .scoring import COSINE_SCALE, ScoreScale, chunk_numbers, maxsim_scores, select_rows


class ColBERTConfig(RankingModelConfig):
    """The settings that change a score, saved with the weights. Lengths count [CLS], the marker and [SEP]."""

    model_type = "colbert"

    query_length: int = 32
    document_length: int = 200
    projection_size: int | None = 128  # width of the token embeddings; None: the encoder's own
    projection_bias: bool = False
    normalize: bool = True  # token embeddings of unit length
    reduction: str = "mean"  # of the similarities over the query tokens; "sum" in Khattab & Zaharia
    scale: float | None = None  # factor on all scores; None: 20 for means of cosines, else 1
    learn_scale: bool = False  # the scale is where a learned one starts
    query_marker_id: int | None = None  # inserted after [CLS]
    document_marker_id: int | None = None
    mask_token_id: int | None = None
    mask_augmentation: str = "fill"  # [MASK] after a query: "fill" it up to query_length, "append" mask_tokens, "none"
    mask_tokens: int = 0
    attend_to_mask: bool = False  # whether the query's tokens see its [MASK] tokens
    skiplist_ids: list[int] | None = None  # document tokens that are not compared
    embedding_dropout: float = 0.1  # Appendix B

    def __post_init__(self, **kwargs):
        """Refuse fields that do not exist or do not go together; raises ValueError."""
        self.check_choice("reduction", "mean", "sum")
        self.check_choice("mask_augmentation", "fill", "append", "none")
        self.check_scale()
        if self.mask_augmentation != "none" and self.encoder_config is not None and self.mask_token_id is None:
            raise ValueError(f"mask_augmentation {self.mask_augmentation!r} needs mask_token_id")
        super().__post_init__(**kwargs)
        if not self.has_layers():
            raise ValueError("layers must be at least 1 for ColBERT, whose markers would reach no other token")

    def start_scale(self) -> float:
        """Return the factor on all scores before any training."""
        if self.scale is not None:
            return self.scale
        return COSINE_SCALE if self.normalize and self.reduction == "mean" else 1.0


class ColBERT(RankingModel):
    """Token embeddings of queries and documents by one encoder, scored by (mean or summed) MaxSim.

    Takes plain token ids, `[CLS] text [SEP]`: markers and [MASK] tokens are added here.
    """

    config_class = ColBERTConfig

    def __init__(self, config: ColBERTConfig):
        super().__init__(config)
        self.encoder = make_encoder(config.encoder_config)
        self.projection = None
        if config.projection_size:
            width = config.encoder_config.hidden_size
            self.projection = nn.Linear(width, config.projection_size, bias=config.projection_bias)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.score_scale = ScoreScale(config.start_scale(), config.learn_scale)
        freeze_unused(self)
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        name_or_path: str,
        *,
        layers: int | None = None,
        dropout: float | None = None,
        markers: tuple[str, str] | None = ("[unused0]", "[unused1]"),
        skip_punctuation: bool = True,
        **config_fields,
    ) -> "ColBERT":
        """Wrap a pretrained encoder (Hub id or path) with a projection that starts at random.

        The encoder of a ColBERT model is taken whole, with its projection, markers and skiplist. Prompts are those of
        the encoder's folder, unless `query_prompt` or `document_prompt` are given ("" for none).

        Args:
            name_or_path: Hub id or folder.
            layers: take the encoder's first layers only.
            dropout: rate inside the encoder; None: its own.
            markers: tokens of the vocabulary put before query and document; None: none.
            skip_punctuation: leave punctuation of documents out of the comparison.
            config_fields: those of `ColBERTConfig`, and `revision`, `token` and the like of the Hub.

        Raises:
            ValueError: as `load_encoder`; a marker is no token of the vocabulary; the vocabulary has no [MASK];
                or `layers`, or another projection size, of a ColBERT.
        """
        hub, fields = split_keywords(config_fields)
        if layout(name_or_path, **hub) is not None:
            return cls.from_colbert(cls.from_pretrained(name_or_path, **hub), name_or_path, layers, dropout, fields)
        encoder = load_encoder(AutoModel, name_or_path, layers, dropout, **hub)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
        tokens = token_fields(tokenizer, markers, list(string.punctuation) if skip_punctuation else [])
        return cls.wrap(encoder, **starting_prompts(name_or_path, **hub) | tokens | fields)

    @classmethod
    def from_colbert(
        cls, start: "ColBERT", name: str, layers: int | None, dropout: float | None, config_fields: dict
    ) -> "ColBERT":
        """Make a ColBERT model to train further, with fields of its config changed.

        Args:
            start: the model to start from.
            name: what messages call it.
            layers, dropout: as in `from_encoder`; layers are refused.
            config_fields: those of `ColBERTConfig`; another projection size is refused.

        Raises:
            ValueError: what is refused was asked for.
        """
        fields = {field: getattr(start.config, field) for field in ("encoder_config", *ColBERTConfig.field_names())}
        if start.config.learn_scale:
            fields["scale"] = start.reached_scale()
        config = ColBERTConfig(**fields | config_fields)
        if layers is not None or config.projection_size != start.config.projection_size:
            raise ValueError(
                f"{name} is a ColBERT model with a projection to {start.config.projection_size} dimensions: "
                "it is taken whole, without layers and projection_size"
            )
        if dropout is not None:
            set_dropout(config.encoder_config, dropout)
        model = cls(config)
        weights = {name: weight for name, weight in start.state_dict().items() if not name.startswith("score_scale.")}
        model.load_state_dict(weights | model.score_scale.state_dict(prefix="score_scale."))  # it starts from there
        return model

    @classmethod
    def find_published(cls, name_or_path: str, hub: dict) -> Callable[[], "ColBERT"] | None:
        """Return what loads a published folder or a ColBERT of another project; raises as `read_checkpoint`."""
        checkpoint = read_checkpoint(name_or_path, **hub)
        return None if checkpoint is None else partial(cls.from_checkpoint, checkpoint)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ColBERT":
        """Make a model of what `read_checkpoint` read."""
        model = cls.wrap(checkpoint.encoder, **checkpoint.fields)
        if model.projection is not None:
            model.projection.load_state_dict(checkpoint.projection)
        return model

    def prepare(self, input_ids: Tensor, attention_mask: Tensor, side: str) -> tuple[Tensor, Tensor, Tensor]:
        """Add markers and [MASK] tokens: ids and mask [N, L] -> ids, attention mask, present tokens, [N, T] each.

        A present token has an embedding; an added [MASK] has one whether it is attended to or not.
        """
        config, is_query = self.config, side == "query"
        marker_id = config.query_marker_id if is_query else config.document_marker_id
        if marker_id is not None:
            input_ids, attention_mask = insert_marker(input_ids, attention_mask, marker_id)
        length = config.query_length if is_query else config.document_length
        ids, mask = truncate(input_ids, attention_mask, length)
        if not is_query or config.mask_augmentation == "none":
            return ids, mask, mask.bool()
        amount = {"fill_to": length} if config.mask_augmentation == "fill" else {"count": config.mask_tokens}
        ids, added = add_mask_tokens(ids, mask, config.mask_token_id, **amount)
        mask = pad(mask, (0, ids.shape[1] - mask.shape[1]))
        return ids, mask | added if config.attend_to_mask else mask, mask.bool() | added

    def compared(self, ids: Tensor, present: Tensor, side: str) -> Tensor:
        """Select the tokens of MaxSim among those present [N, T]: all of a query, no skipped ones of a document."""
        if side == "query" or not self.config.skiplist_ids:
            return present
        return present & ~torch.isin(ids, torch.tensor(self.config.skiplist_ids, device=ids.device))

    def token_embeddings(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed every token: prepared ids and attention mask [N, T] -> [N, T, H] float32."""
        attention_mask = attention_mask.clone()
        attention_mask[:, 0] = 1  # a text without a token must not make attention, and every gradient, NaN
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        embeddings = self.dropout(hidden if self.projection is None else self.projection(hidden)).float()
        return normalize(embeddings, dim=-1) if self.config.normalize else embeddings

    def embed(self, input_ids: Tensor, attention_mask: Tensor, side: str = "query") -> tuple[Tensor, Tensor]:
        """Embed texts: ids and mask [N, L] -> token embeddings [N, T, H], and the mask [N, T] of those compared.

        `side` ("query" or "document") decides on marker, length, [MASK] tokens and skiplist.
        """
        ids, attention_mask, present = self.prepare(input_ids, attention_mask, side)
        return self.token_embeddings(ids, attention_mask), self.compared(ids, present, side)

    def embed_in_blocks(self, input_ids: Tensor, attention_mask: Tensor, side: str) -> tuple[Tensor, Tensor]:
        """Do as `embed`, in blocks of similar length."""
        ids, attention_mask, present = self.prepare(input_ids, attention_mask, side)

        def encode(rows: Tensor, length: int) -> Tensor:
            """Embed some rows, trimmed to `length` tokens and padded again."""
            embeddings = self.token_embeddings(ids[rows, :length], attention_mask[rows, :length])
            return pad(embeddings, (0, 0, 0, ids.shape[1] - length))

        embeddings = run_in_blocks(encode, present.sum(dim=1), chunk_size=self.chunk_size)
        return embeddings, self.compared(ids, present, side)

    def forward(
        self,
        query_input_ids: Tensor,
        query_attention_mask: Tensor,
        document_input_ids: Tensor,
        document_attention_mask: Tensor,
        document_index: Tensor,
        gather_documents: bool = False,
    ) -> RankingOutput:
        """Score the documents of each query; memory grows with the N documents, not with the B x K pairs.

        Args:
            query_input_ids, query_attention_mask: [B, Q], as a tokenizer makes them.
            document_input_ids, document_attention_mask: [N, D], likewise.
            document_index, gather_documents: as in `DualEncoder.forward`, and the scores [B, K] too.
        """
        queries = self.embed_in_blocks(query_input_ids, query_attention_mask, "query")
        documents = self.embed_in_blocks(document_input_ids, document_attention_mask, "document")
        if gather_documents:
            documents = gather_tokens(*documents)
        query_rows, columns = (document_index >= 0).nonzero(as_tuple=True)
        scores = torch.full(document_index.shape, -torch.inf, device=document_index.device)
        if len(query_rows) == 0:
            return RankingOutput(scores=scores)
        pairs = self.score_pairs(*queries, *documents, query_rows, document_index[query_rows, columns])
        return RankingOutput(scores=scores.index_put((query_rows, columns), pairs))

    def score_pairs(
        self,
        queries: Tensor,
        query_mask: Tensor,
        documents: Tensor,
        document_mask: Tensor,
        query_rows: Tensor,
        document_rows: Tensor,
    ) -> Tensor:
        """Compute MaxSim of pairs times the scale, a chunk at a time; a backward pass scores each chunk again.

        Args:
            queries, query_mask: [B, Q, H] and [B, Q].
            documents, document_mask: [N, D, H] and [N, D].
            query_rows, document_rows: [P] rows of both.

        Returns:
            Scores [P] float32.
        """

        def score(query_rows: Tensor, document_rows: Tensor) -> Tensor:
            """Score a chunk of pairs."""
            query_tokens = select_rows(query_rows, queries, query_mask)
            tokens, mask = select_rows(document_rows, documents, document_mask)
            with torch.autocast(queries.device.type, enabled=False):
                return maxsim_scores(*query_tokens, tokens[:, None], mask[:, None], self.config.reduction)[:, 0]

        missing = -queries.shape[1] % 8  # processors multiply and compare eight numbers at a time
        queries, query_mask = pad(queries, (0, 0, 0, missing)), pad(query_mask, (0, missing))
        numbers = documents.shape[1] * (queries.shape[1] + documents.shape[2])
        size = max(1, chunk_numbers(queries.device) // numbers)
        chunks = list(zip(query_rows.split(size), document_rows.split(size), strict=True))
        in_parts = len(chunks) > 1 and torch.is_grad_enabled()
        score_chunk = partial(checkpoint, score, use_reentrant=False) if in_parts else score
        return self.score_scale(torch.cat(list(starmap(score_chunk, chunks))))


ColBERTConfig.register_for_auto_class()
ColBERT.register_for_auto_class("AutoModel")
AutoConfig.register(ColBERTConfig.model_type, ColBERTConfig)
AutoModel.register(ColBERTConfig, ColBERT)
