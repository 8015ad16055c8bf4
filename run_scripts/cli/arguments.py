"""Options that several commands share, each declared once.

A command inherits the options of the data and models that it reads, and declares again only one whose default or
meaning is its own. The training commands take encoder, dev queries and run as groups of their own.
"""

from dataclasses import MISSING, dataclass, field


REQUIRED = MISSING


def option(help: str, default=None):
    """Return a dataclass field with its --help and its default: a value, `list` (an empty one) or `REQUIRED`."""
    if default is list:
        return field(default_factory=list, metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(kw_only=True)
class CacheArguments:
    """The folder for what is prepared once."""

    cache_dir: str = option("Where prepared collections and indexes go.", "outputs/cache")


@dataclass(kw_only=True)
class ReadingArguments(CacheArguments):
    """The choice about lines that do not fit the rest of the data."""

    allow_missing: bool = option("Drop and count what names unknown documents.", False)


@dataclass(kw_only=True)
class DocumentArguments(CacheArguments):
    """A collection of which only the documents are read."""

    data: str = option("pydocs, or another collection.", "pydocs")
    split: str | None = option("Needed only where every split has documents of its own.")


@dataclass(kw_only=True)
class CollectionArguments(DocumentArguments, ReadingArguments):
    """A collection with queries and judgments."""

    split: str = option("Which queries of the data.", "test")
    qrels: str | None = option("File of judgments (default: the data's own).")


@dataclass(kw_only=True)
class WordArguments:
    """The way BM25 reads a text."""

    bm25_tokenizer: str = option(
        "What BM25 compares: words, or characters (pairs of them) of scripts without spaces such as Chinese, Japanese "
        "and Thai.",
        "words",
    )


@dataclass(kw_only=True)
class RankingArguments(WordArguments):
    """The way candidates are found, and the choice of those left out."""

    keep_identical_ids: bool = option(
        "Keep a document that has the id of its query. As in BEIR it is left out, unless it is judged relevant.", False
    )


@dataclass(kw_only=True)
class FilterArguments:
    """Bounds on the teacher's score of a negative, against documents that are relevant although nobody judged them."""

    margin: float | None = option("Drop negatives that score less than this below the query's lowest positive.")
    relative_margin: float | None = option("The same, as a share of that positive's score (of its size, if below 0).")
    max_score: float | None = option("Drop negatives that score above this.")
    min_score: float | None = option("Drop negatives that score below this.")


@dataclass(kw_only=True)
class CandidateArguments(CollectionArguments, RankingArguments):
    """Queries of a collection, and the candidates of each."""

    candidates: str = option(
        "bm25; own: lists that the data bring; a TREC run or another file of lists; or a folder of ranking lists "
        "(then --data is not read).",
        "bm25",
    )
    candidates_format: str = option(
        "Of a file of candidates: run, triples, scored_triples or top1000; auto: what its lines say.", "auto"
    )
    depth: int = option("Candidates of a query. Lists in no order are taken whole.", 100)
    max_queries: int | None = option("Only so many queries, the first by hash of their id.")
    skip_queries: int = option("Leave out the first so many by hash, such as those that a teacher was trained on.", 0)
    relevance_level: int = option("Grade from which MRR and Recall count a document; TREC Deep Learning uses 2.", 1)


@dataclass(kw_only=True)
class ScorerArguments:
    """The way a model is loaded that scores or embeds."""

    dtype: str = option("float32, bfloat16, or auto: bfloat16 where it is fast.", "auto")
    pooling: str | None = option("cls, mean or last (token), for bare encoders only.")


@dataclass(kw_only=True)
class BackendArguments:
    """The library and the number format that compute a model."""

    backend: str = option(
        "torch; on a CPU openvino or onnx too (extras of these names). The model is converted once, and kept in the "
        "cache.",
        "torch",
    )
    dtype: str = option(
        "float32, bfloat16, or auto: bfloat16 where it is fast. int8, with openvino or onnx, is calibrated on your "
        "texts, and what it costs is measured on others of them.",
        "auto",
    )


@dataclass(kw_only=True)
class EmbedderArguments(BackendArguments, ScorerArguments):
    """A model that embeds documents, and how it is loaded."""

    model: str = option("Folder or Hub id of a model that embeds documents in one vector.", REQUIRED)


@dataclass(kw_only=True)
class SearchedArguments(EmbedderArguments):
    """A model, and the embeddings of the documents that it searches."""

    encoding: str | None = option("Folder that encode.py wrote (default: in the cache).")


@dataclass(kw_only=True)
class TokenArguments:
    """The stored token embeddings of ColBERT."""

    token_format: str = option("Of ColBERT's stored tokens: float16, or int8 (a scale per token).", "float16")
    pool_factor: int = option("Average so many similar tokens of a document into one, for ColBERT.", 1)


@dataclass(kw_only=True)
class TwoStageArguments(TokenArguments, WordArguments):
    """The search that proposes documents to ColBERT."""

    first_stage: str | None = option(
        "Search that proposes documents to ColBERT: bm25, or a model that embeds; all: it scores the stored tokens of "
        "every document."
    )
    first_depth: int = option("Documents that it proposes for a query.", 1_000)


@dataclass(kw_only=True)
class StoreArguments:
    """Documents in a vector database."""

    store: str | None = option(
        "Database that index.py filled: a file NAME.db, or a Milvus server's address such as http://HOST:19530 (its "
        "token in M3SE_STORE_TOKEN)."
    )
    store_name: str = option("Name of the documents in it.", "documents")
    effort: int | None = option("How much its approximate index looks at: cells of IVF, length of HNSW's list.")


@dataclass(kw_only=True)
class EncoderArguments:
    """The encoder that training starts from. Options left out keep the default of the model's config."""

    _argument_group_name = "encoder"

    encoder: str = option(
        "Pretrained encoder: Hub id, path, or 'demo' (MiniLM-L6 from the extra of that name).", "demo"
    )
    layers: int | None = option(
        "Keep only the encoder's first layers; 0, for a dual encoder: its token embeddings alone."
    )
    query_length: int = option("Query tokens kept, special ones included.", 30)
    document_length: int = option("Document tokens kept, special ones included.", 200)
    dropout: float | None = option("Dropout inside the encoder (default: its own).")
    lora_r: int | None = option("Train LoRA adapters of this rank, not the encoder.")
    lora_alpha: int | None = option("Adapters are scaled by alpha / r (default: 2 r).")
    lora_dropout: float = option("Dropout before the adapters.", 0.0)
    lora_targets: list[str] | None = option("Layers with an adapter, such as query value (default: all linear ones).")


@dataclass(kw_only=True)
class DevArguments(ReadingArguments, RankingArguments):
    """The dev queries that a training is measured on, and what they have in common with the training queries."""

    _argument_group_name = "dev queries, measured while training"

    dev_data: str | None = option(
        "Where the dev split is read: pydocs, a folder or Hub id (default: --data), or a folder of ranking lists."
    )
    dev_queries: int = option("Dev queries, the first by hash of their id; 0: no dev.", 200)
    dev_depth: int = option("BM25 candidates of a dev query.", 20)
    relevance_level: int = option("Grade from which a document is a positive, of dev and training queries.", 1)


@dataclass(kw_only=True)
class RunArguments:
    """The choice about a run that was there before."""

    _argument_group_name = "run"

    overwrite: bool = option("Replace what output_dir holds when it was trained from something else.", False)
