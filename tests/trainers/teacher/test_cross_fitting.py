"""Teachers of folds: none scores a query that it was trained on."""

import logging

import numpy as np
import pytest
import torch

from m3se.trainers.errors import InputError
from m3se.trainers.storage.query_hashes import hash_queries, read_query_hashes, write_query_hashes
from m3se.trainers.teacher.annotate import ProcessShare, annotate, fill_cache
from m3se.trainers.teacher.cross_fitting import CrossFitted, fold_numbers, log_trained
from tests.worlds.teachers import tiny_lists


class NumberTeacher:
    """A teacher that gives every document its number, or ten times that, and records the queries it is asked about."""

    def __init__(self, factor):
        self.name = self.fingerprint = f"times-{factor}"
        self.factor = factor
        self.kind = self.scale = "cross_encoder"
        self.dtype, self.settings, self.chunk_pairs = torch.float32, {}, 4
        self.queries = set()

    def score(self, queries, documents, bar=None):
        self.queries |= set(queries)
        return np.array([self.factor * float(text.split()[-1]) for text in documents], dtype=np.float32)


@pytest.fixture
def lists():
    return tiny_lists(queries=6)


def trained_on(lists, rows):
    return np.unique(hash_queries([lists.rows[row]["query"] for row in rows]))


def test_a_query_is_scored_by_the_teachers_that_do_not_know_it(lists, tmp_path):
    """Of three teachers, query 0 was in the first's training, 1 in the second's, 2 in the third's, 3 to 5 in none."""
    members = [NumberTeacher(1), NumberTeacher(10), NumberTeacher(100)]
    teacher = CrossFitted("folds", members, [trained_on(lists, [row]) for row in range(3)])
    scored = annotate(lists, [teacher], tmp_path, progress=False)
    factors = [(10 + 100) / 2, (1 + 100) / 2, (1 + 10) / 2, 37, 37, 37]
    for row, factor in zip(scored.rows, factors, strict=True):
        numbers = [float(text.split()[-1]) for text in lists.documents.texts(row["document_ids"])]
        np.testing.assert_allclose(row["teacher_scores"], factor * np.array(numbers), rtol=1e-6)
    for number, member in enumerate(members):
        assert lists.rows[number]["query"] not in member.queries
    assert scored.report["teachers"][0]["folds"] == 3
    queries = lists.rows["query"][:4]
    np.testing.assert_allclose(teacher.score(queries, ["x 2"] * 4), 2 * np.array(factors[:4]))


def test_processes_fill_the_cache_for_all_folds(lists, tmp_path):
    for rank in range(2):
        members = [NumberTeacher(1), NumberTeacher(10)]
        teacher = CrossFitted("folds", members, [trained_on(lists, [0, 1, 2]), trained_on(lists, [3, 4, 5])])
        fill_cache(lists, [teacher], tmp_path, ProcessShare(rank, 2), progress=False)
    members = [NumberTeacher(1), NumberTeacher(10)]
    teacher = CrossFitted("folds", members, teacher.hashes)
    annotate(lists, [teacher], tmp_path, progress=False)
    assert not members[0].queries | members[1].queries


def test_a_query_that_all_know_is_refused(lists, tmp_path):
    hashes = trained_on(lists, [4])
    teacher = CrossFitted("folds", [NumberTeacher(1), NumberTeacher(10)], [hashes, hashes])
    with pytest.raises(InputError, match="teacher folds: all its folds were trained on the query"):
        annotate(lists, [teacher], tmp_path, progress=False)


def test_folds_part_the_queries_by_their_text():
    queries = [f"query {number}" for number in range(300)]
    folds = fold_numbers(queries + queries, 3)
    np.testing.assert_array_equal(folds[:300], folds[300:])
    assert sorted(set(folds)) == [1, 2, 3]
    assert min(np.bincount(folds[:300])[1:]) > 70


def test_a_teacher_that_knows_its_queries_warns_with_their_share(tmp_path, caplog):
    write_query_hashes(tmp_path, ["a", "b", "b"])
    np.testing.assert_array_equal(read_query_hashes(tmp_path), np.sort(hash_queries(["a", "b"])))
    with caplog.at_level(logging.WARNING):
        log_trained(str(tmp_path), ["c", "d"])
        assert not caplog.messages
        log_trained(str(tmp_path), ["a", "c", "d", "e"])
    assert "was trained on 25% of these queries" in caplog.text


def test_a_damaged_record_of_queries_is_refused(tmp_path):
    write_query_hashes(tmp_path, ["a"])
    (tmp_path / "train_queries.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="train_queries.npy is damaged"):
        read_query_hashes(tmp_path)
