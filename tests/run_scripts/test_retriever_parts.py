"""The parts of make_retriever.py: who is held out, what a time allows, what the verdict says, what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from m3se import DualEncoder, InputError, load_scorer
from m3se.run_scripts.retriever import measure, prepare, verdict
from m3se.run_scripts.retriever.commands import matching_options, student_options
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.retriever.parts import Parts, describe, most_held_out
from m3se.run_scripts.retriever.trials import LEAST_LISTS, TRIALS, Plan, best_value, born_again, find, make_plan
from m3se.run_scripts.work import make_retriever
from m3se.trainers.data import BM25Index, Collection, DocumentTable, RankingLists
from tests.run_scripts.retriever_world import options, write, write_world
from tests.worlds import tiny
from tests.worlds.small_world import write_encoder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("retriever"))


def test_the_lists_of_a_later_round_hold_what_bm25_and_the_student_rank_high(world, tmp_path):
    student = DualEncoder.from_encoder(write_encoder(tmp_path / "encoder"), pooling="mean")
    student.save_pretrained(tmp_path / "student")
    tiny.tokenizer().save_pretrained(tmp_path / "student")
    arguments = RetrieverArguments(**options(world, output=str(tmp_path / "out"), teacher=["elsewhere"]))
    prepare.prepare_round(arguments, "round2", tmp_path / "student")
    lists = RankingLists.load(tmp_path / "out" / "lists" / "round2")
    scorer, ids = load_scorer(tmp_path / "student"), lists.documents.ids
    index = BM25Index.build(lists.documents)
    embeddings = scorer.encode(lists.documents.texts(ids), "document")
    for row in lists.rows:
        (query,) = scorer.encode([row["query"]], "query")
        order = np.argsort(-(embeddings @ query), kind="stable")[:10]
        ((lexical,), _) = index.search([row["query"]], 10)
        negatives = np.array(row["document_ids"])[np.array(row["labels"]) == 0]
        assert set(negatives) <= {ids[place] for place in order} | set(lexical)


def test_queries_of_missing_splits_are_held_out_of_training(world, tmp_path):
    data = shutil.copytree(world / "data", tmp_path / "data")
    for split in ("dev", "test"):
        (data / "qrels" / f"{split}.tsv").unlink()  # their queries are unlabelled ones now
    changes = {"data": str(data), "teacher": ["elsewhere"], "dev_queries": 100, "test_queries": 100}
    parts, _ = prepare.divide(RetrieverArguments(**options(world, **changes)))
    queries = [*parts.test.queries, *parts.dev.queries, *parts.train.queries]
    assert len(queries) == len(set(queries)) and len(parts.teacher.queries) == 0
    assert len(parts.test.queries) == len(parts.dev.queries) == len(queries) // 5  # a fifth each, of judged ones
    for part in (parts.test, parts.dev):
        assert part.qrels.keys() == part.queries.keys() and all(query.startswith("train") for query in part.queries)
    assert any(not query.startswith("train") for query in parts.train.queries)
    judged = {query for query in parts.train.queries if query.startswith("train")}
    few, _ = prepare.divide(RetrieverArguments(**options(world, **changes, train_queries=len(judged) + 1)))
    assert judged < few.train.queries.keys() and len(few.train.queries) == len(judged) + 1


def test_few_judged_queries_beside_a_long_log_are_divided_evenly_and_all_used(world, tmp_path):
    data = shutil.copytree(world / "data", tmp_path / "data")
    for split in ("dev", "test"):
        (data / "qrels" / f"{split}.tsv").unlink()
    with open(data / "queries.jsonl", "a", encoding="utf-8") as file:
        file.writelines(f'{{"_id": "log{number}", "text": "red bird {number}"}}\n' for number in range(600))
    changes = {"data": str(data), "teacher": ["elsewhere"], "dev_queries": 400, "test_queries": 400}
    parts, _ = prepare.divide(RetrieverArguments(**options(world, **changes, train_queries=40)))
    sizes = [describe(part)["judged"] for part in (parts.test, parts.dev, parts.train)]
    assert sizes == [24, 24, 24] and len(parts.train.queries) == 40


@pytest.mark.parametrize(
    ("queries", "eligible", "most"), [(1000, 1000, 200), (1000, 300, 100), (1000, 45, 20), (50, 50, 10)]
)
def test_the_held_out_parts_leave_most_queries_and_a_third_of_the_judged_ones(queries, eligible, most):
    assert most_held_out(queries, eligible) == most


def test_a_teacher_needs_judgments_to_be_trained_on(world):
    with pytest.raises(InputError, match="--teacher train: name a reranker, or judge queries; expected at least 20"):
        prepare.divide(RetrieverArguments(**options(world, data=str(world / "without"))))


def test_a_difference_is_that_of_the_means_with_a_paired_test():
    first = {f"q{number}": {"nDCG@10": 0.5 + 0.1 * (number % 2)} for number in range(40)}
    second = {f"q{number}": {"nDCG@10": 0.4} for number in range(40)}
    evaluation = measure.Evaluation
    gain = measure.difference(evaluation({}, first, 0), evaluation({}, second, 0))
    assert gain.mean == pytest.approx(0.15) and gain.low < 0.15 < gain.high
    assert gain.is_better and str(gain).startswith("+0.150 [+0.1") and str(gain).endswith("p < .001")
    assert not measure.difference(evaluation({}, second, 0), evaluation({}, first, 0)).is_better


def test_the_likeliest_reason_is_read_from_the_records(world, tmp_path):
    arguments = RetrieverArguments(**options(world, output=str(tmp_path)))
    chosen = TRIALS[0]
    history = [{"eval_nDCG@10": 0.5, "train_nDCG@10": 0.9}]
    write(tmp_path / "students" / chosen.name / "training.json", {"log_history": history})
    for room, share, expected in ((0.01, 0.9, "barely"), (0.1, 0.9, "too easy"), (0.1, 0.5, "too few")):
        write(tmp_path / "gain.json", {"teacher_minus_start": {"mean": room}})
        write(tmp_path / "scored" / "train" / "calibration.json", {"targets": {"top_probability": share}})
        assert expected in verdict.likeliest_reason(arguments, chosen)


@pytest.mark.parametrize(("share", "value"), [(None, 0.6), (0.0, 0.6), (0.5, 0.5)])
def test_a_student_that_keeps_a_share_of_the_start_counts_as_it_was_measured_with_it(share, value, world, tmp_path):
    arguments = RetrieverArguments(**options(world, output=str(tmp_path)))
    record = {"log_history": [{"eval_nDCG@10": 0.4}, {"eval_nDCG@10": 0.6}, {"loss": 1.0}, {"eval_nDCG@10": 0.5}]}
    if share is not None:
        record["hyperparameters"] = {"start_share": share}
    write(tmp_path / "students" / TRIALS[0].name / "training.json", record)
    assert best_value(arguments, TRIALS[0]) == value


def test_the_share_of_the_start_is_handed_to_the_students(world, tmp_path):
    write(tmp_path / "gain.json", {"is_judged": True})
    arguments = RetrieverArguments(**options(world, output=str(tmp_path), start_share=0.5))
    flags = student_options(arguments, TRIALS[0], Plan(8, ["mixed"], 2))
    assert flags[flags.index("--start_share") + 1] == "0.5"


@pytest.mark.parametrize(
    ("trial", "pseudo", "rows"), [("mixed", False, "80"), ("labels", False, "30"), ("labels", True, "80")]
)
def test_a_student_of_labels_alone_does_not_read_lists_without_any(trial, pseudo, rows, world, tmp_path):
    write(tmp_path / "gain.json", {"is_judged": True})
    write(tmp_path / "queries.json", {"train": {"queries": 600, "judged": 30}})
    arguments = RetrieverArguments(**options(world, output=str(tmp_path), pseudo_positives=pseudo))
    flags = student_options(arguments, find(trial), Plan(80, ["mixed"], 2))
    assert flags[flags.index("--train_rows") + 1] == rows


def test_the_plan_fits_the_time(world):
    arguments = RetrieverArguments(**options(world))
    queries = {"train": {"queries": 50_000, "judged": 50_000}, "dev": {"queries": 20, "judged": 20}}
    queries["documents"] = 1000
    measured = {"seconds_per_text": 0.01, "seconds_per_pair": 0.02}
    planned, cost = make_plan(arguments, measured, queries, 2400)
    # two students are measured twice on 20 queries of 9 texts; a list of 5 texts takes three forward passes
    lists = int((2400 - 2 * 2 * 20 * 9 * 0.01) / (4 * 0.02 + 2 * 5 * 0.01 * 3))
    assert planned.lists == lists and planned.evaluations == int(lists * 0.15 / 120) == 7
    assert planned.trials == ["mixed", "labels"]
    assert f"plan: {lists:,} of 50,000 training queries" in cost and "for each of 2 students; more --hours" in cost
    unlabelled = queries | {"train": {"queries": 300, "judged": 0}}
    planned, cost = make_plan(arguments, measured, unlabelled, 2400)
    assert planned.lists == 300 and planned.trials == ["distilled", "slower"] and "more --hours" not in cost
    twice, cost = make_plan(RetrieverArguments(**options(world, rounds=2)), measured, queries, 2400)
    # the second round embeds 1,000 documents, scores all lists anew, and trains a third student
    assert twice.lists == int((2400 - 10 - 3 * 2 * 20 * 9 * 0.01) / (2 * 4 * 0.02 + 3 * 5 * 0.01 * 3))
    assert twice.trials == ["mixed", "labels"] and "for each of 3 students" in cost
    changes = {"rounds": 3, "born_again": True, "teacher": ["a", "b"]}
    born, cost = make_plan(RetrieverArguments(**options(world, **changes)), measured, queries, 2400)
    # four students; two of them embed a query and four documents of each list as teachers
    assert born.lists == int((2400 - 4 * 2 * 20 * 9 * 0.01) / (4 * 0.02 + 2 * 5 * 0.01 + 4 * 5 * 0.01 * 3))
    assert "round 1 is taught by a + b, round 2 is taught by the best student of round 1, round 3 is taught by" in cost


def test_first_layers_match_the_embeddings_of_all_before_they_are_students(world, tmp_path):
    arguments = RetrieverArguments(**options(world, layers=1, output=str(tmp_path)))  # of three
    queries = {"train": {"queries": 50_000, "judged": 50_000}, "dev": {"queries": 20, "judged": 20}}
    queries |= {"documents": 1000, "texts_in_a_row": 3}
    measured = {"seconds_per_text": 0.03, "seconds_per_pair": 0.02}
    planned, cost = make_plan(arguments, measured, queries, 3000)
    # a text takes a third of the time; two fifths of the time go to steps of 96 texts, three passes each
    assert planned.matching_steps == int(3000 * 0.4 / (96 * 0.01 * 3)) == 416
    left = 3000 - 416 * 96 * 0.01 * 3
    assert planned.lists == int((left - 2 * 2 * 20 * 9 * 0.01) / (4 * 0.02 + 2 * 5 * 0.01 * 3))
    assert "after 20 for 1 layers that match the start's embeddings" in cost
    assert make_plan(arguments, measured, queries, 60)[0].matching_steps == 300
    write(tmp_path / "queries.json", queries)
    write(tmp_path / "gain.json", {"is_judged": True})
    flags = matching_options(arguments, planned)
    values = dict(zip(flags[::2], flags[1::2], strict=True))
    assert values["--per_device_train_batch_size"] == "32" and values["--max_steps"] == "416"
    assert (values["--layers"], values["--ranking_weight"]) == ("1", "0")
    assert (values["--embedding_teacher"], values["--encoder"]) == (str(tmp_path / "start"), str(world / "encoder"))
    student = student_options(arguments, TRIALS[0], planned)
    assert student[student.index("--encoder") + 1] == str(tmp_path / "starts" / "first_layers")


def test_sentences_stand_beside_few_queries_and_none_is_a_query_of_another_part():
    sentences = [f"The {word} sentence of a document." for word in ("first", "second", "third")]
    documents = DocumentTable.from_texts(["a", "b"], [" ".join(sentences[:2]), " ".join(sentences[1:])])
    part = Collection("words", documents, {}, {})
    parts = Parts(
        teacher=part,
        train=replace(part, queries={"t": "a training query"}, other_queries={"o": sentences[0].upper()}),
        dev=replace(part, queries={"d": sentences[1]}),
        test=part,
    )
    for seed in range(8):
        rows = prepare.texts_to_match(parts, seed).rows
        # a sentence of each document at most, without those that other parts ask for
        assert {"a training query"} <= set(rows["query"]) <= {"a training query", sentences[2]}
        assert {name for names in rows["document_ids"] for name in names} == {"a", "b"}
    assert any(sentences[2] in prepare.texts_to_match(parts, seed).rows["query"] for seed in range(8))
    enough = replace(parts, train=replace(part, queries={str(n): f"query {n}" for n in range(20_000)}))
    assert len(prepare.texts_to_match(enough, 0).rows) == 20_000


@pytest.mark.parametrize("layers", [3, 4])
def test_first_layers_are_fewer_than_the_encoder_has(layers, world):
    with pytest.raises(InputError, match=f"--layers {layers}: expected fewer than .*encoder has .3."):
        make_retriever.check(RetrieverArguments(**options(world, layers=layers)))


def test_a_short_time_does_not_make_a_training_that_teaches_nothing(world):
    arguments = RetrieverArguments(**options(world, students=1))
    queries = {"train": {"queries": 480, "judged": 480}, "dev": {"queries": 20, "judged": 20}, "documents": 1000}
    measured = {"seconds_per_text": 0.1, "seconds_per_pair": 0.2}
    planned, cost = make_plan(arguments, measured, queries, seconds=60)
    assert planned.lists == LEAST_LISTS == 320
    # 320 lists of 4 pairs are scored, their 5 texts take three passes, and 20 queries of 9 texts are measured twice
    seconds = 320 * 4 * 0.2 + 320 * 5 * 0.1 * 3 + planned.evaluations * 20 * 9 * 0.1
    assert f"; {(seconds - 60) / 60:.0f} minutes more than --hours leaves" in cost and "more --hours would" not in cost
    few = queries | {"train": {"queries": 30, "judged": 30}}
    assert make_plan(arguments, measured, few, seconds=0)[0].lists == 30


def test_the_plan_of_a_run_stands_when_it_goes_on(world, tmp_path):
    arguments = RetrieverArguments(**options(world, output=str(tmp_path), hours=1.0))
    part = {"queries": 50_000, "judged": 50_000}
    write(tmp_path / "queries.json", {"train": part, "dev": part | {"queries": 20}, "documents": 1000})
    measured = {"seconds_per_text": 0.01, "seconds_per_pair": 0.02}
    planned = make_retriever.plan(arguments, measured, spent=300)
    assert make_retriever.plan(arguments, measured, spent=2000) == planned
    assert make_retriever.plan(RetrieverArguments(**vars(arguments) | {"hours": 90.0}), measured, 0).lists == 50_000


def test_more_hours_train_new_students_and_no_other_change_does(world, tmp_path):
    arguments = RetrieverArguments(**options(world, output=str(tmp_path), hours=1.0))
    part = {"queries": 50_000, "judged": 50_000}
    write(tmp_path / "queries.json", {"train": part, "dev": part | {"queries": 20}, "documents": 1000})
    measured, student = {"seconds_per_text": 0.01, "seconds_per_pair": 0.02}, tmp_path / "students" / "mixed"
    student.mkdir(parents=True)
    remains = []
    more, shallow = {"hours": 200.0}, {"hours": 1.0, "depth": 9}
    for changes in ({}, more, {"hours": 300.0}, {"hours": 0.5}, shallow, shallow | {"hours": 2.0}):
        make_retriever.plan(RetrieverArguments(**vars(arguments) | changes), measured, spent=0)
        remains.append(student.is_dir())
        student.mkdir(parents=True, exist_ok=True)
    # the first plan, more lists, as many (all there are), fewer, another option too, and more lists again
    assert remains == [True, False, True, True, True, False]


def test_a_plan_from_before_an_option_was_there_stands(world, tmp_path):
    arguments = RetrieverArguments(**options(world, output=str(tmp_path)))
    before = {name: value for name, value in vars(arguments).items() if name not in ("born_again", "layers")}
    write(tmp_path / "plan.json", {"options": before, "plan": {"lists": 7, "trials": ["mixed"], "evaluations": 3}})
    assert make_retriever.plan(arguments, {}, spent=0) == Plan(7, ["mixed"], 3)


def test_a_born_again_student_learns_from_labels_if_its_teacher_did():
    by_name = {trial.name: trial for trial in TRIALS}
    learners = {"mixed": "mixed", "labels": "mixed", "distilled": "distilled", "slower": "slower"}
    for teacher, learner in learners.items():
        trial = born_again(2, by_name[teacher])
        assert trial.options == by_name[learner].options and trial.teacher == by_name[teacher].title
    assert born_again(3, trial).options == trial.options


@pytest.mark.parametrize(
    "change",
    [{"hours": 0}, {"depth": 1}, {"dev_queries": 0}, {"rounds": 0}, {"layers": 0}, {"born_again": True}],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(world, change):
    with pytest.raises(InputError, match=f"--{next(iter(change))}: expected"):
        RetrieverArguments(**options(world, **change))


def test_the_words_of_synthetic_queries_cannot_be_scored_in_documents_that_have_lost_them(world):
    with pytest.raises(InputError, match="--teacher start, bm25: cannot score the documents"):
        RetrieverArguments(**options(world, teacher=["bm25"], synthetic_queries="title"))
