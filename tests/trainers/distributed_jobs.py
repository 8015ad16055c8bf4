"""Small training runs that one process and two must end alike."""

import json
import os
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from m3se import DualEncoder
from m3se.modeling.gathering import gather_rows
from m3se.trainers.data import RankingLists
from m3se.trainers.matching.projection import add_projection
from m3se.trainers.matching.text_embeddings import embed_lists
from tests.worlds import tiny


GLOBAL_BATCH = 8
PLAIN_SGD = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.05, "lr_scheduler_type": "constant"}
MARGINS = {"loss": "m3se", **PLAIN_SGD}
MATCHING = {"ranking_weight": 0.5, **PLAIN_SGD}


def student_with_projection(seed: int = 0, **fields) -> DualEncoder:
    model = tiny.dual_encoder(seed, **fields)
    add_projection(model, 24)
    return model


def teacher_vectors(name: str, lists: RankingLists, folder: Path) -> dict:
    """The collator's embeddings for a job, which all processes make together."""
    vectors = partial(embed_lists, cache_dir=folder)
    if name == "fixed_documents":
        return dict.fromkeys(["teacher_embeddings", "document_embeddings"], vectors(tiny.embedder(16), lists))
    return {"teacher_embeddings": vectors(tiny.embedder(24), lists)} if name in ("matching", "resumed") else {}


# name: how the model is built, and with which options it is trained
JOBS = {
    "plain": (tiny.dual_encoder, PLAIN_SGD),
    "in_batch": (tiny.dual_encoder, {"in_batch_negatives": True, **PLAIN_SGD}),
    "uniform": (tiny.dual_encoder, {"uniform_negatives": 5, **MARGINS}),
    "both": (tiny.dual_encoder, {"in_batch_negatives": True, "uniform_negatives": 5, **MARGINS}),
    "chunks": (tiny.dual_encoder, {"in_batch_negatives": True, "forward_chunk_size": 3, **PLAIN_SGD}),
    "accumulated": (tiny.dual_encoder, {"gradient_accumulation_steps": 2, **PLAIN_SGD}),
    "checkpointed": (tiny.dual_encoder, {"in_batch_negatives": True, "gradient_checkpointing": True, **PLAIN_SGD}),
    # a learned scale moves by a hundred times the rate
    "learned_scale": (
        partial(tiny.dual_encoder, normalize=True, learn_scale=True),
        {"score_scale": "learned", "train_sample_size": 5, **MARGINS, "loss": "margin_mse", "learning_rate": 1e-6},
    ),
    # the teacher's vectors are wider than the student's; the documents of the second are the teacher's
    "matching": (student_with_projection, {"embedding_weight": 2.0, "in_batch_negatives": True, **MATCHING}),
    "fixed_documents": (tiny.dual_encoder, {"embedding_weight": 2.0, "uniform_negatives": 5, **MATCHING}),
    "averaged": (
        tiny.dual_encoder,
        {
            "ema_decay": 0.5,
            "one_hot_weight": 0.5,
            "in_batch_negatives": True,
            **PLAIN_SGD,
            "gradient_accumulation_steps": 2,
        },
    ),
    "mean_of_checkpoints": (
        tiny.dual_encoder,
        {"average_checkpoints": 2, **PLAIN_SGD, "save_strategy": "steps", "save_steps": 1},
    ),
    "start_share": (tiny.dual_encoder, {"start_share": 0.5, **PLAIN_SGD}),
    # one negative for both processes: the second draws none
    "colbert": (tiny.colbert, {"in_batch_negatives": True, "uniform_negatives": 1, **PLAIN_SGD}),
    "cross_encoder": (tiny.cross_encoder, {"in_batch_negatives": True, "uniform_negatives": 3, **PLAIN_SGD}),
}
RANDOM = {
    "sample_documents": 2,
    "in_batch_negatives": True,
    "uniform_negatives": 3,
    "token_dropout": 0.3,
    "mlm_weight": 0.1,
    "embedding_weight": 0.5,
    "ema_decay": 0.5,
    "one_hot_weight": 0.5,
}


