"""A trainer whose lists get new negatives while it trains."""

from pathlib import Path

import torch
import torch.distributed as dist
from datasets import Dataset
from torch.utils import data
from transformers import TrainerCallback

from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.collators import RankingCollator
from m3se.trainers.data import RankingLists
from m3se.trainers.distillation_trainer import DistillationTrainer
from m3se.trainers.errors import InputError
from m3se.trainers.refreshing.drawing import compare_draws, draw_lists, find_identical, log_draw
from m3se.trainers.refreshing.folders import delete_negatives, read_negatives, write_negatives
from m3se.trainers.refreshing.plan import RefreshPlan
from m3se.trainers.refreshing.student_search import (
    StudentSearch,
    evaluation_mode,
    student_encoding,
    student_scorer,
)
from m3se.trainers.run_folder import checkpoints
from m3se.trainers.sampling import SampledRows
from m3se.trainers.teacher.annotate import ProcessShare, annotate, fill_cache


ENCODING = ".student_encoding"  # in the run's folder, while negatives are drawn


class CurrentRows(data.Dataset):
    """Training rows that may be exchanged for others of the same queries, in the same order."""

    def __init__(self, rows: Dataset):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        return self.rows[number]


class RowNumbers(data.Dataset):
    """The numbers of rows in place of the rows."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        return number


class RefreshingTrainer(DistillationTrainer):
    """A DistillationTrainer that draws the negatives of its lists anew, as the plan says.

    The training sample that evaluations measure keeps the lists of before.

    Args:
        lists: what is trained on; their table is the collection that the student searches.
        plan: how often, and from where.

    The other arguments are those of DistillationTrainer, without `train_dataset`.

    Raises:
        InputError: the model or its collator cannot be searched with, or a list could not keep its length.
    """

    def __init__(self, *args, lists: RankingLists, plan: RefreshPlan, **kwargs):
        super().__init__(*args, train_dataset=lists.rows, **kwargs)
        if not isinstance(self.ranking_model, DualEncoder) or not isinstance(self.data_collator, RankingCollator):
            raise InputError("plan: new negatives need a dual encoder, and a RankingCollator")
        plan.check(lists)
        self.lists, self.plan = lists, plan
        self.identical = set() if plan.keep_identical_ids else find_identical(lists)
        self.current = CurrentRows(lists.rows)
        if isinstance(self.train_dataset, SampledRows):
            self.train_dataset.rows = self.current
        else:
            self.train_dataset = self.current
        self.add_callback(Refresh(self))

    def get_train_dataloader(self) -> data.DataLoader:
        """Make a loader of row numbers: loaders read ahead, and a list may be another one when its step comes."""
        rows, collator = self.train_dataset, self.data_collator
        self.train_dataset, self.data_collator = RowNumbers(len(rows)), collate_numbers
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = rows, collator

    def training_step(self, model, inputs, *args, **kwargs):
        """Read the rows with these numbers, and take a step with them."""
        rows = [self.train_dataset[number] for number in inputs["row_numbers"].tolist()]
        return super().training_step(model, self.data_collator(rows), *args, **kwargs)

    def refresh(self) -> None:
        """Draw new negatives with the student as it is, write them, and train on them from here on.

        All processes embed and score a share of the texts. Each of them searches, the first one writes the lists while
        the others wait, and all read them.
        """
        output, step = Path(self.args.output_dir), self.state.global_step
        with evaluation_mode(self.ranking_model, self.args.device):
            drawn = self.draw(step)
            if self.plan.teachers:
                drawn = self.score_lists(drawn)
        if self.is_world_process_zero():
            report = {"step": step, "depth": self.plan.depth} | compare_draws(self.current.rows, drawn.rows)
            write_negatives(output, step, drawn.rows, report)
            log_draw(report)
        self.accelerator.wait_for_everyone()
        self.current.rows = read_negatives(output, step)

    def draw(self, step: int) -> RankingLists:
        """Draw the negatives of a step, without teacher scores."""
        model, documents = self.ranking_model, self.lists.documents
        scorer = student_scorer(model, self.processing_class, torch.bfloat16 if self.args.bf16 else torch.float32)
        options = self.plan.depth, self.identical, self.args.seed, step
        embedded = self.data_collator.document_embeddings
        if embedded is not None:  # by the model whose documents the student searches
            return draw_lists(self.lists, StudentSearch(scorer, embedded.documents, self.shows_bar()), *options)
        with student_encoding(scorer, documents, Path(self.args.output_dir) / ENCODING) as collection:
            drawn = draw_lists(self.lists, StudentSearch(scorer, collection, self.shows_bar()), *options)
            self.accelerator.wait_for_everyone()  # before the embeddings are deleted
        return drawn

    def score_lists(self, drawn: RankingLists) -> RankingLists:
        """Score drawn lists with the teachers: all processes fill the cache, then the first one reads it.

        In the others the lists stay as they were.
        """
        cache, bar = Path(self.plan.cache_dir) / "teacher_scores", self.shows_bar()
        if dist.is_initialized():
            share = ProcessShare(self.args.process_index, self.args.world_size)
            fill_cache(drawn, self.plan.teachers, cache, share, progress=bar)
            self.accelerator.wait_for_everyone()
        return annotate(drawn, self.plan.teachers, cache, progress=bar) if self.is_world_process_zero() else drawn

    def shows_bar(self) -> bool:
        """Return true in the process that shows progress bars, if one does."""
        return self.is_world_process_zero() and not self.args.disable_tqdm


class Refresh(TrainerCallback):
    """The times when negatives are drawn, and when drawn lists are read again or deleted.

    Lists that a checkpoint could go on from stay until that checkpoint is deleted.
    """

    def __init__(self, trainer: RefreshingTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Take the lists that the step was trained on, and delete those of later steps, which are drawn anew."""
        if state.global_step >= state.max_steps:
            return
        trainer, step = self.trainer, state.global_step
        drawn_at = step - step % trainer.plan.steps
        trainer.current.rows = read_negatives(Path(args.output_dir), drawn_at) if drawn_at else trainer.lists.rows
        self.delete_unused(args, [saved for saved in checkpoints(Path(args.output_dir)) if saved <= step] + [step])

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Draw new negatives after every so many steps, but not after the last."""
        if state.global_step % self.trainer.plan.steps == 0 and state.global_step < state.max_steps:
            self.trainer.refresh()
            self.delete_unused(args, [*checkpoints(Path(args.output_dir)), state.global_step])

    def on_save(self, args, state, control, **kwargs) -> None:
        """Delete the lists of checkpoints that are deleted."""
        self.delete_unused(args, [*checkpoints(Path(args.output_dir)), state.global_step])

    def delete_unused(self, args, steps: list[int]) -> None:
        """Delete the drawn lists that none of these steps was trained on, in the first process."""
        if self.trainer.is_world_process_zero():
            delete_negatives(Path(args.output_dir), steps)


def collate_numbers(numbers: list[int]) -> dict[str, torch.Tensor]:
    """Make row numbers a batch: [B]."""
    return {"row_numbers": torch.tensor(numbers)}
