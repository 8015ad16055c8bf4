"""The lists of a retriever's queries, with candidates of BM25 and of an encoder, and the scores that both give."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from datasets import Dataset

from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.retriever.options import BM25, QUERIES, START, RetrieverArguments
from m3se.run_scripts.retriever.parts import Parts, describe, divide
from m3se.run_scripts.retriever.reuse import RECORD, has_lists, record_lists
from m3se.run_scripts.work.list_making import is_by_score
from m3se.trainers.data import BM25Index, Collection, DocumentTable, RankingLists, candidate_lists, training_lists
from m3se.trainers.data.bm25_ranking import BM25Ranking
from m3se.trainers.data.synthetic_queries import (
    SyntheticQueries,
    add_queries,
    make_queries,
    sentence_maker,
    take_queries_out,
)
from m3se.trainers.data.united import UnitedCandidates
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import check_ids
from m3se.trainers.matching.texts import text_rows
from m3se.trainers.models.backbones import as_input_errors, check_lengths, encoder_path
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.retrieval.dense_candidates import DenseCandidates
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import encoded_scores
from m3se.trainers.storage.atomic import complete_file, complete_folder, write_json


logger = logging.getLogger(__name__)

MATCHED_QUERIES = 20_000  # texts that first layers match as queries: with a few hundred they learn these by heart


@dataclass(frozen=True)
class Searchers:
    """BM25 and an encoder over the same documents, which both have indexed."""

    name: str
    bm25: BM25Ranking
    scorer: DenseScorer
    encoded: EmbeddedCollection
    documents: DocumentTable

    @classmethod
    def open(cls, arguments: RetrieverArguments, documents: DocumentTable, model: Path) -> "Searchers":
        """Index documents for BM25 and for a model, or open the indexes that the cache has.

        Raises:
            InputError: the model cannot be read.
        """
        scorer = load_embedder(model)
        bm25 = BM25Index.build(documents, cache_dir=arguments.cache_dir, tokenizer=arguments.bm25_tokenizer)
        return cls(model.name, bm25, scorer, cached_encoding(scorer, documents, arguments.cache_dir), documents)

    def candidates(self, arguments: RetrieverArguments) -> UnitedCandidates:
        """Unite the documents that BM25 and the encoder rank high."""
        dense = DenseCandidates(self.scorer, self.encoded, self.name)
        return UnitedCandidates([self.bm25, dense], arguments.candidate_shares or None)


def prepare(arguments: RetrieverArguments) -> None:
    """Write the start model, the lists of every part, and `queries.json`: how many queries, and how many are judged.

    Those of an earlier run are used again where options, data and encoder are the same.

    Raises:
        InputError: the data or the start encoder cannot be read, or there are too few queries.
    """
    if has_lists(arguments):
        logger.info("%s: nothing has changed since the lists were made; reused", arguments.folder)
        return
    (arguments.folder / RECORD).unlink(missing_ok=True)  # of other lists, which are replaced one by one
    write_start(arguments)
    parts, made = divide(arguments)
    searchers = Searchers.open(arguments, parts.train.documents, arguments.start)
    source = searchers.candidates(arguments)
    if parts.teacher.queries:
        write_lists(arguments, "teacher", parts.teacher, source, made)
    write_lists(arguments, "train", parts.train, source, made)
    if arguments.layers is not None:
        texts_to_match(parts, arguments.seed).save(arguments.lists("texts"))
    for name in ("dev", "test"):
        part = getattr(parts, name)
        identical = arguments.keep_identical_ids
        lists = candidate_lists(part, source, arguments.held_out_depth, keep_identical_ids=identical)
        lists.save(arguments.lists(name))
        write_json(arguments.folder / f"qrels.{name}.json", part.qrels)
    write_scores(arguments, searchers, ("train", "dev", "test"))
    counts = {"documents": len(parts.train.documents), "synthetic": 0 if made is None else len(made.queries)}
    if arguments.layers is not None:
        counts["texts_in_a_row"] = 1 + len(RankingLists.load(arguments.lists("texts")).rows[0]["document_ids"])
    counts["held_out_are_synthetic"] = made is not None and parts.test.queries.keys() <= made.queries.keys()
    for name in ("teacher", "train", "dev", "test"):
        counts[name] = describe(getattr(parts, name))
    write_json(arguments.folder / QUERIES, counts)
    record_lists(arguments)


def prepare_round(arguments: RetrieverArguments, name: str, student: Path) -> None:
    """Write the lists of a later round: those of the training queries, of what BM25 and a student rank high now.

    The documents that a student wrongly ranks high are its hard negatives (ANCE, Xiong et al. 2021).

    Args:
        arguments: the options.
        name: of the round, and of its lists.
        student: folder of the best student before this round.
    """
    parts, made = divide(arguments)
    documents = parts.train.documents
    searchers = Searchers.open(arguments, documents, student)
    write_lists(arguments, name, parts.train, searchers.candidates(arguments), made)
    if START in arguments.teacher or BM25 in arguments.teacher:
        write_scores(arguments, Searchers.open(arguments, documents, arguments.start), (name,))


def write_lists(
    arguments: RetrieverArguments,
    name: str,
    part: Collection,
    source: UnitedCandidates,
    made: SyntheticQueries | None,
) -> None:
    """Write the training lists of a part; whole ones where documents are chosen by the scores that they will get.

    Args:
        arguments: the options.
        name: of the lists.
        part: the queries and documents.
        source: gives the candidates.
        made: the queries that were made of the documents, which must not be matched word for word.
    """
    is_teacher = name == "teacher"  # it learns from judgments, and its lists are not scored
    negatives = "random" if is_teacher else "all" if is_by_score(arguments) else arguments.negatives
    lists = training_lists(
        part,
        source,
        arguments.documents_per_query,
        depth=arguments.depth,
        seed=arguments.seed,
        negatives=negatives,
        unlabelled=not is_teacher,
        keep_identical_ids=arguments.keep_identical_ids,
    )
    (lists if made is None else take_queries_out(lists, made)).save(arguments.lists(name))


def texts_to_match(parts: Parts, seed: int) -> RankingLists:
    """Make rows of the texts that an encoder's first layers match: all documents and the training queries.

    Where queries are few, sentences of documents stand beside them, none of which is a query itself.

    Args:
        parts: the queries of each part.
        seed: draws the sentences.
    """
    part = parts.train
    missing = MATCHED_QUERIES - len(part.queries)
    if missing > 0:
        queries = [part.other_queries, *(getattr(parts, name).queries for name in ("teacher", "train", "dev", "test"))]
        avoid = chain.from_iterable(named.values() for named in queries)
        try:
            made = make_queries(part.documents, sentence_maker(seed), "sentence", missing, seed, avoid)
        except InputError as error:
            logger.info("only queries are matched as queries: %s", error)
        else:
            part = add_queries(part, made)
    return text_rows(part, with_documents=True)


def write_start(arguments: RetrieverArguments) -> None:
    """Save the student as it is before training, with its tokenizer.

    Raises:
        InputError: the encoder cannot be used.
    """
    path = encoder_path(arguments.encoder)
    fields = {"query_length": arguments.query_length, "document_length": arguments.document_length}
    if arguments.start_pooling is not None:
        fields["pooling"] = arguments.start_pooling
    tokenizer = load_tokenizer(path)
    with as_input_errors(arguments.encoder):
        model = DualEncoder.from_encoder(path, **fields)
        check_lengths(model)
        inspect_model(model, tokenizer, arguments.encoder)
    with complete_folder(arguments.start) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def write_scores(arguments: RetrieverArguments, searchers: Searchers, parts: Sequence[str]) -> None:
    """Write the scores that BM25 and the start give the pairs of lists, where they are teachers.

    Args:
        arguments: name the teachers.
        searchers: BM25 and the start encoder.
        parts: names of lists.
    """
    rankers: dict[str, Callable[[Dataset], Iterable[Iterable[float]]]] = {
        BM25: lambda rows: searchers.bm25.scores(rows["query"][:], rows["document_ids"][:]),
        START: lambda rows: encoded_scores(searchers.scorer, searchers.encoded, searchers.documents, rows),
    }
    for part in parts:
        rows = RankingLists.load(arguments.lists(part)).rows
        for name in rankers.keys() & set(arguments.teacher):
            write_pairs(arguments.scores(name, part), rows, rankers[name](rows))


def write_pairs(path: Path, rows: Dataset, scores: Iterable[Iterable[float]]) -> None:
    """Write the scores of each row's documents as lines `query document score`.

    Raises:
        InputError: an id has a space in it.
    """
    check_ids(rows["query_id"], chain.from_iterable(rows["document_ids"]), "a file of scores")
    path.parent.mkdir(parents=True, exist_ok=True)
    with complete_file(path) as new, open(new, "w", encoding="utf-8") as file:
        for query, ids, values in zip(rows["query_id"], rows["document_ids"], scores, strict=True):
            file.writelines(f"{query} {document} {value!r}\n" for document, value in zip(ids, values, strict=True))
