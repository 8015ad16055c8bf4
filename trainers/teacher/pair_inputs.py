"""Token ids of pairs of a query and a document, joined as their cross-encoder was trained.

Two ways of joining exist. Our own cross-encoders cut each text to its own length and join the two (`join_pairs`, as in
training). Any other cross-encoder gets its tokenizer's own encoding of a pair: only what exceeds the model's positions
is cut, from the longer text first, unless lengths are asked for.
"""

import inspect

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.cross_encoder import join_pairs
from m3se.modeling.encoders import position_limit
from m3se.trainers.errors import InputError
from m3se.trainers.models.text_inputs import TextInputs


class PairEncoder:
    """Tokeniser of pairs of texts, which makes the inputs of a sequence classifier.

    Args:
        tokenizer: is made to pad on the right: no architecture then needs to know where a text begins.
        classifier: its config tells the positions and inputs it has.
        joined: True for our own cross-encoders (both lengths are then required).
        query_length, document_length: tokens a text may have, counted with the special tokens it would get alone.
            None: no limit of its own.
        separator_ids, keep_document_start: how texts are joined, as in `join_pairs`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        classifier: PreTrainedModel,
        joined: bool,
        query_length: int | None = None,
        document_length: int | None = None,
        separator_ids: list[int] | None = None,
        keep_document_start: bool = False,
    ):
        self.tokenizer = tokenizer
        self.tokenizer.padding_side = "right"
        self.joined = joined
        self.pad_token_id = getattr(classifier.config, "pad_token_id", None) or 0
        self.query_length, self.document_length = query_length, document_length
        self.separator_ids, self.keep_document_start = separator_ids or [], keep_document_start
        # A published tokeniser's own limit is that of one text.
        longest = position_limit(classifier.config)
        self.max_length = longest if joined else min(tokenizer.model_max_length, longest)
        self.names = input_names(tokenizer, classifier, joined)
        self._check_lengths()

    @property
    def lengths(self) -> dict:
        """Return what decides where texts are cut: part of the teacher's fingerprint."""
        lengths = {"query_length": self.query_length, "document_length": self.document_length}
        lengths |= {"joined": self.joined, "max_length": self.max_length}
        if self.separator_ids or self.keep_document_start:  # BERT's pairs came first, and were not described
            lengths |= {"separator_ids": self.separator_ids, "keep_document_start": self.keep_document_start}
        return lengths

    def __call__(self, queries: list[str], documents: list[str]) -> dict[str, Tensor]:
        """Tokenise n pairs -> right-padded input_ids, attention_mask and, where used, token_type_ids [n, L]."""
        if self.joined:
            return self._join(queries, documents)
        if self.query_length is None and self.document_length is None:
            encoded = self.tokenizer(
                queries,
                documents,
                padding=True,
                truncation="longest_first",
                max_length=self.max_length,
                return_token_type_ids=True,
                return_tensors="pt",
            )
            return {name: encoded[name] for name in self.names}
        return self._pair_cut_texts(queries, documents)

    def _join(self, queries: list[str], documents: list[str]) -> dict[str, Tensor]:
        query_rows, query_ids, query_mask = self._encode_distinct(queries, "query")
        document_rows, document_ids, document_mask = self._encode_distinct(documents, "document")
        joined = join_pairs(
            query_ids[query_rows],
            query_mask[query_rows],
            document_ids[document_rows],
            document_mask[document_rows],
            self.pad_token_id,  # decoders find the last token of a pair by it
            self.separator_ids,
            self.keep_document_start,
        )
        return dict(zip(self.names, joined, strict=False))

    def _encode_distinct(self, texts: list[str], side: str) -> tuple[list[int], Tensor, Tensor]:
        """Return the row of every text, and token ids and mask [distinct texts, L]."""
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        ids, mask = TextInputs(self.tokenizer, self.query_length, self.document_length)(list(rows), side)
        return [rows[text] for text in texts], ids, mask

    def _pair_cut_texts(self, queries: list[str], documents: list[str]) -> dict[str, Tensor]:
        """Encode pairs as the tokenizer does, of texts that are first cut to their own lengths."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        sides = []
        for texts, length in ((queries, self.query_length), (documents, self.document_length)):
            encoded = backend.encode_batch(texts, add_special_tokens=False)
            for text in encoded:
                text.truncate((length or self.max_length) - self.tokenizer.num_special_tokens_to_add(pair=False))
            sides.append(encoded)
        backend.enable_truncation(self.max_length, strategy="longest_first")
        pairs = [backend.post_process(*pair) for pair in zip(*sides, strict=True)]
        attributes = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        columns = {}
        for name in self.names:
            columns[name] = [getattr(pair, attributes[name]) for pair in pairs]
        return dict(self.tokenizer.pad(columns, return_tensors="pt"))

    def _check_lengths(self) -> None:
        special = self.tokenizer.num_special_tokens_to_add(pair=False)
        for name, length in (("query_length", self.query_length), ("document_length", self.document_length)):
            if length is not None and length <= special:
                raise InputError(f"{name}: expected more than the {special} special tokens of a text, got {length}")
        joint = len(self.separator_ids) - (not self.keep_document_start)
        if self.joined and self.query_length + self.document_length + joint > self.max_length:
            raise InputError(
                f"query_length {self.query_length} + document_length {self.document_length} {joint:+} tokens exceed "
                f"the {self.max_length} positions of the teacher"
            )
        if not (self.joined or self.tokenizer.is_fast or self.query_length is self.document_length is None):
            raise InputError("query_length and document_length need a teacher with a fast tokenizer")


def input_names(tokenizer: PreTrainedTokenizerBase, classifier: PreTrainedModel, joined: bool) -> list[str]:
    """List the inputs of a classifier. Token types tell query from document where it has an embedding for both."""
    types = classifier.config.to_dict().get("type_vocab_size")
    accepted = "token_type_ids" in inspect.signature(classifier.forward).parameters
    produced = joined or "token_type_ids" in tokenizer.model_input_names
    without_types = types == 1 or (joined and types is None)
    names = ["input_ids", "attention_mask"]
    return [*names, "token_type_ids"] if accepted and produced and not without_types else names
