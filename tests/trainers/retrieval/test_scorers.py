import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from m3se import ColBERT, DualEncoder
from m3se.trainers.collators import RankingCollator
from m3se.trainers.data import ROW_FEATURES, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.reranking import run_from_scores
from m3se.trainers.retrieval import embed_texts as encoding
from m3se.trainers.retrieval import scorers
from m3se.trainers.retrieval.embed_texts import encode_texts
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.storage.arrow import write_rows
from tests.worlds import words


@pytest.fixture
def lists(collection):
    rows = [
        {"query_id": "q1", "query": "vector sum", "document_ids": ["d7", "d1", "d3"], "labels": [0, 1, 0]},
        {"query_id": "q2", "query": "read file", "document_ids": ["d3", "d4"], "labels": [0, 2]},
    ]
    return RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)


def scores_by_forward(model_class, folder, lists):
    """The scores that the model itself gives to the batch of the trainer's collator."""
    model, tokenizer = model_class.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    collator = RankingCollator(tokenizer, lists.documents, model.config.query_length, model.config.document_length)
    names = ("document_index", "query_input_ids", "query_attention_mask")
    names += ("document_input_ids", "document_attention_mask")
    batch = collator(list(lists.rows))
    with torch.no_grad():
        return model(**{name: batch[name] for name in names}).scores


@pytest.mark.parametrize("model_class", [DualEncoder, ColBERT])
def test_a_model_scores_as_its_own_forward_does(model_class, dual_encoder, colbert, lists, monkeypatch):
    monkeypatch.setattr(scorers, "TOKEN_EMBEDDED", 2)  # rows are not scored together
    folder = dual_encoder if model_class is DualEncoder else colbert
    scores = load_scorer(folder, "float32").score_lists(lists, progress=False)
    expected = scores_by_forward(model_class, folder, lists)
    assert [len(row) for row in scores] == [3, 2]
    for row, values in enumerate(scores):
        torch.testing.assert_close(torch.tensor(values), expected[row, : len(values)])
    assert run_from_scores(lists, scores)["q2"] == {"d3": scores[1][0], "d4": scores[1][1]}


def test_a_cross_encoder_scores_each_pair_as_alone(cross_encoder, lists):
    scorer = load_scorer(cross_encoder, "float32")
    scores = scorer.score_lists(lists, progress=False)
    alone = [
        scorer.pairs.score([row["query"]], [text], progress=False)[0]
        for row in lists.rows
        for text in lists.documents.texts(row["document_ids"])
    ]
    np.testing.assert_allclose([value for row in scores for value in row], alone, rtol=1e-5)


