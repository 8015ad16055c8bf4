"""The wheel and the source distribution: all of m3se, and nothing else. One version, wherever it is written."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]  # package -> folder
VERSION = PROJECT["project"]["version"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git holds, so that nothing is built in this folder, or from what an earlier build left in it."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "outputs")
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("clone") / "m3se", ignore=ignored)


@pytest.fixture(scope="module")
def source(checkout):
    """The source distribution."""
    return build("sdist", checkout)


@pytest.fixture(scope="module")
def wheel(checkout):
    return build("wheel", checkout)


def build(kind, folder):
    """Build a wheel or an sdist as pip does, in a process of its own; return its path."""
    code = f"from setuptools.build_meta import build_{kind} as build; print(build('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "dist" / done.stdout.splitlines()[-1]


def product_files(root):
    """Files of the installed package, by the names that they have in it."""
    names = set()
    for package, folder in FOLDERS.items():
        paths = [path for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        names |= {f"{package.replace('.', '/')}/{path.relative_to(root / folder).as_posix()}" for path in paths}
    return names


def files_in(wheel):
    """Names of a wheel's files, its own record left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def new_environment(folder):
    """A new environment with the libraries of this one, in which nothing of ours is installed."""
    venv.create(folder, with_pip=False)
    place = {"base": str(folder), "platbase": str(folder), "installed_base": str(folder)}
    libraries = Path(sysconfig.get_path("purelib", "venv", vars=place))
    ours = {path for path in sys.path if path.endswith("site-packages")}
    (libraries / "libraries.pth").write_text("\n".join(sorted(ours)), encoding="utf-8")
    python = Path(sysconfig.get_path("scripts", "venv", vars=place)) / Path(sys.executable).name
    return python, libraries


def install(python, *arguments, cwd):
    """Let pip put something into another environment, without downloads."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_python(python, *arguments, cwd):
    """Run Python with the environment of a user who has set nothing for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_every_file_of_the_folders_and_nothing_else(checkout, wheel):
    assert files_in(wheel) == product_files(checkout)
    parts = ("py.typed", "recipes/scales.yaml", "templates/model.md", "ranking_metric.py", "modeling/dual_encoder.py")
    for part in parts:
        assert [name for name in files_in(wheel) if name.endswith(part)], part


def test_the_source_distribution_makes_the_same_wheel_and_brings_the_tests(source, wheel, tmp_path):
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / f"m3se-{VERSION}"
    for name in ("CHANGELOG.md", "CITATION.cff", "LICENSE", "constraints.txt", "tests/conftest.py", "docs/losses.md"):
        assert (folder / name).is_file(), name
    assert files_in(build("wheel", folder)) == files_in(wheel)


def test_the_version_is_the_same_wherever_it_is_written(wheel):
    assert wheel.name == f"m3se-{VERSION}-py3-none-any.whl"
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]) == VERSION
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert VERSION in headings[:2] and {headings[0]} <= {"Unreleased", VERSION}


@pytest.mark.long
@pytest.mark.slow
def test_the_wheel_works_in_a_new_environment_without_the_checkout(wheel, tmp_path):
    python, libraries = new_environment(tmp_path / "environment")
    install(python, str(wheel), cwd=tmp_path)
    installed = {path.name for path in libraries.iterdir()} - {"libraries.pth", "__pycache__"}
    assert installed == {"m3se", f"m3se-{VERSION}.dist-info"}
    done = run_python(python, ROOT / "tests" / "installed.py", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.slow
def test_an_editable_installation_works_from_the_root_and_can_be_followed_by_type_checkers(checkout, tmp_path):
    """They do not run the finder of a usual editable installation; a strict one is a folder on `sys.path`."""
    python, libraries = new_environment(tmp_path / "environment")
    install(python, "--no-build-isolation", "--config-settings", "editable_mode=strict", "-e", ".", cwd=checkout)
    (line,) = [path for path in libraries.glob("__editable__*.pth")]
    folder = Path(line.read_text(encoding="utf-8").strip())
    linked = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert linked == product_files(checkout)
    code = "import m3se.trainers.errors as errors; print(errors.__file__)"
    done = run_python(python, "-c", code, cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(folder))
