"""Small trainings whose negatives are drawn anew, in one process or as one of two."""

import json
import os
from pathlib import Path

from m3se import RankingConfig
from m3se.trainers.data import RankingLists
from m3se.trainers.refreshing.plan import RefreshPlan
from m3se.trainers.refreshing.trainer import RefreshingTrainer
from m3se.trainers.teacher.loading import load_teacher
from tests.worlds import tiny


ORDERLY = {"optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant", "loss": "softmax_ce"}


def lists_with_known_positives() -> RankingLists:
    """Lists of four documents or three; two more are relevant to each query, and one query is a document."""
    lists = tiny.ranking_lists(scored=False)

    def change(row, number):
        beyond = [f"d{(7 * number + i) % 40}" for i in range(2)]
        new = {"positive_ids": [name for name in beyond if name not in row["document_ids"]]}
        return row | new | ({"query_id": "d11", "query": lists.documents.texts(["d11"])[0]} if number == 0 else {})

    lists.rows = lists.rows.map(change, with_indices=True)
    assert "d11" not in lists.rows[0]["document_ids"] + lists.rows[0]["positive_ids"]
    return lists


def refreshing_trainer(folder, plan: RefreshPlan, lists: RankingLists | None = None, seed: int = 0, **options):
    """A trainer on the CPU in float32, with dropout unless `options` have dropout 0."""
    lists = lists_with_known_positives() if lists is None else lists
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "precision": "fp32", "train_sample_size": 0}
    model = tiny.dual_encoder(seed, options.pop("dropout", 0.2))
    batch = {"per_device_train_batch_size": 4, "save_strategy": "no", "loss": "softmax_ce", "max_steps": 3}
    args = RankingConfig(output_dir=str(folder), **quiet | batch | options)
    return RefreshingTrainer(
        model=model, args=args, data_collator=tiny.collator(lists), processing_class=tiny.tokenizer(), lists=lists,
        plan=plan,
    )  # fmt: skip


def train_and_write_rows(folder: Path, size: int, teacher: str) -> None:
    """Train with a global batch of 4 over two draws; write the rows that this process trains on in the end."""
    plan = RefreshPlan(1, 10, [load_teacher(teacher, "float32")], folder / "cache")
    trainer = refreshing_trainer(folder, plan, dropout=0.0, per_device_train_batch_size=size, **ORDERLY)
    trainer.train()
    rank = os.environ.get("RANK", "0")
    (folder / f"rows{rank}.json").write_text(json.dumps(trainer.current.rows[:]), encoding="utf-8")
