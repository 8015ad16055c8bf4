import time

import torch
from datasets import Dataset
from torch import Tensor
from transformers import Trainer

from modeling import CrossEncoder, DualEncoder
from modeling.gathering import gather_rows
from trainers.collators import RankingCollator
from trainers.config import RankingConfig
from trainers.evaluation.metrics import ndcg, reciprocal_rank
from trainers.losses import LOSSES, softmax_ce, usable_queries
from trainers.meter import Meter
from trainers.negatives import add_columns, append_documents, draw_documents, negative_columns
from trainers.regularisers import hide_tokens, masked_lm_loss


TARGETS = ("mask", "labels", "teacher_scores")
UNSEEN = ("document_keys", "own_keys", "query_ids")  # batch entries that the model does not see


class DistillationTrainer(Trainer):
    """Fits any of our models to teacher scores or labels with a loss of `trainers.losses`.

    Takes Trainer's own arguments: `args` a RankingConfig, `data_collator` a RankingCollator, `train_dataset` and
    `eval_dataset` rows of `trainers.data`. Each evaluation measures the dev rows and a fixed sample of the training
    rows, because the gap between the two is what the paper is about.
    """

    args: RankingConfig
    data_collator: RankingCollator
    loss_is_scaled_for_ga = False  # our losses are means over the micro-batch: Trainer divides by the accumulation

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.train_sample = sample_rows(self.train_dataset, self.args.train_sample_size, self.args.seed)
        self.meter = Meter(self.args.loss)
        self.draws = (-1, 0)  # optimiser step, and how often negatives were drawn in it
        models = (CrossEncoder, DualEncoder)
        self.ranking_model = next(module for module in self.model.modules() if isinstance(module, models))
        self.ranking_model.chunk_size = self.args.forward_chunk_size

    def training_step(self, *args, **kwargs):
        started = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self.meter.seconds += time.perf_counter() - started
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """One forward pass and the loss, a mean over the local queries.

        Raises:
            FloatingPointError: the loss is not finite; the message names the step and the queries.
        """
        batch = self.augment(dict(inputs)) if model.training else dict(inputs)
        query_ids = batch["query_ids"]
        targets = {name: batch.pop(name) for name in TARGETS}
        outputs = model(**{name: value for name, value in batch.items() if name not in UNSEEN})
        if outputs.scores.shape != targets["labels"].shape:  # broadcasting would hide it
            raise ValueError(f"scores {list(outputs.scores.shape)}, labels {list(targets['labels'].shape)}")
        scores = outputs.scores.float()
        targets["mask"] = targets["mask"] & (scores > -torch.inf)
        loss = self.ranking_loss(scores, **targets)
        if model.training:
            self.meter.add(scores.detach(), batch["document_attention_mask"], **targets)
            loss = loss + self.auxiliary_loss(batch)
        if not torch.isfinite(loss):
            step = self.state.global_step
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}, queries {', '.join(query_ids)}")
        return (loss, {"scores": scores, **targets}) if return_outputs else loss

    def ranking_loss(self, scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """The chosen loss, mixed with the one-hot loss by `one_hot_weight`; all [B, K] -> scalar."""
        loss = LOSSES[self.args.loss](scores, teacher_scores, labels, mask, **self.args.loss_args)
        if self.args.one_hot_weight == 0:
            return loss
        return torch.lerp(loss, softmax_ce(scores, teacher_scores, labels, mask), self.args.one_hot_weight)

    def auxiliary_loss(self, batch: dict[str, Tensor]) -> Tensor | float:
        """The masked-LM loss on the batch's documents, weighted (Appendix C.10)."""
        if self.args.mlm_weight == 0:
            return 0.0
        ids, mask = batch["document_input_ids"], batch["document_attention_mask"]
        return self.args.mlm_weight * masked_lm_loss(self.ranking_model.encoder, ids, mask, self.processing_class)

    def augment(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Training only: hide tokens and add negatives, as the arguments ask."""
        if self.args.token_dropout:
            for side in ("query", "document"):
                ids, mask = batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]
                batch[f"{side}_input_ids"], _ = hide_tokens(ids, mask, self.args.token_dropout, self.processing_class)
        if not (self.args.in_batch_negatives or self.args.uniform_negatives):
            return batch
        eligible = torch.full_like(batch["document_keys"], self.args.in_batch_negatives, dtype=torch.bool)
        if self.args.uniform_negatives:
            positions = self.draw_share()
            added = self._prepare_inputs(self.data_collator.encode_positions(positions))
            batch = append_documents(batch, added, self.processing_class.pad_token_id)
            eligible = torch.cat([eligible, torch.ones_like(added["document_keys"], dtype=torch.bool)])
        keys = batch["document_keys"]
        if self.args.world_size > 1:
            counts = gather_rows(torch.tensor([len(keys)], device=keys.device))
            before = counts[: self.args.process_index].sum()
            batch["document_index"] = torch.where(batch["mask"], batch["document_index"] + before, -1)
            keys, eligible, batch["gather_documents"] = gather_rows(keys), gather_rows(eligible), True
        return add_columns(batch, negative_columns(keys, batch["own_keys"], eligible))

    def draw_share(self) -> list[int]:
        """This process's part of the step's uniform negatives, as positions in the document table."""
        step, count = self.draws
        self.draws = (self.state.global_step, count + 1 if step == self.state.global_step else 0)
        drawn = draw_documents(
            len(self.data_collator.documents), self.args.uniform_negatives, [self.args.seed, *self.draws]
        )
        return drawn[self.args.process_index :: self.args.world_size]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the meter saw since the last training log."""
        super().log(logs | self.meter.read(self.args.device) if "loss" in logs else logs, start_time)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """MRR@10 and nDCG@10 (re-ranking the rows' documents) on dev, and on the fixed sample of training rows.

        Keys: `eval_MRR@10`, `eval_nDCG@10`, `eval_loss` where the loss applies, and `train_MRR@10`, `train_nDCG@10`
        unless another data set was given.
        """
        metrics = self.measure(self.eval_dataset if eval_dataset is None else eval_dataset, metric_key_prefix)
        if eval_dataset is None and len(self.train_sample):
            metrics |= self.measure(self.train_sample, "train")
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self, rows: Dataset, prefix: str) -> dict[str, float]:
        """Mean ranking metrics of rows, each counted once whatever the number of processes."""
        started = time.perf_counter()
        loader = self.get_eval_dataloader(rows)
        model = self._wrap_model(self.model, training=False)
        model.eval()
        parts = []
        for inputs in loader:
            inputs = self._prepare_inputs(inputs)
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
            parts.append(self.accelerator.gather_for_metrics(self.query_metrics(loss, **outputs)))
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        reciprocal_ranks, gains, losses, usable = torch.cat(parts).double().T
        metrics = {f"{prefix}_MRR@10": reciprocal_ranks.mean().item(), f"{prefix}_nDCG@10": gains.mean().item()}
        if usable.any():
            metrics[f"{prefix}_loss"] = (losses.sum() / usable.sum()).item()
        metrics[f"{prefix}_seconds"] = round(time.perf_counter() - started, 2)
        return metrics

    def query_metrics(
        self, loss: Tensor, scores: Tensor, mask: Tensor, labels: Tensor, teacher_scores: Tensor
    ) -> Tensor:
        """One row per query [B, 4]: reciprocal rank, nDCG@10, the batch's loss per query, whether the loss applies."""
        usable = usable_queries(self.args.loss, teacher_scores, labels, mask).float()
        ranks, gains = reciprocal_rank(scores, labels, mask), ndcg(scores, labels, mask)
        return torch.stack([ranks, gains, loss.expand(len(scores)), usable], dim=1)


def sample_rows(rows: Dataset | None, size: int, seed: int) -> Dataset:
    """A random sample of `size` rows, the same for the same seed; empty without rows."""
    if rows is None:
        return Dataset.from_dict({})
    generator = torch.Generator().manual_seed(seed)
    return rows.select(torch.randperm(len(rows), generator=generator)[:size].tolist())
