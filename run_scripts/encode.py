"""Embed every document of a collection; processes share the work, and stopping loses at most a shard of each.

    accelerate launch run_scripts/encode.py --model outputs/quickstart/model --data pydocs --number_format float16

Without --output the shards go where evaluate.py --retrieve and search.py look for them. Run it again to go on where it
stopped.
"""

import logging
from dataclasses import dataclass

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import DocumentArguments, EmbedderArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser


logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class EncodingArguments(DocumentArguments, EmbedderArguments):
    """The collection, the model, and the files of the embeddings."""

    output: str | None = option("Folder for the shards (default: in the cache).")
    number_format: str = option("Of the file: float32, float16, or int8 (a scale per document).", "float32")
    shard_size: int = option("Documents of a shard.", 65_536)


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(EncodingArguments, description=__doc__)


def main(arguments: EncodingArguments) -> None:
    """Embed this process's share of the shards that are missing."""
    from m3se.run_scripts.work.backends import compile_searcher, load_searcher
    from m3se.trainers.data import read_documents
    from m3se.trainers.processes import connect_processes
    from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection, encode_collection, encoding_folder

    state = connect_processes()
    if not state.is_main_process:
        logging.disable(logging.INFO)
    with state.main_process_first():  # it prepares collection and model, which the others only open
        scorer, backend = load_searcher(arguments)
        documents = read_documents(arguments.data, arguments.cache_dir, arguments.split)
        compile_searcher(scorer, backend, documents, arguments.cache_dir)
    folder = arguments.output or encoding_folder(scorer, documents, arguments.cache_dir)
    encode_collection(
        scorer,
        documents,
        folder,
        arguments.number_format,
        arguments.shard_size,
        state.process_index,
        state.num_processes,
    )
    state.wait_for_everyone()
    state.destroy_process_group()
    if state.is_main_process:
        encoded = EmbeddedCollection(folder)
        logger.info("%s: %s documents of %d numbers", folder, f"{len(encoded):,}", encoded.width)


if __name__ == "__main__":
    run(make_parser, main)
