"""Teachers that another library than torch computes, and how far the margins that students learn move by it."""

import logging
from collections.abc import Sequence
from pathlib import Path

from m3se.trainers.backends.choice import INT8, Backend
from m3se.trainers.backends.compiling import compile_scorer
from m3se.trainers.backends.samples import list_sample
from m3se.trainers.data import RankingLists
from m3se.trainers.retrieval.scorers import PairwiseScorer, Scorer
from m3se.trainers.teacher.annotate import Teacher, short_name
from m3se.trainers.teacher.cross_fitting import CrossFitted
from m3se.trainers.teacher.list_teachers import ListTeacher
from m3se.trainers.teacher.loading import EmbeddingTeacher


logger = logging.getLogger(__name__)


def compile_teachers(
    teachers: Sequence[Teacher], backend: Backend, lists: RankingLists, cache_dir: str | Path
) -> None:
    """Let the backend compute every model among the teachers; runs and BM25 stay as they are.

    With int8 each is calibrated on some of the lists and compared with float32 on others. The log and the report of
    the scored lists say how far scores and their margins moved.

    Args:
        teachers: are changed, their fingerprints too.
        backend: the library and number format; torch changes nothing.
        lists: what will be scored.
        cache_dir: where files are kept.

    Raises:
        InputError: as `compile_scorer`, or too few lists.
    """
    if backend.is_torch or not teachers:
        return
    sample = list_sample(lists) if backend.dtype == INT8 else ()
    for teacher in teachers:
        for scorer in member_scorers(teacher):
            loss = compile_scorer(scorer, backend, sample, cache_dir)
            facts = {"backend": backend.name, "dtype": backend.precision}
            if loss is not None:
                facts |= {"dtype": INT8, "beside_float32": loss.as_dict()}
                logger.info("teacher %s in int8 beside float32: %s", short_name(teacher), loss)
            owner = scorer.pairs if isinstance(scorer, PairwiseScorer) else teacher
            owner.backend = facts


def member_scorers(teacher: Teacher) -> list[Scorer]:
    """Return the scorers of the models that a teacher is made of; none for runs and BM25."""
    if isinstance(teacher, ListTeacher):
        return []
    if isinstance(teacher, EmbeddingTeacher):
        return [teacher.scorer]
    members = teacher.members if isinstance(teacher, CrossFitted) else [teacher]
    return [PairwiseScorer(member) for member in members]
