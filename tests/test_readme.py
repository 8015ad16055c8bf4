"""What the README tells a newcomer to type is what the scripts take. The quickstart's own run is tested beside it."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from m3se.run_scripts.cli.app import parse


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TYPED = re.findall(r"^    ((?:accelerate launch|python) run_scripts/.*)$", README, re.M)
COMMANDS = [shlex.split(line) for line in TYPED]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:60])
def test_a_command_of_the_readme_parses(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    at = next(i for i, part in enumerate(command) if part.startswith("run_scripts/"))
    script = import_module("m3se." + command[at].removesuffix(".py").replace("/", "."))
    parse(script.make_parser(), command[at + 1 :])


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.M))
def test_a_make_target_of_the_readme_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.S))
def test_python_of_the_readme_imports_what_exists(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_a_link_of_the_readme_leads_somewhere(link):
    assert (ROOT / link).exists()
