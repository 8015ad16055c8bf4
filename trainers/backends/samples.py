"""Samples of the user's own texts: queries with documents, drawn the same way every time.

int8 is calibrated on the first half of a sample, where it is calibrated, and measured on the second.
"""

from collections.abc import Sequence
from hashlib import blake2b

from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.data.candidates import query_generator
from m3se.trainers.errors import InputError


Sample = Sequence[tuple[str, list[str]]]  # a query and its documents
HALF = 16  # queries of each half
DOCUMENTS = 8  # of each query
OPENING = 8  # words of a document that stand for a query


def document_sample(documents: DocumentTable) -> Sample:
    """Draw documents in groups; the query of a group is made of the opening words of its first document.

    It depends on the documents alone, so that commands with and without queries share embeddings.

    Raises:
        InputError: the collection has fewer than four documents.
    """
    if len(documents) < 4:
        raise InputError(f"int8: expected at least 4 documents to be calibrated and measured on, got {len(documents)}")
    wanted = min(2 * HALF * DOCUMENTS, len(documents))
    drawn = query_generator("int8", 0).choice(len(documents), wanted, replace=False)
    texts = documents.texts_at(drawn.tolist())
    size = min(DOCUMENTS, len(texts) // 2)
    sample = []
    for start in range(0, len(texts) - size + 1, size):
        group = texts[start : start + size]
        sample.append((" ".join(group[0].split()[:OPENING]), group))
    return sample


def list_sample(lists: RankingLists) -> Sample:
    """Take the lists that come first by hash, and of each list documents that are spread over it.

    Raises:
        InputError: there are fewer than two lists, or none of at least two documents.
    """
    sample, longest = [], 0
    for row in lists.rows.select(hash_order(lists)[: 2 * HALF]):
        names = row["document_ids"]
        longest = max(longest, len(names))
        spread = names[:: max(1, len(names) // DOCUMENTS)][:DOCUMENTS]
        sample.append((row["query"], lists.documents.texts(spread)))
    if len(sample) < 2 or longest < 2:
        raise InputError(
            "int8: expected at least 2 lists of 2 documents or more to be calibrated and measured on, "
            f"got {len(sample)} of at most {longest}"
        )
    return sample


def held_out_lists(lists: RankingLists, count: int) -> RankingLists:
    """Return at most `count` of the lists that `list_sample` does not calibrate on, the first by hash."""
    order = hash_order(lists)
    start = min(HALF, len(order) // 2)
    return RankingLists(lists.rows.select(order[start : start + count]), lists.documents, lists.report)


def hash_order(lists: RankingLists) -> list[int]:
    """Return the numbers of rows in the order of the hashes of their queries' ids.

    A larger part of the same queries, which is taken by the same hashes, begins in the same way.
    """
    names = lists.rows["query_id"][:]
    return sorted(range(len(names)), key=lambda row: blake2b(names[row].encode(), digest_size=8).digest())


def halves(sample: Sample) -> tuple[Sample, Sample]:
    """Split a sample in the part that int8 is calibrated on and the part that it is measured on."""
    middle = len(sample) // 2
    return sample[:middle], sample[middle:]
