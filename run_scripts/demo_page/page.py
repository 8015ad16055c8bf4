"""The page: a tab to search, one for what a run has measured, one for its largest disagreements.

Nothing of the data is markup here. Texts stand in text boxes and in tables of the type `str`, which show them as they
are; no component that takes HTML or Markdown gets any of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import gradio as gr
from PIL import Image

from m3se.run_scripts.demo_page.comparing import Comparison
from m3se.run_scripts.demo_page.outputs import Output
from m3se.run_scripts.demo_page.rankings import (
    Answer,
    Table,
    describe_answer,
    document_table,
    meeting_table,
    ranking_table,
    ranking_title,
    show_document,
)
from m3se.trainers.errors import InputError


TITLE = "Searches side by side"
QUERIES_OFFERED = 200
NARROWEST = 320  # pixels of a table; on a narrower page they stand below each other
PRIVATE = {"api_visibility": "private", "show_progress": "minimal"}  # no endpoint for other programs
NOTHING = {"headers": [], "data": []}
# Pixels of the columns of a system's table: Gradio would break a heading between any two letters.
WIDTHS = {"rank": 64, "score": 72, "moved": 76, "relevant": 92, "document": 204, "matched": 140}


class Answers(NamedTuple):
    """The answering of queries.

    Attributes:
        answer: takes the query, and whatever else the page asks for, and returns the answer.
        names: systems of an answer.
        explained: those whose scores are explained by tokens.
    """

    answer: Callable[..., Answer]
    names: list[str]
    explained: list[str]


class SearchTab(NamedTuple):
    """The text box of the query, the components that an answer fills, and the function that fills them."""

    query: gr.Textbox
    results: list[gr.components.Component]
    show: Callable[..., list]


def build_page(comparison: Comparison, outputs: list[Output]) -> gr.Blocks:
    """Build the page of demo.py.

    Args:
        comparison: answers queries.
        outputs: what runs have measured.
    """
    answers = Answers(comparison.answer, comparison.names(), comparison.explained())
    offered = list(comparison.judged.queries.values())[:QUERIES_OFFERED]
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page, gr.Tabs() as tabs:
        with gr.Tab("Search", id="search"):
            search = build_search(answers, offered)
        if any(output.tables or output.pictures for output in outputs):
            with gr.Tab("What was measured", id="measured"):
                for output in outputs:
                    build_measured(output)
        disagreeing = [output for output in outputs if output.pairs]
        if disagreeing:
            with gr.Tab("Largest disagreements", id="disagreements"):
                for output in disagreeing:
                    build_disagreements(output, search, tabs)
    return page


def build_search(answers: Answers, offered: Sequence[str] = (), more: Sequence[gr.Textbox] = ()) -> SearchTab:
    """Add the query, a table for every system, and one document to look at.

    Args:
        answers: answers queries.
        offered: queries to choose from.
        more: further text boxes that an answer is made of.
    """
    answer = gr.State(None)
    with gr.Row(equal_height=True):
        query = gr.Textbox(label="Query", autofocus=True, scale=4, max_lines=1, elem_id="query", min_width=NARROWEST)
        button = gr.Button("Search", variant="primary", scale=1, min_width=100)
    choice = gr.Dropdown(list(offered), value=None, label="Or a query of the data", visible=bool(offered))
    status = gr.Textbox(label="About this query", interactive=False, elem_id="status")
    tables = []
    with gr.Row():
        for number, name in enumerate(answers.names):
            with gr.Column(min_width=NARROWEST):
                tables.append(plain_table(name, elem_id=f"system-{number}"))
    document = gr.Dropdown([], value=None, label="Look at a document", interactive=True, elem_id="document")
    text = gr.Textbox(label="Its text", interactive=False, lines=3, max_lines=20, elem_id="text")
    places = plain_table("Its ranks", elem_id="ranks")
    meetings = [plain_table(f"{name}: which token met which") for name in answers.explained]
    results, inputs = [answer, status, document, *tables], [query, *more]
    show = partial(show_answer, answers)
    query.submit(show, inputs, results, **PRIVATE)
    button.click(show, inputs, results, **PRIVATE)
    choice.input(lambda text: text, choice, query, **PRIVATE).then(show, inputs, results, **PRIVATE)
    look = partial(show_document_again, answers.explained)
    document.change(look, [answer, document], [text, places, *meetings], **PRIVATE)
    return SearchTab(query, results, show)


def plain_table(label: str, table: Table | None = None, **options) -> gr.Dataframe:
    """Make a table whose cells show text as it is."""
    value = None if table is None else as_value(table)
    return gr.Dataframe(value, label=label, datatype="str", type="array", interactive=False, wrap=True, **options)


def as_value(table: Table) -> dict:
    """Return a table as Gradio takes it."""
    return {"headers": table.header, "data": table.rows}


def show_answer(answers: Answers, *inputs: str) -> list:
    """Answer a query: the answer, a line about it, the documents to look at, and the tables of all systems."""
    try:
        answer = answers.answer(*inputs)
    except InputError as error:
        cleared = [gr.Dataframe(NOTHING, label=name) for name in answers.names]
        return [None, str(error), gr.Dropdown([], value=None), *cleared]
    tables = []
    for ranking in answer.rankings:
        table = ranking_table(answer, ranking)
        widths = [WIDTHS[heading] for heading in table.header]
        tables.append(gr.Dataframe(as_value(table), label=ranking_title(ranking), column_widths=widths))
    documents = list(answer.texts)
    choices = [(show_document(name, answer.texts[name]), name) for name in documents]
    first = documents[0] if documents else None
    return [answer, describe_answer(answer), gr.Dropdown(choices, value=first), *tables]


def show_document_again(explained: list[str], answer: Answer | None, document: str | None) -> list:
    """Show a document's text, its ranks, and which token of the query met which of it.

    Args:
        explained: the systems whose tokens are shown.
        answer: has the document.
        document: its id.
    """
    if answer is None or document not in answer.texts:
        return ["", NOTHING, *[NOTHING] * len(explained)]
    shown = [answer.texts[document], as_value(document_table(answer, document))]
    for name in explained:
        shown.append(as_value(meeting_table(answer.find(name), document)))
    return shown


def build_measured(output: Output) -> None:
    """Add the tables and pictures of a folder."""
    for number, table in enumerate(output.tables):
        plain_table(output.name if number == 0 else f"{output.name}, {number + 1}", table)
    if output.notes:
        gr.Textbox(output.notes, label=f"{output.name}: notes", interactive=False, lines=2, max_lines=20)
    for title, file in output.pictures:
        gr.Image(Image.open(file), label=title, format="png", interactive=False, buttons=["fullscreen"])


def build_disagreements(output: Output, search: SearchTab, tabs: gr.Tabs) -> None:
    """Add the disagreements of a folder, one at a time, and the way from one to a search with its query.

    Args:
        output: has the disagreements.
        search: answers the query of one.
        tabs: whose first tab is shown then.
    """
    choices = [(f"{number}. {pair.query}", number - 1) for number, pair in enumerate(output.pairs, start=1)]
    label = f"{output.name}: not relevant, scored low by {output.low} and high by {output.high}"
    number = gr.Dropdown(choices, value=0, label=label, interactive=True, elem_id="pair")
    with gr.Row():
        previous, following = gr.Button("Previous", min_width=100), gr.Button("Next", min_width=100)
        again = gr.Button("Search with this query", min_width=200)
    first_query, first_text, first_table = show_pair(output, 0)
    query = gr.Textbox(first_query, label="Its query", interactive=False, elem_id="pair-query")
    text = gr.Textbox(first_text, label="Its document", interactive=False, lines=3, max_lines=20, elem_id="pair-text")
    table = plain_table("Scores", first_table)
    number.change(partial(show_pair_again, output), number, [query, text, table], **PRIVATE)
    last = len(choices) - 1
    previous.click(lambda place: max(place - 1, 0), number, number, **PRIVATE)
    following.click(lambda place: min(place + 1, last), number, number, **PRIVATE)
    chosen = again.click(lambda text: (text, gr.Tabs(selected="search")), query, [search.query, tabs], **PRIVATE)
    chosen.then(search.show, search.query, search.results, **PRIVATE)


def show_pair(output: Output, place: int) -> tuple[str, str, Table]:
    """Return query, document and scores of a disagreement."""
    pair = output.pairs[place]
    header = ["document", output.low, output.high, "gap in σ", "query words in it"]
    numbers = f"{pair.low:.3f}", f"{pair.high:.3f}", f"{pair.gap:.1f}", f"{pair.overlap:.0%}"
    return pair.query, pair.document, Table(header, [[pair.document_id, *numbers]])


def show_pair_again(output: Output, place: int) -> tuple[str, str, dict]:
    """Return query, document and scores of a disagreement as the components take them."""
    query, text, table = show_pair(output, place)
    return query, text, as_value(table)
