import sys

from m3se.trainers.data.pydocs.docstrings import (
    docstrings,
    installed_files,
    package_files,
    standard_library_files,
)
from m3se.trainers.storage.state import package_version


SOURCE = '''"""A module."""
import this_does_not_exist

if True:
    def shown():
        """Shown function."""
        def inner():
            """Not shown."""

try:
    class Shown:
        """Shown class."""
        async def method(self):
            """Shown method."""
        def _hidden(self):
            """Not shown."""
except ImportError:
    def fallback():
        """Shown fallback."""

raise RuntimeError("never executed")
'''


def test_public_names_are_read_from_source_that_cannot_even_be_imported(tmp_path):
    (tmp_path / "file.py").write_text(SOURCE)
    assert list(docstrings("m", tmp_path / "file.py")) == [
        ("m", "A module."),
        ("m.shown", "Shown function."),
        ("m.Shown", "Shown class."),
        ("m.Shown.method", "Shown method."),
        ("m.fallback", "Shown fallback."),
    ]


def test_a_file_of_another_language_version_yields_nothing(tmp_path):
    (tmp_path / "file.py").write_text("print 'two'")
    assert list(docstrings("m", tmp_path / "file.py")) == []


def test_tests_vendored_and_private_folders_are_left_out(tmp_path):
    package = tmp_path / "pack"
    for name in ("__init__", "b", "_a", "test_b", "tests/c", "_vendor/d", "_core/e", "sub/__init__", "sub/_f"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").touch()
    names = [name for name, _ in package_files(package)]
    assert names == ["pack", "pack", "pack.e", "pack.b", "pack.sub", "pack.sub"]


def test_packages_are_found_without_importing_them():
    before = set(sys.modules)
    names = dict(installed_files("networkx"))
    assert "networkx.algorithms.clique" in names and names["networkx.algorithms.clique"].is_file()
    assert not {name for name in set(sys.modules) - before if name.startswith("networkx")}
    assert installed_files("there_is_no_such_package") == []
    assert {"json.decoder", "textwrap"} <= {name for name, _ in standard_library_files()}


def test_versions_are_those_installed():
    assert package_version("python") == ".".join(map(str, sys.version_info[:3]))
    assert package_version("there-is-no-such-package") is None
