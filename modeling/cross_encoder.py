"""Cross-encoder: query and document are read together (cross-attention, the teacher of the paper)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from .base import RankingModel, RankingModelConfig
from .batching import run_in_blocks
from .encoders import load_encoder
from .gathering import gather_rows
from .outputs import RankingOutput
from .repository import split_keywords


class CrossEncoderConfig(RankingModelConfig):
    """Lengths of query and document in tokens, special tokens included, and how the two texts are joined."""

    model_type = "cross_encoder"

    query_length: int = 30
    document_length: int = 200
    separator_ids: list[int] | None = None  # put between query and document; a second </s> in RoBERTa
    keep_document_start: bool = False  # or leave out the document's first token, its [CLS], as BERT does

    def __post_init__(self, **kwargs):
        """Refuse prompts, as a pair's texts are told apart by their places, and no layers; raises ValueError."""
        if self.query_prompt or self.document_prompt:
            raise ValueError(
                "query_prompt, document_prompt: a cross-encoder knows query and document by their places in the pair "
                f"and takes no prompts, got {self.query_prompt!r} and {self.document_prompt!r}"
            )
        super().__post_init__(**kwargs)
        if not self.has_layers():
            raise ValueError("layers must be at least 1 for a cross-encoder, where query and document meet")

    @property
    def pair_length(self) -> int:
        """Return the most tokens of a pair."""
        joint = len(self.separator_ids or ()) - (not self.keep_document_start)
        return self.query_length + self.document_length + joint


