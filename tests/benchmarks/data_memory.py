"""How memory and speed of preparing a collection grow with its size.

    python tests/benchmarks/data_memory.py --documents 10000 100000 1000000 8800000

For every size a folder of MS MARCO's files is made of random words (one query for 17.6 documents, as there) with
Hofstätter's teacher scores for 20 triples per query; a process of its own then reads it, groups the triples to lists
of 20 and saves them. Printed: rows per second of processor time
of every step, and the highest resident memory of that process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np


DOCUMENTS_PER_QUERY = 17.6
TRIPLES_PER_QUERY = 20
WORDS_PER_DOCUMENT = 56
BLOCK = 50_000


def write_collection(folder: Path, documents: int) -> int:
    """Write the files; returns the number of queries."""
    generator = np.random.default_rng(0)
    words = np.array([f"w{number:05d}" for number in range(20_000)])
    queries = max(int(documents / DOCUMENTS_PER_QUERY), 1)
    with open(folder / "collection.tsv", "w") as file:
        for start in range(0, documents, BLOCK):
            texts = words[generator.integers(0, len(words), (min(BLOCK, documents - start), WORDS_PER_DOCUMENT))]
            file.writelines(f"{start + row}\t{' '.join(text)}\n" for row, text in enumerate(texts))
    with open(folder / "queries.train.tsv", "w") as texts, open(folder / "qrels.train.tsv", "w") as qrels:
        for query in range(queries):
            texts.write(f"{1_000_000 + query}\t{' '.join(words[generator.integers(0, len(words), 6)])}\n")
            qrels.write(f"{1_000_000 + query}\t0\t{query % documents}\t1\n")
    with open(folder / "scores.tsv", "w") as file:
        for _ in range(TRIPLES_PER_QUERY):  # all queries in turn: the triples of one are far apart, as in the original
            negatives = generator.integers(0, documents, queries)
            scores = generator.normal(size=queries)
            for query in range(queries):
                pair = f"{1_000_000 + query}\t{query % documents}\t{negatives[query]}"
                file.write(f"{5.0 + query % 7}\t{scores[query]:.4f}\t{pair}\n")
    return queries


def prepare(folder: Path) -> dict[str, float]:
    """Read, group and save; processor seconds of every step and the peak of resident memory in bytes."""
    from trainers.data import read_data, teacher_lists

    started = time.process_time()
    collection = read_data(str(folder), "train", folder / "cache")
    read = time.process_time()
    collection = read_data(
        str(folder), "train", folder / "cache", candidates=folder / "scores.tsv", allow_missing=True
    )
    grouped = time.process_time()
    lists = teacher_lists(collection, 20, folder / "rows.arrow")
    lists.save(folder / "lists")
    saved = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"read": read - started, "group": grouped - read, "lists": saved - grouped, "peak": peak}


def measure(documents: int, parent: str | None) -> None:
    """One line of the table."""
    with TemporaryDirectory(dir=parent) as name:
        queries = write_collection(Path(name), documents)
        command = [sys.executable, __file__, "--prepare", name]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = json.loads(output.splitlines()[-1])
    say(
        f"{documents:>10,} {queries:>9,} {documents / seconds['read']:>14,.0f} "
        f"{queries * TRIPLES_PER_QUERY / seconds['group']:>14,.0f} {queries / seconds['lists']:>12,.0f} "
        f"{seconds['peak'] / 2**30:>10.2f}"
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", help="Where the files are made (8.8 million documents need 12 GB of disk).")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        sys.stdout.write(json.dumps(prepare(arguments.prepare)) + "\n")
        return
    say(" documents   queries    documents/s      triples/s     lists/s   peak GiB")
    for documents in arguments.documents:
        measure(documents, arguments.folder)


if __name__ == "__main__":
    main()
