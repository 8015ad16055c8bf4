"""The plan of a study: its jobs, what each needs and is called, and that its scripts take the options."""

from dataclasses import replace
from itertools import pairwise, repeat

import pytest

from m3se import InputError
from m3se.run_scripts import diagnose, distill, evaluate, publish, reproduce, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.cli.recipe import as_flag
from m3se.run_scripts.reproduction.cost import START_SECONDS, begun_with, ratio, seconds
from m3se.run_scripts.reproduction.plan import Planner
from m3se.run_scripts.reproduction.rows import merged
from m3se.run_scripts.reproduction.study import RECIPES, Scale, read_scale, read_study, study_names
from m3se.run_scripts.reproduction.teaching import learned_from
from m3se.run_scripts.work.reproduce import chosen_columns, chosen_rows, plan
from tests.run_scripts.study_world import SELECTION, add_rows, finish, planner_of, write_recipes


SCRIPTS = {
    "train_teacher.py": train_teacher,
    "score_with_teacher.py": score_with_teacher,
    "distill.py": distill,
    "evaluate.py": evaluate,
    "diagnose.py": diagnose,
    "publish.py": publish,
}
SCALES = ("small", "medium", "pydocs", "paper")


@pytest.fixture
def planner(tmp_path):
    return planner_of(write_recipes(tmp_path), tmp_path / "out")


def test_jobs_come_after_what_they_need_and_students_share_teacher_and_lists(planner):
    jobs = plan([read_study("losses", planner.scale)], planner, [0])
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for job in jobs:
        assert all(names.index(need.name) < names.index(job.name) for need in (*job.needs, *job.waits_for))
    scripts = [job.script for job in jobs]
    assert scripts.count("train_teacher.py") == scripts.count("score_with_teacher.py") == 1
    assert scripts.count("distill.py") == 4  # two losses, two trials each: the better one is the row's first seed


def test_nothing_but_the_teacher_is_ready_at_first(planner):
    jobs = plan([read_study("losses", planner.scale)], planner, [0])
    assert [job.script for job in jobs if job.ready] == ["train_teacher.py"]


def test_the_trial_that_is_best_on_dev_is_used_for_every_seed(planner):
    study = read_study("losses", planner.scale)
    row = study.rows["M3SE"]
    first, second = (job for _, job in planner.trials("m3se", 0))
    assert planner.training(row, 1, 0).waits_for == (first, second)
    finish(first, 0.3)
    assert not planner.measured(study, row, 0, 0).evaluations["rerank"].ready  # it may not be the one to measure
    finish(second, 0.4)
    assert planner.training(row, 0, 0) == second
    later = planner.training(row, 1, 0)
    assert (later.options["learning_rate"], later.options["seed"], later.waits_for) == (1e-2, 1, ())


def test_a_job_is_another_one_when_anything_it_depends_on_changes(planner, tmp_path):
    row = read_study("losses", planner.scale).rows["M3SE"]
    name = planner.training(row, 0, 0).name
    assert planner_of(planner.scale.recipes, tmp_path / "elsewhere").training(row, 0, 0).name == name
    recipe = planner.scale.recipes / "teacher.yaml"  # which the student's lists are scored with
    recipe.write_text(recipe.read_text(encoding="utf-8") + "learning_rate: 1.0e-5\n", encoding="utf-8")
    assert planner.training(row, 0, 0).name == name  # as the recipes were when the study began
    assert planner_of(planner.scale.recipes, tmp_path / "out").training(row, 0, 0).name != name


def test_options_name_the_given_data_and_the_folders_of_other_jobs(planner):
    job = planner.training(read_study("losses", planner.scale).rows["M3SE"], 0, 0)
    assert job.options["dev_data"] == "nowhere/words"
    assert job.options["data"] == str(job.needs[0].folder)
    assert job.needs[0].options["teacher"] == str(job.needs[0].needs[0].folder)


def test_a_cross_encoder_does_not_search(planner):
    study = read_study("losses", planner.scale)
    study.columns["retrieval MRR@10"] = None
    kinds = {name: set(planner.measured(study, row, 0, 0).evaluations) for name, row in study.rows.items()}
    assert kinds == {"CA": {"rerank"}, "one-hot": {"rerank", "retrieval"}, "M3SE": {"rerank", "retrieval"}}


def test_rows_and_evaluations_can_be_chosen(tmp_path):
    scale = read_scale("pydocs", RECIPES)
    study = chosen_rows(read_study("table1", scale), ["DE M3SE"])
    assert list(study.rows) == ["DE one-hot", "DE M3SE"]
    assert study.evaluations() == ["rerank", "train", "retrieval", "held_out"]
    chosen_columns(study, ["train"])
    assert list(study.columns) == ["train MRR@10", "held_out MRR@10", "held_out nDCG@10"]
    kinds = {job.name.split("-")[0] for job in plan([study], Planner(scale, scale.data, tmp_path), [0])}
    assert kinds == {"teacher", "lists", "de_one_hot", "de_m3se", "train", "held_out"}