class CrossEncoder(RankingModel):
    """A sequence classifier over a pair, such as `[CLS] query [SEP] document [SEP]`; the score is its raw logit.

    Takes the same batch as the other models, so that one trainer fits teacher and students.
    """

    config_class = CrossEncoderConfig

    def __init__(self, config: CrossEncoderConfig):
        super().__init__(config)
        self.encoder = AutoModelForSequenceClassification.from_config(config.encoder_config)
        self.post_init()

    @classmethod
    def from_encoder(
        cls, name_or_path: str, *, layers: int | None = None, dropout: float | None = None, **config_fields
    ) -> "CrossEncoder":
        """Wrap a pretrained encoder or classifier; a classifier keeps its head, an encoder gets a new one.

        Texts are joined as the tokenizer in the same place does it.

        Args:
            name_or_path: Hub id or folder.
            layers: take the encoder's first layers only.
            dropout: rate inside the encoder; None: its own.
            config_fields: those of `CrossEncoderConfig`, and `revision`, `token` and the like of the Hub.

        Raises:
            ValueError: as `load_encoder`, a classifier of more than two labels, or as `pair_fields`.
        """
        hub, fields = split_keywords(config_fields)
        if "separator_ids" not in fields:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
            fields = pair_fields(tokenizer, name_or_path) | fields
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **hub)
        is_classifier = any("ForSequenceClassification" in name for name in config.architectures or [])
        head = {} if is_classifier else {"num_labels": 1}
        encoder = load_encoder(AutoModelForSequenceClassification, name_or_path, layers, dropout, **head, **hub)
        if encoder.config.num_labels not in (1, 2):
            raise ValueError(f"{name_or_path} has {encoder.config.num_labels} labels; a ranker has 1, or 2")
        return cls.wrap(encoder, **fields)

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
            document_input_ids, document_attention_mask: [N, D], likewise.
            document_index, gather_documents: as in `DualEncoder.forward`, and the scores [B, K] too.
        """
        if gather_documents:
            document_input_ids, document_attention_mask = gather_texts(document_input_ids, document_attention_mask)
        present = (document_index >= 0) & document_attention_mask.any(dim=1)[document_index]
        query_rows, columns = present.nonzero(as_tuple=True)
        document_rows = document_index[query_rows, columns]
        pairs = join_pairs(
            query_input_ids[query_rows],
            query_attention_mask[query_rows],
            document_input_ids[document_rows],
            document_attention_mask[document_rows],
            self.config.encoder_config.pad_token_id or 0,
            self.config.separator_ids or (),
            self.config.keep_document_start,
        )
        scores = torch.full(document_index.shape, -torch.inf, device=document_index.device)
        if len(query_rows) == 0:
            return RankingOutput(scores=scores)
        return RankingOutput(scores=scores.index_put((query_rows, columns), self.score_pairs(*pairs)))

    def score_pairs(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Score joined pairs [P, L] (see `join_pairs`): raw logits [P], float32; two logits give their difference."""

        def encode(rows: Tensor, length: int) -> Tensor:
            """Classify some pairs, trimmed to `length` tokens."""
            inputs = {"input_ids": input_ids[rows, :length], "attention_mask": attention_mask[rows, :length]}
            if self.config.encoder_config.to_dict().get("type_vocab_size", 1) > 1:
                inputs["token_type_ids"] = token_type_ids[rows, :length]
            return self.encoder(**inputs).logits

        logits = run_in_blocks(encode, attention_mask.sum(dim=1), chunk_size=self.chunk_size).float()
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def pair_fields(tokenizer, name: str) -> dict:
    """Return how a tokenizer joins two texts, as fields of `CrossEncoderConfig`.

    Raises:
        ValueError: it does not put the document after the query, with special tokens at most between them.
    """
    query, document = (tokenizer(text)["input_ids"] for text in ("a query", "a document"))
    pair = tokenizer("a query", "a document")["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for keep_start in (False, True):
        rest = document if keep_start else document[1:]
        separators = pair[len(query) : len(pair) - len(rest)]
        if pair == [*query, *separators, *rest] and special.issuperset(separators):
            return {"separator_ids": separators, "keep_document_start": keep_start}
    raise ValueError(
        f"{name}: its tokenizer does not pair texts as a query, then a document with special tokens between them; "
        "it can score as a teacher but not be trained as a cross-encoder here"
    )


def join_pairs(
    query_ids: Tensor,
    query_mask: Tensor,
    document_ids: Tensor,
    document_mask: Tensor,
    pad_token_id: int = 0,
    separator_ids: Sequence[int] = (),
    keep_document_start: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Join right-padded texts -> input_ids, attention_mask and token_type_ids [P, L].

    By default `[CLS] query [SEP]` is followed by the document without its own [CLS], as BERT's tokeniser pairs texts:
    L is Q + D - 1.

    Args:
        query_ids, query_mask: [P, Q].
        document_ids, document_mask: [P, D].
        pad_token_id: fills up shorter pairs; decoders find the last token of a pair by it.
        separator_ids: tokens put between the two.
        keep_document_start: whether the document's first token stays.
    """
    if not keep_document_start:
        document_ids, document_mask = document_ids[:, 1:], document_mask[:, 1:]
    separators = torch.tensor(separator_ids, dtype=torch.long, device=query_ids.device).expand(len(query_ids), -1)
    document_ids = torch.cat([separators, document_ids], dim=1)
    document_mask = torch.cat([torch.ones_like(separators), document_mask], dim=1)
    query_lengths, document_lengths = query_mask.sum(dim=1, keepdim=True), document_mask.sum(dim=1, keepdim=True)
    lengths = query_lengths + document_lengths
    positions = torch.arange(query_ids.shape[1] + document_ids.shape[1], device=query_ids.device)
    positions = positions.expand(len(query_ids), -1)
    in_query, in_pair = positions < query_lengths, positions < lengths
    from_query = query_ids.gather(1, positions.clamp(max=query_ids.shape[1] - 1))
    in_document = (positions - query_lengths).clamp(0, document_ids.shape[1] - 1)
    input_ids = torch.where(in_query, from_query, document_ids.gather(1, in_document))
    return input_ids.masked_fill(~in_pair, pad_token_id), in_pair.long(), (in_pair & ~in_query).long()


def gather_texts(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Gather token ids and masks [n_r, D_r] of every process, padded to the longest -> [sum n_r, D]."""
    width = int(gather_rows(torch.tensor([input_ids.shape[1]], device=input_ids.device)).max())
    pad = (0, width - input_ids.shape[1])
    ids, mask = torch.nn.functional.pad(input_ids, pad), torch.nn.functional.pad(attention_mask, pad)
    return gather_rows(ids), gather_rows(mask)


CrossEncoderConfig.register_for_auto_class()
CrossEncoder.register_for_auto_class("AutoModel")
AutoConfig.register(CrossEncoderConfig.model_type, CrossEncoderConfig)
AutoModel.register(CrossEncoderConfig, CrossEncoder)
