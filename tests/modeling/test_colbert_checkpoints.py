"""Tiny copies of other projects' layouts, scored by us and by code that is not ours."""

import json
import os
from pickle import UnpicklingError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from m3se import ColBERT, ColBERTConfig, DualEncoder
from tests.worlds import tiny


WORDS = [*tiny.WORDS, ",", ".", "[Q] ", "[D] "]
QUERY = "red tree, stone"
DOCUMENTS = [
    "blue , red river. stone",
    "fish",
    "tree bread salt iron glass paper . , sound light night red blue green river",
]


@pytest.fixture
def backbone(tmp_path):
    """A tiny BERT of the words above, and its folder with config and tokenizer."""
    tokenizer = tiny.tokenizer(WORDS)
    config = tiny.bert()
    config.vocab_size = len(tokenizer)
    model = AutoModel.from_config(config)
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return model, tmp_path


def edit_json(path, **values):
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | values))


def scores(model, folder, document_length=200):
    tokenizer = tiny.tokenizer(WORDS)
    query, documents = (
        tokenizer(texts, padding=True, truncation=True, max_length=document_length, return_tensors="pt")
        for texts in ([QUERY], DOCUMENTS)
    )
    index = torch.arange(len(DOCUMENTS))[None]
    with torch.no_grad():
        return model(
            query["input_ids"],
            query["attention_mask"],
            documents["input_ids"],
            documents["attention_mask"],
            index,
        ).scores


def sentence_transformers_scores(folder):
    encoder = pytest.importorskip("sentence_transformers").MultiVectorEncoder(str(folder), device="cpu")
    return encoder.similarity(encoder.encode_query([QUERY]), encoder.encode_document(DOCUMENTS))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("attend", [True, False])
def test_a_stanford_checkpoint_scores_as_in_sentence_transformers(backbone, file, attend):
    model, folder = backbone
    weights = {f"bert.{name}": weight for name, weight in model.state_dict().items()}
    weights["linear.weight"] = torch.randn(6, 16)
    save_file(weights, folder / file) if file.endswith("safetensors") else torch.save(weights, folder / file)
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    settings = {"query_maxlen": 12, "doc_maxlen": 9, "dim": 6, "mask_punctuation": True}
    edit_json(folder / "artifact.metadata", attend_to_mask_tokens=attend, similarity="cosine", **settings)
    ours = ColBERT.from_pretrained(folder)
    assert not ours.training
    assert (ours.config.query_length, ours.config.document_length, ours.config.reduction) == (12, 9, "sum")
    torch.testing.assert_close(scores(ours, folder), sentence_transformers_scores(folder), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_in_half_precision_becomes_float32(backbone, dtype):
    model, folder = backbone
    weights = {f"bert.{name}": weight.to(dtype) for name, weight in model.state_dict().items()}
    save_file(weights | {"linear.weight": torch.randn(6, 16, dtype=dtype)}, folder / "model.safetensors")
    edit_json(folder / "config.json", architectures=["HF_ColBERT"], dtype=str(dtype).removeprefix("torch."))
    (folder / "artifact.metadata").write_text("{}")
    ours = ColBERT.from_pretrained(folder)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    name = "embeddings.word_embeddings.weight"
    torch.testing.assert_close(ours.encoder.get_parameter(name), weights[f"bert.{name}"].float(), atol=0, rtol=0)
    assert ours.config.encoder_config.dtype == torch.float32
    assert torch.isfinite(scores(ours, folder)).all()


class Bomb:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (os.fspath(self.path),))


def test_a_pickle_that_makes_more_than_tensors_is_not_executed(backbone, tmp_path):
    _, folder = backbone
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    torch.save({"linear.weight": Bomb(tmp_path / "exploded")}, folder / "pytorch_model.bin")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        ColBERT.from_pretrained(folder)
    assert not (tmp_path / "exploded").exists()


def write_dense(folder, weights, **config):
    """A Dense module of PyLate with these weights."""
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    outputs, inputs = weights["linear.weight"].shape
    known = {"in_features": inputs, "out_features": outputs, "bias": "linear.bias" in weights}
    identity = {"activation_function": "torch.nn.modules.linear.Identity"}
    edit_json(folder / "config.json", **identity | known | config)


