"""The plan of a training whose negatives are drawn anew: how often, from where, and who scores them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.refreshing.drawing import find_identical, relevant_documents
from m3se.trainers.teacher.annotate import Teacher, check_teachers, short_name
from m3se.trainers.teacher.list_teachers import RunTeacher
from m3se.trainers.teacher.loading import load_teacher


DEPTH = 100  # best documents of the student that negatives are drawn from


@dataclass(frozen=True)
class RefreshPlan:
    """The plan of a training whose negatives are drawn anew every `steps` optimiser steps.

    Attributes:
        steps: from one draw to the next.
        depth: negatives are among this many best documents of the student.
        teachers: score the new lists; none where the loss reads no scores.
        cache_dir: folder of the score cache.
        keep_identical_ids: let a document with the id of its query be a negative.
    """

    steps: int
    depth: int = DEPTH
    teachers: Sequence[Teacher] = ()
    cache_dir: str | Path = "outputs/cache"
    keep_identical_ids: bool = False

    def identity(self) -> dict:
        """Return the entry of a run's key: the weights depend on the teachers' scores."""
        return {"refresh_teachers": [teacher.fingerprint for teacher in self.teachers]} if self.teachers else {}

    def about(self) -> dict:
        """Return the entry of a run's record that the card reads."""
        teachers = ", ".join(short_name(teacher) for teacher in self.teachers)
        return {"refresh": {"steps": self.steps, "depth": self.depth, "teacher": teachers or None}}

    def check(self, lists: RankingLists) -> None:
        """Raise InputError when there could be too few negatives for a list to keep its length."""
        identical = set() if self.keep_identical_ids else find_identical(lists)
        for row in lists.rows.with_format(None):
            relevant = relevant_documents(row)
            needed = int(np.count_nonzero(np.asarray(row["labels"]) <= 0)) + len(relevant)
            there = len(lists.documents) - (row["query_id"] in identical)
            if needed > min(self.depth, there):
                raise InputError(
                    f"refresh_depth: expected at least {needed}, the negatives and known positives of the query "
                    f"{row['query_id']!r}, got {self.depth} of {there} documents"
                )


def load_teachers(names: Sequence[str], device: torch.device) -> list[Teacher]:
    """Load the teachers of new lists.

    Args:
        names: folders or Hub ids.
        device: the processor that they run on.

    Raises:
        InputError: no such model, the same one twice, or a file of scores.
    """
    teachers: list[Teacher] = []
    for name in names:
        teachers.append(load_teacher(name, device=device))
    for teacher in teachers:
        if isinstance(teacher, RunTeacher):
            raise InputError(f"refresh_teacher: {teacher.name} is a file of scores; expected a model that scores more")
    if teachers:
        check_teachers(teachers)
    return teachers
