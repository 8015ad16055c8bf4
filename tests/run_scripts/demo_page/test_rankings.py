"""Rankings of one query, as tables of text."""

import pytest

from m3se.run_scripts.demo_page.rankings import (
    Answer,
    Ranking,
    describe_answer,
    describe_move,
    document_table,
    ranking_table,
    ranking_title,
    show_document,
    shown_documents,
)


HOSTILE = '<img src=x onerror="alert(1)"> [a](javascript:alert(1)) $x$'
TEXTS = {"a": "a\nfirst   text", "b": HOSTILE, "c": "word " * 60, "d": "d"}


def answer(grades=None):
    """BM25 finds a, b and c; the student c, d and a; the second document of either is the last that is shown."""
    bm25 = Ranking("BM25", {"a": 3.0, "b": 2.5, "c": 1.0}, 0.0021, {"a": "first", "b": ""})
    student = Ranking("student", {"c": 0.75, "d": 0.5, "a": 0.25}, 1.5, {"c": "word"})
    return Answer("a query", [bm25, student], "BM25", TEXTS, grades, top=2)


@pytest.mark.parametrize(("rank", "before", "move"), [(1, 3, "+2"), (4, 3, "-1"), (2, 2, "="), (1, None, "new")])
def test_a_move_counts_ranks_upwards(rank, before, move):
    assert describe_move(rank, before) == move


def test_the_table_of_a_system_has_its_moves_and_judgments():
    given = answer({"c": 2.0, "a": 0.0})
    table = ranking_table(given, given.find("student"))
    assert table.header == ["rank", "score", "moved", "relevant", "document", "matched"]
    assert table.rows[0][:4] == ["1", "0.750", "+2", "✔ 2"] and table.rows[0][5] == "word"
    assert table.rows[1] == ["2", "0.500", "new", "", "d", ""]
    assert len(table.rows) == 2


def test_the_reference_has_no_moves_and_a_new_query_no_judgments():
    given = answer()
    table = ranking_table(given, given.find("BM25"))
    assert table.header == ["rank", "score", "document", "matched"]
    assert table.rows[0] == ["1", "3.000", "a: first text", "first"]


def test_a_text_is_cut_and_otherwise_left_as_it_is():
    assert show_document("b", HOSTILE) == f"b: {HOSTILE}"
    assert show_document("c", TEXTS["c"]) == "c: " + " ".join(["word"] * 32) + "…"  # 159 characters and the sign


def test_documents_to_look_at_are_the_best_in_turns_and_relevant_ones_that_nobody_shows():
    assert shown_documents(answer()) == ["a", "c", "b", "d"]
    assert shown_documents(answer({"z": 1.0, "a": 1.0})) == ["a", "c", "b", "d", "z"]


def test_a_document_is_followed_through_all_systems():
    rows = document_table(answer(), "a").rows
    assert rows == [["BM25", "1", "3.000", "first"], ["student", "3", "0.250", ""]]
    assert document_table(answer(), "d").rows[0] == ["BM25", "not ranked", "", ""]


def test_a_line_says_where_the_first_relevant_document_is():
    line = describe_answer(answer({"a": 1.0, "d": 2.0, "b": 0.0}))
    assert line.startswith("2 judged relevant; best rank of one: BM25 1, student 2. ")
    assert "best rank of one: BM25 none, student 2." in describe_answer(answer({"d": 1.0}))
    assert describe_answer(answer()).startswith("The data have no judgments of this query.")
    nothing = Answer("q", [Ranking("BM25", {}, 0.1)], "BM25", {}, None, 2)
    assert describe_answer(nothing) == "No system finds a document for this query."


def test_the_heading_of_a_table_has_the_time():
    assert ranking_title(answer().rankings[1]) == "student · 1,500 ms"
