"""Teacher scores for ranking lists, through the score cache.

The pairs of the lists are cut into chunks that depend on the lists alone, not on what the cache holds or how many
processes work. A chunk is scored as a whole and reaches the disk as a whole, so an interrupted run that is started
again forms the same batches and ends with the same bits as one that was left alone.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.teacher.cross_fitting import CrossFitted
from m3se.trainers.teacher.ensembles import combine
from m3se.trainers.teacher.list_teachers import ListTeacher
from m3se.trainers.teacher.pair_scorer import PairScorer
from m3se.trainers.teacher.score_cache import ScoreCache, ShardWriter, pair_keys


logger = logging.getLogger(__name__)

BLOCK_PAIRS = 500_000  # pairs whose keys are in memory at a time
HASHED_AT_ONCE = 10_000  # pairs whose texts are
SHARD_SECONDS = 30.0
CONSTANT_PAIRS = 32  # so many different pairs with the same score are no coincidence
Teacher = PairScorer | CrossFitted | ListTeacher  # or any model with the attributes and `score` of the first


@dataclass(frozen=True)
class ProcessShare:
    """The part of the work that one of `world_size` processes does: every `world_size`-th chunk."""

    rank: int = 0
    world_size: int = 1


def annotate(
    lists: RankingLists,
    teachers: Sequence[Teacher],
    cache_dir: str | Path,
    shard_seconds: float = SHARD_SECONDS,
    progress: bool = True,
    weights: Sequence[float] | None = None,
) -> RankingLists:
    """Return the lists with a column `teacher_scores`: the score of the teacher, or the mean over several teachers.

    Teachers whose scales differ are standardised first (see `combine`). The scores of several teachers are kept beside
    it as `teacher_scores_0`, `teacher_scores_1`, …. Earlier `teacher_scores*` columns are replaced. Only pairs that
    the cache does not have are scored.

    Args:
        lists: queries with their candidates; documents need not be scored yet.
        teachers: models, folds of a model, or runs, in the order of the columns.
        cache_dir: folder of the score cache.
        shard_seconds: how often new scores reach the disk.
        progress: show a bar for each teacher.
        weights: of several teachers; None: all count the same.

    Raises:
        InputError: no teacher, the same one twice, unknown documents, a score that is not finite (query and document
            are named), or a cache that cannot be written.
    """
    check_teachers(teachers)
    columns = []
    for teacher in teachers:
        columns.append(teacher_column(lists, teacher, cache_dir, shard_seconds, progress))
    combined, combination = combine(columns, [teacher.scale for teacher in teachers], list_sizes(lists.rows), weights)
    scores = {"teacher_scores": combined}
    report = lists.report | {"teachers": [describe_teacher(teacher) for teacher in teachers]}
    if len(teachers) > 1:
        logger.info("%s teachers: %s", len(teachers), combination)
        report["teacher_combination"] = combination
        scores |= {f"teacher_scores_{number}": column for number, column in enumerate(columns)}
    return RankingLists(with_score_columns(lists.rows, scores), lists.documents, report)


def fill_cache(
    lists: RankingLists,
    teachers: Sequence[Teacher],
    cache_dir: str | Path,
    share: ProcessShare,
    shard_seconds: float = SHARD_SECONDS,
    progress: bool = True,
) -> None:
    """Score the share of one process into the cache; `annotate` then finds the scores of all processes.

    Args:
        share: the part of this process. The other arguments are those of `annotate`.

    Raises:
        InputError: as `annotate`.
    """
    check_teachers(teachers)
    for teacher in teachers:
        for scorer, chosen in scored_parts(teacher, lists):
            for _ in score_blocks(select(lists, chosen), scorer, cache_dir, share, shard_seconds, progress):
                pass


def teacher_column(
    lists: RankingLists, teacher: Teacher, cache_dir: str | Path, shard_seconds: float, progress: bool
) -> np.ndarray:
    """Return a teacher's scores of all pairs of the lists, one after the other: [pairs] float32.

    NaN stands for a pair that a run does not have.

    Args:
        teacher: the one that scores. The other arguments are those of `annotate`.
    """
    if isinstance(teacher, ListTeacher):
        return teacher.column(lists)
    sizes = list_sizes(lists.rows)
    total, count = np.zeros(int(sizes.sum())), np.zeros(int(sizes.sum()))
    for scorer, chosen in scored_parts(teacher, lists):
        blocks = score_blocks(select(lists, chosen), scorer, cache_dir, ProcessShare(), shard_seconds, progress)
        pairs = np.repeat(chosen, sizes)
        total[pairs] += np.concatenate([*blocks, np.zeros(0, dtype=np.float32)])
        count[pairs] += 1
    return (total / count).astype(np.float32)


def scored_parts(teacher: Teacher, lists: RankingLists) -> Iterator[tuple[PairScorer, np.ndarray]]:
    """Yield the models of a teacher, and the rows [rows] bool that each of them scores; none without a model."""
    if isinstance(teacher, CrossFitted):
        yield from teacher.parts(lists.rows["query"][:])
    elif not isinstance(teacher, ListTeacher):
        yield teacher, np.ones(len(lists.rows), dtype=bool)


def select(lists: RankingLists, chosen: np.ndarray) -> RankingLists:
    """Return the lists of the chosen rows [rows] bool."""
    if chosen.all():
        return lists
    return RankingLists(lists.rows.select(np.flatnonzero(chosen)), lists.documents, lists.report)


def score_blocks(
    lists: RankingLists,
    teacher: PairScorer,
    cache_dir: str | Path,
    share: ProcessShare,
    shard_seconds: float,
    progress: bool,
) -> Iterator[np.ndarray]:
    """Yield the scores of consecutive pairs of the lists, a block at a time; NaN for pairs of another process.

    Args:
        share: the chunks that this process scores. The other arguments are those of `annotate`.
    """
    cache = ScoreCache(cache_dir, teacher.fingerprint)
    sizes = list_sizes(lists.rows)
    total, scored = int(sizes.sum()), 0
    bar = tqdm(total=total, desc=f"teacher {short_name(teacher)}", unit="pair", disable=not progress, delay=1)
    with bar, ShardWriter(cache, shard_seconds) as writer:
        for rows in row_blocks(sizes, BLOCK_PAIRS):
            block = Block.from_rows(lists, rows, teacher)
            scores = cache.lookup(block.keys)
            chunks = block.chunks(teacher.chunk_pairs)[share.rank :: share.world_size]
            missing = [chunk[np.isnan(scores[chunk])] for chunk in chunks]
            wanted = sum(map(len, missing))
            bar.total -= len(block.queries) - wanted
            for chunk in filter(len, missing):
                scores[chunk] = block.score(chunk, teacher, bar)
                refuse_constant(scores[chunk], teacher)
                writer.add(block.keys[chunk], scores[chunk])
            writer.flush()
            scored += wanted
            yield scores[block.slots]
    rest = f"{total - scored:,} reused" if share.world_size == 1 else f"the rest left to {share.world_size - 1} others"
    logger.info("teacher %s: %s pairs scored, %s", short_name(teacher), f"{scored:,}", rest)


@dataclass
class Block:
    """Consecutive pairs of the lists, and the distinct ones among them.

    `queries` and `ids` [n] are the pairs; `keys` [d] the sorted distinct keys; `slots` [n] a pair's place in `keys`;
    `origins` [d] the first pair with each key.
    """

    queries: list[str]
    ids: list[str]
    documents: DocumentTable
    keys: np.ndarray
    slots: np.ndarray
    origins: np.ndarray

    @classmethod
    def from_rows(cls, lists: RankingLists, rows: range, teacher: PairScorer) -> "Block":
        """Take the pairs of some rows of the lists, and their keys in this teacher's cache."""
        part = lists.rows[rows.start : rows.stop]
        queries: list[str] = []
        ids: list[str] = []
        for query, documents in zip(part["query"], part["document_ids"], strict=True):
            queries += [query] * len(documents)
            ids += documents
        keys = []
        for start in range(0, len(ids), HASHED_AT_ONCE):
            stop = start + HASHED_AT_ONCE
            keys.append(pair_keys(teacher.fingerprint, queries[start:stop], lists.documents.texts(ids[start:stop])))
        return cls(queries, ids, lists.documents, *distinct_keys(np.concatenate(keys)))

    def chunks(self, size: int) -> list[np.ndarray]:
        """Cut the distinct pairs, in the order of the lists, into chunks of `size`: places in `keys`."""
        order = np.argsort(self.origins)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def score(self, chunk: np.ndarray, teacher: PairScorer, bar: tqdm) -> np.ndarray:
        """Score the pairs at `chunk` (places in `keys`): [n] float32. Raises InputError for one that is not finite."""
        pairs = self.origins[chunk]
        queries = [self.queries[pair] for pair in pairs]
        ids = [self.ids[pair] for pair in pairs]
        scores = teacher.score(queries, self.documents.texts(ids), bar=bar)
        if not np.isfinite(scores).all():
            worst = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(
                f"teacher {teacher.name} gives {scores[worst]} for the query {queries[worst]!r} and the document "
                f"{ids[worst]!r}; expected finite scores"
            )
        return scores


