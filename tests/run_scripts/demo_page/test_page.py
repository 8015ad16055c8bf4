"""The components of the page, without a browser."""

from urllib.request import urlopen

import pytest

from m3se.run_scripts.demo_page.opening import open_comparison
from m3se.run_scripts.demo_page.outputs import Output
from m3se.run_scripts.demo_page.rankings import Table
from m3se.run_scripts.demo_page.serve import check_gradio, launch
from m3se.trainers.diagnostics.disagreement import Pair
from m3se.trainers.errors import InputError
from tests.run_scripts.demo_page.conftest import HOSTILE


LAYOUT = {"button", "column", "form", "row", "state", "tabitem", "tabs"}
SHOWS_TEXT = LAYOUT | {"dataframe", "dropdown", "image", "textbox"}


@pytest.fixture(scope="module")
def page():
    check_gradio_is_installed()
    from m3se.run_scripts.demo_page import page

    return page


def check_gradio_is_installed():
    try:
        check_gradio()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def comparison(world, arguments):
    models = ["--start", world["start"], "--model", world["student"], world["colbert"]]
    return open_comparison(arguments(*models, "--teacher", "start", "--top", 8))[0]


@pytest.fixture(scope="module")
def answers(page, comparison):
    return page.Answers(comparison.answer, comparison.names(), comparison.explained())


def test_no_component_takes_markup(page, comparison):
    pair = Pair(HOSTILE, "d8", HOSTILE, 0.0, -1.0, 2.0, 3.0, 0.5)
    output = Output("run", HOSTILE, [Table(["system", "nDCG"], [[HOSTILE, "1"]])], [], "CA", "DE", [pair])
    blocks = page.build_page(comparison, [output])
    components = list(blocks.blocks.values())
    assert {component.get_block_name() for component in components} <= SHOWS_TEXT
    tables = [component for component in components if component.get_block_name() == "dataframe"]
    assert len(tables) == 5 + 1 + 1 + 1 + 1  # systems, ranks, tokens, what was measured, a disagreement
    assert {table.datatype for table in tables} == {"str"}
    assert not blocks.analytics_enabled


def test_an_answer_fills_the_tables_and_the_documents_to_look_at(page, answers):
    answer, status, document, *tables = page.show_answer(answers, "vector sum")
    assert status == page.describe_answer(answer) and "1 judged relevant" in status
    assert [table.label.partition(" · ")[0] for table in tables] == answers.names
    bm25 = tables[0].value
    assert bm25["headers"] == ["rank", "score", "moved", "relevant", "document", "matched"]
    assert [row[4] for row in bm25["data"]] == ["d1: sum of a vector", f"d8: {HOSTILE}"]
    assert document.value == "d1" and ("d1: sum of a vector", "d1") in [tuple(choice) for choice in document.choices]


def test_a_document_is_shown_with_its_ranks_and_tokens(page, answers):
    answer = answers.answer("vector sum")
    text, ranks, tokens = page.show_document_again(answers.explained, answer, "d8")
    assert text == HOSTILE
    assert [row[0] for row in ranks["data"]] == answers.names
    assert [row[0] for row in tokens["data"]][2:4] == ["vector", "sum"]


def test_a_mistake_is_said_where_the_answer_would_be(page, answers):
    answer, status, document, *tables = page.show_answer(answers, " ")
    assert answer is None and status == "query: expected some words" and document.value is None
    assert [table.value["data"] for table in tables] == [[]] * 5
    assert page.show_document_again(answers.explained, None, None) == ["", page.NOTHING, page.NOTHING]


def test_the_page_is_served_to_this_machine_and_a_taken_port_is_one_line(page, comparison):
    blocks = page.build_page(comparison, [])
    address = launch(blocks, "127.0.0.1", None)
    try:
        assert address.startswith("http://127.0.0.1:")
        with urlopen(address) as answer:
            assert page.TITLE in answer.read().decode("utf-8")
        with pytest.raises(InputError, match="--port: the page cannot listen there"):
            launch(page.build_page(comparison, []), "127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))
    finally:
        blocks.close(verbose=False)
