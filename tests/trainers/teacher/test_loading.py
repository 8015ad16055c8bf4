"""Models of every kind as teachers: their scores in annotated lists are those of `load_scorer`."""

import numpy as np
import pytest

from m3se import load_scorer
from m3se.trainers.errors import InputError
from m3se.trainers.teacher.annotate import annotate
from m3se.trainers.teacher.loading import load_teacher
from m3se.trainers.teacher.score_cache import ScoreCache
from tests.worlds import judges, words
from tests.worlds.tiny import ranking_lists


SAVERS = {
    "dual_encoder": words.save_dual_encoder,
    "dual_encoder by cosine": lambda folder: words.save_dual_encoder(folder, normalize=True, scale=15.0),
    "colbert": words.save_colbert,
    "cross_encoder": words.save_cross_encoder,
    "judge": lambda folder: judges.save_judge(folder / "Qwen3-Reranker", "qwen3"),
}


@pytest.mark.parametrize("kind", SAVERS)
def test_annotated_scores_are_those_of_the_scorer(kind, tmp_path):
    folder, lists = SAVERS[kind](tmp_path / "model"), ranking_lists(scored=False)
    teacher = load_teacher(folder, "float32")
    assert teacher.kind == kind.split()[0]
    scored = annotate(lists, [teacher], tmp_path / "cache", progress=False).rows["teacher_scores"]
    expected = load_scorer(folder, "float32").score_lists(lists, progress=False)
    np.testing.assert_allclose(np.concatenate(scored), np.concatenate(expected), rtol=1e-4, atol=1e-4)


def test_the_scores_of_embeddings_are_found_again_in_the_cache(tmp_path):
    lists = ranking_lists(scored=False)
    teacher = load_teacher(words.save_dual_encoder(tmp_path / "model"), "float32")
    first = annotate(lists, [teacher], tmp_path / "cache", progress=False).rows["teacher_scores"][:]
    assert sum(len(keys) for keys, _ in ScoreCache(tmp_path / "cache", teacher.fingerprint).shards()) > 0
    teacher.score = None  # it is not asked again
    assert annotate(lists, [teacher], tmp_path / "cache", progress=False).rows["teacher_scores"][:] == first


def test_lengths_are_for_teachers_that_read_pairs(tmp_path):
    with pytest.raises(InputError, match="query_length and document_length are for teachers that read pairs"):
        load_teacher(words.save_dual_encoder(tmp_path), query_length=8)
