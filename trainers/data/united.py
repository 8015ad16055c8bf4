"""Sources of candidates that are made of other sources: several in one list, or one without its best ranks."""

import math
from collections.abc import Iterator, Sequence

from m3se.trainers.data.candidates import CandidateSource, RankedList
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


class UnitedCandidates:
    """Several rankings in one, taken in turns, so that each has its share of every beginning of the list.

    A document that several sources rank counts for the one that names it first. Where a source has no more documents,
    the others go on. Raises InputError for shares that do not fit, and for a source whose lists are in no order.

    Args:
        sources: two or more; of equal claims the first has its turn.
        shares: of the list, one above 0 per source in any unit; None: equal ones.
    """

    ranker = ""
    is_ranked = True

    def __init__(self, sources: Sequence[CandidateSource], shares: Sequence[float] | None = None):
        shares = check_shares([source.name for source in sources], shares)
        unranked = [source.name for source in sources if not source.is_ranked]
        if unranked:
            raise InputError(f"candidates: the lists of {unranked[0]} are in no order and cannot be united by rank")
        parts = [f"{share:.0%} {source.name}" for source, share in zip(sources, shares, strict=True)]
        self.name = " + ".join(parts)
        self._sources, self._shares = sources, shares

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield at most `depth` distinct documents for every query id."""
        rankings = [source.ranked(collection, queries, depth) for source in self._sources]
        for lists in zip(*rankings, strict=True):
            query = lists[0][0]
            ids = interleave([ids for _, ids, _ in lists], self._shares, depth)
            yield RankedList(query, ids, None)


class LaterCandidates:
    """The candidates of a source without the `skip` best ranked ones, which may be relevant though nobody judged them.

    Raises InputError when the source has no order, or `skip` is negative.
    """

    ranker = ""
    is_ranked = True

    def __init__(self, source: CandidateSource, skip: int):
        if skip < 0 or not source.is_ranked:
            raise InputError(f"--skip: expected 0 or more, and candidates with an order, got {skip} of {source.name}")
        self.name = f"{source.name} from rank {skip + 1}"
        self._source, self._skip = source, skip

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield the documents of every query id from rank `skip` + 1 to `depth`."""
        for query, ids, _ in self._source.ranked(collection, queries, depth):
            yield RankedList(query, ids[self._skip :], None)


def check_shares(names: Sequence[str], shares: Sequence[float] | None) -> list[float]:
    """Return the shares of the named sources as parts of 1, equal ones for None.

    Raises:
        InputError: there are not as many as sources, or one is not a number above 0.
    """
    if shares is None:
        return [1 / len(names)] * len(names)
    if len(shares) != len(names) or not all(0 < share < math.inf for share in shares):
        got = " ".join(map(str, shares))
        raise InputError(f"candidate shares: expected a number above 0 for each of {', '.join(names)}, got {got}")
    return [share / sum(shares) for share in shares]


def interleave(lists: Sequence[Sequence[str]], shares: Sequence[float], depth: int) -> list[str]:
    """Merge rankings to at most `depth` distinct documents.

    The next document comes from the list that is furthest behind its share; of equals, from the first. Only documents
    that are new count for a list, so the first n of the result hold at least the first floor(share · n) of each of two
    lists.
    """
    merged: dict[str, None] = {}
    places, counts = [0] * len(lists), [0] * len(lists)
    while len(merged) < depth:
        unread = [number for number, ids in enumerate(lists) if places[number] < len(ids)]
        if not unread:
            break
        claims = {number: shares[number] * (len(merged) + 1) - counts[number] for number in unread}
        turn = max(claims, key=claims.__getitem__)
        document = lists[turn][places[turn]]
        places[turn] += 1
        counts[turn] += document not in merged
        merged[document] = None
    return list(merged)
