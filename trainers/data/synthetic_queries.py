"""Queries made of the documents, where nobody has written any: a title asks for its text, a sentence for its passage.

The document that a query was made of is relevant to it (grade 1). In lists it stands without the words of the query,
which would otherwise be found by their letters alone (the inverse cloze task; Lee et al., 2019). A query that a model
wrote leaves its document whole.
"""

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from m3se.trainers.data.candidates import query_generator
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.readers.unlabelled import plain_text
from m3se.trainers.data.schema import SYNTHETIC, Collection, RankingLists
from m3se.trainers.errors import InputError


SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
LEAST_CHARACTERS = 15  # of a sentence, and of what is left of its passage
LONGEST_TITLE = 200  # characters; a longer first line is text
DOCUMENTS_AT_ONCE = 512

# The query of a document, and what is left of that (None: all of it); None for a document without a query.
Made = tuple[str, str | None] | None
Maker = Callable[[list[str], list[str]], list[Made]]  # ids, texts → queries and rests


@dataclass
class SyntheticQueries:
    """Queries by id, the document that each was made of, and by query what is left of that document.

    A document that stays whole has no rest. `report` says how they were made and counts what was dropped.
    """

    queries: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    rests: dict[str, str] = field(default_factory=dict)
    report: dict = field(default_factory=dict)


def make_queries(
    documents: DocumentTable,
    maker: Maker,
    method: str,
    count: int | None = None,
    seed: int = 0,
    avoid: Iterable[str] = (),
) -> SyntheticQueries:
    """Make at most one query of every document, for `count` documents in an order drawn by `seed`.

    Dropped and counted are queries without text, queries that say the same as their document, a text to avoid or an
    earlier query (without case and white space), and documents that the maker makes nothing of.

    Args:
        documents: the texts.
        maker: makes the queries, of several documents at a time.
        method: its name, for ids and reports.
        count: queries to make; None: of every document.
        seed: of the order of the documents.
        avoid: texts that no query may have, such as the queries of a test.

    Raises:
        InputError: `count` is below 1, or no query could be made.
    """
    if count is not None and count < 1:
        raise InputError(f"synthetic queries: expected a count of 1 or more, got {count}")
    seen = set(map(plain_text, avoid))
    made, counts = SyntheticQueries(), Counter()
    wanted = len(documents) if count is None else min(count, len(documents))
    with tqdm(total=wanted, desc=f"queries by {method}", unit="query") as bar:
        for document, text, result in _results(documents, maker, seed):
            if reason := _reason_to_drop(text, result, seen):
                counts[f"synthetic_queries_dropped_{reason}"] += 1
                continue
            query, rest = result
            name = f"{SYNTHETIC}{method}:{document}"
            seen.add(plain_text(query))
            made.queries[name], made.sources[name] = query, document
            if rest is not None:
                made.rests[name] = rest
            bar.update()
            if len(made.queries) == wanted:
                break
    if not made.queries:
        raise InputError(
            f"synthetic queries by {method}: none could be made of {len(documents)} documents ({dict(counts)})"
        )
    made.report = {
        "synthetic_queries": len(made.queries),
        "synthetic_method": method,
        "synthetic_seed": seed,
        **counts,
    }
    return made


def _results(documents: DocumentTable, maker: Maker, seed: int) -> Iterator[tuple[str, str, Made]]:
    """Yield id, text and what the maker makes of it for every document, in the drawn order."""
    order = np.random.default_rng(seed).permutation(len(documents))
    for start in range(0, len(order), DOCUMENTS_AT_ONCE):
        places = order[start : start + DOCUMENTS_AT_ONCE]
        ids, texts = documents.ids_at(places), documents.texts_at(places)
        yield from zip(ids, texts, maker(ids, texts), strict=True)


def _reason_to_drop(text: str, result: Made, seen: Container[str]) -> str | None:
    """Say why what was made of a text is no query; None when it is one."""
    if result is None or not result[0].strip():
        return "without_text"
    plain = plain_text(result[0])
    if plain == plain_text(text):
        return "equal_to_their_document"
    return "with_repeated_text" if plain in seen else None


def title_maker(titles: dict[str, str]) -> Maker:
    """Return a maker whose queries are titles: those given by document id, or else the first of several lines."""

    def make(ids: list[str], texts: list[str]) -> list[Made]:
        """Split every text into its title and the rest."""
        return [split_title(text, titles.get(name, "")) for name, text in zip(ids, texts, strict=True)]

    return make


def split_title(text: str, title: str = "") -> Made:
    """Split a text that begins with `title`, or with a line of its own, into that and the rest; None if it does not.

    The signs of a Markdown heading are left out.
    """
    if title and text.startswith(title):
        rest = text[len(title) :].strip()
    else:
        title, _, rest = text.partition("\n")
    title, rest = title.strip().lstrip("#").strip(), rest.strip()
    return (title, rest) if title and rest and len(title) <= LONGEST_TITLE else None


def sentence_maker(seed: int) -> Maker:
    """Return a maker whose queries are sentences, drawn from their document by its id and `seed`."""

    def make(ids: list[str], texts: list[str]) -> list[Made]:
        """Take a sentence out of every text."""
        return [take_sentence(text, query_generator(name, seed)) for name, text in zip(ids, texts, strict=True)]

    return make


def take_sentence(text: str, generator: np.random.Generator) -> Made:
    """Draw a sentence of a text, and return it and the text without it; None when one of these would be too short."""
    sentences = list(filter(None, map(str.strip, SENTENCE_END.split(text))))
    choices: list[tuple[str, str]] = []
    for place, sentence in enumerate(sentences):
        rest = " ".join(sentences[:place] + sentences[place + 1 :])
        if min(len(sentence), len(rest)) >= LEAST_CHARACTERS and sentence not in rest:
            choices.append((sentence, rest))
    return choices[generator.integers(len(choices))] if choices else None


def add_queries(collection: Collection, made: SyntheticQueries) -> Collection:
    """Return the collection with more queries, to each of which its source is relevant; the report names them."""
    qrels = {query: {document: 1.0} for query, document in made.sources.items()}
    return replace(
        collection,
        queries=collection.queries | made.queries,
        qrels=collection.qrels | qrels,
        report=collection.report | made.report,
    )


def take_queries_out(lists: RankingLists, made: SyntheticQueries) -> RankingLists:
    """Return the lists in which the source of a synthetic query stands without the query.

    The rest of the source is a document of its own, since other lists show the source whole. The source itself joins
    the known positives beyond the list, so that no negatives of the batch bring it back.
    """
    rests = {query: f"{made.sources[query]}~without-its-query" for query in made.rests}
    listed = [query for query in lists.rows["query_id"] if query in rests]

    def exchange(row: dict) -> dict:
        """Return ids of a row, with the rest in place of the source."""
        query = row["query_id"]
        if query not in rests:
            return {"document_ids": row["document_ids"], "positive_ids": row["positive_ids"]}
        source = made.sources[query]
        ids = [rests[query] if name == source else name for name in row["document_ids"]]
        return {"document_ids": ids, "positive_ids": [*row["positive_ids"], source]}

    rows = lists.rows.map(exchange, keep_in_memory=True, load_from_cache_file=False)
    names = [rests[query] for query in listed]
    documents = lists.documents.extended(names, [made.rests[query] for query in listed])
    return replace(lists, rows=rows, documents=documents)
