"""The results of a search, as commands show them."""

from typing import NamedTuple


class Hit(NamedTuple):
    """A document that a search returns: its id, its inner product with the query, and its text if asked for."""

    id: str
    score: float
    text: str = ""


class Answers(NamedTuple):
    """The documents of each query, best first; how many were searched, and in how many seconds."""

    hits: list[list[Hit]]
    documents: int
    seconds: float
