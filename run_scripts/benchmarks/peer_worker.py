"""A peer at work in a Python of its own, which has none of this project's packages: `peer_worker.py JOB`.

It says {"setting": ...} once it is ready, and answers every line of its standard input by a line of JSON:

    go           does the work once: {"seconds": [...]}, one number for each part of it
    save FILE    writes what the work gave, as .npy: {}
    peak         {"bytes": ...} by which memory has grown at most since the libraries were imported
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


BATCH_SIZES = (8, 16, 32, 64, 128)
TRIED = 8  # one of so many texts is worked on to choose the batch size
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Work = Callable[[list, int], np.ndarray]  # texts or pairs, batch size -> embeddings [N, H] or scores [N]


def sentence_transformers(job: dict) -> Work:
    """Load a model of sentence-transformers on the job's backend: "torch", "onnx" or "openvino"."""
    import sentence_transformers

    kind = getattr(sentence_transformers, "CrossEncoder" if job["pairs"] else "SentenceTransformer")
    options = {"dtype": job["dtype"]} if job["backend"] == "torch" else {}
    if job["dtype"] == "int8":
        options = {"file_name": int8_file(kind, job)}
    if job["backend"] == "onnx":
        options["session_options"] = session_options(job["threads"])
    started(job)
    model = kind(job["model"], backend=job["backend"], device="cpu", model_kwargs=options)
    call = model.predict if job["pairs"] else model.encode
    return lambda texts, size: call(texts, batch_size=size, show_progress_bar=False)


def session_options(threads: int):
    """Return ONNX Runtime's options for so many threads: it chooses the cores of its threads itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def int8_file(kind: type, job: dict) -> str:
    """Make the int8 file of a model as sentence-transformers' documentation says, unless it is there; return its name.

    OpenVINO's is calibrated on the texts of the job.
    """
    from sentence_transformers import export_dynamic_quantized_onnx_model, export_static_quantized_openvino_model

    folder, backend = Path(job["model"]), job["backend"]
    has_vnni = "avx512_vnni" in Path("/proc/cpuinfo").read_text()
    instructions, weights = ("avx512_vnni", "qint8") if has_vnni else ("avx2", "quint8")
    name = "openvino_model_qint8_quantized.xml" if backend == "openvino" else f"model_{weights}_{instructions}.onnx"
    if not (folder / backend / name).exists():
        model = kind(job["model"], backend=backend, device="cpu")
        if backend == "onnx":
            export_dynamic_quantized_onnx_model(model, instructions, job["model"])
        else:
            texts = dict(zip(("dataset_name", "dataset_config_name"), (job["calibration"], "default"), strict=True))
            texts |= {"dataset_split": "train", "column_name": "text"}
            export_static_quantized_openvino_model(model, None, job["model"], **texts)
    return name


def fastembed(job: dict) -> Work:
    """Load the ONNX file of a folder as a custom model of fastembed, with mean pooling."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    source = ModelSource(hf="benchmark/encoder")
    shape = {"pooling": PoolingType.MEAN, "normalization": True, "dim": job["width"]}
    TextEmbedding.add_custom_model(model="benchmark/encoder", sources=source, model_file="onnx/model.onnx", **shape)
    started(job)
    model = TextEmbedding("benchmark/encoder", specific_model_path=job["model"], threads=job["threads"])
    return lambda texts, size: np.stack(list(model.embed(texts, batch_size=size)))


LIBRARIES = {"sentence_transformers": sentence_transformers, "fastembed": fastembed}


def started(job: dict) -> None:
    """Note the memory that the libraries take, and let its peak start anew."""
    if CLEAR.exists():
        CLEAR.write_text("5")
    job["before"] = kibibytes("VmRSS")


def kibibytes(name: str) -> int:
    """Read an entry of this process's status; 0 where there is none."""
    match = re.search(rf"{name}:\s+(\d+)", STATUS.read_text()) if STATUS.exists() else None
    return int(match.group(1)) if match else 0


def limit_cores(threads: int) -> None:
    """Leave this process so many of its cores: not every library asks for a number of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def fastest_size(work: Work, texts: list) -> int:
    """Choose the batch size that takes the shortest time for some of the texts."""
    some_texts, times = texts[::TRIED], {}
    for size in BATCH_SIZES:
        if size <= max(len(some_texts), BATCH_SIZES[0]):
            work(some_texts, size)
            before = time.perf_counter()
            work(some_texts, size)
            times[size] = time.perf_counter() - before
    return min(times, key=times.get)


def main() -> None:
    """Do the job that is the one argument, as often as standard input says."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print, too
    job = json.loads(sys.argv[1])
    limit_cores(job["threads"])
    work = LIBRARIES[job["library"]](job)
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
    size = 1 if job["alone"] else fastest_size(work, texts)
    parts = [[text] for text in texts] if job["alone"] else [texts]
    print(json.dumps({"setting": f"batch size {size}"}), file=answers)
    results = []
    for line in sys.stdin:
        command, _, file = line.strip().partition(" ")
        answer = {}
        if command == "go":
            results, seconds = [], []
            for part in parts:
                before = time.perf_counter()
                results.append(work(part, size))
                seconds.append(time.perf_counter() - before)
            answer = {"seconds": seconds}
        elif command == "save":
            np.save(file, np.concatenate(results))
        elif command == "peak":
            answer = {"bytes": (kibibytes("VmHWM") - job["before"]) * 1024}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