def write_pylate_model(backbone, dense, **settings):
    """PyLate's layout: the backbone, then each of `dense`, (weights, config) of a linear layer."""
    model, folder = backbone
    model.save_pretrained(folder)
    kinds = {"": "sentence_transformers.models.Transformer"}
    for number, (weights, config) in enumerate(dense, start=1):
        write_dense(folder / f"{number}_Dense", weights, **config)
        kinds[f"{number}_Dense"] = "pylate.models.Dense.Dense"
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(kinds.items())]
    (folder / "modules.json").write_text(json.dumps(modules))
    edit_json(folder / "sentence_bert_config.json", max_seq_length=11, do_lower_case=False)
    known = {
        "model_type": "ColBERT",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 12,
        "document_length": 9,
        "do_query_expansion": True,
        "attend_to_expansion_tokens": False,
        "skiplist_words": [",", "."],
    }
    edit_json(folder / "config_sentence_transformers.json", **known | settings)
    return folder


@pytest.mark.parametrize("expansion", [True, False])
def test_a_pylate_model_scores_as_in_sentence_transformers(backbone, expansion):
    projection = {"linear.weight": torch.randn(6, 16)}
    folder = write_pylate_model(backbone, [(projection, {})], do_query_expansion=expansion)
    ours = ColBERT.from_pretrained(folder)
    torch.testing.assert_close(scores(ours, folder), sentence_transformers_scores(folder), atol=1e-4, rtol=0)


@pytest.mark.parametrize("biased", [True, False])
def test_several_linear_layers_of_a_pylate_model_become_one(backbone, biased):
    wide = {"linear.weight": torch.randn(20, 16), "residual.weight": torch.randn(20, 16)}
    square, narrow = {"linear.weight": torch.randn(20, 20)}, {"linear.weight": torch.randn(6, 20)}
    if biased:
        wide["linear.bias"], narrow["linear.bias"] = torch.randn(20), torch.randn(6)
    residual = {"use_residual": True}
    folder = write_pylate_model(backbone, [(wide, residual), (square, residual), (narrow, {})])
    ours = ColBERT.from_pretrained(folder)
    assert (ours.config.projection_size, ours.config.projection_bias) == (6, biased)
    torch.testing.assert_close(scores(ours, folder), sentence_transformers_scores(folder), atol=1e-4, rtol=0)


def test_a_pylate_model_that_names_no_skiplist_skips_punctuation(backbone):
    folder = write_pylate_model(backbone, [({"linear.weight": torch.randn(6, 16)}, {})], skiplist_words=None)
    ours = ColBERT.from_pretrained(folder)
    assert len(ours.config.skiplist_ids) == 2  # the comma and the full stop of this vocabulary
    torch.testing.assert_close(scores(ours, folder), sentence_transformers_scores(folder), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.Tanh"}, "1_Dense is not linear .*Tanh"),
        (None, "is made of .'Transformer'.; expected a Transformer, then Dense"),
    ],
)
def test_a_pylate_model_that_is_not_linear_is_refused(backbone, spoiled, message):
    dense = [] if spoiled is None else [({"linear.weight": torch.randn(6, 16)}, spoiled)]
    with pytest.raises(ValueError, match=message):
        ColBERT.from_pretrained(write_pylate_model(backbone, dense))


@pytest.mark.parametrize("query", ["search: ", "[unused0]search: "])
def test_a_pylate_model_keeps_its_prompts_beside_its_markers(backbone, query):
    settings = {"query_prefix": "[unused0]", "document_prefix": "[unused1]"}
    settings["prompts"] = {"query": query, "document": ""}
    write_pylate_model(backbone, [({"linear.weight": torch.randn(6, 16)}, {})], **settings)
    for config in (ColBERT.from_pretrained(backbone[1]).config, ColBERT.from_encoder(backbone[1]).config):
        assert (config.query_prompt, config.document_prompt) == ("search: ", "")


