"""Documents in a vector database: vector, id and text of each, and the fingerprint of the model that embedded them.

    key     128-bit hash of the id: the primary key, which needs no quoting in the database's language
    id      of the document
    text    to be shown; cut at 65,535 bytes, the longest that Milvus stores
    digest  64-bit hash of the whole text, by which a changed document is noticed
    vector  [H] float32

Rows are replaced by their key. A put that is repeated, after a kill or an answer that was lost, changes nothing.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np

from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.hits import Hit
from m3se.trainers.stores.connection import connect, explained


LONGEST = 65_535  # bytes of a string
ROWS_PER_CALL = 500  # 2 MB of 768-wide vectors and as much text as there is: below the 64 MB of a message
QUERIES_PER_CALL = 16
MOST_RESULTS = 16_384  # of a query
EXACT = "FLAT"
# Index types of Milvus with the settings that they are built with, the option that says how much a search looks at,
# and its value when none is given. The first is exact; SQ8 stores int8.
INDEXES = {
    EXACT: ({}, None, None),
    "IVF_FLAT": ({"nlist": 256}, "nprobe", 16),
    "IVF_SQ8": ({"nlist": 256}, "nprobe", 16),
    "HNSW": ({"M": 16, "efConstruction": 200}, "ef", 128),
    "HNSW_SQ": ({"M": 16, "efConstruction": 200, "sq_type": "SQ8"}, "ef", 128),
}
METRIC = "IP"  # inner product; a model that compares by cosine gives vectors of length 1
ABOUT = "m3se"  # the property, and the beginning of the description, that says what the rows were made by


class DocumentStore:
    """The documents of one name in a database.

    Args:
        client: of the database.
        uri: of the database, for messages.
        name: of the documents in it.
        about: `model`, the fingerprint of the model whose vectors these are, and `width`, their length.
    """

    def __init__(self, client, uri: str, name: str, about: dict):
        self._client, self.uri, self.name = client, uri, name
        self.model, self.width = about["model"], about["width"]

    def __len__(self) -> int:
        with explained(self.uri):
            rows = self._client.query(self.name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return rows[0]["count(*)"]

    def check(self, fingerprint: str) -> None:
        """Raise InputError unless the documents were embedded by the model with this fingerprint."""
        if fingerprint != self.model:
            raise InputError(
                f"{self.uri}: {self.name} was embedded by model {self.model}, this model is {fingerprint} "
                "(its weights, texts or number format are not the same)"
            )

    def lacking(self, ids: Sequence[str], texts: Sequence[str]) -> list[int]:
        """Return the places of those documents that the store does not have, or has with another text."""
        keys = list(map(hash_id, ids))
        with explained(self.uri):
            rows = self._client.get(self.name, keys, output_fields=["key", "digest"], consistency_level="Strong")
        stored = {row["key"]: row["digest"] for row in rows}
        places = []
        for place, (key, text) in enumerate(zip(keys, texts, strict=True)):
            if stored.get(key) != hash_text(text):
                places.append(place)
        return places

    def put(self, ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray) -> None:
        """Write documents and their vectors [n, H], in place of those with the same ids."""
        rows = []
        for name, text, vector in zip(ids, texts, vectors.astype(np.float32), strict=True):
            row = {"key": hash_id(name), "id": name, "text": cut_text(text), "digest": hash_text(text)}
            rows.append(row | {"vector": vector})
        with explained(self.uri):
            for start in range(0, len(rows), ROWS_PER_CALL):
                self._client.upsert(self.name, rows[start : start + ROWS_PER_CALL])

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete documents by id; return the ids that were not there."""
        keys = dict(zip(map(hash_id, ids), ids, strict=True))
        with explained(self.uri):
            rows = self._client.get(self.name, list(keys), output_fields=["key"], consistency_level="Strong")
            stored = [row["key"] for row in rows]
            if stored:
                self._client.delete(self.name, ids=stored)
                self._client.flush(self.name)
        return [name for key, name in keys.items() if key not in set(stored)]

    def finish(self) -> None:
        """Write what is in the database's memory to its disk, where the index takes it in."""
        with explained(self.uri):
            self._client.flush(self.name)

    @property
    def index_type(self) -> str:
        """Return the type of the vectors' index."""
        with explained(self.uri):
            return self._client.describe_index(self.name, "vector")["index_type"]

    def rebuild(self, index_type: str) -> None:
        """Replace the vectors' index by one of another type."""
        with explained(self.uri):
            self._client.release_collection(self.name)
            self._client.drop_index(self.name, "vector")
            self._client.create_index(self.name, index_parameters(self._client, index_type))
            self._client.load_collection(self.name)

    def search(
        self, vectors: np.ndarray, k: int, where: str = "", effort: int | None = None, with_texts: bool = False
    ) -> Iterator[list[Hit]]:
        """Yield the best k documents for each of the query vectors [B, H], best first.

        Args:
            vectors: [B, H] float32.
            k: documents of a query.
            where: a condition in the database's language, such as `id like "numpy.%"`; empty: none.
            effort: how much an approximate index looks at: cells of IVF, the length of HNSW's list.
            with_texts: give the texts too.

        Raises:
            InputError: the vectors have another width, k is too large, or the database refuses the condition.
        """
        if vectors.shape[1] != self.width:
            raise InputError(f"{self.uri}: vectors have {self.width} numbers, the queries' {vectors.shape[1]}")
        if not 0 < k <= MOST_RESULTS:
            raise InputError(f"{self.uri}: expected 1 to {MOST_RESULTS:,} documents of a query, got {k}")
        options = search_options(self.index_type, k, effort)
        fields = ["id", "text"] if with_texts else ["id"]
        for start in range(0, len(vectors), QUERIES_PER_CALL):
            block = list(vectors[start : start + QUERIES_PER_CALL])
            with explained(self.uri):
                answers = self._client.search(
                    self.name, block, filter=where, limit=k, output_fields=fields, search_params=options
                )
            for answer in answers:
                yield [Hit(row["entity"]["id"], row["distance"], row["entity"].get("text", "")) for row in answer]


