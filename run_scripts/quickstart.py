"""Go the whole way on real text: teacher, teacher scores, three students, one table, one published model folder.

    python run_scripts/quickstart.py --recipes run_scripts/recipes/quickstart

Each stage is a script of this folder with a recipe of that one, which an installed `m3se quickstart` brings along; run
any of them by hand to change something. What has not changed since the last run is reused.
"""

import logging
import multiprocessing
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from transformers import HfArgumentParser

from m3se.run_scripts import distill, evaluate, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse, run
from m3se.run_scripts.cli.arguments import option
from m3se.run_scripts.publishing.build import build_folder


logger = logging.getLogger(__name__)

# Imports take ten seconds. A fork has them already; it needs a parent that has not computed yet, as this one.
PROCESSES = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
RECIPES = Path(__file__).resolve().parent / "recipes" / "quickstart"
STAGES: dict[str, tuple] = {
    "teacher": ("train the teacher, a cross-encoder", train_teacher),
    "scores": ("score the training lists with it", score_with_teacher),
    "de_one_hot": ("train a dual encoder on the labels", distill),
    "de_softmax_ce": ("distil by softmax cross-entropy", distill),
    "de_m3se": ("distil by multi-margin MSE", distill),
    "evaluate": ("re-rank held-out queries' BM25 candidates", evaluate),
}


@dataclass
class QuickstartArguments:
    """Options of the quickstart."""

    recipes: str | None = option(
        f"Folder with a recipe for each stage: {', '.join(STAGES)} (default: recipes/quickstart beside this script)."
    )
    overwrite: bool = option("Replace models that an older recipe, or other data, made in the same place.", False)


def make_parser() -> HfArgumentParser:
    """Return the parser of the command's options."""
    return HfArgumentParser(QuickstartArguments, description=__doc__)


def main(arguments: QuickstartArguments) -> None:
    """Run every stage with its recipe, write the published folder, and print what to do with it."""
    started = time.perf_counter()
    folder = RECIPES if arguments.recipes is None else Path(arguments.recipes)
    recipes = {name: str(folder / f"{name}.yaml") for name in STAGES}
    parsed = {name: parse(STAGES[name][1].make_parser(), ["--recipe", path]) for name, path in recipes.items()}
    for number, (name, (title, script)) in enumerate(STAGES.items(), start=1):
        logger.info("\n[%d/%d] %s (%s)", number, len(STAGES) + 1, title, recipes[name])
        options = ["--overwrite", "true"] if arguments.overwrite and script in (train_teacher, distill) else []
        run_stage(script, ["--recipe", recipes[name], *options])
    logger.info("\n[%d/%d] write the published folder", len(STAGES) + 1, len(STAGES) + 1)
    published = publish(Path(parsed["de_m3se"][-1].output_dir), parsed["evaluate"][0])
    print(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. Next, search your Python's documentation:\n")
    print(f'  m3se search --model {published} --data pydocs "eigenvalues of a symmetric matrix"\n')
    print("or load the folder anywhere, without this package:\n")
    print(f"  python -c \"from transformers import AutoModel; print(AutoModel.from_pretrained('{published}'))\"")


def run_stage(script: ModuleType, options: list[str]) -> None:
    """Run a stage in a process of its own, so that its memory ends with it.

    Its failure, already explained, ends this process with the same status.
    """
    process = PROCESSES.Process(target=script_process, args=(script.__name__, options))
    process.start()
    try:
        process.join()
    finally:
        process.terminate()  # when this one is stopped
    if process.exitcode:
        sys.exit(process.exitcode)


def script_process(name: str, options: list[str]) -> None:
    """Run a script, named by its module, with these options on the command line."""
    script = import_module(name)
    sys.argv = [script.__file__, *options]
    run(script.make_parser, script.main)


def publish(model: Path, evaluation: evaluate.EvaluationArguments) -> Path:
    """Write the published folder of the M3SE student beside the checkpoints, with the table on its card; return it."""
    output = Path(evaluation.output)
    row = evaluation.name[evaluation.model.index(str(model))]
    return build_folder(
        model,
        output.parent / "de-m3se",
        metrics=output / evaluate.folder_name(row) / "metrics.json",
        table=output / "table.md",
        dataset=evaluation.data,
        split=evaluation.split,
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        license="apache-2.0",
        language="en",
    )


if __name__ == "__main__":
    run(make_parser, main)
