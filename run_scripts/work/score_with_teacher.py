"""Ranking lists scored by teachers."""

import json
import logging
import tempfile
from itertools import chain
from pathlib import Path

from m3se.run_scripts.score_with_teacher import ScoringArguments
from m3se.run_scripts.work.candidate_sources import bm25_parameters
from m3se.run_scripts.work.list_making import choose_scored, prepare_lists
from m3se.trainers.backends.choice import Backend, choose_backend
from m3se.trainers.backends.compiling import refuse_other_kinds
from m3se.trainers.backends.teachers import compile_teachers, member_scorers
from m3se.trainers.data import RankingLists, write_scored_triples
from m3se.trainers.data.label_noise import check_noise, move_labels
from m3se.trainers.data.schema import missing_part
from m3se.trainers.data.selection import label_best
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import check_ids
from m3se.trainers.processes import connect_processes
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.teacher.annotate import ProcessShare, Teacher, annotate, check_teachers, fill_cache
from m3se.trainers.teacher.calibration import Calibration, calibrate
from m3se.trainers.teacher.cross_fitting import log_trained
from m3se.trainers.teacher.ensembles import check_weights
from m3se.trainers.teacher.list_teachers import BM25Teacher
from m3se.trainers.teacher.loading import load_teacher
from m3se.trainers.teacher.temperature import describe_meanings


def main(arguments: ScoringArguments) -> None:
    """Score a share of the pairs into the cache; the first process then writes and reports the scores of all."""
    state = connect_processes()
    if state.is_main_process:
        check_output(Path(arguments.output))
        check_export(arguments)
    else:
        logging.disable(logging.INFO)
    check_noise(arguments.label_noise)
    check_weights(arguments.teacher_weights, len(arguments.teacher))
    backend = choose_backend(arguments.backend, arguments.dtype)
    teachers = load_teachers(arguments, backend)
    with state.main_process_first():  # it prepares collection, index and models, which the others only open
        lists = prepare_lists(arguments, scored_here=bool(teachers))
        compile_teachers(teachers, backend, lists, arguments.cache_dir)
    if arguments.export_tsv is not None:
        check_ids(lists.rows["query_id"], chain.from_iterable(lists.rows["document_ids"]), "a table of triples")
    for teacher in teachers:
        log_trained(teacher.name, lists.rows["query"][:])
    cache = Path(arguments.cache_dir) / "teacher_scores"
    if teachers and state.num_processes > 1:
        share = ProcessShare(state.process_index, state.num_processes)
        fill_cache(lists, teachers, cache, share, arguments.shard_seconds, progress=state.is_main_process)
    state.wait_for_everyone()
    state.destroy_process_group()
    if state.is_main_process:
        annotated = (
            annotate(lists, teachers, cache, arguments.shard_seconds, weights=arguments.teacher_weights or None)
            if teachers
            else lists
        )
        chosen = choose_scored(annotated, arguments, scored_here=bool(teachers))
        calibration = calibrate(chosen)  # before labels are taken from the scores that it compares with labels
        labelled = move_labels(chosen, arguments.label_noise)
        write(label_best(labelled) if arguments.pseudo_positives else labelled, calibration, arguments)
        print("\n".join([*calibration.lines(), *describe_meanings(calibration)]))


def load_teachers(arguments: ScoringArguments, backend: Backend) -> list[Teacher]:
    """Load all teachers, with the lengths, number format and prompt of the options, still computed by torch.

    Raises:
        InputError: a teacher cannot be loaded, one is missing, or an option is for none of them.
    """
    options = backend.loaded_dtype, arguments.query_length, arguments.document_length
    options += arguments.teacher_template, arguments.rank_targets, backend.device
    teachers: list[Teacher] = []
    for name in arguments.teacher:
        is_bm25 = name == BM25Teacher.name
        teachers.append(make_bm25(arguments) if is_bm25 else load_teacher(name, *options))
    kinds = {teacher.kind for teacher in teachers}
    if arguments.teacher_template and "judge" not in kinds:
        raise InputError("--teacher_template is for language models; no --teacher is one")
    if arguments.rank_targets and "run" not in kinds:
        raise InputError("--rank_targets is for files of ranks; no --teacher is one")
    for teacher in teachers:
        for scorer in member_scorers(teacher):
            refuse_other_kinds(scorer, backend)
    if teachers:
        check_teachers(teachers)
    elif arguments.data == "pydocs":
        raise InputError("--teacher: expected a model or a run; only data that brings teacher scores needs none")
    return teachers


def make_bm25(arguments: ScoringArguments) -> BM25Teacher:
    """Make BM25 a teacher, with the settings that it finds candidates by."""
    return BM25Teacher(arguments.cache_dir, **bm25_parameters(arguments))


def check_output(output: Path) -> None:
    """Raise InputError, before any work, when the lists could not be written there."""
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and missing_part(output))):
        raise InputError(f"--output {output}: exists and does not hold ranking lists; it is not overwritten")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=output.parent).cleanup()
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written: {error.strerror}") from error


def check_export(arguments: ScoringArguments) -> None:
    """Raise InputError, before any work, when the table could not be written."""
    if arguments.export_tsv is not None and not Path(arguments.export_tsv).resolve().parent.is_dir():
        raise InputError(f"--export_tsv {arguments.export_tsv}: its folder does not exist")


def write(lists: RankingLists, calibration: Calibration, arguments: ScoringArguments) -> None:
    """Write lists and calibration.json as one folder, which appears only when complete, and the table of --export_tsv.

    Raises InputError when they cannot be written.
    """
    output = arguments.output
    try:
        with complete_folder(output) as folder:
            lists.write_into(folder)
            text = json.dumps(calibration.as_dict(), indent=2) + "\n"
            (folder / "calibration.json").write_text(text, encoding="utf-8")
        if arguments.export_tsv is not None:
            output = arguments.export_tsv
            write_scored_triples(lists, output)
    except OSError as error:
        raise InputError(f"{output}: could not be written: {error.strerror or error}") from error
