"""A folder of texts in BEIR's layout and an untrained encoder: everything the scripts need, made in a second."""

import json
import random
from pathlib import Path

import yaml
from transformers import BertModel

from m3se.run_scripts.cli.recipe import read_recipe
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


def shrink_quickstart(root: Path) -> Path:
    """The quickstart's own recipes, on the small collection and encoder, writing below `root`."""
    collection, encoder = write_collection(root / "words"), write_encoder(root / "encoder")
    smaller = {
        "data": str(collection),
        "dev_data": str(collection),
        "encoder": str(encoder),
        "cache_dir": str(root / "cache"),
        "depth": 10,
        "documents_per_query": 4,
        "query_length": 8,
        "document_length": 16,
        "dev_queries": 4,
        "train_sample_size": 4,
        "per_device_train_batch_size": 4,
    }
    folder = root / "recipes"
    folder.mkdir()
    for path in (RECIPES / "quickstart").glob("*.yaml"):
        recipe = {name: elsewhere(value, root) for name, value in read_recipe(path).items()}
        kept = {name: value for name, value in smaller.items() if name in recipe or name == "cache_dir"}
        if recipe["data"] != "pydocs":  # the students read the scored lists
            kept.pop("data")
        (folder / path.name).write_text(yaml.safe_dump(recipe | kept), encoding="utf-8")
    return folder


def elsewhere(value, root: Path):
    """A recipe's value with `outputs/quickstart` moved to `root`."""
    if isinstance(value, list):
        return [elsewhere(one, root) for one in value]
    return value.replace("outputs/quickstart", str(root)) if isinstance(value, str) else value
