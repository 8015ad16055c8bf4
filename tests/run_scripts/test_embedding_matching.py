"""distill.py with another model beside the student: embeddings to match, or documents that it has embedded."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertModel

from m3se import ColBERT, DualEncoder, InputError
from m3se.run_scripts import evaluate, search
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.publishing.build import build_folder
from m3se.trainers.data import RankingLists, read_documents
from m3se.trainers.models.text_inputs import TextInputs
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection, read_description
from m3se.trainers.retrieval.encode_collection import encode_collection
from m3se.trainers.retrieval.loading import load_embedder
from tests.run_scripts.distilling import distilled, write_world
from tests.worlds import tiny
from tests.worlds.small_world import write_collection


def large_model(world, folder, pooling: str = "mean"):
    """The encoder of all three layers as a model of sentence-transformers, with embeddings of unit length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = [Transformer(str(world / "encoder")), Pooling(16, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Lists, an encoder of width 16, a sentence-transformers model of it, and a collection of texts."""
    pytest.importorskip("sentence_transformers")
    root = write_world(tmp_path_factory.mktemp("matching"))
    large_model(root, root / "large")
    tiny.colbert(seed=5).save_pretrained(root / "tokens")
    tiny.tokenizer().save_pretrained(root / "tokens")
    write_collection(root / "words")
    return root


@pytest.fixture(scope="module")
def matched(world):
    """A student of width 6 that has matched a teacher of width 16 beside its ranking loss."""
    options = {"embedding_teacher": world / "large", "projection_size": 6, "embedding_weight": 2}
    return distilled(world, world / "matched", **options, cache_dir=world / "cache")


@pytest.fixture(scope="module")
def pair(world):
    """A query encoder of one layer for the documents of the large model."""
    options = {"document_encoder": world / "large", "dev_data": world / "words", "dev_queries": 6}
    options |= {"eval_strategy": "steps", "eval_steps": 2, "pooling": "mean", "max_steps": 4}
    return distilled(world, world / "pair", **options, cache_dir=world / "cache")


def test_the_projection_is_left_out_of_what_is_saved(world, matched, tmp_path):
    assert DualEncoder.from_pretrained(matched).config.projection_size == 6
    weights = load_file(matched / "model.safetensors")
    assert not any("teacher_projection" in name for name in weights)
    plain = distilled(world, tmp_path / "plain", projection_size=6)
    assert weights.keys() == load_file(plain / "model.safetensors").keys()
    assert any((weights[name] != value).any() for name, value in load_file(plain / "model.safetensors").items())
    record = json.loads((matched / "training.json").read_text(encoding="utf-8"))
    assert record["hyperparameters"]["embedding_weight"] == 2.0
    card = (build_folder(matched, tmp_path / "published") / "README.md").read_text(encoding="utf-8")
    assert "Its embeddings were also trained to match those of large, with the weight 2." in card


def test_a_run_depends_on_the_weights_of_the_other_model(world, matched, tmp_path):
    options = {"embedding_teacher": world / "large", "projection_size": 6, "embedding_weight": 2}
    before = (matched / "model.safetensors").stat().st_mtime_ns
    distilled(world, matched, **options, cache_dir=world / "cache")  # reused
    assert (matched / "model.safetensors").stat().st_mtime_ns == before
    other = write_world(tmp_path / "other")
    teacher = large_model(other, other / "large", "cls")
    with pytest.raises(InputError, match="matched holds a run with another .*other_model"):
        distilled(world, matched, **options | {"embedding_teacher": teacher}, cache_dir=world / "cache")


def test_texts_alone_bring_a_student_to_its_teacher(world, tmp_path):
    """No lists, no judgments: vectors of queries and documents come closer to the teacher's."""
    options = {"data": world / "words", "embedding_teacher": world / "large", "ranking_weight": 0, "max_steps": 40}
    options |= {"pooling": "cls", "embedding_dropout": 0.0, "cache_dir": tmp_path / "cache"}
    documents = read_documents(str(world / "words"), tmp_path / "cache")
    texts, teacher = documents.texts(list(documents.ids)), load_embedder(world / "large", "float32")

    def distance(folder):
        student = load_embedder(folder, "float32").encode(texts, "document")
        units = student / np.linalg.norm(student, axis=1, keepdims=True)
        return np.square(units - teacher.encode(texts, "document")).sum(axis=1).mean()

    start = distance(distilled(world, tmp_path / "start", **options | {"learning_rate": 0.0}))
    end = distilled(world, tmp_path / "end", **options)
    assert distance(end) < 0.5 * start
    # nothing has trained the lengths of its vectors, so that it ranks without them
    lengths = np.linalg.norm(load_embedder(end, "float32").encode(texts, "document"), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_a_late_interaction_model_is_matched_by_the_mean_of_its_tokens(world, tmp_path):
    """The expected vectors come from the model itself, text by text."""
    model, documents = ColBERT.from_pretrained(world / "tokens").eval(), read_documents(str(world / "words"), tmp_path)
    texts = documents.texts(list(documents.ids))[:40]
    means = []
    for text in texts:
        ids, mask = TextInputs.for_model(tiny.tokenizer(), model.config)([text], "document")
        with torch.no_grad():
            vectors, compared = model.embed(ids, mask, "document")
        means.append(vectors[0][compared[0]].mean(dim=0).numpy())
    teacher = np.stack(means) / np.linalg.norm(means, axis=1, keepdims=True)
    options = {"data": world / "words", "embedding_teacher": world / "tokens", "ranking_weight": 0, "max_steps": 40}
    options |= {"embedding_dropout": 0.0, "projection_size": 6, "cache_dir": tmp_path / "cache"}
    cosines = []
    for name, rate in (("start", 0.0), ("end", 2e-2)):
        folder = distilled(world, tmp_path / name, **options | {"learning_rate": rate})
        student = load_embedder(folder, "float32").encode(texts, "document")
        cosines.append((student * teacher).sum(axis=1) / np.linalg.norm(student, axis=1))
    assert cosines[0].mean() < 0.5 and cosines[1].mean() > 0.9
    (encoding,) = [path for path in (tmp_path / "cache").glob("encoding-*") if "side" not in read_description(path)]
    embedded = EmbeddedCollection(encoding).embeddings(np.arange(40))
    close = 1e-2 if tiny.IS_BFLOAT16 else 1e-5
    np.testing.assert_allclose(embedded, np.stack(means), rtol=1e-4, atol=close)


def test_the_query_encoder_alone_is_trained_and_saved(world, pair):
    model = DualEncoder.from_pretrained(pair)
    assert model.config.document_model["name"] == str(world / "large")
    assert model.config.normalize and model.config.encoder_config.num_hidden_layers == 1
    assert not any(name.startswith("document_encoder") for name in load_file(pair / "model.safetensors"))
    log = json.loads((pair / "training.json").read_text(encoding="utf-8"))["log_history"]
    assert [entry["eval_MRR@10"] > 0 for entry in log if "eval_MRR@10" in entry] == [True, True]


def test_a_score_is_the_product_of_both_models_vectors(world, pair):
    model, large = DualEncoder.from_pretrained(pair), load_embedder(world / "large", "float32")
    lists = RankingLists.load(world / "lists")
    row = lists.rows[0]
    documents = lists.documents.texts(row["document_ids"])
    inputs = tiny.tokenizer()([row["query"]], truncation=True, max_length=8, return_tensors="pt")
    with torch.no_grad():
        query = model.embed(inputs["input_ids"], inputs["attention_mask"])[0].numpy()
    expected = 20 * large.encode(documents, "document") @ query
    np.testing.assert_allclose(load_embedder(pair, "float32").score(row["query"], documents), expected, rtol=1e-4)


def test_documents_that_the_large_model_has_embedded_are_searched_by_the_small_one(world, pair, tmp_path, capsys):
    documents = read_documents(str(world / "words"), tmp_path / "cache")
    large = load_embedder(world / "large", "float32")
    encode_collection(large, documents, tmp_path / "encoded")
    line = ["--model", pair, "--data", world / "words", "--dtype", "float32", "--cache_dir", tmp_path / "cache"]
    line += ["--encoding", tmp_path / "encoded", "--top", 3, "red river"]
    search.main(*parse(search.make_parser(), list(map(str, line))))
    shown = capsys.readouterr().out
    query = load_embedder(pair, "float32").encode(["red river"], "query")[0]
    scores = large.encode(documents.texts(list(documents.ids)), "document") @ query
    assert documents.ids[int(scores.argmax())] in shown.splitlines()[3]
    other = large_model(world, tmp_path / "other", "cls")
    encode_collection(load_embedder(other, "float32"), documents, tmp_path / "others")
    line[line.index(tmp_path / "encoded")] = tmp_path / "others"
    with pytest.raises(InputError, match="encoded with model"):
        search.main(*parse(search.make_parser(), list(map(str, line))))


def test_a_database_that_the_large_model_filled_is_searched_by_the_small_one(world, pair, tmp_path):
    pytest.importorskip("milvus_lite")
    from m3se.trainers.stores.document_store import create_store, open_store

    large, small = load_embedder(world / "large", "float32"), load_embedder(pair, "float32")
    texts = ["red river", "blue stone"]
    store = str(tmp_path / "documents.db")
    with create_store(store, "documents", large.side_fingerprint("document"), 16) as filled:
        filled.put(["a", "b"], texts, large.encode(texts, "document"))
    with open_store(store, "documents", small.side_fingerprint("document")) as opened:
        (hits,) = opened.search(small.encode(["red"], "query"), 2)
    expected = large.encode(texts, "document") @ small.encode(["red"], "query")[0]
    assert {hit.id: hit.score for hit in hits} == pytest.approx(dict(zip("ab", expected, strict=True)), abs=1e-5)
    with pytest.raises(InputError, match="this model is"), open_store(store, "documents", small.fingerprint):
        pass


def test_a_pair_is_measured_on_a_whole_collection(world, pair, tmp_path):
    line = ["--model", pair, "--data", world / "words", "--retrieve", "true", "--output", tmp_path / "out"]
    line += ["--cache_dir", tmp_path / "cache", "--dtype", "float32", "--depth", 60]
    evaluate.main(*parse(evaluate.make_parser(), list(map(str, line))))
    run = (tmp_path / "out" / "run.trec").read_text(encoding="utf-8").splitlines()
    assert len(run) == 6 * 60


def test_documents_of_a_model_that_has_changed_are_refused(world, pair, tmp_path):
    config = json.loads((pair / "config.json").read_text(encoding="utf-8"))
    changed = tmp_path / "changed_pair"
    changed.mkdir()
    for file in pair.glob("*.json"):
        (changed / file.name).write_bytes(file.read_bytes())
    (changed / "model.safetensors").write_bytes((pair / "model.safetensors").read_bytes())
    config["document_model"]["name"] = str(large_model(world, tmp_path / "other", "cls"))
    (changed / "config.json").write_text(json.dumps(config), encoding="utf-8")
    scorer = load_embedder(changed, "float32")
    scorer.encode(["red"], "query")
    with pytest.raises(InputError, match="which has changed since the queries were trained"):
        scorer.encode(["red"], "document")


def test_a_published_pair_is_what_sentence_transformers_reads_as_a_router(world, pair, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = build_folder(pair, tmp_path / "small-large")
    theirs, ours = SentenceTransformer(str(folder), device="cpu"), load_embedder(folder, "float32")
    trained, texts = load_embedder(pair, "float32"), ["red river", "blue stone and iron bread"]
    for side in ("query", "document"):
        encode = theirs.encode_query if side == "query" else theirs.encode_document
        np.testing.assert_allclose(ours.encode(texts, side), encode(texts), atol=1e-5)
        np.testing.assert_allclose(trained.encode(texts, side), encode(texts), atol=1e-5)
    assert theirs.similarity_fn_name == "cosine"
    assert ours.side_fingerprint("document") == trained.side_fingerprint("document")
    # loaded from the published folder, it is still the model that has embedded documents before
    assert ours.documents.fingerprint == trained.side_fingerprint("document")
    card = (folder / "README.md").read_text(encoding="utf-8")
    row = next(line for line in card.splitlines() if line.startswith("| one query |"))
    assert "ms; by the document encoder" in row and "| documents | embedded by large, 3 layers, " in card
    again = build_folder(folder, tmp_path / "again" / "small-large")
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.name not in ("README.md", "SHA256SUMS")}
    for name in files:
        if (folder / name).is_file():
            assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_token_embeddings_alone_are_a_query_encoder_for_the_documents_of_a_wider_model(world, tmp_path):
    """No transformer layer, and half as wide: trained by matching, published, and read by sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    encoder = tmp_path / "narrow"
    BertModel(tiny.bert(hidden_size=8, num_hidden_layers=2)).save_pretrained(encoder)
    tiny.tokenizer().save_pretrained(encoder)
    options = {"encoder": encoder, "layers": 0, "document_encoder": world / "large", "data": world / "words"}
    options |= {"ranking_weight": 0, "max_steps": 30, "pooling": "mean", "embedding_dropout": 0.0}
    options |= {"cache_dir": tmp_path / "cache"}
    queries = ["red river", "blue stone and iron bread", "salt"]
    large = load_embedder(world / "large", "float32").encode(queries, "query")

    def distance(folder):
        return np.square(load_embedder(folder, "float32").encode(queries, "query") - large).sum(axis=1).mean()

    trained = distilled(world, tmp_path / "trained", **options)
    assert distance(trained) < 0.5 * distance(distilled(world, tmp_path / "start", **options | {"learning_rate": 0.0}))
    config = DualEncoder.from_pretrained(trained).config
    assert config.encoder_config.num_hidden_layers == 0 and config.projection_size == 16
    folder = build_folder(trained, tmp_path / "static-large")
    theirs, ours = SentenceTransformer(str(folder), device="cpu"), load_embedder(trained, "float32")
    np.testing.assert_allclose(theirs.encode_query(queries), ours.encode(queries, "query"), atol=1e-6)
    np.testing.assert_allclose(theirs.encode_document(queries), ours.encode(queries, "document"), atol=1e-6)
    backbone = AutoModel.from_pretrained(folder / "query")
    assert not any("encoder.layer" in name for name in backbone.state_dict())
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "by the mean of token embeddings, without a transformer layer, documents by large" in card
    assert "| bert, no layers, " in card and re.search(r"\| one query \| [\d.]+ ms; by the document encoder", card)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_weight": 1}, "embedding_weight: name the other model"),
        ({"embedding_teacher": "large", "embedding_weight": 0}, "embedding_teacher: has no effect"),
        ({"document_encoder": "large", "embedding_weight": 0, "ranking_weight": 0}, "leaves nothing to learn"),
        ({"embedding_teacher": "large", "ranking_weight": 0, "normalize": False}, "normalize: expected true with"),
        ({"embedding_teacher": "large", "architecture": "colbert"}, "embedding_teacher: for a dual_encoder"),
        ({"embedding_teacher": "encoder"}, "encoder is a bare encoder; expected a dual encoder or a sentence"),
        ({"embedding_teacher": "encoder"}, "or a ColBERT model, whose vectors of tokens are averaged"),
        ({"document_encoder": "tokens"}, "tokens is a ColBERT model; expected .* embeds a text in one vector$"),
        ({"document_encoder": "large", "tied": False}, "tied: false would train another encoder of documents"),
        ({"document_encoder": "large", "output_norm": True}, "output_norm: such a query encoder could not be"),
        ({"document_encoder": "large", "document_prompt": "x"}, "document_prompt: documents are embedded with"),
        ({"document_encoder": "large", "embedding_teacher": "encoder"}, "the queries match that model's own"),
        ({"document_encoder": "large", "mlm_weight": 0.1}, "mlm_weight: reads the documents' tokens"),
        ({"document_encoder": "large", "projection_size": 6}, "projection_size: expected 16, the width of .*, got 6"),
        ({"embedding_teacher": "large", "projection_size": 6, "lora_r": 2}, "lora_r: the student's 6 numbers need"),
        ({"document_encoder": "large", "layers": 0, "pooling": "cls"}, "pooling must be 'mean' with layers 0"),
        ({"layers": 0, "pooling": "mean", "lora_r": 2}, "lora_r: expected an encoder with linear layers"),
        ({"document_encoder": "pair"}, "pair: another model has embedded its documents; name"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused_before_anything_is_embedded(
    options, message, world, pair, tmp_path
):
    paths = {
        name: world / value for name, value in options.items() if name in ("embedding_teacher", "document_encoder")
    }
    with pytest.raises(InputError, match=message):
        distilled(world, tmp_path / "out", **options | paths, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()
