import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.mine import main, make_parser
from m3se.run_scripts.work import mine
from m3se.trainers.data import OwnCandidates, read_data, training_lists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import tiny
from tests.worlds.small_world import write_collection


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A collection, a dual encoder and a cross-encoder; the cache is shared, as users share it."""
    root = tmp_path_factory.mktemp("world")
    write_collection(root / "words")
    for name, model in (("student", tiny.dual_encoder()), ("teacher", tiny.cross_encoder())):
        model.save_pretrained(root / name)
        tiny.tokenizer().save_pretrained(root / name)
    return root


@pytest.fixture
def mined(world, tmp_path):
    """Run the script -> the run that it writes."""

    def mined(*flags):
        common = ["--model", world / "student", "--data", world / "words", "--dtype", "float32"]
        places = ["--cache_dir", world / "cache", "--output", tmp_path / "mined.trec"]
        main(*parse(make_parser(), [*map(str, [*common, *places, *flags])]))
        return read_run(tmp_path / "mined.trec")

    return mined


def by_hand(world):
    """All documents by their score for every training query, best first, scored one by one."""
    collection = read_data(str(world / "words"), "train", world / "cache")
    scorer = load_embedder(str(world / "student"), "float32")
    ids = list(collection.documents.ids)
    documents = scorer.encode(collection.documents.texts(ids), "document", None)
    queries = scorer.encode(list(collection.queries.values()), "query", None)
    ranked = {}
    for query, embedding in zip(collection.queries, queries, strict=True):
        scores = dict(zip(ids, (documents @ embedding).tolist(), strict=True))
        ranked[query] = sorted(scores, key=scores.get, reverse=True)
    return collection, ranked


def test_the_highest_ranked_documents_that_are_not_relevant_are_written(mined, world):
    collection, ranked = by_hand(world)
    run = mined("--count", 5, "--skip", 1, "--depth", 20)
    expected = {
        query: [document for document in ids[1:20] if document not in collection.qrels[query]][:5]
        for query, ids in ranked.items()
    }
    assert {query: list(scores) for query, scores in run.items()} == expected


def test_other_judgments_say_what_is_no_negative(mined, world, tmp_path):
    collection, ranked = by_hand(world)
    query = next(iter(collection.queries))
    best, second, third = ranked[query][:3]
    qrels = tmp_path / "qrels.txt"
    qrels.write_text(f"{query} 0 {second} 1\n{query} 0 unknown 1\n", encoding="utf-8")
    assert list(mined("--count", 2, "--qrels", qrels, "--allow_missing", "true")[query]) == [best, third]
    with pytest.raises(InputError, match="name 1 documents that the collection does not have"):
        mined("--count", 2, "--qrels", qrels)


def test_blocks_of_queries_change_nothing(mined, monkeypatch):
    whole = mined("--count", 5)
    monkeypatch.setattr(mine, "QUERIES_AT_ONCE", 5)
    assert mined("--count", 5) == whole


def test_the_guard_leaves_out_what_the_teacher_scores_above_the_positive(mined, world):
    collection, _ = by_hand(world)
    teacher = PairScorer.from_pretrained(str(world / "teacher"), dtype="float32")
    unguarded, guarded = mined("--count", 30, "--depth", 30), mined("--count", 30, "--depth", 30, *guard(world, 0.5))
    assert sum(map(len, guarded.values())) < sum(map(len, unguarded.values()))
    for query, judged in collection.qrels.items():
        ids = [*judged, *unguarded[query]]
        scores = dict(
            zip(
                ids,
                teacher.score([collection.queries[query]] * len(ids), collection.documents.texts(ids)),
                strict=True,
            )
        )
        bound = min(scores[document] for document in judged) - 0.5
        clear = {document for document in unguarded[query] if abs(scores[document] - bound) > 0.05}  # the cache: bf16
        expected = {document for document in clear if scores[document] <= bound}
        assert set(guarded.get(query, {})) & clear == expected


def guard(world, margin):
    return "--teacher", world / "teacher", "--margin", margin


def test_the_file_makes_training_lists(mined, world, tmp_path):
    run = mined("--count", 3)
    collection = read_data(str(world / "words"), "train", world / "cache", candidates=tmp_path / "mined.trec")
    lists = training_lists(collection, OwnCandidates(collection), 4, depth=10, negatives="top")
    for row in lists.rows:
        assert row["document_ids"] == [*collection.qrels[row["query_id"]], *run[row["query_id"]]]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--count", 0), "expected count ≥ 1"),
        (("--skip", 9, "--depth", 9), "depth > skip"),
        (("--margin", 1.0), "--margin is the teacher's"),
    ],
)
def test_options_that_fit_nothing_are_refused_before_a_model_is_loaded(mined, flags, message, monkeypatch):
    monkeypatch.setattr(mine, "load_searcher", None)
    with pytest.raises(InputError, match=message):
        mined(*flags)


def test_nothing_is_written_when_the_guard_leaves_nothing(mined, world, tmp_path):
    with pytest.raises(InputError, match="no negative left for any of 12 queries"):
        mined("--count", 3, *guard(world, 1e9))
    assert list(tmp_path.iterdir()) == []