def test_rows_and_evaluations_that_a_study_has_not_are_refused():
    study = read_study("open/lists", read_scale("pydocs", RECIPES))
    with pytest.raises(InputError, match="--only: open/lists has no row 'M3SE'; it has CA, labels, random, "):
        chosen_rows(study, ["M3SE"])
    with pytest.raises(
        InputError, match="open/lists is not measured by 'train' at this scale, but by rerank, held_out"
    ):
        chosen_columns(study, ["rerank", "train"])


def test_a_diagnosis_has_the_size_of_its_scale_unless_the_study_says_otherwise(tmp_path):
    planner = Planner(scale := read_scale("small", RECIPES), scale.data, tmp_path)
    study = read_study("table3", scale)
    assert planner.diagnosis(study, 0, 0).options.items() >= scale.diagnosis.items()
    assert scale.diagnosis["max_queries"] == 60
    study.diagnose["set"] = {"depth": 5}
    assert planner.diagnosis(study, 0, 0).options["depth"] == 5


def test_losses_of_one_kind_share_the_trials_of_one_of_them(tmp_path):
    selection = SELECTION | {"shared": {"m3se": "one_hot"}, "set": {"train_rows": 2}}
    planner = planner_of(write_recipes(tmp_path, selection), tmp_path / "out")
    row = read_study("losses", planner.scale).rows["M3SE"]
    (first, second) = (job for _, job in planner.trials("m3se", 0))
    assert first.options["loss"] == second.options["loss"] == "softmax_ce"
    assert first.options["train_rows"] == 2
    finish(first, 0.3)
    finish(second, 0.4)
    training = planner.training(row, 0, 0)
    assert (training.options["loss"], training.options["learning_rate"]) == ("m3se", 1e-2)
    assert "train_rows" not in training.options  # a trial saw fewer lists than the row


def test_a_row_may_have_another_teacher_for_its_lists(planner):
    plain = read_study("losses", planner.scale).rows["M3SE"]
    other = replace(plain, teacher={"folds": 2})
    teachers = [planner.training(row, 0, 0).needs[0].needs[0] for row in (plain, other)]
    assert [teacher.options.get("folds") for teacher in teachers] == [None, 2]
    assert teachers[0].name != teachers[1].name


def test_a_rows_student_may_score_the_lists_of_the_next_one(planner):
    second = {"model": "one_hot", "scored_by": "first"}
    rows = add_rows(planner, {"second": second, "first": {"model": "m3se", "scored_by": "M3SE"}})
    for _, trial in planner.trials("m3se", 0) + planner.trials("one_hot", 0):
        finish(trial, 0.3)
    jobs = [planner.training(rows[name], 1, 0) for name in ("M3SE", "first", "second")]
    assert jobs[0].needs[0].needs[0].script == "train_teacher.py"
    for teacher, student in pairwise(jobs):
        lists = student.needs[0]
        assert (lists.needs, lists.options["teacher"]) == ((teacher,), str(teacher.folder))
        assert student.options["data"] == str(lists.folder)
    assert planner.training(rows["M3SE"], 1, 0).name == jobs[0].name  # as without the others


def test_a_student_may_go_on_from_another_rows(planner):
    second = {"model": "one_hot", "starts_from": "first", "set": {"layers": 1}}
    rows = add_rows(planner, {"second": second, "first": {"model": "m3se", "set": {"weight_decay": 0.5}}})
    for _, trial in planner.trials("m3se", 0) + planner.trials("one_hot", 0):
        finish(trial, 0.3)
    first, second, alone = (planner.training(rows[name], 1, 0) for name in ("first", "second", "one-hot"))
    _, encoder = second.needs
    assert (encoder.script, encoder.options["model"], encoder.needs) == ("publish.py", str(first.folder), (first,))
    assert second.options["encoder"] == str(encoder.folder) == encoder.options["folder"]
    assert not second.ready and not encoder.ready
    assert second.name != alone.name
    assert begun_with(second) == first


def test_a_student_of_texts_alone_needs_no_teacher_and_costs_an_epoch_of_the_collection(planner):
    rows = add_rows(planner, {"texts": {"model": "one_hot", "set": {"data": planner.scale.data}}})
    planner.scale = replace(planner.scale, selection=None)
    job = planner.training(rows["texts"], 0, 0)
    assert (job.needs, job.options["data"]) == ((), planner.data)
    operations = 3 * planner.scale.documents * (8 + 16) * 24 * 1 * 768**2
    assert seconds(job, planner.scale) == pytest.approx(START_SECONDS + operations / planner.scale.flops)
    assert learned_from(rows["texts"], planner, 0) is None
    assert learned_from(rows["M3SE"], planner, 0).script == "score_with_teacher.py"


