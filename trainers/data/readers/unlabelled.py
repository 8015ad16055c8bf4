"""Queries that nobody has judged, such as a log of searches: which of them may be trained on."""

from collections import Counter
from collections.abc import Container

from m3se.trainers.data.readers.source import Queries, Source


TRAIN = "train"


def is_unjudged(source: Source) -> bool:
    """Tell whether a source has no judgments of any split."""
    return source.pairs is None and source.judges is not None and not source.judges(None)


def may_lack_judgments(source: Source) -> bool:
    """Tell whether the split that is read may be one without judgments.

    It may when nothing is judged, and when the train split is missing. Another split that is missing is a name that
    was misspelt.
    """
    if source.judges is None:
        return False
    return not source.judges(None) or (source.split == TRAIN and not source.judges(TRAIN))


def unlabelled_queries(queries: Queries, judged: Container[str], counts: Counter[str]) -> Queries:
    """Select the queries that no split judges, without those that repeat the text of a judged or an earlier one.

    A query of a test that is asked again under another id would otherwise be trained on. Texts are compared without
    case and white space.

    Args:
        queries: all queries of the source, id → text.
        judged: ids of the queries that any split judges.
        counts: the counter of what is dropped, by reason.
    """
    unlabelled: Queries = {}
    seen = {plain_text(text) for query, text in queries.items() if query in judged}
    for query, text in queries.items():
        plain = plain_text(text)
        if query in judged:
            continue
        if not plain:
            counts["unlabelled_queries_dropped_without_text"] += 1
        elif plain in seen:
            counts["unlabelled_queries_dropped_with_repeated_text"] += 1
        else:
            unlabelled[query] = text
            seen.add(plain)
    return unlabelled


def plain_text(text: str) -> str:
    """Return a text without case and with single spaces, for comparisons."""
    return " ".join(text.casefold().split())
