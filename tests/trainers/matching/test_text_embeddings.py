import numpy as np
import pytest
import torch

from m3se import InputError
from m3se.trainers.data import DocumentTable
from m3se.trainers.data.schema import Collection
from m3se.trainers.matching.text_embeddings import embed_lists
from m3se.trainers.matching.texts import text_rows
from tests.worlds import tiny


def rows_with(lists, **embeddings):
    return tiny.collator(lists, **embeddings)([lists.rows[0], lists.rows[3]])


def test_a_batch_has_the_vectors_of_its_texts_in_its_order(lists, tmp_path):
    scorer = tiny.embedder()
    embeddings = embed_lists(scorer, lists, tmp_path)
    batch = rows_with(lists, teacher_embeddings=embeddings)
    queries = [lists.rows[0]["query"], lists.rows[3]["query"]]
    texts = lists.documents.texts_at(batch["document_keys"].tolist())
    assert torch.equal(batch["teacher_query_embeddings"], torch.from_numpy(scorer.encode(queries, "query")))
    assert torch.equal(batch["teacher_document_embeddings"], torch.from_numpy(scorer.encode(texts, "document")))
    assert "document_input_ids" in batch
    fixed = rows_with(lists, teacher_embeddings=embeddings, document_embeddings=embeddings)
    assert torch.equal(fixed["document_embeddings"], batch["teacher_document_embeddings"])
    assert torch.equal(fixed["teacher_query_embeddings"], batch["teacher_query_embeddings"])
    assert not {"document_input_ids", "teacher_document_embeddings"} & fixed.keys()


def test_texts_are_embedded_once_whatever_their_side(lists, tmp_path):
    lists.rows = lists.rows.map(lambda row: {"query": lists.documents.texts(row["document_ids"][:1])[0]})
    scorer = tiny.embedder()
    first = embed_lists(scorer, lists, tmp_path)
    calls = []
    scorer.embed = lambda texts, side, bar=None: calls.append(side) or np.zeros((len(texts), 16), np.float32)
    again = embed_lists(scorer, lists, tmp_path)
    assert calls == []
    query = lists.rows[0]["query"]
    assert torch.equal(again.query_vectors([query]), first.query_vectors([query]))
    assert not torch.equal(again.query_vectors([query]), again.document_vectors(lists.documents.positions(
        lists.rows[0]["document_ids"][:1])))  # fmt: skip


def test_other_texts_are_refused(lists, tmp_path):
    embeddings = embed_lists(tiny.embedder(), lists, tmp_path)
    with pytest.raises(InputError, match="unknown document id 'another query'"):
        embeddings.query_vectors(["another query"])
    with pytest.raises(InputError, match="embeddings are of documents only"):
        embed_lists(tiny.embedder(), lists, tmp_path, with_queries=False).query_vectors(["red"])
    other = tiny.ranking_lists(seed=1)
    with pytest.raises(InputError, match="these are embeddings of other documents"):
        tiny.make_trainer(
            tiny.dual_encoder(), other, tmp_path, embeddings={"document_embeddings": embeddings}, max_steps=1
        )


def test_every_text_of_a_collection_is_in_a_row():
    documents = DocumentTable.from_texts([f"d{number}" for number in range(7)], list("abcdefg"))
    collection = Collection("letters", documents, {"q1": "x", "q2": "y", "q3": "z"}, {})
    lists = text_rows(collection, with_documents=True)
    assert lists.rows["query"][:] == ["x", "y", "z"]
    assert [len(names) for names in lists.rows["document_ids"]] == [3, 3, 3]
    assert {name for names in lists.rows["document_ids"] for name in names} == set(documents.ids)
    assert [len(names) for names in text_rows(collection, with_documents=False).rows["document_ids"]] == [1, 1, 1]
    with pytest.raises(InputError, match="letters: 0 queries and 7 documents to match"):
        text_rows(Collection("letters", documents, {}, {}), with_documents=True)
    alone = text_rows(Collection("letters", documents, {"q1": "x"}, {}), with_documents=True).rows
    assert alone["query"][:] == ["x", "x"]
    assert [len(names) for names in alone["document_ids"]] == [4, 4]
    assert {name for names in alone["document_ids"] for name in names} == set(documents.ids)
