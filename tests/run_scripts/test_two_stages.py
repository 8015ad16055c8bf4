"""ColBERT's stored tokens through encode.py, search.py and evaluate.py."""

import json
import re

import numpy as np
import pytest

from m3se.run_scripts import encode, evaluate, search
from m3se.run_scripts.cli.app import parse
from m3se.trainers.data import read_documents
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.tokens import token_collection
from tests.worlds import words as tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world = {"model": tiny.save_colbert(folder / "colbert"), "data": tiny.write_beir(folder / "words")}
    return world | {"dense": tiny.save_dual_encoder(folder / "dense"), "cache": str(folder / "cache")}


def run(script, world, *words, model="model"):
    options = ["--model", world[model], "--data", world["data"], "--cache_dir", world["cache"], "--dtype", "float32"]
    script.main(*parse(script.make_parser(), [*options, *map(str, words)]))


def evaluated(world, folder, *words):
    """The run and the metrics of a retrieval."""
    run(evaluate, world, "--retrieve", "true", "--depth", 4, "--output", folder, *words)
    return read_run(folder / "run.trec"), json.loads((folder / "metrics.json").read_text())


def ranks(run_):
    return {query: list(scores) for query, scores in run_.items()}


def test_search_prints_what_bm25_proposes_by_colberts_scores(world, capsys):
    run(search, world, "the file")
    shown = re.findall(r" (-?\d+\.\d+)  (d\d)$", capsys.readouterr().out, re.M)
    names = ["d4", "d7"]  # the documents with the word: the stop word does not count
    scores = load_scorer(world["model"], "float32").score("the file", [tiny.DOCUMENTS[name] for name in names])
    order = np.argsort(scores)[::-1]
    assert [name for _, name in shown] == [names[place] for place in order]
    np.testing.assert_allclose([float(score) for score, _ in shown], np.sort(scores)[::-1], atol=1e-3)


def test_a_first_stage_that_proposes_everything_ranks_as_scoring_every_pair(world, tmp_path):
    exhaustive, _ = evaluated(world, tmp_path / "pairs")
    from_tokens, _ = evaluated(world, tmp_path / "all", "--first_stage", "all")
    proposed, facts = evaluated(world, tmp_path / "dense", "--first_stage", world["dense"], "--first_depth", 7)
    assert ranks(from_tokens) == ranks(exhaustive) == ranks(proposed)
    assert facts["index_recall"] == 1.0 and facts["pool_factor"] == 1


def test_the_recall_is_the_share_of_the_best_documents_that_is_proposed(world, tmp_path):
    exact, _ = evaluated(world, tmp_path / "all", "--first_stage", "all")
    run_, facts = evaluated(world, tmp_path / "two", "--first_stage", "bm25", "--first_depth", 2)
    hits = [len(exact[query].keys() & run_[query].keys()) for query in exact]
    assert set(map(len, exact.values())) == {4} and 0 < sum(hits) < 6
    assert facts["index_recall"] == pytest.approx(sum(hits) / 12)
    assert "recall of bm25, 2 documents" in (tmp_path / "two" / "table.md").read_text()


def test_encoded_tokens_are_searched_without_embedding_a_document_again(world, tmp_path, monkeypatch, capsys, caplog):
    with caplog.at_level("INFO"):
        run(encode, world, "--token_format", "int8", "--pool_factor", 2, "--output", tmp_path / "tokens")
    tokens = token_collection.TokenCollection(tmp_path / "tokens")
    assert f"{tmp_path / 'tokens'}: {tokens.count()} tokens of 7 documents" in caplog.messages
    run(encode, world, "--token_format", "int8", "--pool_factor", 2)
    monkeypatch.setattr(token_collection, "write_tokens", None)
    run(search, world, "--token_format", "int8", "--pool_factor", 2, "sort the list")
    first = capsys.readouterr().out.splitlines()[1:]
    run(search, world, "--encoding", tmp_path / "tokens", "sort the list")
    assert capsys.readouterr().out.splitlines()[1:] == first


def test_tokens_of_another_model_are_refused(world, tmp_path):
    other = world | {"other": tiny.save_colbert(tmp_path / "other", seed=9)}
    scorer = load_scorer(world["model"], "float32")
    token_collection.encode_tokens(scorer, read_documents(world["data"], world["cache"]), tmp_path / "tokens")
    with pytest.raises(InputError, match="encoded with model"):
        run(search, other, "--encoding", tmp_path / "tokens", "sum", model="other")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--first_stage", "bm25", "--first_depth", "0"], "--first_depth: expected at least 1"),
        (["--first_stage", "bm25", "--token_format", "int4"], "--token_format: expected float16 or int8"),
        (["--first_stage", "model"], "--first_stage: expected bm25, all or a model that embeds"),
    ],
)
def test_first_stages_that_are_none_are_refused_before_any_work(world, tmp_path, words, message):
    words = [world["model"] if word == "model" else word for word in words]
    with pytest.raises(InputError, match=message):
        evaluated(world, tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_first_stage_without_colbert_is_refused(world, tmp_path):
    with pytest.raises(InputError, match="--first_stage: proposes documents to a ColBERT model"):
        run(search, world, "--first_stage", "bm25", "sum", model="dense")
    with pytest.raises(InputError, match="--first_stage: proposes documents to a ColBERT model"):
        run(evaluate, world, "--first_stage", "bm25", "--output", tmp_path / "out")
