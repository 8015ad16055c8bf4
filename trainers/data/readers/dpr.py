"""DPR's json (NQ, TriviaQA, …): per question the passages that answer it, BM25's that do not, and random others.

    [{"question": …, "positive_ctxs": [{"passage_id": …, "title": …, "text": …}, …],
      "hard_negative_ctxs": […], "negative_ctxs": […]}, …]

One array or one object per line, plain or compressed. The candidates of a question are its positives, BM25's, the
others, in this order: with all of them kept they are the paper's evaluation pool (positives, 100 of BM25, 100 random).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from m3se.trainers.data.readers.source import Source, TextRow, source_from_rows, text_id
from m3se.trainers.data.readers.text_files import read_json_array, read_records, starts_with
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.cache import file_key


CONTEXTS = {"positive_ctxs": 1.0, "hard_negative_ctxs": 0.0, "negative_ctxs": 0.0}
ID_FIELDS = ("passage_id", "psg_id", "id")


def read_dpr(file: Path) -> Source:
    """Describe a DPR file: its questions over the passages that it quotes.

    Its rows raise InputError naming the line of a question without text, of contexts under another name, and of
    contexts that are no passages.
    """
    source = source_from_rows(file, "DPR json", file_key(file), lambda: _rows(file))
    return replace(source, ranked=True)  # BM25's passages stand best first, before those drawn at random


def _rows(file: Path) -> Iterator[TextRow]:
    questions = read_json_array(file) if starts_with(file) == "[" else read_records(file)
    for position, (number, question) in enumerate(questions):
        try:
            yield _make_row(question, position, number)
        except InputError as error:
            raise InputError(f"{file}, line {number}: {error}") from None


def _make_row(question: object, position: int, number: int) -> TextRow:
    """Make the row of the question at this position, which starts on line `number`. Raises InputError without them."""
    if not isinstance(question, dict) or not isinstance(question.get("question"), str):
        raise InputError(f"expected an object with a question, got {shorten(str(question))}")
    if unknown := [name for name in question if name.endswith("ctxs") and name not in CONTEXTS]:
        raise InputError(f"{unknown[0]} is not understood; contexts are called {', '.join(CONTEXTS)}")
    documents, labels = [], []
    for kind, label in CONTEXTS.items():
        contexts = question.get(kind) or []
        if not isinstance(contexts, list):
            raise InputError(f"expected a list of {kind}, got {shorten(str(contexts))}")
        documents += map(_passage, contexts)
        labels += [label] * len(contexts)
    return TextRow(number, str(position), question["question"], documents, labels)


def _passage(context: object) -> tuple[str, str]:
    """Return id and text of a passage, the title before the text."""
    if not isinstance(context, dict) or not isinstance(context.get("text"), str):
        raise InputError(f"expected a passage with a text, got {shorten(str(context))}")
    text = f"{context.get('title') or ''} {context['text']}".strip()
    for field in ID_FIELDS:
        if context.get(field) not in (None, ""):
            return str(context[field]), text
    return text_id(text), text