def test_a_colbert_model_to_start_from_keeps_its_projection_and_markers(backbone, tmp_path):
    folder = write_pylate_model(backbone, [({"linear.weight": torch.randn(6, 16)}, {})])
    released = ColBERT.from_pretrained(folder)
    start = ColBERT.from_encoder(folder, document_length=7, reduction="mean")
    torch.testing.assert_close(start.state_dict(), released.state_dict())
    changed = {"document_length", "reduction"}
    for field in ColBERTConfig.field_names():
        assert (getattr(start.config, field) != getattr(released.config, field)) == (field in changed), field
    start.save_pretrained(tmp_path / "trained")
    again = ColBERT.from_encoder(tmp_path / "trained")
    torch.testing.assert_close(again.state_dict(), released.state_dict())
    for given in ({"projection_size": 5}, {"layers": 1}):
        with pytest.raises(ValueError, match="a ColBERT model with a projection to 6 dimensions: it is taken whole"):
            ColBERT.from_encoder(folder, **given)


class PublishedColBERT(nn.Module):
    """The class on the card of colbert-distilbert-margin_mse-T2-msmarco, written anew for one query."""

    def __init__(self, config):
        super().__init__()
        self.bert_model = DistilBertModel(config)
        self.compressor = nn.Linear(config.dim, 8)

    def embed(self, tokens):
        return self.compressor(self.bert_model(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0])[0]

    def forward(self, query, documents, mask_token_id):
        query = self.embed(torch.tensor([query + [mask_token_id] * 8]))
        return torch.stack([(query @ self.embed(torch.tensor([d])).T).max(dim=1).values.sum() for d in documents])


def test_hofstaetters_colbert_scores_as_its_own_class_did(tmp_path):
    tokenizer = tiny.tokenizer(WORDS)
    base, folder = tmp_path / "distilbert", tmp_path / "colbert"
    base.mkdir(), folder.mkdir()
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.3
    )
    config.save_pretrained(base)
    tokenizer.save_pretrained(base)
    theirs = PublishedColBERT(config).eval()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    edit_json(folder / "config.json", model_type="ColBERT", bert_model=os.fspath(base), compression_dim=8)
    query, *documents = tokenizer([QUERY, *DOCUMENTS])["input_ids"]
    with torch.no_grad():
        expected = theirs(query, documents, tokenizer.mask_token_id)[None]
    ours = ColBERT.from_pretrained(folder)
    torch.testing.assert_close(scores(ours, base), expected, atol=1e-4, rtol=1e-5)
    ours.save_pretrained(tmp_path / "ours")
    torch.testing.assert_close(
        scores(ColBERT.from_pretrained(tmp_path / "ours"), base), expected, atol=1e-4, rtol=1e-5
    )


def test_hofstaetters_weights_without_a_layer_are_refused(tmp_path):
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    config.save_pretrained(tmp_path)
    weights = PublishedColBERT(config).state_dict()
    del weights["bert_model.transformer.layer.0.ffn.lin1.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    edit_json(tmp_path / "config.json", model_type="ColBERT", bert_model=str(tmp_path), compression_dim=8)
    base = tmp_path / "base"
    base.mkdir()
    config.save_pretrained(base)
    edit_json(tmp_path / "config.json", bert_model=str(base))
    with pytest.raises(ValueError, match="no weights for transformer.layer.0.ffn.lin1.weight of its distilbert"):
        ColBERT.from_pretrained(tmp_path)


def test_hofstaetters_dot_product_model_is_a_dual_encoder_that_pools_cls(tmp_path):
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.3)
    theirs = DistilBertModel(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = DualEncoder.from_encoder(tmp_path, pooling="cls").eval()
    ids = torch.tensor([[2, 7, 8, 3]])
    mask = torch.ones_like(ids)
    torch.testing.assert_close(ours.embed(ids, mask), theirs(ids, mask).last_hidden_state[:, 0])
    with pytest.raises(ValueError, match="bare distilbert model: use from_encoder"):
        DualEncoder.from_pretrained(tmp_path)
