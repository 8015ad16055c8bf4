"""Docstrings of installed packages, read with `ast`: nothing is imported, so nothing is executed."""

import ast
import gc
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


SKIPPED_FOLDERS = {"test", "tests", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3", "turtledemo"}
SKIPPED_FOLDERS |= {"vendor", "externals", "extern", "encodings", "benchmarks", "examples", "node_modules"}
SKIPPED_FILES = ("test_", "conftest", "modular_")  # transformers generates modeling_x.py from modular_x.py
READ_PRIVATE_FOLDERS = {"_core"}  # numpy keeps its public functions there
NAMED_NODES = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def standard_library_files() -> list[tuple[str, Path]]:
    """List (module name, file) of the public modules of the standard library, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_"):
            continue
        single = root / f"{name}.py"
        files += [(name, single)] if single.is_file() else package_files(root / name)
    return files


def installed_files(package: str) -> list[tuple[str, Path]]:
    """List (module name, file) of the modules of an installed top-level package, sorted; none when not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return package_files(Path(next(iter(spec.submodule_search_locations))))


def package_files(root: Path) -> list[tuple[str, Path]]:
    """List (module name, file) of the modules below the package folder `root`, sorted.

    Private files are read, since scipy and numpy define public functions there; their names are left out of the module
    name as in `scipy.linalg.eigh` from `scipy/linalg/_decomp.py`.
    """
    files = []
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).with_suffix("").parts
        if not (any(map(_skipped_folder, parts[:-1])) or parts[-1].startswith(SKIPPED_FILES)):
            files.append((".".join(part for part in parts if not part.startswith("_")), file))
    return files


def _skipped_folder(name: str) -> bool:
    return name in SKIPPED_FOLDERS or (name.startswith("_") and name not in READ_PRIVATE_FOLDERS)


def docstrings(module: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield (qualified name, docstring) of the public classes, functions and methods of a source file, and of itself.

    A file that this Python cannot parse yields nothing.
    """
    try:
        tree = parse(file)
    except (SyntaxError, ValueError):
        return
    if documentation := ast.get_docstring(tree):
        yield module, documentation
    yield from _named(tree.body, module)


def parse(file: Path) -> ast.Module:
    """Parse a source file. Raises SyntaxError or ValueError where this Python cannot.

    The collector of cycles is off meanwhile: a tree has none, and looking for them takes almost half of the time.
    """
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():  # invalid escapes in other people's strings
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    finally:
        if is_collecting:
            gc.enable()


def _named(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, NAMED_NODES):
            if node.name.startswith("_"):
                continue
            name = f"{prefix}.{node.name}"
            if documentation := ast.get_docstring(node):
                yield name, documentation
            if isinstance(node, ast.ClassDef):
                yield from _named(node.body, name)
        elif isinstance(node, ast.If):
            yield from _named(node.body + node.orelse, prefix)
        elif isinstance(node, ast.Try):
            yield from _named(node.body + node.orelse, prefix)
            for handler in node.handlers:
                yield from _named(handler.body, prefix)
