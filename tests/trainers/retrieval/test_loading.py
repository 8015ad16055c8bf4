"""Models of every kind, used as they were made or refused in one line before any text is scored."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
)
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from m3se.trainers.errors import InputError
from m3se.trainers.models.model_info import detect_kind
from m3se.trainers.retrieval.loading import load_embedder, load_scorer
from m3se.trainers.teacher.judge import Judge
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import architectures, judges


QUERY = "red tree"
DOCUMENTS = ["red stone", "blue green river stone salt", "night"]
SAVERS = ["dense", "router", "static", "prompts"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return architectures.save_encoder("bert", tmp_path_factory.mktemp("bert"))


def save_sentence_transformer(kind: str, encoder: str, folder: Path) -> str:
    """Save a model of sentence-transformers made of other modules than Transformer and Pooling, or with prompts."""
    transformer, pooling = Transformer(encoder), Pooling(32, pooling_mode="mean")
    options = {}
    if kind == "dense":
        modules = [transformer, pooling, Dense(32, 12), Normalize()]
    elif kind == "router":
        other = Transformer(architectures.save_encoder("bert", folder / "other", seed=1))
        document = [other, Pooling(32, pooling_mode="cls")]
        modules = [Router.for_query_document(query_modules=[transformer, pooling], document_modules=document)]
    elif kind == "static":
        torch.manual_seed(0)
        modules = [StaticEmbedding(AutoTokenizer.from_pretrained(encoder).backend_tokenizer, embedding_dim=16)]
    else:
        modules = [transformer, pooling]
        options = {"prompts": {"query": "salt ", "document": "iron "}, "similarity_fn_name": "dot"}
    SentenceTransformer(modules=modules, device="cpu", **options).save_pretrained(str(folder / "model"))
    return str(folder / "model")


@pytest.mark.parametrize("kind", SAVERS)
def test_a_sentence_transformers_model_scores_as_the_library_does(kind, encoder, tmp_path):
    folder = save_sentence_transformer(kind, encoder, tmp_path)
    model = SentenceTransformer(folder, device="cpu")
    expected = model.similarity(model.encode_query([QUERY]), model.encode_document(DOCUMENTS))[0]
    scorer = load_scorer(folder, "float32", device="cpu")
    np.testing.assert_allclose(scorer.score(QUERY, DOCUMENTS), expected, atol=1e-5)


@pytest.mark.parametrize("kind", SAVERS)
def test_the_bar_moves_with_every_batch_of_a_sentence_transformers_model(kind, encoder, tmp_path):
    scorer = load_scorer(save_sentence_transformer(kind, encoder, tmp_path), "float32", device="cpu")
    steps = []
    texts = [f"{DOCUMENTS[0]} {number}" for number in range(40)]
    vectors = scorer.encode(texts, "document", SimpleNamespace(update=steps.append))
    assert steps == [32, 8]  # the batches of that library
    scorer.encode(texts, "document")
    assert len(vectors) == 40 and len(steps) == 2


@pytest.mark.parametrize(
    "kind, auto_class, save",
    [
        (
            "SparseEncoder",
            AutoModelForMaskedLM,
            lambda encoder, folder: SparseEncoder(encoder).save_pretrained(folder),
        ),
        ("MultiVectorEncoder", AutoModel, lambda encoder, to: MultiVectorEncoder(encoder).save_pretrained(to)),
    ],
)
def test_models_that_score_otherwise_are_refused_by_their_kind(kind, auto_class, save, tmp_path):
    save(architectures.save_encoder("bert", tmp_path / "encoder", auto_class), str(tmp_path / "model"))
    for load in (load_scorer, load_embedder, PairScorer.from_pretrained):
        with pytest.raises(InputError, match=kind):
            load(str(tmp_path / "model"))


def test_a_cross_encoder_that_answers_needs_its_chat_template(tmp_path):
    folder = judges.save_judge(tmp_path / "start", "qwen3")
    CrossEncoder(folder).save_pretrained(str(tmp_path / "model"))
    with pytest.raises(InputError, match="has no chat template: give it a template"):
        load_scorer(str(tmp_path / "model"))
    for load in (load_embedder, PairScorer.from_pretrained):
        with pytest.raises(InputError, match="a CrossEncoder without a classifier"):
            load(str(tmp_path / "model"))
    assert load_scorer(str(tmp_path / "model"), template="qwen3-reranker").score("red tree", ["red", "tree"])


def test_a_language_model_judges_by_its_prompt_or_is_pooled(tmp_path):
    named = judges.save_judge(tmp_path / "Qwen3-Reranker", "qwen3")
    assert isinstance(load_scorer(named).pairs, Judge)
    nameless = judges.save_judge(tmp_path / "model", "qwen3")
    with pytest.raises(InputError, match="--pooling cls, mean or last, or give the prompt of a language model"):
        load_scorer(nameless)
    assert load_scorer(nameless, pooling="mean").encode(["red tree"], "query").shape == (1, 32)


def test_half_precision_weights_are_used_in_float32(encoder, tmp_path):
    folder = save_sentence_transformer("prompts", encoder, tmp_path)
    AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    embeddings = load_scorer(folder, "float32", device="cpu").encode(DOCUMENTS, "document")
    AutoModel.from_pretrained(folder, dtype=torch.float32).save_pretrained(folder)
    np.testing.assert_array_equal(
        load_scorer(folder, "float32", device="cpu").encode(DOCUMENTS, "document"), embeddings
    )


@pytest.mark.parametrize("kind", ["dual_encoder", "cross_encoder", "colbert", "bare_encoder", "prompts"])
def test_a_model_without_its_tokenizer_is_refused(kind, encoder, request, tmp_path):
    is_ours = kind != "prompts"
    source = request.getfixturevalue(kind) if is_ours else save_sentence_transformer(kind, encoder, tmp_path)
    folder = tmp_path / "copy"
    for path in Path(source).rglob("*"):
        if path.is_file() and "token" not in path.name:
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"no words among them|cannot be loaded"):
        load_scorer(str(folder), pooling="mean" if kind == "bare_encoder" else None)


def test_more_tokens_than_embeddings_are_refused_before_a_text_is_scored(encoder, tmp_path):
    folder = save_sentence_transformer("prompts", encoder, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="resize them"):
        load_scorer(folder)


def test_a_bare_encoder_reads_no_more_than_it_has_positions_for(encoder):
    scorer = load_scorer(encoder, "float32", pooling="mean")
    long, cut = scorer.encode(["red " * 100, "red " * 62], "document")
    np.testing.assert_allclose(long, cut, atol=1e-5)


def test_prompts_of_a_teacher_are_said_to_be_left_out(cross_encoder, tmp_path, caplog):
    for path in Path(cross_encoder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = {"model_type": "CrossEncoder", "prompts": {"query": "sort: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        PairScorer.from_pretrained(tmp_path)
    assert "its prompts are not put before the texts: {'query': 'sort: '}" in caplog.text


@pytest.mark.parametrize(
    ("config", "settings", "kind"),
    [
        ({"model_type": "dual_encoder"}, {}, "dual_encoder"),
        ({"model_type": "cross_encoder"}, {}, "cross_encoder"),
        ({"model_type": "bert", "m3se": {"model_type": "colbert"}}, {}, "colbert"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, {}, "cross_encoder"),
        ({"model_type": "bert", "architectures": ["HF_ColBERT"]}, {}, "colbert"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, {"query_prefix": "[Q] "}, "colbert"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, {}, "encoder"),
    ],
)
def test_the_kind_is_read_from_the_files(config, settings, kind):
    assert detect_kind(config, [], settings) == kind


def test_a_folder_without_a_model_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="config.json"):
        load_scorer(str(tmp_path))
    with pytest.raises(InputError, match="nowhere"):
        load_scorer(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dual_encoder"}))
    with pytest.raises(InputError, match="safetensors"):
        load_scorer(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="dual_encoder"):
        load_scorer(str(tmp_path))