def distinct_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort keys [n] into distinct keys [d], the place of each key among them [n], first occurrence of each [d]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    slots = np.empty(len(keys), dtype=np.int64)
    slots[order] = np.cumsum(first) - 1
    return ordered[first], slots, order[first]


def list_sizes(rows: Dataset) -> np.ndarray:
    """Count the documents of every row: [rows]."""
    batches = rows.select_columns("document_ids").with_format("arrow").iter(10_000)
    sizes = [pc.list_value_length(batch["document_ids"]).to_numpy() for batch in batches]
    return np.concatenate(sizes).astype(np.int64) if sizes else np.zeros(0, dtype=np.int64)


def row_blocks(sizes: np.ndarray, pairs: int) -> Iterator[range]:
    """Yield ranges of consecutive rows that hold about `pairs` pairs, at least one row and one pair."""
    start, ends = 0, np.cumsum(sizes)
    while start < len(sizes):
        before = ends[start] - sizes[start]
        stop = max(int(np.searchsorted(ends, before + pairs, side="right")), start + 1)
        if ends[stop - 1] > before:
            yield range(start, stop)
        start = stop


def with_score_columns(rows: Dataset, scores: dict[str, np.ndarray]) -> Dataset:
    """Add flat score columns [pairs], cut to the lengths of the lists, in place of the rows' old score columns."""
    rows = rows.remove_columns([name for name in rows.column_names if name.startswith("teacher_scores")])
    offsets = pa.array(np.append(0, np.cumsum(list_sizes(rows))), type=pa.int32())
    for name, values in scores.items():
        column = pa.ListArray.from_arrays(offsets, pa.array(values, type=pa.float32()))
        content = blake2b(f"{rows._fingerprint} {name} ".encode() + values.tobytes(), digest_size=8).hexdigest()
        rows = rows.add_column(name, column, new_fingerprint=content)
    return rows


