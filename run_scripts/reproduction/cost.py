"""Estimated time of a plan: arithmetic from the options, corrected by the jobs of a kind that have been timed."""

import re

from m3se.run_scripts.reproduction.jobs import Job
from m3se.run_scripts.reproduction.study import Scale


QUERIES = {"train": 500_000, "test": 7_000}  # where neither an option nor the scale says how many: MS MARCO's
PASSES = {"train_teacher.py": 3, "distill.py": 3, "score_with_teacher.py": 1, "evaluate.py": 1, "diagnose.py": 1}
START_SECONDS = 15  # imports, and opening the data


def layers_and_width(options: dict) -> tuple[int, int]:
    """Return the encoder's number of layers and width, from its name; else MiniLM-L6's or BERT-base's."""
    encoder = options.get("encoder", "demo")
    sizes = re.search(r"L-(\d+)_H-(\d+)", encoder)
    layers, width = map(int, sizes.groups()) if sizes else (6, 384) if encoder == "demo" else (12, 768)
    return options.get("layers", layers), width


def operations(job: Job, scale: Scale) -> float:
    """Count the floating-point operations of a job as if every text had its full length.

    They are 24 · layers · width² a token, the attention itself left out, and three times that for training.
    """
    if job.script == "publish.py":
        return 0.0
    lengths = read_by(job).options
    layers, width = layers_and_width(begun_with(read_by(job)).options)
    text = lengths.get("query_length", 30) + lengths.get("document_length", 200)
    return PASSES[job.script] * pairs(job, scale) * text * 24 * layers * width**2


def read_by(job: Job) -> Job:
    """Return the job that trained the model which this one uses; itself when it trains one."""
    while "document_length" not in job.options and job.needs:
        job = job.needs[0]
    return job


def begun_with(job: Job) -> Job:
    """Return the first of the trainings that go on from one another, whose options name the encoder."""
    encoders = [need for need in job.needs if need.script == "publish.py"]
    return begun_with(encoders[0].needs[0]) if encoders else job


def pairs(job: Job, scale: Scale) -> float:
    """Count the pairs of texts that are computed; where the scale's collection is searched, its texts."""
    options = job.options
    if job.script == "distill.py" and job.lists is None:
        return options["num_train_epochs"] * scale.documents
    if job.script in ("train_teacher.py", "distill.py"):
        lists = job.lists.options if job.lists else options
        queries = options.get("train_queries", options.get("train_rows")) or lists.get("max_queries", QUERIES["train"])
        steps = options.get("max_steps") or options["num_train_epochs"] * queries / batch(options)
        return steps * batch(options) * (options.get("sample_documents") or lists["documents_per_query"])
    if job.script == "score_with_teacher.py":
        scored = options["depth"] if options.get("negatives") == "stratified" else options["documents_per_query"]
        return (options.get("max_queries") or QUERIES["train"]) * scored * len(job.needs)
    if job.script == "diagnose.py":
        return 2 * options.get("max_queries", 200) * options.get("depth", 50) * len(job.needs)
    if options.get("retrieve"):
        return scale.documents
    return (options.get("max_queries") or scale.test_queries or QUERIES["test"]) * options["depth"] * len(job.needs)


def batch(options: dict) -> int:
    """Return the queries of an optimiser step."""
    return options["per_device_train_batch_size"] * options.get("gradient_accumulation_steps", 1)


def seconds(job: Job, scale: Scale) -> float:
    """Estimate how long a job takes."""
    return START_SECONDS + operations(job, scale) / scale.flops


def ratio(timed: list[Job], records: dict[str, dict], scale: Scale, script: str) -> float:
    """Return how many times longer than estimated a script's jobs took: of all where none was timed, and else 1.

    Args:
        timed: jobs with a record.
        records: "seconds" by name.
        scale: says what the arithmetic assumes.
        script: of the jobs.
    """
    alike = [job for job in timed if job.script == script] or timed
    estimate = sum(seconds(job, scale) for job in alike)
    return sum(records[job.name]["seconds"] for job in alike) / estimate if alike else 1.0
