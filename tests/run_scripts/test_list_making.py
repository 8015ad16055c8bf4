"""The lists that score_with_teacher.py makes of queries with and without judgments, as a user asks for them."""

import json

import pytest

from m3se.run_scripts import mine, score_with_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.work import list_making
from m3se.trainers.data import BM25Index, RankingLists, hash_subset, read_data, training_lists
from m3se.trainers.data.united import interleave
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import tiny
from tests.worlds.small_world import write_collection, write_lines


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A collection whose queries are searches of its documents, an untrained teacher and student, and a cache."""
    root = tmp_path_factory.mktemp("world")
    write_collection(root / "words")
    tiny.save_classifier(root / "teacher")
    tiny.dual_encoder().save_pretrained(root / "student")
    tiny.tokenizer().save_pretrained(root / "student")
    with open(root / "words" / "queries.jsonl", "a", encoding="utf-8") as file:
        for number, text in enumerate(("red river stone", "bird horse", "light night glass")):
            file.write(json.dumps({"_id": f"log{number}", "text": text}) + "\n")
    return root


@pytest.fixture
def scored(world, tmp_path):
    """Run the script -> the lists that it writes."""

    def scored(*flags, name="out"):
        common = ["--teacher", world / "teacher", "--data", world / "words", "--dtype", "float32"]
        common += ["--documents_per_query", 4, "--depth", 12, "--cache_dir", world / "cache"]
        argv = [*common, "--output", tmp_path / name, *flags]
        score_with_teacher.main(*parse(score_with_teacher.make_parser(), [*map(str, argv)]))
        return RankingLists.load(tmp_path / name)

    return scored


def test_labelled_and_unlabelled_queries_are_scored_together(scored):
    labelled, mixed = scored(), scored("--unlabelled", "true", name="mixed")
    queries = mixed.rows["query_id"][:]
    assert queries[:12] == labelled.rows["query_id"][:] and queries[12:] == ["log0", "log1", "log2"]
    assert mixed.rows["document_ids"][:12] == labelled.rows["document_ids"][:]
    assert mixed.rows["labels"][12:] == [[0, 0, 0, 0]] * 3
    assert mixed.report["lists"]["lists_without_positive"] == 3
    assert not any(query.startswith(("dev", "test")) for query in queries)


def test_the_teachers_training_queries_stay_out_whatever_stands_beside_them(scored):
    labelled = scored().rows["query_id"][:]
    logged = {"log0", "log1", "log2"}
    rest = scored("--skip_queries", 8, "--unlabelled", name="rest").rows["query_id"][:]
    assert set(rest) == hash_subset(labelled, None, skip=8) | logged
    some = scored("--skip_queries", 8, "--max_queries", 6, "--unlabelled", name="some").rows["query_id"][:]
    assert set(some) == hash_subset(labelled, None, skip=8) | hash_subset(logged, 2)
    few = scored("--max_queries", 5, "--unlabelled", name="few").rows["query_id"][:]
    assert set(few) == hash_subset(labelled, 5)


def test_scored_lists_are_selected_as_their_queries_were(scored, tmp_path):
    first = scored("--unlabelled")
    labelled = [query for query in first.rows["query_id"] if not query.startswith("log")]
    again = scored("--data", tmp_path / "out", "--skip_queries", 8, "--max_queries", 5, name="again")
    logged = hash_subset(["log0", "log1", "log2"], 1)
    assert set(again.rows["query_id"]) == hash_subset(labelled, None, skip=8) | logged


def test_the_teachers_best_document_is_a_positive_where_that_is_allowed(scored, tmp_path):
    plain = scored("--unlabelled")
    pseudo = scored("--unlabelled", "--pseudo_positives", "true", name="pseudo")
    assert pseudo.rows["document_ids"][:] == plain.rows["document_ids"][:]
    assert pseudo.rows["labels"][:12] == plain.rows["labels"][:12]
    for row in pseudo.rows.select(range(12, 15)):
        best = max(row["teacher_scores"])
        assert row["labels"] == [float(score == best) for score in row["teacher_scores"]]
    assert pseudo.report["lists"]["pseudo_positives"] == 3
    calibrations = [(tmp_path / name / "calibration.json").read_text() for name in ("out", "pseudo")]
    assert calibrations[0] == calibrations[1]  # the teacher is not compared with itself


def test_hidden_labels_leave_the_first_queries_labelled_and_the_others_without(scored, world):
    everything = scored("--negatives", "top")
    hidden = scored("--negatives", "top", "--labelled_queries", 5, name="hidden")
    labelled = hash_subset(everything.rows["query_id"], 5)
    assert hidden.report["collection"]["labelled_queries"] == 5 and len(hidden.rows) == len(everything.rows) == 12
    judged = dict(zip(everything.rows["query_id"], everything.rows["document_ids"], strict=True))
    collection = read_data(str(world / "words"), "train", world / "cache")
    index = BM25Index.build(collection.documents, cache_dir=world / "cache")
    for row in hidden.rows:
        if row["query_id"] in labelled:
            assert row["document_ids"] == judged[row["query_id"]] and row["labels"] == [1, 0, 0, 0]
        else:
            (words,), _ = index.search([row["query"]], 12)
            assert row["document_ids"] == words[:4] and row["labels"] == [0, 0, 0, 0]


def test_moved_labels_keep_documents_and_scores(scored):
    plain, noisy = scored(), scored("--label_noise", "0.5", name="noisy")
    for name in ("document_ids", "teacher_scores"):
        assert noisy.rows[name][:] == plain.rows[name][:]
    moved = [row["labels"] != labels for row, labels in zip(noisy.rows, plain.rows["labels"], strict=True)]
    assert sum(moved) == noisy.report["labels_moved"] > 0


def test_a_log_of_searches_needs_no_judgments_and_no_option(scored, tmp_path):
    write_collection(tmp_path / "log")
    for file in (tmp_path / "log" / "qrels").iterdir():
        file.unlink()
    lists = scored("--data", tmp_path / "log")
    lines = (tmp_path / "log" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {json.loads(line)["text"] for line in lines}
    assert sorted(lists.rows["query"]) == sorted(texts) and set(map(max, lists.rows["labels"])) == {0.0}


def test_bm25_and_a_models_own_search_are_united(scored, world, caplog):
    flags = ("--candidates", "bm25", world / "student", "--negatives", "top")
    lists = scored(*flags)
    collection = read_data(str(world / "words"), "train", world / "cache")
    scorer = load_embedder(str(world / "student"))
    encoded = cached_encoding(scorer, collection.documents, world / "cache")
    found = retrieve(scorer, collection.queries, encoded, 12)
    index = BM25Index.build(collection.documents, cache_dir=world / "cache")
    for row in lists.rows:
        (words,), _ = index.search([row["query"]], 12)
        (positive,) = collection.qrels[row["query_id"]]
        united = interleave([words, list(found[row["query_id"]])], [0.5, 0.5], 12)
        negatives = [name for name in united if name != positive]
        assert row["document_ids"] == [positive, *negatives[:3]]
    assert lists.report["lists"]["candidates"].startswith("50% BM25 (k1 0.9")
    assert lists.report["lists"]["candidates"].endswith(" + 50% student")
    assert scored(*flags, name="again").rows.to_list() == lists.rows.to_list()


def test_mined_negatives_and_bm25_make_the_next_rounds_lists_in_one_command(scored, world, tmp_path):
    argv = ["--model", world / "student", "--data", world / "words", "--count", 5, "--cache_dir", world / "cache"]
    mine.main(*parse(mine.make_parser(), [*map(str, argv), "--output", str(tmp_path / "mined.trec")]))
    flags = ("--candidates", "bm25", tmp_path / "mined.trec", "--candidate_shares", 1, 2, "--negatives", "top")
    lists = scored(*flags)
    mined = read_run(tmp_path / "mined.trec")
    for row in lists.rows:
        best = list(mined[row["query_id"]])
        assert best[0] in row["document_ids"] and row["labels"] == [1, 0, 0, 0]
    assert lists.report["lists"]["candidates"].endswith(" + 67% mined")


def test_stratified_lists_are_cut_from_all_scored_candidates(scored, world):
    collection = read_data(str(world / "words"), "train", world / "cache")
    index = BM25Index.build(collection.documents, cache_dir=world / "cache")
    deep = training_lists(collection, index, 4, depth=12, negatives="all").rows
    teacher = PairScorer.from_pretrained(str(world / "teacher"), dtype="float32")
    lists = scored("--negatives", "stratified", "--unlabelled", name="stratified")
    report = lists.report["lists"]
    assert (report["negatives"], report["documents_per_query"], report["depth"]) == ("stratified", 4, 12)
    for row in lists.rows:
        assert len(row["document_ids"]) == 4
    assert lists.rows["query_id"][:12] == deep["query_id"][:] and len(lists.rows) == 15
    for row, candidates in zip(lists.rows, deep, strict=False):
        positive, *negatives = row["document_ids"]
        first, *names = candidates["document_ids"]
        scores = teacher.score([row["query"]] * len(names), collection.documents.texts(names)).tolist()
        by_score = dict(zip(names, scores, strict=True))
        assert positive == first and row["teacher_scores"][1:] == pytest.approx(
            [by_score[name] for name in negatives], abs=1e-4
        )
        ranked = sorted(names, key=by_score.get, reverse=True)
        edges = [place * len(ranked) // 3 for place in range(4)]
        for name, low, high in zip(negatives, edges, edges[1:], strict=False):
            assert name in ranked[low:high]


def test_filters_say_what_they_dropped(scored, capsys):
    lists = scored("--margin", 0.1, "--max_score", 0.0, "--negatives", "top")
    table = capsys.readouterr().out
    for row in lists.rows:
        positive, *negatives = row["teacher_scores"]
        assert all(score <= min(positive - 0.1, 0.0) for score in negatives)
    filters = lists.report["lists"]["filters"]
    assert filters["bounds"] == {"margin": 0.1, "max_score": 0.0}
    seen, margin = filters["dropped"]["looked at"], filters["dropped"]["margin"]
    assert f"| margin 0.1 | {seen} | {margin} | {margin / seen:.1%} |" in table
    assert f"| max_score 0 | {seen - margin} | {filters['dropped']['max_score']} |" in table


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--negatives", "deep"), "--negatives: expected random, top or stratified, got 'deep'"),
        (("--candidates", "dense"), "expected auto, own, bm25, random, a file of lists, or a model, got 'dense'"),
        (("--candidates", "outputs/no.trec"), "a file of lists, or a model, got 'outputs/no.trec'"),
        (("--candidates", "bm25", "bm25"), "expected different sources, got bm25 bm25"),
        (("--candidates", "bm25", "random", "--candidate_shares", 1), "a number above 0 for each of bm25, random"),
        (("--margin", -1), "margin: expected a number, 0 or more, got -1.0"),
    ],
)
def test_what_cannot_be_is_refused_before_the_data_are_read(scored, flags, message, monkeypatch):
    monkeypatch.setattr(list_making, "read_data", None)
    with pytest.raises(InputError, match=message):
        scored(*flags)


def test_documents_alone_are_enough(scored, world, tmp_path):
    (tmp_path / "docs").mkdir()
    lines = []
    for place, words in enumerate(zip(tiny.WORDS, tiny.WORDS[1:], tiny.WORDS[2:], tiny.WORDS[3:], strict=False)):
        lines.append({"_id": f"d{place}", "title": " ".join(words[:2]), "text": " ".join(words[1:])})
    write_lines(tmp_path / "docs" / "corpus.jsonl", lines)
    flags = ("--data", tmp_path / "docs", "--synthetic_queries", "title", "--documents_per_query", 2)
    lists = scored(*flags, "--synthetic_count", 6)
    assert len(lists.rows) == 6 and lists.report["collection"]["synthetic_queries"] == 6
    for row in lists.rows:
        source = lines[int(row["query_id"].removeprefix("synthetic-title:d"))]
        assert row["query"] == source["title"] and row["labels"] == [1, 0]
        assert lists.documents.texts(row["document_ids"][:1]) == [source["text"]]
    with pytest.raises(InputError, match="queries.jsonl is missing"):
        scored("--data", tmp_path / "docs")


def test_made_queries_join_those_there_are_and_none_is_a_query_of_the_test(scored, tmp_path):
    folder = write_collection(tmp_path / "words")
    lines = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    titled = [line | {"title": f"{line['text'][:9]} {line['_id']}"} for line in lines]
    write_lines(folder / "corpus.jsonl", titled)
    with open(folder / "queries.jsonl", "a", encoding="utf-8") as file:
        for line in titled[:55]:
            file.write(json.dumps({"_id": f"test-{line['_id']}", "text": line["title"].upper()}) + "\n")
    with open(folder / "qrels" / "test.tsv", "a", encoding="utf-8") as file:
        file.write("".join(f"test-{line['_id']}\t{line['_id']}\t1\n" for line in titled[:55]))
    lists = scored("--data", folder, "--synthetic_queries", "title", "--negatives", "stratified")
    made = [query for query in lists.rows["query_id"] if query.startswith("synthetic-title:")]
    assert len(lists.rows) == 12 + len(made)
    assert sorted(made) == sorted(f"synthetic-title:{line['_id']}" for line in titled[55:])
    assert lists.report["collection"]["synthetic_queries_dropped_with_repeated_text"] == 55
