"""Embed every document of a collection; processes share the work, and stopping loses at most a shard of each.

    accelerate launch run_scripts/encode.py --model outputs/quickstart/model --data pydocs --number_format float16

Without --output the shards go where evaluate.py --retrieve and search.py look for them. Run it again to go on where it
stopped.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import DocumentArguments, EmbedderArguments, TokenArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser


if TYPE_CHECKING:
    from m3se.trainers.data.documents import DocumentTable
    from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class EncodingArguments(DocumentArguments, EmbedderArguments, TokenArguments):
    """The collection, the model, and the files of the embeddings."""

    output: str | None = option("Folder for the shards (default: in the cache).")
    number_format: str = option("Of the file: float32, float16, or int8 (a scale per document).", "float32")
    shard_size: int = option("Documents of a shard.", 65_536)


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(EncodingArguments, description=__doc__)


def main(arguments: EncodingArguments) -> None:
    """Embed this process's share of the shards that are missing."""
    from m3se.run_scripts.work.models import compile_searcher, load_searcher
    from m3se.trainers.data import read_documents
    from m3se.trainers.processes import connect_processes
    from m3se.trainers.retrieval.scorers import ColBERTScorer

    state = connect_processes()
    if not state.is_main_process:
        logging.disable(logging.INFO)
    with state.main_process_first():  # it prepares collection and model, which the others only open
        scorer, backend = load_searcher(arguments, allow_colbert=True)
        documents = read_documents(arguments.data, arguments.cache_dir, arguments.split)
        compile_searcher(scorer, backend, documents, arguments.cache_dir)
    encode = encode_every_token if isinstance(scorer, ColBERTScorer) else encode_texts
    summary = encode(arguments, scorer, documents, (state.process_index, state.num_processes))
    state.wait_for_everyone()
    state.destroy_process_group()
    if state.is_main_process:
        logger.info("%s", summary())


def encode_texts(
    arguments: EncodingArguments, scorer: "DenseScorer", documents: "DocumentTable", share: tuple[int, int]
) -> Callable[[], str]:
    """Embed each document in one vector; return what describes the result when every process is done."""
    from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
    from m3se.trainers.retrieval.encode_collection import encode_collection, encoding_folder

    folder = arguments.output or encoding_folder(scorer, documents, arguments.cache_dir)
    encode_collection(scorer, documents, folder, arguments.number_format, arguments.shard_size, *share)

    def summary() -> str:
        """Describe the embeddings."""
        encoded = EmbeddedCollection(folder)
        return f"{folder}: {len(encoded):,} documents of {encoded.width} numbers"

    return summary


def encode_every_token(
    arguments: EncodingArguments, scorer: "ColBERTScorer", documents: "DocumentTable", share: tuple[int, int]
) -> Callable[[], str]:
    """Embed the tokens of each document; return what describes the result when every process is done."""
    from m3se.trainers.retrieval.tokens.token_collection import (
        SHARD_SIZE,
        TokenCollection,
        encode_tokens,
        token_folder,
    )

    options = arguments.token_format, arguments.pool_factor
    folder = arguments.output or token_folder(scorer, documents, arguments.cache_dir, *options)
    encode_tokens(scorer, documents, folder, *options, *share, shard_size=min(arguments.shard_size, SHARD_SIZE))

    def summary() -> str:
        """Describe the tokens."""
        tokens = TokenCollection(folder)
        return f"{folder}: {tokens.count():,} tokens of {len(tokens):,} documents"

    return summary


if __name__ == "__main__":
    run(make_parser, main)