def train_job(name: str, folder: Path, processes: int) -> torch.Tensor:
    """Weights after two steps of GLOBAL_BATCH queries, whatever the number of processes."""
    build, options = JOBS[name]
    size = GLOBAL_BATCH // processes // options.get("gradient_accumulation_steps", 1)
    lists = tiny.ranking_lists(queries=2 * GLOBAL_BATCH)
    embeddings = teacher_vectors(name, lists, folder / "cache")
    options = {"per_device_train_batch_size": size, **options}
    trainer = tiny.make_trainer(build(), lists, folder / name, embeddings=embeddings, **options)
    assert trainer.args.world_size == processes
    trainer.train()
    return tiny.flat_weights(trainer.model)


def evaluate_job(folder: Path, processes: int) -> dict[str, float]:
    """Metrics on 7 dev and 5 training queries, which two processes cannot share evenly; counts of the training log."""
    dev, lists = tiny.ranking_lists(queries=7, seed=1), tiny.ranking_lists()
    lists.rows = lists.rows.map(lambda row, i: {"labels": [0.0] * len(row["labels"])} if i < 3 else row, True)
    options = {"train_sample_size": 5, "per_device_eval_batch_size": 2, "loss": "margin_mse", "logging_steps": 1}
    trainer = tiny.make_trainer(
        tiny.dual_encoder(), lists, folder / "evaluate", dev, max_steps=1, learning_rate=0.0,
        per_device_train_batch_size=GLOBAL_BATCH // processes, **options,
    )  # fmt: skip
    assert trainer.args.world_size == processes
    trainer.train()
    counts = {name: trainer.state.log_history[0][name] for name in ("skipped_queries", "teacher_top1_agreement")}
    return counts | {
        name: value for name, value in trainer.evaluate().items() if not name.endswith(("seconds", "time"))
    }


def resumable_trainer(folder: Path, processes: int, seed: int = 0):
    """Everything random at once: dropout, hidden tokens, drawn documents, shuffled rows. Two steps are an epoch."""
    lists = tiny.ranking_lists()
    return tiny.make_trainer(
        student_with_projection(seed, dropout=0.2), lists, folder, max_steps=5, save_strategy="steps", save_steps=1,
        gradient_accumulation_steps=2, per_device_train_batch_size=2 // processes, learning_rate=0.01,
        embeddings=teacher_vectors("resumed", lists, folder / "cache"), **RANDOM,
    )  # fmt: skip


def resume_job(folder: Path, processes: int, checkpoints: list[int]) -> dict[str, torch.Tensor]:
    """Weights of a run that was never interrupted, and of runs that went on from its checkpoints."""
    whole = resumable_trainer(folder, processes)
    whole.train()
    weights = {"never": tiny.flat_weights(whole.model)}
    for step in checkpoints:
        again = resumable_trainer(folder, processes, seed=7)  # other weights: they must come from the checkpoint
        again.args.save_strategy = "no"
        again.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
        weights[f"at {step}"] = tiny.flat_weights(again.model)
    return weights


def gather_job(rank: int) -> dict[str, torch.Tensor]:
    """Rows [rank + 1, 2] of each process gathered; their gradient for (rank + 1) * sum(rows * (1, 2, 3, ...))."""
    rows = (10.0 * rank + torch.arange(2.0 * (rank + 1))).reshape(-1, 2).requires_grad_()
    gathered = gather_rows(rows)
    ((rank + 1) * (gathered * torch.arange(1.0, 7.0).reshape(3, 2)).sum()).backward()
    return {"gathered": gathered.detach(), "gathered gradient": rows.grad}


def share_job(folder: Path) -> dict[str, torch.Tensor]:
    """Which uniform negatives this process embeds."""
    trainer = tiny.make_trainer(tiny.dual_encoder(), tiny.ranking_lists(), folder / "share", uniform_negatives=5)
    return {"share": torch.tensor(trainer.draw_share())}


def do_all(folder: Path) -> None:
    """All jobs as one process of a launch: `rank<r>.safetensors` (final weights by job) and `rank<r>.json`."""
    processes, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    weights = {name: train_job(name, folder, processes) for name in JOBS}
    weights |= {f"resumed {name}": values for name, values in resume_job(folder / "resume", processes, [2, 3]).items()}
    weights |= gather_job(rank) | share_job(folder)
    assert torch.distributed.get_world_size() == processes == 2
    save_file(weights, folder / f"rank{rank}.safetensors")
    (folder / f"rank{rank}.json").write_text(json.dumps(evaluate_job(folder, processes)), encoding="utf-8")
    torch.distributed.barrier()
    os._exit(0)  # gloo can hang when it is taken down while a DDP reducer lives
