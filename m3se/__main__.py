"""The `m3se` command: `m3se distill …` runs `run_scripts/distill.py`, `m3se` alone lists the commands."""

import ast
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from m3se.run_scripts.cli.output import end_with_reader


def main() -> None:
    """Run the command that the first argument names; without one, list the commands."""
    with end_with_reader():
        start(sys.argv[1:])


def start(words: list[str]) -> None:
    """Run the command that the first word names with the others as its options."""
    scripts = {path.stem: path for path in sorted(scripts_folder().glob("[a-z]*.py"))}
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(overview(scripts))
        return
    if name not in scripts:
        print(f"m3se: error: no command {name!r}; there are {', '.join(scripts)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"m3se {name}", *words[1:]]
    runpy.run_module(f"m3se.run_scripts.{name}", run_name="__main__", alter_sys=False)


def scripts_folder() -> Path:
    """Find the folder of the commands, without importing any of them."""
    return Path(find_spec("m3se.run_scripts").origin).parent


def overview(scripts: dict[str, Path]) -> str:
    """Describe every command by the first sentence of its module."""
    width = max(map(len, scripts))
    lines = ["usage: m3se COMMAND [options]        m3se COMMAND --help explains one", ""]
    lines += [f"  {name:{width}}  {first_sentence(path)}" for name, path in scripts.items()]
    return "\n".join(lines)


def first_sentence(script: Path) -> str:
    """Read the first sentence of a script's documentation, in one line."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.split("\n\n")[0].split()).split(". ")[0]
    return sentence.partition("; ")[0].partition(": ")[0].rstrip(".")


if __name__ == "__main__":
    main()
