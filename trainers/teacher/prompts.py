"""Token ids of prompts that hold a query and a document."""

import inspect
import re
from bisect import bisect_right

import torch
from tokenizers import Encoding
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.encoders import position_limit
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.teacher.templates import PLACEHOLDERS, Template


PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))
QUERY_SHARE = 3 / 4  # of the room for both texts, without lengths of their own: what FlagEmbedding and mxbai leave it
Segments = list[tuple[str, list[int]]]  # parts of a prompt: "query", "document" or "" for the template, and token ids


class PromptEncoder:
    """Tokeniser of pairs of texts into prompts, which stay whole: what does not fit is cut off the two texts.

    Args:
        tokenizer: a fast one, which tells where in the prompt a token lies.
        model: a decoder (padded on the left, so that every prompt ends in the last column) or an encoder-decoder
            (padded on the right). Its config tells the positions it has.
        template: the prompt.
        query_length, document_length: tokens a text may have, without the template. None: what the positions allow.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model: PreTrainedModel,
        template: Template,
        query_length: int | None = None,
        document_length: int | None = None,
    ):
        if not tokenizer.is_fast:
            raise InputError("a language model as teacher needs a fast tokenizer (tokenizer.json)")
        self.tokenizer = tokenizer
        self.template = template
        self.query_length, self.document_length = query_length, document_length
        self.pads_left = not model.config.is_encoder_decoder
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.max_length = min(tokenizer.model_max_length, position_limit(model.config))
        self.before, self.after = special_tokens(tokenizer) if template.special_tokens else ([], [])
        if self.pads_left:
            self.after = []  # the answer follows the prompt, not its end
        self._check_lengths()

    @property
    def lengths(self) -> dict:
        """Return what decides the prompt: part of the teacher's fingerprint."""
        lengths = {"query_length": self.query_length, "document_length": self.document_length}
        answers = self.template.answers()
        return lengths | {"max_length": self.max_length, "prompt": list(self.template.prompt), "answers": answers}

    def __call__(self, queries: list[str], documents: list[str]) -> dict[str, Tensor]:
        """Tokenise n pairs -> input_ids, attention_mask and, where a decoder takes them, position_ids [n, L]."""
        columns = [self._encode_piece(piece, queries, documents) for piece in self.template.prompt]
        prompts = []
        for pieces in zip(*columns, strict=True):
            segments: Segments = [("", self.before)]
            for piece in pieces:
                segments += piece
            prompts.append(self._cut([*segments, ("", self.after)]))
        return self._pad(prompts)

    def _encode_piece(self, piece: str, queries: list[str], documents: list[str]) -> list[Segments]:
        """Tokenise a piece of the prompt for n pairs, split where its texts begin and end."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        if not PLACEHOLDER.search(piece):
            ids = backend.encode(piece, add_special_tokens=False).ids
            return [[("", ids)]] * len(queries)
        filled = [fill(piece, *pair) for pair in zip(queries, documents, strict=True)]
        encodings = backend.encode_batch([text for text, _ in filled], add_special_tokens=False)
        return [split(encoding, spans) for encoding, (_, spans) in zip(encodings, filled, strict=True)]

    def _cut(self, segments: Segments) -> list[int]:
        """Join the segments of a prompt, with as much of query and document as has room."""
        sizes = {"query": 0, "document": 0, "": 0}
        for side, ids in segments:
            sizes[side] += len(ids)
        room = self.max_length - sizes[""]
        query = min(sizes["query"], self.query_length or max(int(QUERY_SHARE * room), 1))
        document = min(sizes["document"], room - query, self.document_length or room)
        limits = {"query": query, "document": document, "": None}
        prompt = []
        for side, ids in segments:
            prompt += ids[: limits[side]]
        return prompt

    def _pad(self, prompts: list[list[int]]) -> dict[str, Tensor]:
        """Lay n prompts out as tensors [n, L]; the masked token is any, since it is never attended to."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            columns = slice(width - len(prompt), width) if self.pads_left else slice(len(prompt))
            ids[row, columns] = torch.tensor(prompt)
            mask[row, columns] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.pads_left and self.takes_positions:
            inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return inputs

    def _check_lengths(self) -> None:
        """Raise InputError when a length is none, or leaves no room for the other text."""
        for name, length in (("query_length", self.query_length), ("document_length", self.document_length)):
            if length is not None and length < 1:
                raise InputError(f"{name}: expected at least 1 token, got {length}")
        template = len(self._encode_template())
        needed = template + max(self.query_length or 0, 1) + max(self.document_length or 0, 1)
        if needed > self.max_length:
            raise InputError(
                f"the prompt has {template} tokens; with query_length {self.query_length} and document_length "
                f"{self.document_length} it exceeds the {self.max_length} positions of the teacher"
            )

    def _encode_template(self) -> list[int]:
        """Tokenise the prompt with empty texts."""
        segments = [("", self.before), ("", self.after)]
        for piece in self.template.prompt:
            segments += self._encode_piece(piece, [""], [""])[0]
        return [token for _, ids in segments for token in ids]


def fill(piece: str, query: str, document: str) -> tuple[str, list[tuple[str, int, int]]]:
    """Put the texts into a piece of a prompt -> the text, and side, first and end character of each text in it."""
    texts = {"{query}": query, "{document}": document}
    filled, spans, end = "", [], 0
    for placeholder in PLACEHOLDER.finditer(piece):
        filled += piece[end : placeholder.start()]
        start = len(filled)
        filled += texts[placeholder[0]]
        spans.append((placeholder[0][1:-1], start, len(filled)))
        end = placeholder.end()
    return filled + piece[end:], spans


def split(encoding: Encoding, spans: list[tuple[str, int, int]]) -> Segments:
    """Split the tokens of a filled piece; a token belongs to the text in which it ends, with the space before it."""
    ids, ends = encoding.ids, [stop for _, stop in encoding.offsets]
    segments: Segments = []
    end = 0
    for side, first, last in spans:
        begin, stop = bisect_right(ends, first, lo=end), bisect_right(ends, last, lo=end)
        segments += [("", ids[end:begin]), (side, ids[begin:stop])]
        end = stop
    return [*segments, ("", ids[end:])]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the token ids that the tokenizer puts before and after a text."""
    text = "a"
    plain, full = tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer(text)["input_ids"]
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start], full[start + len(plain) :]
    return [], []


def answer_ids(tokenizer: PreTrainedTokenizerBase, template: Template, name: str) -> list[int]:
    """Return the token ids of a template's answers.

    Raises:
        InputError: a word that is not one token, an id that the tokenizer does not have, or the same token for both.
    """
    vocabulary = tokenizer.get_vocab()
    ids = []
    for answer in template.answers():
        tokens = [answer] if isinstance(answer, int) else tokenizer(answer, add_special_tokens=False)["input_ids"]
        if len(tokens) != 1 and answer in vocabulary:
            tokens = [vocabulary[answer]]
        if len(tokens) != 1 or tokens[0] == tokenizer.unk_token_id or tokens[0] > max(vocabulary.values()):
            raise InputError(
                f"teacher {name}: its tokenizer makes {len(tokens)} tokens of the answer {shorten(str(answer))}, "
                f"{tokenizer.convert_ids_to_tokens(tokens)}; expected a single one that it knows"
            )
        ids += tokens
    if len(set(ids)) < len(ids):
        raise InputError(f"teacher {name}: the answers {template.true!r} and {template.false!r} are the same token")
    return ids
