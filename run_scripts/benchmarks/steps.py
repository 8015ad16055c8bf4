"""One optimiser step of distillation, tokenising included: our trainer and sentence-transformers' trainers."""

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from datasets import Dataset
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
from sentence_transformers.multi_vector_encoder.trainer import MultiVectorEncoderTrainer
from sentence_transformers.multi_vector_encoder.training_args import MultiVectorEncoderTrainingArguments
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from transformers import Trainer

from m3se.modeling.colbert import ColBERT
from m3se.modeling.cpu_dropout import use_cpu_dropout
from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.benchmarks.measuring import Run
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.collators import RankingCollator
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import RankingLists
from m3se.trainers.distillation_trainer import DistillationTrainer


MINI_BATCHES = (None, 16, 64)  # of MultiVectorDistillKLDivLoss, which trims each to its own longest text
ATTENTION = ("sdpa", "eager")
QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no"}


def dual_encoder_step(workload: Workload, documents_per_query: int = 8) -> Row:
    """Compare documents a second of one step with softmax cross-entropy against the teacher."""
    lists = workload.lists(documents_per_query)

    def build_peer(dtype: str, attention: str) -> Run:
        """Set up the peer's step in a number format with an implementation of attention."""
        model = SentenceTransformer(workload.path, **peer_options(attention, workload))
        return peer_step(model, DistillKLDivLoss(model), lists, dtype, workload)

    return row(
        workload,
        lists,
        f"distillation step, DE, K = {documents_per_query}",
        "SentenceTransformerTrainer, DistillKLDivLoss",
        lambda: our_step(dual_encoder(workload), lists, workload),
        {f"{dtype}, {kind}": partial(build_peer, dtype, kind) for dtype, kind in product(workload.dtypes, ATTENTION)},
    )


def long_lists_step(workload: Workload) -> Row:
    """Compare a step on lists of 20."""
    return dual_encoder_step(workload, 20)


def colbert_step(workload: Workload) -> Row:
    """Compare a step of late interaction."""
    lists = workload.lists(8)

    def build() -> Run:
        """Set up our step."""
        lengths = {"query_length": workload.query_length, "document_length": workload.document_length}
        # as the peer: no markers, no [MASK] tokens, every token compared
        plain = {"markers": None, "skip_punctuation": False, "mask_augmentation": "none", "reduction": "sum"}
        return our_step(ColBERT.from_encoder(workload.path, **lengths, **plain), lists, workload)

    def build_peer(dtype: str, attention: str, mini_batch: int | None) -> Run:
        """Set up the peer's step in a number format with an implementation of attention and a mini-batch size."""
        model = MultiVectorEncoder(workload.path, **peer_options(attention, workload))
        loss = MultiVectorDistillKLDivLoss(model, mini_batch_size=mini_batch)
        return peer_step(model, loss, lists, dtype, workload)

    peers = {}
    for dtype, kind, size in product(workload.dtypes, ATTENTION, MINI_BATCHES):
        peers[f"{dtype}, {kind}, mini-batches of {size or 'all'}"] = partial(build_peer, dtype, kind, size)
    peer = "MultiVectorEncoderTrainer, MultiVectorDistillKLDivLoss"
    return row(workload, lists, "distillation step, ColBERT, K = 8", peer, build, peers)


def peer_options(attention: str, workload: Workload) -> dict:
    """Return the arguments of a peer's model."""
    return {"model_kwargs": {"attn_implementation": attention}, "device": workload.device.type}


def row(workload: Workload, lists: RankingLists, work: str, peer: str, build: Callable, peers: dict) -> Row:
    """Make a row over all documents of the lists; a backward pass costs twice a forward pass.

    Args:
        workload: Counts tokens and arithmetic.
        lists: The batch.
        work, peer: Their names in the table.
        build: Sets up our step.
        peers: As in `Row`.
    """
    distinct = lists.documents.texts(lists.documents.ids[:])
    lengths = workload.lengths(distinct) + workload.lengths(lists.rows["query"][:])
    documents = sum(map(len, lists.rows["document_ids"]))
    return Row(work, peer, "documents/s", documents, {"": build}, peers, 3 * workload.forward_flop(lengths))


def dual_encoder(workload: Workload) -> DualEncoder:
    """Make an untrained student on the benchmark's encoder."""
    lengths = {"query_length": workload.query_length, "document_length": workload.document_length}
    return DualEncoder.from_encoder(workload.path, **lengths, normalize=False)


def our_trainer(model, lists: RankingLists, workload: Workload, **options) -> DistillationTrainer:
    """Make the trainer as `run_scripts/distill.py` sets it up."""
    cpu = workload.device.type == "cpu"
    config = RankingConfig(output_dir=tempfile.mkdtemp(), use_cpu=cpu, **QUIET | options)
    if cpu:
        use_cpu_dropout(model)
    collator = RankingCollator(workload.tokenizer, lists.documents, workload.query_length, workload.document_length)
    tokenizer = workload.tokenizer
    return DistillationTrainer(model, config, collator, train_dataset=lists.rows, processing_class=tokenizer)


def our_step(model, lists: RankingLists, workload: Workload) -> Run:
    """Set up a step of our trainer."""
    return step(our_trainer(model, lists, workload), list(lists.rows))


def peer_step(model, loss, lists: RankingLists, dtype: str, workload: Workload) -> Run:
    """Set up a step of the trainer that belongs to a peer's model.

    Args:
        model: Of sentence-transformers.
        loss: Made for it.
        lists: The batch.
        dtype: "bfloat16" for autocast.
        workload: Says on which device.
    """
    multi = isinstance(model, MultiVectorEncoder)
    kinds = (MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments)
    make, arguments = kinds if multi else (SentenceTransformerTrainer, SentenceTransformerTrainingArguments)
    options = QUIET | {"bf16": dtype == "bfloat16", "use_cpu": workload.device.type == "cpu"}
    args = arguments(output_dir=tempfile.mkdtemp(), **options)
    columns = [column_row(row, lists) for row in lists.rows]
    trainer = make(model=model, args=args, train_dataset=Dataset.from_list(columns), loss=loss)
    return step(trainer, columns)


def column_row(row: dict, lists: RankingLists) -> dict:
    """Put a query and its documents into columns of their own, as sentence-transformers wants them."""
    texts = lists.documents.texts(row["document_ids"])
    documents = {f"document_{number}": text for number, text in enumerate(texts, start=1)}
    return {"query": row["query"], **documents, "label": row["teacher_scores"]}


def step(trainer: Trainer, rows: list[dict]) -> Run:
    """Set up what Trainer does with one batch: collate, forward, backward, clip, update."""
    trainer.create_optimizer_and_scheduler(num_training_steps=1_000)
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.model.train()

    def run() -> None:
        """Make one step."""
        trainer.training_step(model, trainer.data_collator(rows))
        torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        model.zero_grad()

    return run
