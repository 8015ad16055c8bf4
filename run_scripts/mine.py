r"""Mine hard negatives: what a trained dual encoder ranks high for the training queries although it is not relevant.

    python run_scripts/mine.py --model outputs/quickstart/de-m3se --data pydocs --split train --count 20 \
        --output outputs/quickstart/mined.trec

Writes a TREC run of the negatives, hardest first, that score_with_teacher.py takes as `--candidates FILE
--negatives top`. With --teacher, documents that it scores above the query's lowest positive minus --margin are taken
for positives that nobody judged, and passed over.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import HfArgumentParser

from m3se.run_scripts.cli.app import run
from m3se.trainers.data import Collection, RankingLists, mine_negatives, read_data
from m3se.trainers.data.lists import make_row, positives
from m3se.trainers.data.mining import Mined
from m3se.trainers.data.schema import ROW_FEATURES
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import Run, write_run
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection, cached_encoding
from m3se.trainers.retrieval.exact_search import retrieve
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.annotate import annotate
from m3se.trainers.teacher.pair_scorer import PairScorer


logger = logging.getLogger(__name__)

QUERIES_AT_ONCE = 10_000


@dataclass
class MiningArguments:
    model: str = field(metadata={"help": "Folder or Hub id of a model that embeds documents in one vector."})
    output: str = field(metadata={"help": "The TREC run file to write."})
    data: str = field(default="pydocs", metadata={"help": "pydocs, or another collection."})
    split: str = field(default="train", metadata={"help": "Which queries of it."})
    qrels: str | None = field(default=None, metadata={"help": "File of judgments (default: the data's own)."})
    allow_missing: bool = field(default=False, metadata={"help": "Drop and count what names unknown documents."})
    count: int = field(default=20, metadata={"help": "Negatives of a query."})
    skip: int = field(default=0, metadata={"help": "Pass over this many best ranked documents."})
    depth: int = field(default=100, metadata={"help": "Look at this many ranks."})
    teacher: str | None = field(default=None, metadata={"help": "Cross-encoder that guards against false negatives."})
    margin: float = field(default=0.0, metadata={"help": "How far below the lowest positive a negative must score."})
    encoding: str | None = field(
        default=None, metadata={"help": "Folder that encode.py wrote (default: in the cache)."}
    )
    dtype: str = field(default="auto", metadata={"help": "float32, bfloat16, or auto: bfloat16 where it is fast."})
    pooling: str | None = field(default=None, metadata={"help": "cls or mean, for bare encoders only."})
    cache_dir: str = field(default="outputs/cache", metadata={"help": "Collections, embeddings and teacher scores."})


def make_parser() -> HfArgumentParser:
    return HfArgumentParser(MiningArguments, description=__doc__)


def main(arguments: MiningArguments) -> None:
    check(arguments)
    scorer = load_embedder(arguments.model, arguments.dtype, arguments.pooling)
    teacher = PairScorer.from_pretrained(arguments.teacher) if arguments.teacher else None
    collection = read_data(
        arguments.data,
        arguments.split,
        arguments.cache_dir,
        qrels=arguments.qrels,
        allow_missing=arguments.allow_missing,
    )
    if arguments.encoding is None:
        encoded = cached_encoding(scorer, collection.documents, arguments.cache_dir)
    else:
        encoded = EmbeddedCollection(arguments.encoding)
        encoded.check(scorer.fingerprint, collection.documents.fingerprint)
    found = (retrieve(scorer, queries, encoded, arguments.depth) for queries in blocks(collection.queries))
    counts = write_mined(found, collection, teacher, arguments)
    if not counts["negatives"]:
        raise InputError(f"no negative left for any of {len(collection.queries)} queries: {dict(counts)}")
    for reason, count in counts.items():
        logger.info("%s: %s", reason.replace("_", " "), f"{count:,}")
    logger.info("wrote %s", arguments.output)


def check(arguments: MiningArguments) -> None:
    """Raise InputError for options that fit nothing, before any model is loaded."""
    mine_negatives({}, {}, arguments.count, arguments.skip, arguments.depth, margin=arguments.margin)
    if arguments.margin and not arguments.teacher:
        raise InputError("--margin is the teacher's: give --teacher too")


def blocks(queries: dict[str, str]) -> Iterator[dict[str, str]]:
    """The queries in their order, `QUERIES_AT_ONCE` at a time: memory does not grow with their number."""
    names = list(queries)
    for start in range(0, len(names), QUERIES_AT_ONCE):
        yield {name: queries[name] for name in names[start : start + QUERIES_AT_ONCE]}


def write_mined(
    runs: Iterator[Run], collection: Collection, teacher: PairScorer | None, arguments: MiningArguments
) -> Counter[str]:
    """Mine run by run into one file, which appears only when complete and not empty; what was counted."""
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter(negatives=0)
    with TemporaryDirectory(dir=output.parent, prefix=".mined-") as folder:
        part, whole = Path(folder) / "part", Path(folder) / "whole"
        with open(whole, "wb") as file:
            for found in runs:
                mined = mine(found, collection, teacher, arguments)
                negatives = {query: {d: found[query][d] for d in ids} for query, ids in mined.negatives.items()}
                write_run(part, negatives, "mined")
                file.write(part.read_bytes())
                counts += Counter(mined.counts) + Counter(negatives=sum(map(len, mined.negatives.values())))
        if counts["negatives"]:
            os.replace(whole, output)
    return counts


def mine(found: Run, collection: Collection, teacher: PairScorer | None, arguments: MiningArguments) -> Mined:
    """The negatives of the queries of one run."""
    scores = teacher_scores(found, collection, teacher, arguments.cache_dir) if teacher else None
    return mine_negatives(
        found, collection.qrels, arguments.count, arguments.skip, arguments.depth, scores, arguments.margin
    )


def teacher_scores(found: Run, collection: Collection, teacher: PairScorer, cache_dir: str) -> Run:
    """The teacher's scores of what was found and of all positives, through the score cache."""
    rows = (
        make_row(collection, query, list(dict.fromkeys([*positives(collection.qrels.get(query, {})), *ids])))
        for query, ids in found.items()
    )
    lists = RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)
    scored = annotate(lists, [teacher], Path(cache_dir) / "teacher_scores").rows
    return {row["query_id"]: dict(zip(row["document_ids"], row["teacher_scores"], strict=True)) for row in scored}


if __name__ == "__main__":
    run(make_parser, main)
