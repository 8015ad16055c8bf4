"""Tiny copies of other projects' layouts, scored by us and by code that is not ours."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from modeling import ColBERT, DualEncoder
from modeling.published import published_fields
from tests import tiny


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


@pytest.mark.parametrize("expansion", [True, False])
def test_a_pylate_model_scores_as_in_sentence_transformers(backbone, expansion):
    model, folder = backbone
    model.save_pretrained(folder)
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": torch.randn(6, 16)}, folder / "1_Dense" / "model.safetensors")
    dense = {"in_features": 16, "out_features": 6, "bias": False}
    edit_json(folder / "1_Dense" / "config.json", activation_function="torch.nn.modules.linear.Identity", **dense)
    kinds = {"": "sentence_transformers.models.Transformer", "1_Dense": "pylate.models.Dense.Dense"}
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(kinds.items())]
    (folder / "modules.json").write_text(json.dumps(modules))
    edit_json(folder / "sentence_bert_config.json", max_seq_length=11, do_lower_case=False)
    edit_json(
        folder / "config_sentence_transformers.json",
        model_type="ColBERT",
        query_prefix="[Q] ",
        document_prefix="[D] ",
        query_length=12,
        document_length=9,
        do_query_expansion=expansion,
        attend_to_expansion_tokens=False,
        skiplist_words=[",", "."],
    )
    ours = ColBERT.from_pretrained(folder)
    torch.testing.assert_close(scores(ours, folder), sentence_transformers_scores(folder), atol=1e-4, rtol=0)


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


def write_dense_model(folder, pooling):
    """A sentence-transformers model of Transformer and Pooling, as its early versions wrote it."""
    tiny.dual_encoder().encoder.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    edit_json(folder / "1_Pooling" / "config.json", word_embedding_dimension=16, **pooling)
    names = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in names.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    edit_json(folder / "sentence_bert_config.json", max_seq_length=50)


@pytest.mark.parametrize(
    ("written", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_a_dense_sentence_transformers_model_keeps_its_pooling(tmp_path, written, pooling):
    write_dense_model(tmp_path, written)
    assert DualEncoder.from_encoder(tmp_path).config.pooling == pooling
    assert DualEncoder.from_encoder(tmp_path, pooling="cls").config.pooling == "cls"
    config = DualEncoder.from_pretrained(tmp_path).config
    assert (config.pooling, config.query_length, config.document_length) == (pooling, 50, 50)


@pytest.mark.parametrize(
    "written",
    [{"pooling_mode_max_tokens": True}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, {}],
)
def test_a_pooling_we_do_not_have_is_refused(tmp_path, written):
    write_dense_model(tmp_path, written)
    with pytest.raises(ValueError, match="expected cls or mean"):
        DualEncoder.from_pretrained(tmp_path)


def test_a_folder_published_as_another_kind_is_refused(tmp_path):
    edit_json(tmp_path / "config.json", model_type="bert", m3se={"model_type": "cross_encoder"})
    for model_type, load in (("dual_encoder", DualEncoder), ("colbert", ColBERT)):
        with pytest.raises(ValueError, match=f"published as a cross_encoder, not as a {model_type}"):
            load.from_pretrained(tmp_path)
    assert published_fields(tmp_path, "cross_encoder") == {}
