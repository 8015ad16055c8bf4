"""A smoke test of an installed m3se, away from any checkout and from any network.

    python -m pip install dist/*.whl && python tests/installed.py

It imports every public name, shows the help of every command, reads a recipe and the metric of `evaluate` that come
along, and ranks two texts with a model that was saved and loaded again. `--quick` leaves the help pages out, which
take most of the time. Ends with status 0, or with the first error.
"""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path


COMMAND = Path(sysconfig.get_path("scripts")) / ("m3se.exe" if os.name == "nt" else "m3se")


def main() -> None:
    """Run every check, each in a folder that holds nothing of ours."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": tempfile.mkdtemp()}
    os.chdir(Path(sys.executable).anchor)
    sys.path.remove(str(Path(__file__).parent))
    commands = listed_commands()
    check_public_names()
    check_data_files()
    check_ranking()
    if "--quick" in sys.argv:
        return
    for command in commands:
        check_help(command)
    check_start([COMMAND, "distill", "--help"])
    check_start([sys.executable, "-m", "m3se", "distill", "--help"])
    check_start([sys.executable, "-m", "m3se.run_scripts.distill", "--help"])


def listed_commands() -> list[str]:
    """Return the commands that `m3se` lists; there must be one for every script that is installed."""
    listing = subprocess.run([COMMAND], capture_output=True, text=True, check=True).stdout
    commands = [line.split()[0] for line in listing.splitlines() if line.startswith("  ")]
    scripts = [path.name.removesuffix(".py") for path in files("m3se.run_scripts").iterdir() if path.suffix == ".py"]
    expect(sorted(commands) == sorted(set(scripts) - {"__init__"}), f"`m3se` lists {commands}, not {scripts}")
    return commands


def check_public_names() -> None:
    """Import every name of the package's face, none of which may load torch before it is used."""
    import m3se

    expect("torch" not in sys.modules, "`import m3se` imports torch")
    for name in m3se.__all__:
        getattr(m3se, name)
    places = set(m3se.__path__)
    expect(len(places) == 1 and "site-packages" in places.pop(), f"m3se is imported from {m3se.__path__}")
    expect(m3se.__version__[0].isdigit(), f"m3se.__version__ is {m3se.__version__}")
    expect((files("m3se") / "py.typed").is_file(), "py.typed is missing")


def check_data_files() -> None:
    """Read a recipe and compute the metric that come along."""
    import evaluate

    from m3se.run_scripts.cli.recipe import read_recipe

    recipe = read_recipe(files("m3se.run_scripts") / "recipes" / "stages" / "de_m3se.yaml")
    expect(recipe["loss"] == "m3se", f"the recipe says {recipe}")
    with files("m3se.trainers.evaluation") as folder:
        metric = evaluate.load(str(folder / "ranking_metric"), cache_dir=tempfile.mkdtemp())
    predictions = [{"document_ids": ["a", "b"], "scores": [0.1, 0.3]}]
    values = metric.compute(predictions=predictions, references=[{"document_ids": ["a"], "grades": [1]}])
    expect(values["MRR@10"] == 0.5, f"the metric says {values}")


def check_ranking() -> None:
    """Save a dual encoder of random weights, load it by its folder, and rank two texts."""
    from transformers import BertConfig, BertTokenizerFast

    from m3se import DualEncoder, DualEncoderConfig, load_scorer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "tall", "giraffe", "five", "metres"]
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    encoder = BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.5, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        DualEncoder(DualEncoderConfig(encoder_config=encoder, pooling="mean")).save_pretrained(folder)
        BertTokenizerFast(vocab={word: row for row, word in enumerate(words)}).save_pretrained(folder)
        ranked = load_scorer(folder).rank("how tall", ["giraffe", "five metres"])
    expect(len(ranked) == 2, f"two documents are ranked as {ranked}")


def check_help(command: str) -> None:
    """Show the help of a command in this process, which has imported most of what it needs."""
    sys.argv = [command, "--help"]
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        runpy.run_module(f"m3se.run_scripts.{command}", run_name="__main__")
    expect(page.getvalue().startswith("usage: "), f"{command} --help says {page.getvalue()[:200]!r}")


def check_start(command: list) -> None:
    """Show a command's help in a process of its own."""
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expect(page.startswith("usage: "), f"{command} says {page[:200]!r}")


def expect(condition: bool, problem: str) -> None:
    """End the process with a description of the problem unless the condition holds."""
    if not condition:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
