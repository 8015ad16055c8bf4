r"""Score ranking lists with a teacher, or with the mean of several: what students are distilled from.

    accelerate launch run_scripts/score_with_teacher.py --teacher outputs/stages/teacher --data pydocs \
        --split train --documents_per_query 8 --depth 50 --output outputs/stages/scored

--data is a collection (its lists are then the positives and negatives of every query) or a folder of ranking lists.
Scores are cached under --cache_dir by teacher and text: stop it whenever you like, run it again, and only what is
missing is computed. Writes a folder of ranking lists that distill.py reads, with calibration.json in it.

Scores that others have published need no teacher; the lists are then the best scored documents of every query:

    python run_scripts/score_with_teacher.py --data MSMARCO_FOLDER --candidates bert_cat_ensemble_msmarcopassage.tsv \
        --output outputs/msmarco/scored
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from transformers import HfArgumentParser

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import REQUIRED, option
from m3se.run_scripts.cli.list_making import ListArguments, choose_scored, prepare_lists
from m3se.trainers.data import RankingLists, write_scored_triples
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
from m3se.trainers.teacher.loading import load_teacher
from m3se.trainers.teacher.temperature import describe_meanings


@dataclass(kw_only=True)
class ScoringArguments(ListArguments):
    """The lists, the teachers that score them, and where the scores go."""

    output: str = option("Folder for the annotated ranking lists.", REQUIRED)
    teacher: list[str] = option(
        "What ranks: folders or Hub ids of models, a folder of train_teacher.py --folds, or files of scores by ids, "
        "such as TREC runs; several: the mean of their scores; none: the scores that the data or --candidates bring.",
        list,
    )
    teacher_template: str | None = option(
        "Prompt of a language model: a file with prompt, true and false, or a built-in name (default: its own)."
    )
    rank_targets: str | None = option("Scores that a run's ranks stand for: reciprocal or linear (default: its own).")
    teacher_weights: list[float] = option("How much each of several teachers counts (default: the same).", list)
    dtype: str | None = option("float32 or bfloat16 (default: bfloat16 where the processor multiplies in it).")
    query_length: int | None = option("Query tokens (default: the teacher's own).")
    document_length: int | None = option("Document tokens (default: the same).")
    export_tsv: str | None = option("Also write the scores as Hofstätter's table: two scores, three ids a line.")
    shard_seconds: float = option("A shard is written this often.", 30.0)


def make_parser() -> HfArgumentParser:
    """Make the parser of the command's options."""
    return HfArgumentParser(ScoringArguments, description=__doc__)


def main(arguments: ScoringArguments) -> None:
    """Score a share of the pairs into the cache; the first process then writes and reports the scores of all."""
    state = connect_processes()
    if state.is_main_process:
        check_output(Path(arguments.output))
        check_export(arguments)
    else:
        logging.disable(logging.INFO)
    check_weights(arguments.teacher_weights, len(arguments.teacher))
    teachers = load_teachers(arguments)
    with state.main_process_first():  # it prepares collection and index, which the others only open
        lists = prepare_lists(arguments, scored_here=bool(teachers))
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
        write(label_best(chosen) if arguments.pseudo_positives else chosen, calibration, arguments)
        print("\n".join([*calibration.lines(), *describe_meanings(calibration)]))


def load_teachers(arguments: ScoringArguments) -> list[Teacher]:
    """Load all teachers, with the lengths, number format and prompt of the options.

    Raises:
        InputError: a teacher cannot be loaded, one is missing, or an option is for none of them.
    """
    options = arguments.dtype, arguments.query_length, arguments.document_length
    options += arguments.teacher_template, arguments.rank_targets
    teachers = [load_teacher(name, *options) for name in arguments.teacher]
    kinds = {teacher.kind for teacher in teachers}
    if arguments.teacher_template and "judge" not in kinds:
        raise InputError("--teacher_template is for language models; no --teacher is one")
    if arguments.rank_targets and "run" not in kinds:
        raise InputError("--rank_targets is for files of ranks; no --teacher is one")
    if teachers:
        check_teachers(teachers)
    elif arguments.data == "pydocs":
        raise InputError("--teacher: expected a model or a run; only data that brings teacher scores needs none")
    return teachers


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


if __name__ == "__main__":
    run(make_parser, main)
