"""Which folder may import which: the one picture of the architecture that cannot go stale."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "modeling": set(),  # not even itself by name: the Hub copies a model's code by following its relative imports
    "trainers": {"trainers", "modeling"},
    "hub_cards": {"hub_cards"},
    "run_scripts": {"run_scripts", "hub_cards", "trainers", "modeling"},
}
MODELING_LIBRARIES = {"torch", "transformers"}
LONGEST_FILE, LONGEST_FUNCTION, MOST_FILES = 300, 60, 17
BARE_IMPORT = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(MAY_IMPORT)})\b", re.M)


def sources(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.Module) -> set[str]:
    """Dotted names of absolute imports, wherever they stand."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_one_way(folder):
    for path, tree in sources(folder):
        own = {name.split(".")[1] for name in imported_modules(tree) if name.startswith("m3se.")}
        assert own <= MAY_IMPORT[folder], path


def own_file(name: str) -> Path | None:
    """The file of the module that an imported name is, or is in; None for a library's, and for a package's folder."""
    parts = name.split(".")[1:] if name.startswith("m3se.") else []
    for length in range(len(parts), 0, -1):
        if (file := ROOT.joinpath(*parts[:length]).with_suffix(".py")).is_file():
            return file
    return None


def test_no_import_closes_a_circle():
    """Neither inside a function nor for a type: what cannot be imported first cannot be understood first."""
    imported = {}
    for folder in MAY_IMPORT:
        for path, tree in sources(folder):
            names = imported_modules(tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.level:  # of modeling, whose files are in one folder
                    names.add(f"m3se.{folder}.{node.module}")
            imported[path] = set(filter(None, map(own_file, names)))
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("pattern", ["**/*.py", "**/*.md", ".github/**/*.yml"])
def test_nothing_imports_a_folder_by_its_bare_name(pattern):
    """`import modeling` works from the repository's root, and gives every class a second time."""
    for path in ROOT.glob(pattern):
        if not {".venv", "build", "outputs"} & set(path.relative_to(ROOT).parts):
            assert not BARE_IMPORT.search(path.read_text(encoding="utf-8")), path


def test_modeling_is_flat_and_imports_its_own_files_by_from_dot_name():
    """The Hub copies the files that `from .name import thing` names, and silently no others."""
    for path, tree in sources("modeling"):
        assert path.parent == ROOT / "modeling", path
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module and "." not in node.module, (path, node.lineno)
                assert (ROOT / "modeling" / f"{node.module}.py").is_file(), (path, node.lineno)


def test_modeling_needs_nothing_but_torch_and_transformers():
    for path, tree in sources("modeling"):
        libraries = {name.split(".")[0] for name in imported_modules(tree)}
        assert libraries - sys.stdlib_module_names <= MODELING_LIBRARIES, path


@pytest.mark.parametrize("folder", ["m3se", *MAY_IMPORT])
def test_files_and_functions_stay_short_and_folders_small(folder):
    for path, tree in sources(folder):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
        assert len(list(path.parent.glob("*.py"))) <= MOST_FILES, path.parent
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, (path, node.name)


def test_files_of_tests_stay_short_too():
    for path, _ in sources("tests"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
