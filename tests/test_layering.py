"""Which folder may import which: the one picture of the architecture that cannot go stale."""

import ast
import sys
from collections.abc import Iterator
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
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def sources(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported_names(tree: ast.Module) -> set[str]:
    """Top-level names of absolute imports, wherever they stand."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_one_way(folder):
    for path, tree in sources(folder):
        assert imported_names(tree) & MAY_IMPORT.keys() <= MAY_IMPORT[folder], path


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
        assert imported_names(tree) - sys.stdlib_module_names <= MODELING_LIBRARIES, path


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_files_and_functions_stay_short(folder):
    for path, tree in sources(folder):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, (path, node.name)
