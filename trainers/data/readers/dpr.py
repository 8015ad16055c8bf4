"""DPR's json (NQ, TriviaQA, …): per question the passages that answer it, BM25's that do not, and random others.

    [{"question": …, "positive_ctxs": [{"passage_id": …, "title": …, "text": …}, …],
      "hard_negative_ctxs": […], "negative_ctxs": […]}, …]

One array or one object per line, plain or compressed. The candidates of a question are its positives, BM25's, the
others, in this order: with all of them kept they are the paper's evaluation pool (positives, 100 of BM25, 100 random).
"""

from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.assemble import file_key
from m3se.trainers.data.readers.source import TextRow, collection_from_rows, text_id
from m3se.trainers.data.readers.text_files import read_json_array, read_records, starts_with
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError, shorten


CONTEXTS = {"positive_ctxs": 1.0, "hard_negative_ctxs": 0.0, "negative_ctxs": 0.0}
ID_FIELDS = ("passage_id", "psg_id", "id")


def read_dpr(file: Path, cache_dir: str | Path | None = None) -> Collection:
    """The questions of a DPR file over the passages that it quotes.

    Raises InputError naming the line of a question without text, of contexts that are no passages, and of a passage id
    that stands for two texts; and when no question has a positive. Questions without a positive are counted.
    """
    report = {"source": file.name, "format": "DPR json"}
    return collection_from_rows(file, lambda: _rows(file), file_key(file), cache_dir, report)


def _rows(file: Path) -> Iterator[TextRow]:
    questions = read_json_array(file) if starts_with(file) == "[" else read_records(file)
    for position, (number, question) in enumerate(questions):
        if not isinstance(question, dict) or not isinstance(question.get("question"), str):
            raise InputError(
                f"{file}, line {number}: expected an object with a question, got {shorten(str(question))}"
            )
        documents, labels = [], []
        for kind, label in CONTEXTS.items():
            contexts = question.get(kind) or []
            if not isinstance(contexts, list):
                raise InputError(f"{file}, line {number}: expected a list of {kind}, got {shorten(str(contexts))}")
            documents += [_passage(context, file, number) for context in contexts]
            labels += [label] * len(contexts)
        yield TextRow(number, str(position), question["question"], documents, labels)


def _passage(context: dict, file: Path, number: int) -> tuple[str, str]:
    if not isinstance(context, dict) or not isinstance(context.get("text"), str):
        raise InputError(f"{file}, line {number}: expected a passage with a text, got {shorten(str(context))}")
    text = f"{context.get('title') or ''} {context['text']}".strip()
    names = (str(context[field]) for field in ID_FIELDS if context.get(field) not in (None, ""))
    return next(names, text_id(text)), text
