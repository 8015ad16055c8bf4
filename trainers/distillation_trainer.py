"""The trainer of all our models: teacher scores or labels in, gradients and ranking metrics out."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils import data
from transformers import EvalPrediction, Trainer

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.gathering import gather_rows
from m3se.modeling.outputs import RankingOutput
from m3se.trainers.callbacks import AveragedWeights, NewEpoch, add_callbacks
from m3se.trainers.collators import TARGETS, RankingCollator, model_inputs
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.metrics import ndcg, reciprocal_rank
from m3se.trainers.losses import LOSSES, list_variances, softmax_ce, usable_queries
from m3se.trainers.matching.projection import matching_loss
from m3se.trainers.matching.text_embeddings import TextEmbeddings
from m3se.trainers.meter import Meter
from m3se.trainers.models.parts import document_encoder, find_ranking_model
from m3se.trainers.negatives import add_columns, append_documents, draw_documents, negative_columns
from m3se.trainers.regularisers import hide_tokens, masked_lm_loss
from m3se.trainers.sampling import Rows, SampledRows, sample_rows
from m3se.trainers.teacher.score_scale import FittedScale
from m3se.trainers.trainer_checks import check_trainer


class DistillationTrainer(Trainer):
    """A Trainer that fits any of our models to teacher scores or labels with a loss of `trainers.losses`.

    It takes Trainer's own arguments except `compute_metrics`, with a RankingConfig as `args`. Each evaluation measures
    the dev rows and a fixed sample of the training rows, because the gap between the two is what the paper is about.

    Data sets are any of torch or `datasets`, and `data_collator` is any callable that makes the batch which
    `RankingCollator` describes. Of that batch `own_keys` and `document_keys` are read for added negatives only, and
    `query_ids` for messages only. A RankingCollator is needed for `uniform_negatives` and `eval_documents`, rows with
    `document_ids` and `labels` for `sample_documents`, and `teacher_query_embeddings` for `embedding_weight`.

    Args:
        eval_documents: the texts of the dev rows, where that is another table than the collator's.
        eval_embeddings: of those texts, where the collator has `document_embeddings`.

    Raises:
        InputError: an option asks for what the tokeniser, the encoder, the collator or the rows do not have.
    """

    args: RankingConfig
    data_collator: Callable[[list], dict]
    loss_is_scaled_for_ga = False  # our losses are means over the micro-batch: Trainer divides by the accumulation

    def __init__(
        self,
        *args,
        eval_documents: DocumentTable | None = None,
        eval_embeddings: TextEmbeddings | None = None,
        **kwargs,
    ):
        super().__init__(*args, compute_metrics=mean_metrics, **kwargs)
        self.eval_documents, self.eval_embeddings = eval_documents, eval_embeddings
        self.ranking_model = find_ranking_model(self.model)
        check_trainer(self)
        self.train_sample = sample_rows(self.train_dataset, self.args.train_sample_size, self.args.seed)
        if self.args.sample_documents is not None and self.train_dataset is not None:
            self.train_dataset = SampledRows(self.train_dataset, self.args.sample_documents, self.args.seed)
            self.add_callback(NewEpoch(self.train_dataset))
        self.draws = (-1, 0)  # optimiser step, and how often negatives were drawn in it
        self.ranking_model.chunk_size = self.args.forward_chunk_size
        self.score_scale = FittedScale(self.args.score_scale, self.ranking_model, self.sample_variances, self.log)
        self.add_callback(self.score_scale)
        self.meter = Meter(self.args.device)
        for encoder in {self.ranking_model.encoder, document_encoder(self.ranking_model)}:
            self.meter.watch(encoder)
        self.average = None
        if self.args.ema_decay is not None:
            self.average = AveragedWeights(self.ranking_model, self.args.ema_decay)
            self.add_callback(self.average)
        add_callbacks(self)

    def init_hf_repo(self, *args, **kwargs) -> None:
        """Raise InputError: Trainer's own upload would take its arguments along, a pickle with paths."""
        raise InputError("push_to_hub: run_scripts/publish.py publishes a trained model")

    def _save_rng_state(self, output_dir: str) -> None:
        """Save random numbers, and the averaged weights, before the file that makes a checkpoint count as complete."""
        super()._save_rng_state(output_dir)
        if self.average is not None and self.args.should_save:
            self.average.save(output_dir)

    def training_step(self, *args, **kwargs):
        """Take a step of Trainer's, and time it."""
        started = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self.meter.seconds += time.perf_counter() - started
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Run one forward pass and compute the loss, a mean over the local queries.

        Raises:
            FloatingPointError: the loss is not finite; the message names the step and the queries.
        """
        batch = self.augment(dict(inputs)) if model.training else dict(inputs)
        outputs, targets = self.compute_outputs(model, batch)
        scores = outputs.scores
        if model.training and self.average:
            with self.accelerator.autocast():
                targets["teacher_scores"] = self.average.score(model_inputs(batch))
        loss = self.ranking_loss(scores, **targets)
        if model.training:
            self.count(batch, scores.detach(), targets)
            if self.args.ranking_weight is not None:
                loss = self.args.ranking_weight * loss
            loss = loss + self.auxiliary_loss(batch)
            if self.args.embedding_weight:
                loss = loss + self.args.embedding_weight * matching_loss(self.ranking_model, outputs, inputs)
        if not torch.isfinite(loss):
            names = batch.get("query_ids") or [f"number {number}" for number in range(len(scores))]
            raise FloatingPointError(self.describe_failure(loss.item(), names, scores, targets))
        return (loss, {"scores": scores, **targets}) if return_outputs else loss

    def score(self, model, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """Score a batch in float32, [B, K], and take its targets, as `compute_outputs` does."""
        outputs, targets = self.compute_outputs(model, batch)
        return outputs.scores, targets

    def compute_outputs(self, model, batch: dict) -> tuple[RankingOutput, dict[str, Tensor]]:
        """Run a batch, with scores [B, K] in float32, and take its targets; a document without a token is masked out.

        Raises:
            ValueError: a target is missing, or has another shape than the scores, which broadcasting would hide.
        """
        with self.accelerator.autocast():
            outputs = model(**model_inputs(batch))
        outputs.scores = scores = outputs.scores.float()
        targets: dict[str, Tensor] = {}
        for name in TARGETS:
            if name not in batch:
                raise ValueError(f"expected a batch with {', '.join(TARGETS)}, got none with {name}")
            targets[name] = batch[name]
            if scores.shape != batch[name].shape:
                raise ValueError(f"scores {list(scores.shape)}, {name} {list(batch[name].shape)}")
        return outputs, targets | {"mask": targets["mask"] & (scores != -torch.inf)}  # NaN stays in, to be seen

    def ranking_loss(self, scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Compute the chosen loss, mixed with the one-hot loss by `one_hot_weight`: [B, K] each -> scalar."""
        teacher_scores = teacher_scores / self.score_scale.teacher_divisor
        loss = LOSSES[self.args.loss](scores, teacher_scores, labels, mask, **self.args.loss_args)
        if self.args.one_hot_weight == 0:
            return loss
        return torch.lerp(loss, softmax_ce(scores, teacher_scores, labels, mask), self.args.one_hot_weight)

    def usable(self, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Tell the queries that `ranking_loss` can learn from, [B] bool."""
        return usable_queries(self.args.loss, teacher_scores, labels, mask, self.args.one_hot_weight)

    def auxiliary_loss(self, batch: dict[str, Tensor]) -> Tensor | float:
        """Compute the masked-LM loss on the batch's documents, weighted (Appendix C.10)."""
        if self.args.mlm_weight == 0:
            return 0.0
        encoder = document_encoder(self.ranking_model)
        texts = batch["document_input_ids"], batch["document_attention_mask"]
        with self.accelerator.autocast():
            loss = masked_lm_loss(encoder.base_model, *texts, self.processing_class, self.args.forward_chunk_size)
        return self.args.mlm_weight * loss

    def augment(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Hide tokens and add negatives, as the arguments ask; in training only."""
        drawn = self.draw_share() if self.args.uniform_negatives else []
        if drawn:  # with fewer of them than processes, some have none
            added = self._prepare_inputs(self.data_collator.encode_positions(drawn))
            batch = append_documents(batch, added, self.processing_class.pad_token_id)
        if self.args.token_dropout:
            for side in ("query", "document")[: 1 + ("document_input_ids" in batch)]:
                ids, mask = batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]
                batch[f"{side}_input_ids"], _ = hide_tokens(ids, mask, self.args.token_dropout, self.processing_class)
        adds = self.args.in_batch_negatives or self.args.uniform_negatives
        return self.add_negatives(batch, len(drawn)) if adds else batch

    def add_negatives(self, batch: dict[str, Tensor], drawn: int) -> dict[str, Tensor]:
        """Make the last `drawn` documents of every process, and all others if so asked, negatives of every query."""
        keys = batch["document_keys"]
        eligible = torch.arange(len(keys), device=keys.device) >= len(keys) - drawn
        eligible |= self.args.in_batch_negatives
        if self.args.world_size > 1:
            counts = gather_rows(torch.tensor([len(keys)], device=keys.device))
            before = counts[: self.args.process_index].sum()
            batch["document_index"] = torch.where(batch["mask"], batch["document_index"] + before, -1)
            keys, eligible, batch["gather_documents"] = gather_rows(keys), gather_rows(eligible), True
        return add_columns(batch, negative_columns(keys, batch["own_keys"], eligible))

    def draw_share(self) -> list[int]:
        """Draw this process's part of the batch's uniform negatives, as positions in the document table."""
        step, count = self.draws
        self.draws = (self.state.global_step, count + 1 if step == self.state.global_step else 0)
        size = len(self.data_collator.documents)
        drawn = draw_documents(size, self.args.uniform_negatives, [self.args.seed, *self.draws])
        return drawn[self.args.process_index :: self.args.world_size]

    def count(self, batch: dict, scores: Tensor, targets: dict[str, Tensor]) -> None:
        """Give the meter what the next training log says about this micro-batch."""
        # a cross-encoder reads a document once per query, the others once per batch
        pairs = isinstance(self.ranking_model, CrossEncoder)
        documents = int(targets["mask"].sum()) if pairs else len(batch.get("document_input_ids", ()))
        usable = self.usable(**targets) | bool(self.args.embedding_weight)
        self.meter.add(scores, targets["teacher_scores"], targets["mask"], usable, documents)

    def describe_failure(self, loss: float, query_ids: list[str], scores: Tensor, targets: dict[str, Tensor]) -> str:
        """Say of a loss that is not finite when it came, and of which queries."""
        finite = self.per_query_losses(scores, **targets).isfinite().tolist()
        culprits = [name for name, fine in zip(query_ids, finite, strict=True) if not fine] or query_ids
        return f"the loss is {loss} at step {self.state.global_step}, queries {', '.join(culprits)}"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the meter saw since the last training log, which is the one with a loss, and a learned scale."""
        if "loss" in logs:
            logs = logs | self.meter.read()
            if getattr(self.ranking_model.config, "learn_scale", False):
                logs["scale"] = self.ranking_model.reached_scale()
        super().log(logs, start_time)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Measure MRR@10 and nDCG@10, re-ranking the rows' documents, on dev and on the fixed sample of training rows.

        Keys: `eval_MRR@10`, `eval_nDCG@10`, `eval_loss` where the loss applies, and `train_MRR@10`, `train_nDCG@10`
        unless another data set was given.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        collator = self.data_collator
        if isinstance(collator, RankingCollator):  # the teacher has embedded the training queries only
            collator = replace(collator, teacher_embeddings=None)
        if self.eval_documents is not None:
            embeddings = {"document_embeddings": self.eval_embeddings}
            collator = replace(collator, documents=self.eval_documents, **embeddings)
        metrics = self.measure(rows, collator, metric_key_prefix)
        if eval_dataset is None and len(self.train_sample):
            metrics |= self.measure(self.train_sample, self.data_collator, "train")
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self, rows: Rows, collator: Callable[[list], dict], prefix: str) -> dict[str, float]:
        """Return the mean metrics of rows, each row counted once whatever the number of processes."""
        started = time.perf_counter()
        loader = self.evaluation_loader(rows, collator)
        metrics = self.evaluation_loop(loader, prefix, metric_key_prefix=prefix).metrics
        return metrics | {f"{prefix}_seconds": round(time.perf_counter() - started, 2)}

    def evaluation_loader(self, rows: Rows, collator: Callable[[list], dict]) -> data.DataLoader:
        """Make a loader of all rows in their order, a share of them for each process."""
        loader = data.DataLoader(
            rows,
            batch_size=self.args.eval_batch_size,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare_data_loader(loader)

    @torch.no_grad()
    def sample_variances(self) -> Tensor:
        """Compute `list_variances` of the training sample: [lists, 2], those of all processes."""
        self.model.eval()
        variances = [torch.empty(0, 2)]
        for batch in self.evaluation_loader(self.train_sample, self.data_collator):
            scores, targets = self.score(self.model, self._prepare_inputs(batch))
            own = list_variances(scores, targets["teacher_scores"], targets["mask"])
            variances.append(self.accelerator.gather_for_metrics(own).cpu())
        return torch.cat(variances)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return the metrics of each query, [B, 3], and where its loss means something, [B]."""
        with torch.no_grad():
            scores, targets = self.score(model, self._prepare_inputs(inputs))
            labels, mask = targets["labels"], targets["mask"]
            parts = reciprocal_rank(scores, labels, mask), ndcg(scores, labels, mask)
            losses = self.per_query_losses(scores, **targets)
        return None, torch.stack([*parts, losses], dim=1), self.usable(**targets)

    def per_query_losses(self, scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss of each query alone, [B]; its mean is `ranking_loss`."""
        parts = (part.split(1) for part in (scores, teacher_scores, labels, mask))
        return torch.stack(list(map(self.ranking_loss, *parts)))


def mean_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Average what `prediction_step` gathered; the loss over the queries that it applies to, absent without one."""
    reciprocal_ranks, gains, losses = prediction.predictions.astype(float).T
    metrics = {"MRR@10": reciprocal_ranks.mean().item(), "nDCG@10": gains.mean().item()}
    if prediction.label_ids.any():
        metrics["loss"] = (losses.sum() / prediction.label_ids.sum()).item()
    return metrics