def refuse_constant(scores: np.ndarray, teacher: PairScorer) -> None:
    """Raise InputError for a teacher that gives all pairs of a chunk the same score: it ranks nothing."""
    if len(scores) >= CONSTANT_PAIRS and scores.min() == scores.max():
        raise InputError(
            f"teacher {teacher.name} gives {scores[0]:g} to each of {len(scores)} pairs; it ranks nothing"
        )


def check_teachers(teachers: Sequence[Teacher]) -> None:
    """Raise InputError when there is no teacher, or the same one twice."""
    if not teachers:
        raise InputError("no teacher given; expected at least one")
    fingerprints = [teacher.fingerprint for teacher in teachers]
    for number, teacher in enumerate(teachers):
        if teacher.fingerprint in fingerprints[:number]:
            raise InputError(f"teacher {teacher.name} is given twice; an ensemble needs different teachers")


def short_name(teacher: Teacher) -> str:
    """Return a Hub id as it is, a folder by its last name: reports then name no machine."""
    path = Path(teacher.name)
    return path.resolve().name if path.exists() else teacher.name


def describe_teacher(teacher: Teacher) -> dict:
    """Return the entry of a teacher in `data_report.json`."""
    dtype = {} if teacher.dtype is None else {"dtype": str(teacher.dtype).removeprefix("torch.")}
    return {"name": short_name(teacher), "fingerprint": teacher.fingerprint, **dtype, **teacher.settings}
