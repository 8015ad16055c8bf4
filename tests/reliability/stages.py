"""The stages that are killed: what each runs, on what, and which of its files must come out the same."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from huggingface_hub import HfApi, constants

from m3se.run_scripts.publishing import push
from m3se.trainers.stores import fill
from m3se.trainers.stores.document_store import open_store
from tests.hub_state import Hub
from tests.reliability.forked import Run, digests
from tests.worlds import tiny
from tests.worlds.small_world import write_collection, write_encoder
from tests.worlds.studies import fork_jobs, write_recipes


NAMES = ("scoring", "training", "encoding", "indexing", "evaluating", "publishing", "reproducing")
REPO = "org/de-tiny"
TRAINING = {
    "loss": "m3se",
    "dev_queries": 4,
    "eval_strategy": "steps",
    "eval_steps": 6,
    "max_steps": 12,
    "save_steps": 3,
    "save_total_limit": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "token_dropout": 0.1,
    "train_sample_size": 4,
    "document_length": 16,
    "logging_steps": 3,
}


@dataclass
class Stage:
    """A script with its flags, `output` aside; what it writes goes to `folder`, which is deleted between runs."""

    name: str
    script: str
    flags: dict[str, object]
    folder: Path
    before: Callable[[], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    clear: Callable[[], None] = lambda: None
    more: Callable[[], dict[str, str]] = dict  # artefacts that are no files

    def start(self, **disturbance) -> Run:
        below = self.folder.parent
        return Run(self.script, self.flags, below, before=self.before, **disturbance, **self.environment)

    def fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for left in self.folder.parent.glob(f".{self.folder.name}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.folder.mkdir()
        self.clear()

    def artefacts(self) -> dict[str, str]:
        """Digests of all that the stage leaves, but for caches, checkpoints, logs and how long jobs took."""
        return (
            digests(self.folder, leave_out=("cache", "checkpoint-", "logs", "records", "store.db", ".")) | self.more()
        )


def make_world(root: Path) -> None:
    """A collection, an encoder, a teacher and scored lists."""
    write_collection(root / "words")
    write_encoder(root / "encoder")
    model = tiny.cross_encoder()
    model.save_pretrained(root / "teacher")
    tiny.tokenizer().save_pretrained(root / "teacher")
    tiny.ranking_lists(queries=16).save(root / "lists")
    write_recipes(root / "recipes", root / "encoder")


def stages(root: Path, hub: Hub) -> dict[str, Stage]:
    """All stages by name. Those from `encoding` to `publishing` read the student in `trained`."""
    words, student = root / "words", root / "trained"
    folders = {name: root / f"of-{name}" for name in NAMES}
    cache = {name: folder / "cache" for name, folder in folders.items()}
    scoring = {"teacher": root / "teacher", "data": words, "documents_per_query": 4, "depth": 10, "shard_seconds": 0}
    training = TRAINING | {"data": root / "lists", "encoder": root / "encoder", "dev_data": words}
    encoding = {"model": student, "data": words, "shard_size": 8, "number_format": "int8"}
    evaluating = {"model": [root / "teacher", student], "name": ["CA", "DE"], "data": words, "depth": 10}
    study = {"study": "table1", "only": ["CA", "DE one-hot", "DE M3SE"], "seeds": 0, "recipes": root / "recipes"}
    flags = {
        "scoring": scoring | {"output": folders["scoring"] / "lists", "cache_dir": cache["scoring"]},
        "training": training | {"output_dir": folders["training"] / "student", "cache_dir": cache["training"]},
        "encoding": encoding | {"output": folders["encoding"] / "shards", "cache_dir": cache["encoding"]},
        "indexing": {"model": student, "data": words, "store": folders["indexing"] / "store.db"}
        | {"index_type": "IVF_FLAT", "cache_dir": cache["indexing"]},
        "evaluating": evaluating | {"output": folders["evaluating"] / "results", "cache_dir": cache["evaluating"]},
        "publishing": {"model": student, "folder": folders["publishing"] / "de-tiny", "repo": REPO},
        "reproducing": study | {"data": words, "output": folders["reproducing"] / "studies"},
    }
    scripts = {"scoring": "score_with_teacher", "training": "distill", "encoding": "encode", "indexing": "index"}
    scripts |= {"evaluating": "evaluate", "publishing": "publish", "reproducing": "reproduce"}
    made = {name: Stage(name, script, flags[name], folders[name]) for name, script in scripts.items()}
    made["reproducing"].before = partial(fork_jobs, root)
    made["indexing"].before = put_small_blocks
    made["indexing"].more = partial(stored, folders["indexing"] / "store.db")
    publishing = made["publishing"]
    publishing.before, publishing.environment = partial(use, hub), {"HF_TOKEN": "writer", "HF_HUB_DISABLE_XET": "1"}
    publishing.clear, publishing.more = partial(empty, hub), partial(published, hub)
    return made


def put_small_blocks() -> None:
    """Let a small block be put at a time, so that a kill may fall between two."""
    fill.DOCUMENTS_PER_BLOCK = 8


def stored(uri: Path) -> dict[str, str]:
    """Digests of the rows of a database by id, read in a process that ends: its threads must not be forked."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            rows = read_rows(str(uri)) if uri.exists() else {}
            with os.fdopen(writer, "w", encoding="utf-8") as file:
                json.dump(rows, file)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        rows = json.load(file)
    os.waitpid(child, 0)
    return rows


def read_rows(uri: str) -> dict[str, str]:
    """Digest every row by its id; a row that is there twice counts as `twice`."""
    digests: dict[str, str] = {}
    with open_store(uri, "documents") as store:
        rows = store._client.query("documents", filter='id != ""', output_fields=["*"], limit=10_000)
        digests["rows"] = str(len(store))
    for row in rows:
        content = json.dumps([row["key"], row["text"], row["digest"], [float(number) for number in row["vector"]]])
        name = f"store/{row['id']}"
        digests[name] = "twice" if name in digests else sha256(content.encode()).hexdigest()
    return digests


def use(hub: Hub) -> None:
    """Let the script talk to the local Hub."""
    push.HfApi = partial(HfApi, endpoint=hub.url)
    constants.HF_HUB_DISABLE_XET = True


def empty(hub: Hub) -> None:
    hub.repositories.clear()
    hub.large_files.clear()


def published(hub: Hub) -> dict[str, str]:
    """What the repository holds, and in how many commits."""
    if REPO not in hub.repositories:
        return {}
    repository = hub.repositories[REPO]
    files = repository.commits[repository.resolve("main")]
    return {f"{REPO}/{path}": file.sha256 for path, file in files.items()} | {"commits": str(repository.messages)}
