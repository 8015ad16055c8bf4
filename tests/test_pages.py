"""Pages tell a reader to type what works, lead somewhere with every link, and can be read."""

import ast
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from m3se.run_scripts.cli.app import parse


ROOT = Path(__file__).parents[1]
ELSEWHERE = {".venv", "build", "outputs", "templates", ".pytest_cache"}  # templates become pages, example_card is one
PAGES = sorted(path for path in ROOT.rglob("*.md") if not ELSEWHERE & set(path.relative_to(ROOT).parts))
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
GENERATED = re.compile(
    r"docs/results/((\w+/)+report|retrievers/[a-z_]+)\.md|docs/example_card/README\.md"
)  # reproduce.py and publish.py write
WRITTEN = [name for name in TEXTS if not GENERATED.fullmatch(name)]

SCRIPT = re.compile(r"^    .*?\b(?:run_scripts/(\w+)\.py|m3se (\w+)) (\S.*)$", re.M)
COMMANDS = sorted({match.groups() for name in WRITTEN for match in SCRIPT.finditer(TEXTS[name])}, key=str)
BLOCKS = [code for text in TEXTS.values() for code in re.findall(r"^```python\n(.*?)```", text, re.S | re.M)]
QUOTED = sorted({(name, file) for name in WRITTEN for file in re.findall(r"`(\w+/[\w/]+\.(?:py|md))`", TEXTS[name])})
LINKS = sorted({(name, link) for name in TEXTS for link in re.findall(r"\]\(((?!http)[^)\s]+)\)", TEXTS[name])})

MOST_NUMERALS = 5  # of 100 words
LONGEST_LINE = 150
NUMERAL = re.compile(r"\d+(?:[.,]\d+)*|\.\d+")
NOT_PROSE = [
    re.compile(r"\A---\n.*?^---\n", re.S | re.M),  # metadata of a card
    re.compile(r"^```.*?^```", re.S | re.M),
    re.compile(r"^(?:    | *\|).*$", re.M),  # code and tables
    re.compile(r"(?<=\])\([^)]*\)"),  # where a link leads
]


def prose(text: str) -> str:
    """Return a page without metadata, code, tables and the targets of links."""
    for pattern in NOT_PROSE:
        text = pattern.sub("", text)
    return text


def imported_names(code: str) -> set[tuple[str, str]]:
    """Return the (module, name) pairs that a piece of Python imports by `from module import name`."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            names |= {(node.module, alias.name) for alias in node.names}
    return names


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(filter(None, command))[:60])
def test_a_command_of_a_page_parses(command, monkeypatch):
    script, m3se_command, arguments = command
    monkeypatch.chdir(ROOT)
    module = import_module(f"m3se.run_scripts.{script or m3se_command}")
    parse(module.make_parser(), shlex.split(arguments))


def test_the_front_page_has_commands():
    assert len(SCRIPT.findall(TEXTS["README.md"])) >= 4


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", TEXTS["README.md"] + TEXTS["CONTRIBUTING.md"], re.M))
def test_a_make_target_of_a_page_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize(("module", "name"), sorted(set().union(*map(imported_names, BLOCKS))))
def test_python_of_a_page_imports_what_exists(module, name):
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_of_a_page_leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("page", "file"), QUOTED)
def test_a_file_that_a_page_names_exists(page, file):
    assert (ROOT / file).exists()


def test_a_test_that_a_page_names_exists():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    quoted = {name for page in WRITTEN for name in re.findall(r"`(test_\w+)`", TEXTS[page])}
    assert [name for name in sorted(quoted) if f"def {name}(" not in tests] == []


@pytest.mark.parametrize("page", WRITTEN)
def test_prose_has_few_numerals_and_short_lines(page):
    text = prose(TEXTS[page])
    assert 100 * len(NUMERAL.findall(text)) <= MOST_NUMERALS * len(text.split())
    assert max(map(len, text.splitlines())) < LONGEST_LINE


def test_prose_leaves_code_tables_and_links_out():
    page = "---\na: 1\n---\nRead [it](b2.md) in 3 days.\n\n| 4 |\n\n    run 5\n\n```\n6\n```\n"
    assert NUMERAL.findall(prose(page)) == ["3"]


@pytest.mark.parametrize(("page", "count"), [("docs/results/README.md", 25), ("docs/results/small.md", 6)])
def test_a_table_of_results_holds_what_the_studies_measured(page, count):
    rows = re.findall(r"\]\(([\w/]+)/report\.md\) \| \**(\.\d+)\**(?: ± (\.\d+))? \|", TEXTS[page])
    assert len(rows) == count
    for study, mean, deviation in rows:
        results = json.loads((ROOT / "docs" / "results" / study / "results.json").read_text(encoding="utf-8"))
        measured = set()
        for row in results["rows"].values():
            value = row["values"].get("held_out MRR@10", row["values"].get("rerank MRR@10"))
            if value is not None:
                measured.add((f"{value['mean']:.3f}", f"{value['sd']:.3f}" if value["sd"] else "0"))
        assert (f"0{mean}", f"0{deviation}") in measured