def test_lists_wait_for_the_trials_of_the_student_that_scores_them(planner):
    rows = add_rows(planner, {"second": {"model": "one_hot", "scored_by": "M3SE"}})
    trials = [job for _, job in planner.trials("one_hot", 0) + planner.trials("m3se", 0)]
    assert list(planner.training(rows["second"], 0, 0).waits_for) == trials


@pytest.mark.parametrize("role", ["scored_by", "starts_from"])
@pytest.mark.parametrize("name", ["nobody", "CA"])
def test_only_a_row_of_a_student_scores_lists_or_begins_another(role, name, planner):
    with pytest.raises(InputError, match=f"second: {role}: expected the row of a student, got '{name}'"):
        add_rows(planner, {"second": {"model": "one_hot", role: name}})


def test_a_row_cannot_need_itself(planner):
    first = {"model": "one_hot", "scored_by": "second"}
    with pytest.raises(InputError, match="losses/study.yaml: first: scored_by or starts_from: leads back to itself"):
        add_rows(planner, {"first": first, "second": {"model": "one_hot", "starts_from": "first"}})


def test_new_negatives_have_the_scores_of_the_lists_teacher(planner):
    row = replace(read_study("losses", planner.scale).rows["M3SE"], set={"refresh_teacher": "teacher"})
    training = planner.training(row, 0, 0)
    assert training.options["refresh_teacher"] == [training.needs[0].options["teacher"]]


def test_the_estimate_counts_the_operations_of_the_scales_queries(planner):
    planner.scale.test_queries = 40
    study = read_study("losses", planner.scale)
    job = planner.measured(study, study.rows["M3SE"], 0, 0).evaluations["rerank"]
    operations = 40 * 10 * (8 + 16) * 24 * 1 * 768**2  # pairs, tokens, and what a token takes in one layer
    assert seconds(job, planner.scale) == pytest.approx(START_SECONDS + operations / planner.scale.flops)
    limited = replace(job, options=job.options | {"max_queries": 4})
    assert seconds(limited, planner.scale) == pytest.approx(START_SECONDS + operations / 10 / planner.scale.flops)


def test_a_job_takes_as_long_as_others_of_its_script_did(planner):
    study = read_study("losses", planner.scale)
    measured = planner.measured(study, study.rows["one-hot"], 0, 0)
    teacher, student, rerank = measured.trainings[0].needs[0].needs[0], *measured.first()
    records = {}
    for job, factor in ((teacher, 3), (student, 5)):
        records[job.name] = {"seconds": factor * seconds(job, planner.scale)}
    ratios = [ratio([teacher, student], records, planner.scale, job.script) for job in (teacher, student, rerank)]
    assert ratios[:2] == pytest.approx([3, 5]) and 3 < ratios[2] < 5  # none like the third was timed
    assert ratio([], {}, planner.scale, rerank.script) == 1


def test_unequal_budgets_are_refused(tmp_path):
    trials = SELECTION["trials"] | {"m3se": [{"learning_rate": 1e-3}]}
    recipes = write_recipes(tmp_path, SELECTION | {"trials": trials})
    with pytest.raises(InputError, match="as many trials as the others, got {'default': 2, 'm3se': 1}"):
        read_scale("small", recipes)


def test_mappings_are_merged_and_values_replaced():
    both = merged({"a": 1, "loss_args": {"temperature": 2}}, {"a": 3, "loss_args": {"label_smoothing": 0.1}})
    assert both == {"a": 3, "loss_args": {"temperature": 2, "label_smoothing": 0.1}}


def test_a_study_that_a_scale_has_no_rows_for_says_so():
    with pytest.raises(InputError, match="none of its rows is for scale paper"):
        read_study("unseen", read_scale("paper", RECIPES))


def test_a_scale_whose_models_are_not_reranked_cannot_be_transferred(tmp_path):
    argv = ["--study", "table1", "--scale", "paper_nq", "--transfer", "words", "--output", str(tmp_path), "--dry_run"]
    with pytest.raises(InputError, match="--transfer: scale paper_nq has no evaluation rerank"):
        reproduce.main(*parse(reproduce.make_parser(), argv))


@pytest.mark.parametrize("name", study_names(RECIPES))
def test_every_study_plans_runs_that_its_scripts_accept(name, tmp_path):
    scales = [scale for scale in map(read_scale, SCALES, repeat(RECIPES)) if has_rows(name, scale)]
    assert scales
    for scale in scales:
        jobs = plan([read_study(name, scale)], Planner(scale, scale.data, tmp_path), [0])
        for job in {job.script + job.name.rsplit("-", 1)[0]: job for job in jobs}.values():
            argv = []
            for key, value in job.options.items():
                argv += [f"--{key}", *map(as_flag, value if isinstance(value, list) else [value])]
            parse(SCRIPTS[job.script].make_parser(), argv)


def has_rows(name: str, scale: Scale) -> bool:
    """Tell whether a study has rows for a scale; any other reason to have none is an error."""
    try:
        return bool(read_study(name, scale))
    except InputError as error:
        assert any(words in str(error) for words in ("none of its rows", "has no model", "measures nothing"))
        return False