@contextmanager
def open_store(uri: str, name: str, fingerprint: str | None = None) -> Iterator[DocumentStore]:
    """Open documents that are in a database, for the model with this fingerprint (None: for any).

    Raises InputError when they are not there, or were embedded by another model.
    """
    with connect(uri) as client, explained(uri):
        about = read_about(client, uri, name)
        if about is None:
            raise InputError(f"{uri}: has no documents called {name!r}; index.py puts them there")
        store = DocumentStore(client, uri, name, about)
        if fingerprint is not None:
            store.check(fingerprint)
        client.load_collection(name)
        yield store


@contextmanager
def create_store(
    uri: str, name: str, fingerprint: str, width: int, index_type: str | None = None
) -> Iterator[DocumentStore]:
    """Open documents in a database, or make a place for them.

    Args:
        uri: of the database.
        name: of the documents in it.
        fingerprint: of the model that embeds them.
        width: of its embeddings.
        index_type: one of `INDEXES`; another one than theirs is built anew. None: theirs, or exact search.

    Raises:
        InputError: they were embedded by another model, or the database refuses.
    """
    check_index(index_type)
    with connect(uri, create=True) as client, explained(uri):
        about = read_about(client, uri, name)
        if about is None:
            about = {"model": fingerprint, "width": width}
            make_collection(client, name, about, index_type or EXACT)
        store = DocumentStore(client, uri, name, about)
        store.check(fingerprint)
        client.load_collection(name)
        if index_type not in (None, store.index_type):
            store.rebuild(index_type)
        yield store


def check_index(index_type: str | None) -> None:
    """Raise InputError for an index type that is none of `INDEXES`."""
    if index_type not in (None, *INDEXES):
        raise InputError(f"--index_type: expected one of {', '.join(INDEXES)}, got {index_type!r}")


def read_about(client, uri: str, name: str) -> dict | None:
    """Read what is kept of the model with documents; None when there are none of this name.

    Raises:
        InputError: another program has put something there under this name.
    """
    if not client.has_collection(name):
        return None
    description = client.describe_collection(name)
    # milvus-lite keeps no description; every kind of Milvus keeps at least one of the two.
    for text in (description.get("properties", {}).get(ABOUT), description.get("description")):
        try:
            about = json.loads(text or "")
            return {"model": about["model"], "width": about["width"]}
        except (KeyError, TypeError, ValueError):
            continue
    raise InputError(f"{uri}: {name!r} was not written by index.py; choose another name by --store_name")


def make_collection(client, name: str, about: dict, index_type: str) -> None:
    """Make an empty collection, with its index."""
    from pymilvus import DataType

    text = json.dumps(about)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=text)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=32)
    schema.add_field("id", DataType.VARCHAR, max_length=LONGEST)
    schema.add_field("text", DataType.VARCHAR, max_length=LONGEST)
    schema.add_field("digest", DataType.VARCHAR, max_length=16)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=about["width"])
    parameters = index_parameters(client, index_type)
    client.create_collection(name, schema=schema, index_params=parameters, properties={ABOUT: text})


def index_parameters(client, index_type: str):
    """Return the description of an index as the client takes it."""
    parameters = client.prepare_index_params()
    settings, _, _ = INDEXES[index_type]
    parameters.add_index("vector", index_type=index_type, metric_type=METRIC, params=settings)
    return parameters


def search_options(index_type: str, k: int, effort: int | None) -> dict:
    """Return the options of a search. Raises InputError for an effort of 0 or less, or of exact search."""
    _, name, default = INDEXES.get(index_type, ({}, None, None))
    if effort is None:
        effort = default
    elif name is None or effort < 1:
        raise InputError(f"--effort: expected 1 or more, and an approximate index, got {effort} for {index_type}")
    if name == "ef":
        effort = max(effort, k)  # HNSW finds no more than that
    return {"metric_type": METRIC, "params": {} if name is None else {name: effort}}


def hash_id(name: str) -> str:
    """Return the key of a document: 32 hexadecimal digits."""
    return blake2b(name.encode(), digest_size=16).hexdigest()


def hash_text(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a text."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def cut_text(text: str) -> str:
    """Cut a text to the bytes that the database stores, between two characters."""
    return text.encode()[:LONGEST].decode(errors="ignore")
