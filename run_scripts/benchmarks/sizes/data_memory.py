"""How memory and speed of preparing a collection grow with its size.

    python run_scripts/benchmarks/sizes/data_memory.py --documents 10000 1000000 8800000

For every size a folder of MS MARCO's files is made of random words (one query for 17.6 documents, as there) with
Hofstätter's teacher scores for 20 triples per query. A process of its own then does what score_with_teacher.py does
with them: it reads the documents, groups the triples by query, and writes lists of 20 with their calibration report.
Printed: rows per second of processor time of every step, and the highest resident memory of that process.

With --bm25 the process builds BM25's index of the documents instead, the one step that holds the collection's words.
"""

import argparse
import json
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
ROOT = Path(__file__).parents[3]


def write_collection(folder: Path, documents: int) -> int:
    """Write the files; returns the number of queries."""
    generator = np.random.default_rng(0)
    words = np.array(list(map("w{:05d}".format, range(20_000))))
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
    """Read, group and write lists; return processor seconds of every step and the peak of resident memory in bytes."""
    from m3se.run_scripts.score_with_teacher import ScoringArguments
    from m3se.run_scripts.work.score_with_teacher import main
    from m3se.trainers.data import read_data

    scores, cache = folder / "scores.tsv", folder / "cache"
    times = [time.process_time()]
    read_data(str(folder), "train", cache)
    times.append(time.process_time())
    read_data(str(folder), "train", cache, candidates=scores)
    times.append(time.process_time())
    output = str(folder / "lists")
    main(ScoringArguments(output=output, data=str(folder), candidates=[str(scores)], cache_dir=str(cache)))
    times.append(time.process_time())
    return {**dict(zip(("read", "group", "lists"), np.diff(times), strict=True)), "peak": peak()}


def index(folder: Path) -> dict[str, float]:
    """Read and build BM25's index; return processor seconds of the latter and the peak of resident memory in bytes."""
    from m3se.trainers.data import BM25Index, read_data

    documents = read_data(str(folder), "train", folder / "cache").documents
    started = time.process_time()
    BM25Index.build(documents, cache_dir=folder / "cache")
    return {"index": time.process_time() - started, "peak": peak()}


def peak() -> int:
    """Return the highest resident memory of this process in bytes; not on Windows, which has no such count."""
    import resource  # Windows imports this file too, but cannot measure

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(documents: int, parent: str | None, bm25: bool) -> None:
    """Measure one size in a process of its own, and print its line of the table."""
    with TemporaryDirectory(dir=parent) as name:
        queries = write_collection(Path(name), documents)
        command = [sys.executable, __file__, "--prepare", name, *(["--bm25"] if bm25 else [])]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        report = json.loads(output.splitlines()[-1])
    rows = {"read": documents, "index": documents, "group": queries * TRIPLES_PER_QUERY, "lists": queries}
    speeds = "".join(f"{rows[step] / seconds:>15,.0f}" for step, seconds in report.items() if step != "peak")
    say(f"{documents:>10,} {queries:>9,}{speeds} {report['peak'] / 2**30:>10.2f}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure every size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", help="Where the files are made (8.8 million documents need 12 GB of disk).")
    parser.add_argument("--bm25", action="store_true", help="Build BM25's index instead of making lists.")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        report = index(arguments.prepare) if arguments.bm25 else prepare(arguments.prepare)
        say(json.dumps(report))
        return
    steps = ("documents/s",) if arguments.bm25 else ("documents/s", "triples/s", "lists/s")
    say(f" documents   queries{''.join(map('{:>15}'.format, steps))}   peak GiB")
    for documents in arguments.documents:
        measure(documents, arguments.folder, arguments.bm25)


if __name__ == "__main__":
    main()
