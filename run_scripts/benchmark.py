"""Compare this project with its peers on this machine: the same texts, encoder and batch, by turns.

    python run_scripts/benchmark.py --output outputs/benchmark
    python run_scripts/benchmark.py --rows de_step encoding --rounds 9 --output outputs/benchmark
    python run_scripts/benchmark.py --growth documents_per_query length processes searched --output outputs/growth

Each row lets both sides choose their fastest library, number format and batch size, warms them up, and then measures
them one after the other, `rounds` times. Peers that need other versions of packages work in a process of their own.
Memory is measured in a process for each side. --growth measures instead how our own work grows, and draws it
(growth.md, growth.png). Leave the machine alone meanwhile.
Needs the extras: pip install -e '.[demo,bench]'
"""

import json
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import complete_file, write_text


ROWS = {
    "de_step": "steps.dual_encoder_step",
    "de_step_20": "steps.long_lists_step",
    "colbert_step": "steps.colbert_step",
    "teacher_scoring": "inference.teacher_scoring",
    "teacher_scoring_int8": "inference.teacher_scoring_in_int8",
    "encoding": "inference.encoding",
    "encoding_int8": "inference.encoding_in_int8",
    "encoding_long": "inference.encoding_long_texts",
    "query": "inference.query_latency",
    "query_int8": "inference.query_latency_in_int8",
    "reranking": "inference.reranking",
    "search": "searching.exact_search",
    "search_one": "searching.one_query",
    "collation": "starting.collation",
    "import": "starting.start_of_package",
    "help": "starting.start_of_script",
}
PEERS = ("torch", "openvino", "onnx", "fastembed")
GROWTH = ("documents_per_query", "length", "processes", "searched")


@dataclass
class BenchmarkArguments:
    """Options of benchmark.py."""

    rows: list[str] = field(
        default_factory=lambda: list(ROWS), metadata={"help": f"Which of {', '.join(ROWS)} (default: all)."}
    )
    growth: list[str] = field(
        default_factory=list, metadata={"help": f"Curves to measure instead of rows: some of {', '.join(GROWTH)}."}
    )
    output: str = field(
        default="outputs/benchmark",
        metadata={"help": "Folder for table.md and results.json, or growth.md, .png, .json."},
    )
    peers: list[str] = field(
        default_factory=lambda: list(PEERS),
        metadata={
            "help": f"Rivals in encoding and scoring: some of {', '.join(PEERS)} (default: all). The first three are "
            "backends of sentence-transformers. pip installs all but torch, in environments of their own in the cache."
        },
    )
    rounds: int = field(default=5, metadata={"help": "How often each side is measured; medians are shown."})
    memory: bool = field(default=True, metadata={"help": "Measure peak memory too."})
    encoder: str = field(default="demo", metadata={"help": "Hub id, path, or 'demo' (MiniLM-L6), of both sides."})
    data: str = field(default="pydocs", metadata={"help": "Collection whose texts are worked on."})
    split: str = field(default="train", metadata={"help": "Its queries."})
    queries: int = field(default=16, metadata={"help": "Queries of an optimiser step."})
    pairs: int = field(default=512, metadata={"help": "Pairs that the teacher scores."})
    documents: int = field(default=1024, metadata={"help": "Documents that are encoded."})
    reranked: int = field(default=1000, metadata={"help": "Documents that ColBERT ranks."})
    searched: int = field(default=1_000_000, metadata={"help": "Vectors that are searched."})
    search_queries: int = field(default=1000, metadata={"help": "Queries that search them."})
    query_length: int = field(default=30, metadata={"help": "Query tokens kept, special ones included."})
    document_length: int = field(default=200, metadata={"help": "Document tokens kept, special ones included."})
    cache_dir: str = field(default="outputs/cache", metadata={"help": "Where prepared collections and indexes go."})


def make_parser() -> HfArgumentParser:
    """Describe the options."""
    return HfArgumentParser(BenchmarkArguments, description=__doc__)


def main(arguments: BenchmarkArguments) -> None:
    """Measure rows or curves, and write what is measured after each."""
    for option, names in (("rows", ROWS), ("growth", GROWTH), ("peers", PEERS)):
        if unknown := [name for name in getattr(arguments, option) if name not in names]:
            raise InputError(f"{option}: expected some of {', '.join(names)}, got {unknown[0]}")
    if arguments.rounds < 1:
        raise InputError(f"rounds: expected at least 1, got {arguments.rounds}")
    try:
        from m3se.run_scripts.benchmarks import comparing, measuring, workload
    except ImportError as error:
        raise InputError(f"{error.name} is missing; the peers come with pip install -e '.[demo,bench]'") from None
    sizes = workload.Sizes(**{name: getattr(arguments, name) for name in workload.Sizes.__annotations__})
    options = {name: getattr(arguments, name) for name in ("query_length", "document_length", "peers")}
    work = workload.Workload(arguments.encoder, arguments.data, arguments.split, arguments.cache_dir, sizes, **options)
    peak = measuring.matrix_peak(work.dtypes, work.device)
    machine = measuring.machine(work.device) | {"matrix_peak_gflops": round(peak / 1e9)}
    if arguments.growth:
        grow(arguments, work, peak, machine)
        return
    done = []
    for name in arguments.rows:
        module, function = ROWS[name].split(".")
        make_row = getattr(import_module(f"m3se.run_scripts.benchmarks.{module}"), function)
        done.append(comparing.compare(make_row, work, arguments.rounds, arguments.memory))
        print(comparing.table(done[-1:], peak))
        results = {"machine": machine, "rows": [asdict(row) for row in done]}
        write(Path(arguments.output), ("table.md", "results.json"), comparing.table(done, peak), results)


def grow(arguments: BenchmarkArguments, work, peak: float, machine: dict) -> None:
    """Write growth.md, growth.png and growth.json of the curves, as far as they are measured."""
    from m3se.run_scripts.benchmarks import growth

    output, curves, points = Path(arguments.output), {}, {}
    for name in arguments.growth:
        curves[name], points[name] = [], []
        for point in growth.CURVES[name][1](work, arguments.rounds):
            curves[name].append(point)
            points[name].append(asdict(point))
            print(growth.table({name: [point]}, peak).splitlines()[-1], flush=True)
            results = {"machine": machine, "growth": points}
            write(output, ("growth.md", "growth.json"), growth.table(curves, peak), results)
            with complete_file(output / "growth.png") as path:
                growth.picture(curves, peak).savefig(path, format="png")


def write(output: Path, names: tuple[str, str], table: str, results: dict) -> None:
    """Write a page, with the machine above its table, and a file of the results; `names` are theirs."""
    output.mkdir(parents=True, exist_ok=True)
    about = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    write_text(output / names[0], f"{about}\n\n{table}\n")
    write_text(output / names[1], json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run(make_parser, main)