@pytest.mark.parametrize("model", ["dual_encoder", "cross_encoder", "colbert"])
def test_the_score_matrix_holds_the_scores_of_the_lists(model, lists, request, monkeypatch):
    monkeypatch.setattr(scorers, "TOKEN_EMBEDDED", 3)
    scorer = load_scorer(request.getfixturevalue(model), "float32")
    matrix = scorer.score_matrix(lists.rows["query"][:], lists.documents.texts(["d3", "d7", "d1", "d4"]))
    first, second = scorer.score_lists(lists, progress=False)
    np.testing.assert_allclose(matrix[0, [1, 2, 0]], first, rtol=1e-5)
    np.testing.assert_allclose(matrix[1, [0, 3]], second, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dual_encoder", "cross_encoder", "colbert"])
def test_plain_strings_are_scored_and_ranked_as_lists_are(kind, lists, request):
    scorer = load_scorer(request.getfixturevalue(kind), "float32")
    row = lists.rows[0]
    texts = lists.documents.texts(row["document_ids"])
    scores = scorer.score(row["query"], texts)
    np.testing.assert_allclose(scores, scorer.score_lists(lists, progress=False)[0], rtol=1e-5)
    ranking = scorer.rank(row["query"], texts)
    assert [document.score for document in ranking] == sorted(scores, reverse=True)
    assert [(texts[document.index], scores[document.index]) for document in ranking] == [
        (document.text, document.score) for document in ranking
    ]
    assert scorer.rank(row["query"], texts, top_k=1) == ranking[:1]
    assert scorer.rank(row["query"], []) == [] == scorer.score(row["query"], ())


def test_a_dual_encoder_gives_the_embeddings_of_its_own_forward(dual_encoder):
    model, tokenizer = DualEncoder.from_pretrained(dual_encoder).eval(), AutoTokenizer.from_pretrained(dual_encoder)
    scorer = load_scorer(dual_encoder, "float32")
    for side, length in (("query", 6), ("document", 10)):
        texts = ["sum of a vector the matrix sum", "sort"]
        inputs = tokenizer(texts, truncation=True, max_length=length, padding=True, return_tensors="pt")
        with torch.no_grad():
            expected = model.embed(inputs["input_ids"], inputs["attention_mask"], side)
        np.testing.assert_allclose(scorer.encode(texts, side), expected, atol=1e-6)
    assert scorer.encode([], "query").shape == (0, 16)


def test_colbert_gives_the_token_embeddings_that_it_compares(colbert):
    scorer = load_scorer(colbert, "float32")
    (query,) = scorer.encode(["vector sum"], "query")
    documents = scorer.encode(["sum of the vector", "sort"], "document")
    assert query.shape == (7, 8)  # filled up by [MASK] to the query's length
    assert [len(tokens) for tokens in documents] == [6, 4]  # [CLS] marker sum of vector [SEP]; `the` is skipped
    by_hand = [20 * (query @ tokens.T).max(axis=1).mean() for tokens in documents]
    np.testing.assert_allclose(scorer.score("vector sum", ["sum of the vector", "sort"]), by_hand, rtol=1e-5)


def test_equal_scores_keep_the_order_of_the_documents(dual_encoder):
    ranking = load_scorer(dual_encoder, "float32").rank("vector sum", ["sort", "the matrix", "sort", "sort"])
    assert [document.index for document in ranking if document.text == "sort"] == [0, 2, 3]


def test_misplaced_strings_are_refused_in_one_line(dual_encoder, cross_encoder, colbert):
    with pytest.raises(InputError, match=r"cross-encoder.*use score or rank"):
        load_scorer(cross_encoder).encode(["sort"], "query")
    for folder in (dual_encoder, colbert):
        scorer = load_scorer(folder)
        with pytest.raises(InputError, match="put it in a list"):
            scorer.encode("sort", "query")
        with pytest.raises(InputError, match="expected query or document, got 'passage'"):
            scorer.encode(["sort"], "passage")
        with pytest.raises(InputError, match="put it in a list"):
            scorer.rank("sort", "the matrix")
        with pytest.raises(InputError, match="top_k: expected 1 or more, got 0"):
            scorer.rank("sort", ["the matrix"], top_k=0)


def test_embeddings_do_not_depend_on_the_other_texts_or_the_chunks(dual_encoder, collection, monkeypatch):
    model, tokenizer = DualEncoder.from_pretrained(dual_encoder).eval(), AutoTokenizer.from_pretrained(dual_encoder)
    texts = collection.documents.texts(list(collection.documents.ids)) * 3 + [""]
    together = encode_texts(model, tokenizer, texts, "document")
    monkeypatch.setattr(encoding, "TEXTS_PER_CHUNK", 4)
    monkeypatch.setattr(encoding, "block_tokens", lambda device: 16)
    np.testing.assert_allclose(encode_texts(model, tokenizer, texts, "document"), together, atol=1e-6)
    alone = [encode_texts(model, tokenizer, [text], "document")[0] for text in texts]
    np.testing.assert_allclose(np.stack(alone), together, atol=1e-6)


def test_each_side_is_cut_to_its_own_length(dual_encoder):
    model, tokenizer = DualEncoder.from_pretrained(dual_encoder).eval(), AutoTokenizer.from_pretrained(dual_encoder)
    longer = ["sum of a vector the matrix", "sum of a vector"]  # 4 words are left of a query of 6 tokens
    cut = encode_texts(model, tokenizer, longer, "query")
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-6)
    kept = encode_texts(model, tokenizer, longer, "document")
    assert np.abs(kept[0] - kept[1]).max() > 1e-3


def test_a_bare_encoder_needs_a_pooling_and_only_a_bare_one_takes_it(bare_encoder, dual_encoder, lists):
    with pytest.raises(InputError, match="--pooling cls, mean or last"):
        load_scorer(bare_encoder)
    with pytest.raises(InputError, match="has its own pooling"):
        load_scorer(dual_encoder, pooling="mean")
    scores = {pooling: load_scorer(bare_encoder, "float32", pooling).score_lists(lists) for pooling in ("cls", "mean")}
    assert np.abs(np.subtract(scores["cls"][0], scores["mean"][0])).max() > 1e-3


def test_a_sentence_transformers_model_keeps_its_own_similarity(bare_encoder, lists, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    transformer = modules.Transformer(bare_encoder)
    pooling = modules.Pooling(16, "mean")
    for similarity in ("dot", "cosine"):
        model = sentence_transformers.SentenceTransformer(
            modules=[transformer, pooling], similarity_fn_name=similarity, device="cpu"
        )
        folder = tmp_path / similarity
        model.save(str(folder))
        scorer = load_scorer(str(folder), "float32", device="cpu")
        texts = lists.documents.texts(["d7", "d1", "d3"])
        expected = model.similarity(model.encode(["vector sum"]), model.encode(texts))
        np.testing.assert_allclose(scorer.score_lists(lists, progress=False)[0], expected[0], rtol=1e-4)
        np.testing.assert_allclose(scorer.score("vector sum", texts), expected[0], rtol=1e-4)
        assert scorer.rank("vector sum", texts, top_k=1)[0].index == int(expected[0].argmax())


def test_scores_are_the_models_own_and_vectors_are_without_their_scale(lists, tmp_path):
    folder = words.save_dual_encoder(tmp_path, normalize=True, scale=7.0)
    scorer = load_scorer(folder, "float32")
    expected = scores_by_forward(DualEncoder, folder, lists)
    documents = lists.documents.texts(lists.rows[0]["document_ids"])
    query = lists.rows[0]["query"]
    np.testing.assert_allclose(scorer.score_lists(lists, progress=False)[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(scorer.score(query, documents), expected[0], rtol=1e-5)
    np.testing.assert_allclose(scorer.score_matrix([query], documents)[0], expected[0], rtol=1e-5)
    vectors = scorer.encode(documents, "document")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(7 * vectors @ scorer.encode([query], "query")[0], expected[0], rtol=1e-5)
