r"""Score ranking lists with a teacher, or with the mean of several: what students are distilled from.

    accelerate launch run_scripts/score_with_teacher.py --teacher outputs/stages/teacher --data pydocs \
        --split train --documents_per_query 8 --depth 50 --output outputs/stages/scored

--data is a collection (its lists are then the positives and negatives of every query) or a folder of ranking lists.
Scores are cached under --cache_dir by teacher and text: stop it whenever you like, run it again, and only what is
missing is computed. Writes a folder of ranking lists that distill.py reads, with calibration.json in it.

Scores that others have published need no teacher; the lists are then the best scored documents of every query:

    python run_scripts/score_with_teacher.py --data MSMARCO_FOLDER --candidates bert_cat_ensemble_msmarcopassage.tsv \
        --output outputs/msmarco/scored
"""

from dataclasses import dataclass, field

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import (
    REQUIRED,
    BackendArguments,
    CollectionArguments,
    FilterArguments,
    RankingArguments,
    option,
)
from m3se.run_scripts.cli.parser import HfArgumentParser


@dataclass(kw_only=True)
class ListArguments(CollectionArguments, RankingArguments, FilterArguments):
    """The queries, and the documents of each."""

    data: str = option("pydocs, a collection, or a folder of ranking lists.", "pydocs")
    split: str = option("Which queries of a collection.", "train")
    candidates: list[str] = field(
        default_factory=lambda: ["auto"],
        metadata={
            "help": "Where negatives come from: bm25, random, own (the lists that the data brings), auto (own, else "
            "bm25); a file: TREC or MS MARCO run, triples of ids, Hofstätter's teacher scores, top1000; or a model "
            "that searches by embeddings. Of several, such as bm25 and a model, every list takes documents in turn.",
        },
    )
    candidate_shares: list[float] = option(
        "How much of a list each of several --candidates has (default: the same).", list
    )
    candidates_format: str = option(
        "Of a file of candidates: run, triples, scored_triples, top1000; auto: what its lines say.", "auto"
    )
    qrels: str | None = option("File of judgments, where the data has none or others.")
    bm25_k1: float = option("Of BM25: how soon a repeated word adds no more.", 0.9)
    bm25_b: float = option("Of BM25: how much long documents are held back, 0 to 1.", 0.4)
    bm25_stemmer: str = option("Snowball stemmer of BM25, by language; none: words as they are.", "english")
    relevance_level: int = option("Grade from which a document is a positive.", 1)
    documents_per_query: int = option("K: the positives and negatives of a query.", 20)
    depth: int = option("Negatives come from the top this many candidates.", 100)
    skip: int = option("Not from this many best ranked ones.", 0)
    negatives: str = option(
        "random: drawn from them; top: the best ranked; stratified: the teacher scores all of them, and one is drawn "
        "from each of as many quantiles of its scores as are needed.",
        "random",
    )
    unlabelled: bool | None = field(
        default=None,
        metadata={
            "help": "Make lists for the queries that no split judges too, with labels 0 (default: where the data have "
            "no judgments at all).",
            "nargs": "?",
            "const": True,
        },
    )
    labelled_queries: int | None = option(
        "Use the judgments of so many queries only, the first by hash; the others get lists without labels."
    )
    label_noise: float | None = option("Move the label of this share of the lists to another document.")
    pseudo_positives: bool = option(
        "In lists without a positive, label the document that the teacher scores highest as one (grade 1).", False
    )
    synthetic_queries: str | None = option(
        "Also make queries of the documents: title (or heading, for the rest of its document), sentence (for its "
        "passage without it), or a doc2query model."
    )
    synthetic_count: int | None = option("So many, of documents that are drawn (default: of every document).")
    max_queries: int | None = option(
        "Only so many, those with judgments before the others, and each the first by hash of their id."
    )
    skip_queries: int = option(
        "Leave out the first so many of this order: as many as train_teacher.py's --train_queries, so that the "
        "teacher scores only queries that it was not trained on.",
        0,
    )
    seed: int = option("Of the random negatives.", 0)
    cache_dir: str = option("Scores, prepared collections, indexes.", "outputs/cache")


@dataclass(kw_only=True)
class ScoringArguments(ListArguments, BackendArguments):
    """The lists, the teachers that score them, and where the scores go."""

    output: str = option("Folder for the annotated ranking lists.", REQUIRED)
    teacher: list[str] = option(
        "What ranks: folders or Hub ids of models, a folder of train_teacher.py --folds, files of scores by ids (TREC "
        "runs), or bm25; several: the mean of their scores; none: the scores that the data or --candidates bring.",
        list,
    )
    teacher_template: str | None = option(
        "Prompt of a language model: a file with prompt, true and false, or a built-in name (default: its own)."
    )
    rank_targets: str | None = option("Scores that a run's ranks stand for: reciprocal or linear (default: its own).")
    teacher_weights: list[float] = option("How much each of several teachers counts (default: the same).", list)
    query_length: int | None = option("Query tokens (default: the teacher's own).")
    document_length: int | None = option("Document tokens (default: the same).")
    export_tsv: str | None = option("Also write the scores as Hofstätter's table: two scores, three ids a line.")
    shard_seconds: float = option("A shard is written this often.", 30.0)


def make_parser() -> HfArgumentParser:
    """Make the parser of the command's options."""
    return HfArgumentParser(ScoringArguments, description=__doc__)


def main(arguments: ScoringArguments) -> None:
    """Score a share of the pairs into the cache; the first process then writes and reports the scores of all."""
    load_work("score_with_teacher").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
