"""Systems that answer a query, and a teacher that ranks their best documents again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from m3se.run_scripts.demo_page.rankings import Answer, Ranking, shown_documents
from m3se.trainers.data import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.tokens.meetings import Meeting
from m3se.trainers.teacher.ensembles import combine


TEACHER = "teacher"
MEETINGS_SHOWN = 3  # in a cell
Search = Callable[[str, int], dict[str, float]]  # query, depth -> document id → score, best first
Score = Callable[[str, list[str]], np.ndarray]  # query, document ids -> scores [n]
Matcher = Callable[[str, str], list[str]]


class System(NamedTuple):
    """A search of the collection.

    Attributes:
        name: on the page.
        search: finds the best documents.
        meet: explains scores by tokens, where the model is a ColBERT: query, texts -> meetings of each.
    """

    name: str
    search: Search
    meet: Callable[[str, list[str]], list[list[Meeting]]] | None = None


class Teacher(NamedTuple):
    """One of the rankers whose mean ranks candidates again: how it scores, and a name of its scale."""

    score: Score
    scale: str


@dataclass(frozen=True)
class Judged:
    """The queries of the data: id → text, and their judgments."""

    queries: dict[str, str]
    qrels: dict[str, dict[str, float]]

    def grades(self, query: str) -> dict[str, float] | None:
        """Return the judgments of a query that has this text, white space and case apart; None where it has none."""
        wanted = normalise(query)
        for name, text in self.queries.items():
            if normalise(text) == wanted and name in self.qrels:
                return self.qrels[name]
        return None


@dataclass(frozen=True)
class Comparison:
    """Everything that answers queries side by side.

    Attributes:
        documents: the texts.
        systems: the searches, in the order of the page.
        reference: name of the one that moved ranks are counted from.
        teachers: rankers of the candidates; none: nothing is ranked again.
        weights: how much each teacher counts; None: the same.
        judged: the queries of the data.
        match: lists the words of a query that a text has.
        top, depth: documents that are shown, and those of each search that the teacher ranks.
    """

    documents: DocumentTable
    systems: list[System]
    reference: str
    teachers: list[Teacher]
    weights: list[float] | None
    judged: Judged
    match: Matcher
    top: int
    depth: int

    def names(self) -> list[str]:
        """List the systems of an answer."""
        return [system.name for system in self.systems] + [TEACHER] * bool(self.teachers)

    def explained(self) -> list[str]:
        """List the systems whose scores are explained by tokens."""
        return [system.name for system in self.systems if system.meet is not None]

    def answer(self, query: str) -> Answer:
        """Let every system answer a query.

        Raises:
            InputError: the query is empty.
        """
        query = " ".join(query.split())
        if not query:
            raise InputError("query: expected some words")
        rankings = [self.search(system, query) for system in self.systems]
        if self.teachers:
            rankings.append(self.rank_again(query, rankings))
        grades = self.judged.grades(query)
        answer = Answer(query, rankings, self.reference, {}, grades, self.top)
        names = shown_documents(answer)
        present = [name for name, row in zip(names, self.documents.find(names), strict=True) if row >= 0]
        answer.texts.update(zip(present, self.documents.texts(present), strict=True))
        self.add_matches(answer)
        return answer

    def search(self, system: System, query: str) -> Ranking:
        """Let a system search, and take its time."""
        started = time.perf_counter()
        scores = system.search(query, max(self.top, self.depth))
        return Ranking(system.name, scores, time.perf_counter() - started)

    def rank_again(self, query: str, rankings: list[Ranking]) -> Ranking:
        """Let the teachers rank the best documents of all systems; several are averaged as training does it."""
        candidates: dict[str, None] = {}
        for ranking in rankings:
            candidates |= dict.fromkeys(list(ranking.scores)[: self.depth])
        ids, started = list(candidates), time.perf_counter()
        if not ids:
            return Ranking(TEACHER, {}, 0.0)
        columns = [np.asarray(teacher.score(query, ids), dtype=np.float64) for teacher in self.teachers]
        scales = [teacher.scale for teacher in self.teachers]
        means, _ = combine(columns, scales, np.array([len(ids)]), self.weights)
        seconds = time.perf_counter() - started
        order = np.argsort(-means, kind="stable")
        return Ranking(TEACHER, {ids[place]: float(means[place]) for place in order}, seconds)

    def add_matches(self, answer: Answer) -> None:
        """Say in every ranking which words or tokens of the query met which of the documents that are shown."""
        names, texts = list(answer.texts), list(answer.texts.values())
        shared = {name: ", ".join(self.match(answer.query, text)) for name, text in answer.texts.items()}
        for system, ranking in zip_longest(self.systems, answer.rankings):
            if system is None or system.meet is None:
                ranking.matches.update(shared)
                continue
            ranking.meetings.update(zip(names, system.meet(answer.query, texts), strict=True))
            for name, meetings in ranking.meetings.items():
                ranking.matches[name] = ", ".join(best_meetings(meetings))


def normalise(text: str) -> str:
    """Return a text without differences in case and white space."""
    return " ".join(text.split()).casefold()


def best_meetings(meetings: list[Meeting]) -> list[str]:
    """Describe the meetings of the highest similarities, those of tokens in brackets such as [CLS] left out."""
    words = [meeting for meeting in meetings if not meeting.query_token.startswith(("[", "<"))]
    best = sorted(words, key=lambda meeting: -meeting.similarity)[:MEETINGS_SHOWN]
    return [f"{meeting.query_token}→{meeting.document_token} {meeting.similarity:.2f}" for meeting in best]
