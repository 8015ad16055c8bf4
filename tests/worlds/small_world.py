"""A folder of texts in BEIR's layout and an untrained encoder: everything the scripts need, made in a second."""

import json
import random
from pathlib import Path

from transformers import BertModel

from tests.worlds import tiny


RECIPES = Path(__file__).parents[2] / "run_scripts" / "recipes"
QUERIES = {"train": 12, "dev": 6, "test": 6}


def write_collection(folder: Path, documents: int = 60, seed: int = 0) -> Path:
    """Documents of random words; a query is three words of its one relevant document."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    texts = {f"d{i}": draw.choices(tiny.WORDS, k=draw.randint(4, 9)) for i in range(documents)}
    write_lines(
        folder / "corpus.jsonl", [{"_id": name, "title": "", "text": " ".join(w)} for name, w in texts.items()]
    )
    queries = []
    (folder / "qrels").mkdir()
    for split, count in QUERIES.items():
        relevant = draw.sample(list(texts), count)
        queries += [{"_id": f"{split}{d}", "text": " ".join(draw.sample(texts[d], 3))} for d in relevant]
        lines = ["query-id\tcorpus-id\tscore", *(f"{split}{d}\t{d}\t1" for d in relevant)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_lines(folder / "queries.jsonl", queries)
    return folder


def write_encoder(folder: Path) -> Path:
    BertModel(tiny.bert(num_hidden_layers=3)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
