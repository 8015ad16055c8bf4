"""Rankings of one query side by side, as tables of plain text: no model, no page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import shorten
from typing import NamedTuple


SHOWN = 160  # characters of a document
NEW, SAME, NOT_RANKED = "new", "=", "not ranked"
RELEVANT = "✔"


class Table(NamedTuple):
    """A header and rows of text."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Ranking:
    """The answer of one system.

    Attributes:
        system: its name.
        scores: document id → score, best first.
        seconds: that it took.
        matches: document id → the words or tokens that met, of the documents that one may look at.
        meetings: document id → query token, document token and similarity, where the system is a ColBERT.
    """

    system: str
    scores: dict[str, float]
    seconds: float
    matches: dict[str, str] = field(default_factory=dict)
    meetings: dict[str, Sequence[tuple[str, str, float]]] = field(default_factory=dict)

    def ranks(self) -> dict[str, int]:
        """Return the rank of each document, from 1."""
        return {document: rank for rank, document in enumerate(self.scores, start=1)}


@dataclass(frozen=True)
class Answer:
    """The answers of all systems to a query.

    Attributes:
        query: its text.
        rankings: one of each system.
        reference: the system that moved ranks are counted from.
        texts: document id → text, of all documents that are shown and of those that are judged relevant.
        grades: document id → judgment, above 0 where it is relevant; None for a query without judgments.
        top: documents that each system shows.
    """

    query: str
    rankings: list[Ranking]
    reference: str
    texts: dict[str, str]
    grades: dict[str, float] | None
    top: int

    def find(self, system: str) -> Ranking:
        """Return the ranking of a system."""
        return next(ranking for ranking in self.rankings if ranking.system == system)

    def relevant(self) -> list[str]:
        """List the documents that are judged relevant, the most relevant first."""
        grades = self.grades or {}
        return sorted((name for name in grades if grades[name] > 0), key=grades.__getitem__, reverse=True)


def describe_move(rank: int, before: int | None) -> str:
    """Say how many ranks a document has risen: "+2", "-1", "=" for none, "new" where it was not ranked before."""
    if before is None:
        return NEW
    return SAME if before == rank else f"{before - rank:+d}"


def describe_grade(answer: Answer, document: str) -> str:
    """Return the mark and the grade of a document that is judged relevant, and nothing for another one."""
    grade = (answer.grades or {}).get(document, 0)
    return f"{RELEVANT} {grade:g}" if grade > 0 else ""


def show_document(document: str, text: str) -> str:
    """Return a document on one line: its id, and the beginning of its text, which need not repeat the id."""
    beginning = shorten(text.removeprefix(document), SHOWN, placeholder="…")
    return f"{document}: {beginning}" if beginning else document


def ranking_table(answer: Answer, ranking: Ranking) -> Table:
    """Show the best documents of a system, with what has moved since the reference and what is relevant.

    The reference itself has no column of moves, and a query without judgments none of those.
    """
    header, before = ["rank", "score"], answer.find(answer.reference).ranks()
    has_moves, has_grades = ranking.system != answer.reference, answer.grades is not None
    header += ["moved"] * has_moves + ["relevant"] * has_grades + ["document", "matched"]
    rows = []
    for document, rank in list(ranking.ranks().items())[: answer.top]:
        row = [str(rank), f"{ranking.scores[document]:.3f}"]
        row += [describe_move(rank, before.get(document))] * has_moves
        row += [describe_grade(answer, document)] * has_grades
        rows.append([*row, show_document(document, answer.texts[document]), ranking.matches.get(document, "")])
    return Table(header, rows)


def ranking_title(ranking: Ranking) -> str:
    """Return the heading of a system's table: its name and its time."""
    return f"{ranking.system} · {1000 * ranking.seconds:,.0f} ms"


def shown_documents(answer: Answer) -> list[str]:
    """List the documents that one may look at: the best of all systems in turns, then relevant ones nobody shows."""
    documents: dict[str, None] = {}
    for rank in range(answer.top):
        for ranking in answer.rankings:
            documents |= dict.fromkeys(list(ranking.scores)[rank : rank + 1])
    return list(documents | dict.fromkeys(answer.relevant()))


def document_table(answer: Answer, document: str) -> Table:
    """Show what every system makes of one document."""
    rows = []
    for ranking in answer.rankings:
        rank = ranking.ranks().get(document)
        if rank is None:
            rows.append([ranking.system, NOT_RANKED, "", ""])
        else:
            score = f"{ranking.scores[document]:.3f}"
            rows.append([ranking.system, str(rank), score, ranking.matches.get(document, "")])
    return Table(["system", "rank", "score", "matched"], rows)


def meeting_table(ranking: Ranking, document: str) -> Table:
    """Show which token of the query met which of a document."""
    rows = []
    for query_token, document_token, similarity in ranking.meetings.get(document, ()):
        rows.append([query_token, document_token, f"{similarity:.3f}"])
    return Table(["token of the query", "token of the document", "similarity"], rows)


def describe_answer(answer: Answer) -> str:
    """Say in a line what is known of the query."""
    if not any(ranking.scores for ranking in answer.rankings):
        return "No system finds a document for this query."
    moved = f"Moved ranks are counted from {answer.reference}."
    if answer.grades is None:
        return f"The data have no judgments of this query. {moved}"
    relevant = answer.relevant()
    best = []
    for ranking in answer.rankings:
        ranks = ranking.ranks()
        places = [ranks[document] for document in relevant if document in ranks]
        best.append(f"{ranking.system} {min(places) if places else 'none'}")
    return f"{len(relevant)} judged relevant; best rank of one: {', '.join(best)}. {moved}"
