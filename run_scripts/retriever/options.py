"""The options of make_retriever.py, and the places of its files."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from m3se.run_scripts.cli.arguments import REQUIRED, FilterArguments, RankingArguments, ReadingArguments, option
from m3se.trainers.errors import InputError


QUERIES = "queries.json"  # how many of each part
TRAIN, START, BM25 = "train", "start", "bm25"  # as names of teachers


@dataclass(kw_only=True)
class RetrieverArguments(ReadingArguments, RankingArguments, FilterArguments):
    """The data, models and limits of a retriever to be made."""

    split: ClassVar[str] = "train"  # that queries are made for

    data: str = option("Your documents and queries, with judgments if there are any (docs/data.md).", REQUIRED)
    output: str = option("Folder for everything that is made; the model is in its folder `model`.", REQUIRED)
    encoder: str = option("What you start from: an encoder or retriever, Hub id, path or 'demo'.", "demo")
    pooling: str | None = option("cls, mean or last, for a bare encoder (default: mean).")
    layers: int | None = option(
        "Make a smaller and faster retriever, of the encoder's first so many layers. They learn to embed as all do, "
        "before they are students (default: all layers)."
    )
    teacher: list[str] = field(
        default_factory=lambda: [TRAIN],
        metadata={
            "help": "What ranks better than the start: folders or Hub ids of rerankers or other rankers. Several are "
            "averaged. Three words stand for what is at hand: train, a cross-encoder that is trained on the judgments "
            "first; start, the start encoder itself; bm25."
        },
    )
    backend: str = option("Library that computes the teachers: torch, openvino or onnx (docs/cpu.md).", "torch")
    dtype: str = option("Their number format: float32, bfloat16, int8, or auto, the best of the first two.", "auto")
    teacher_weights: list[float] = option("How much each of several teachers counts (default: the same).", list)
    hours: float = option("Time for all of it on this machine, about; more time means more lists and students.", 1.0)
    test_queries: int = option("Held out to the end, for the verdict: at most so many.", 400)
    dev_queries: int = option("Held out for all choices: at most so many.", 400)
    measured_queries: int = option("Of them, those that a student is measured on while it is trained.", 100)
    train_queries: int | None = option("Lists that the students learn from, at most (default: what the time allows).")
    teacher_queries: int | None = option("Queries that a teacher is trained on (default: a third of those judged).")
    relevance_level: int = option("Grade from which a document is a positive.", 1)
    students: int = option("Try at most so many, in a fixed order, and publish the best.", 4)
    rounds: int = option(
        "2: distil the best student once more, on lists of what it ranks high itself; 3: and again.", 1
    )
    born_again: bool = option(
        "From round 2 on the student of the round before is the teacher, on the same lists, of a new student that "
        "begins where the first did.",
        False,
    )
    start_share: float = option("Share of the start's weights in a student; keeps what it knew elsewhere.", 0.0)
    documents_per_query: int = option("K: the documents of a training list.", 8)
    depth: int = option("Candidates of a training query, from BM25 and from the start encoder in turns.", 50)
    candidate_shares: list[float] = option("How much of them BM25 and the encoder give (default: the same).", list)
    held_out_depth: int = option("Candidates of a held-out query, all of which the teacher ranks.", 20)
    negatives: str = option(
        "random: drawn from the candidates; top: the best ranked; stratified: drawn across the scores of the teacher, "
        "which scores all candidates first.",
        "random",
    )
    query_length: int = option("Query tokens kept.", 32)
    document_length: int = option("Document tokens kept.", 128)
    batch_size: int = option("Queries of a training step; their documents are negatives of each other.", 16)
    synthetic_queries: str | None = option(
        "Make queries of the documents too: title, sentence, or a doc2query model; where there are no others, all are."
    )
    synthetic_count: int | None = option("So many, of documents that are drawn (default: of every document).")
    pseudo_positives: bool = option("Take the teacher's best document as a positive where none is judged.", False)
    anyway: bool = option("Go on though the teacher is not better than the start.", False)
    require_better: bool = option("End with status 1 unless the student is better than the start.", False)
    overwrite: bool = option("Replace models in the folder that were made from other data or options.", False)
    license: str | None = option("Licence of the published model, such as apache-2.0.")
    language: str | None = option("Language of the texts, such as en.")
    base_model: str | None = option("Hub id of the encoder, for the card.")
    seed: int = option("Of everything that is drawn.", 0)

    def __post_init__(self):
        for name in (
            "test_queries",
            "dev_queries",
            "measured_queries",
            "documents_per_query",
            "depth",
            "held_out_depth",
            "batch_size",
        ):
            if getattr(self, name) < 2:
                raise InputError(f"--{name}: expected at least 2, got {getattr(self, name)}")
        if self.synthetic_queries in ("title", "sentence") and {START, BM25} & set(self.teacher):
            raise InputError(
                f"--teacher start, bm25: cannot score the documents that --synthetic_queries {self.synthetic_queries} "
                "takes its queries out of; name a reranker"
            )
        for name in ("students", "rounds"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}: expected at least 1, got {getattr(self, name)}")
        if self.born_again and self.rounds < 2:
            raise InputError(f"--born_again: expected --rounds of at least 2, got {self.rounds}")
        if not self.hours > 0:
            raise InputError(f"--hours: expected more than 0, got {self.hours}")
        if self.layers is not None and self.layers < 1:
            raise InputError(f"--layers: expected at least 1, got {self.layers}")

    @property
    def folder(self) -> Path:
        """Return the folder of everything that is made."""
        return Path(self.output)

    @property
    def start(self) -> Path:
        """Return the folder of the student before it is trained."""
        return self.folder / "start"

    @property
    def first_layers(self) -> Path:
        """Return the folder of the encoder's first layers, as they match the start's embeddings."""
        return self.folder / "starts" / "first_layers"

    @property
    def model(self) -> Path:
        """Return the published folder of the chosen student."""
        return self.folder / "model"

    def read(self, name: str) -> dict:
        """Read a JSON file of the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def scores(self, name: str, part: str) -> Path:
        """Return the file of the scores that the start or BM25 gives to all pairs of a part's lists."""
        return self.folder / "teachers" / part / name  # the card calls a teacher by the last part of its place

    def teachers(self, part: str) -> list[str]:
        """Return the folders, files or Hub ids of the teachers of a part."""
        places = {TRAIN: self.folder / "teacher", START: self.scores(START, part), BM25: self.scores(BM25, part)}
        return [str(places.get(name, name)) for name in self.teacher]

    @property
    def start_pooling(self) -> str | None:
        """Return the pooling of a bare encoder; None for a model that has its own."""
        from m3se.trainers.models.backbones import encoder_path  # with torch, which the options do not need
        from m3se.trainers.models.model_info import ModelInfo

        is_bare = ModelInfo.read(encoder_path(self.encoder)).kind == "encoder"
        return (self.pooling or "mean") if is_bare else None

    def share_of_layers(self) -> float:
        """Return the students' share of the encoder's layers, 1 for students that have them all.

        Raises InputError when the encoder has no more layers than `layers`.
        """
        from m3se.trainers.models.backbones import encoder_path  # with torch, which the options do not need
        from m3se.trainers.models.model_info import ModelInfo

        if self.layers is None:
            return 1.0
        depth = ModelInfo.read(encoder_path(self.encoder)).layers
        if depth is None or depth <= self.layers:
            raise InputError(
                f"--layers {self.layers}: expected fewer than {self.encoder} has ({depth or 'not known'})"
            )
        return self.layers / depth

    def lists(self, part: str) -> Path:
        """Return the folder of a part's lists: "teacher", "train", "dev", "test", a later round, or "texts"."""
        return self.folder / "lists" / part

    def scored(self, part: str) -> Path:
        """Return the folder of a part's lists with teacher scores."""
        return self.folder / "scored" / part

    def dev_lists(self, is_judged: bool) -> Path:
        """Return the folder of the lists that are measured while training."""
        return self.scored("dev") if is_judged else self.folder / "lists" / "dev_by_teacher"

    def student(self, name: str) -> Path:
        """Return the folder of a student."""
        return self.folder / "students" / name
