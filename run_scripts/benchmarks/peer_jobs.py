"""The peers of inference: sentence-transformers by torch, ONNX Runtime and OpenVINO, and fastembed."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from transformers import AutoConfig

from m3se.run_scripts.benchmarks.our_backends import classifier, embedder
from m3se.run_scripts.benchmarks.peer_environment import PACKAGES, peer_python
from m3se.run_scripts.benchmarks.peer_process import PeerProcess
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.compiled_files import CompiledFiles
from m3se.trainers.backends.choice import INT8
from m3se.trainers.storage.atomic import complete_folder, write_text
from m3se.trainers.storage.cache import cache_key


CALIBRATION = 300  # documents, as many as sentence-transformers takes by default


def peers(
    workload: Workload, texts: list, pairs: bool = False, alone: bool = False, is_int8: bool = False
) -> dict[str, Callable[[], PeerProcess]]:
    """Bind a process to every peer that the benchmark was asked for.

    Args:
        workload: names the peers, the model and the folder of their environments.
        texts: texts, or pairs of texts for a cross-encoder.
        pairs: they are pairs.
        alone: each is a batch of its own, whose time counts.
        is_int8: in int8, which torch and fastembed do not have; else in the formats that the processor multiplies in.
    """
    choices = {}
    for name in workload.peers:
        library, backend = ("fastembed", "onnx") if name == "fastembed" else ("sentence_transformers", name)
        if is_int8 and name not in PACKAGES or pairs and library == "fastembed":
            continue
        formats = [INT8] if is_int8 else workload.dtypes if name == "torch" else ["float32"]
        for number_format in formats:
            job = {"library": library, "backend": backend, "dtype": number_format, "pairs": pairs, "alone": alone}
            choices[f"{name}, {number_format}"] = partial(start, workload, job, texts)
    return choices


def start(workload: Workload, job: dict, texts: list) -> PeerProcess:
    """Start a peer, after making its environment and the folder of its model if they are not there."""
    python = peer_python(job["backend"], Path(workload.cache_dir))
    files = model_folder(workload, job)
    width = AutoConfig.from_pretrained(workload.path).hidden_size
    job = job | {"model": str(files / "model"), "calibration": str(files / "texts"), "width": width}
    return PeerProcess(python, job, texts)


def model_folder(workload: Workload, job: dict) -> Path:
    """Return a folder with a peer's model, to which it may add files, and the texts that int8 is calibrated on.

    Cross-encoders are ours. sentence-transformers gets the encoder as its authors ship it, but reads as many tokens of
    a text as we do. fastembed gets our dual encoder as it is published with its ONNX file.
    """
    is_published = job["library"] == "fastembed"
    name = "pairs" if job["pairs"] else "published" if is_published else "whole texts"
    key = cache_key(name, job["dtype"] == INT8, workload.path, workload.data, workload.document_length)
    folder = Path(workload.cache_dir).resolve() / f"peer-model-{key}"
    if not folder.exists():
        with complete_folder(folder, replace=False) as new:
            if is_published:
                trained = Path(embedder(workload.path, workload.document_length))
                build_folder(trained, new / "model", compiled=CompiledFiles(onnx="float32"))
            else:
                shutil.copytree(classifier(workload.path) if job["pairs"] else workload.path, new / "model")
            if name == "whole texts":
                limits = new / "model" / "sentence_bert_config.json"
                limits.unlink(missing_ok=True)  # of a copy, or of the encoder's authors
                write_text(limits, json.dumps({"max_seq_length": workload.document_length}))
            texts = new / "texts" / "train.jsonl"
            texts.parent.mkdir()
            lines = [json.dumps({"text": text}) for text in workload.texts(CALIBRATION)]
            texts.write_text("\n".join(lines), encoding="utf-8")
    return folder
