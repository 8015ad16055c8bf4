"""Encoders that training starts from, and options that do not fit them."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from m3se import ColBERT, CrossEncoder, DualEncoder, InputError
from m3se.run_scripts.distill import StudentArguments
from m3se.trainers.models.backbones import as_input_errors, check_lengths, encoder_path
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.run_folder import encoder_key
from tests.worlds import architectures, tiny
from tests.worlds.small_world import write_encoder


LENGTHS = {"query_length": 8, "document_length": 16}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_run_remembers_all_that_its_encoder_is_made_of(tmp_path, name):
    write_encoder(tmp_path)
    before = encoder_key(str(tmp_path))
    assert encoder_key(str(tmp_path)) == before
    content = json.loads((tmp_path / name).read_text(encoding="utf-8"))
    (tmp_path / name).write_text(json.dumps(content | {"added": 1}), encoding="utf-8")
    assert encoder_key(str(tmp_path)) != before


def make_batch(tokenizer) -> dict:
    """Make a batch of two queries and three documents, padded on the right."""
    batch = {"document_index": torch.tensor([[0, 1], [2, -1]])}
    texts = {"query": ["red blue", "stone"], "document": ["red river stone cloud", "bread", "salt iron stone"]}
    for side, examples in texts.items():
        encoded = tokenizer(examples, padding=True, return_tensors="pt")
        batch |= {f"{side}_{name}": encoded[name] for name in ("input_ids", "attention_mask")}
    return batch


@pytest.mark.parametrize("build", [DualEncoder, ColBERT, CrossEncoder])
@pytest.mark.parametrize("kind", architectures.FIELDS)
def test_every_architecture_is_wrapped_saved_and_loaded_or_refused_before_training(kind, build, tmp_path):
    auto_class = AutoModelForSequenceClassification if build is CrossEncoder else AutoModel
    labels = {"num_labels": 1} if build is CrossEncoder else {}
    template = "bert" if build is CrossEncoder else "roberta"
    folder = architectures.save_encoder(kind, tmp_path / "encoder", auto_class, template=template, **labels)
    pooling = {"pooling": "mean"} if build is DualEncoder else {}
    tokenizer = load_tokenizer(encoder_path(folder))
    refused = (kind, build) == ("xlnet", CrossEncoder)
    try:
        with as_input_errors():
            model = build.from_encoder(folder, layers=1, dropout=0.2, **LENGTHS, **pooling)
            check_lengths(model)
            inspect_model(model, tokenizer, folder)
    except InputError as refusal:
        assert refused and "\n" not in str(refusal)
        return
    assert not refused
    model.save_pretrained(tmp_path / "saved")
    loaded, batch = build.from_pretrained(tmp_path / "saved"), make_batch(tokenizer)
    with torch.no_grad():
        scores, again = model.eval()(**batch).scores, loaded(**batch).scores
    torch.testing.assert_close(scores, again)
    assert scores[0, 0] != scores[0, 1]
    assert loaded.encoder.config.num_hidden_layers == 1


@pytest.mark.parametrize("kind", [kind for kind in architectures.FIELDS if kind != "xlnet"])  # has one unused anyway
def test_without_layers_every_weight_in_training_takes_part_or_the_encoder_is_refused(kind, tmp_path):
    folder = architectures.save_encoder(kind, tmp_path / "encoder")
    tokenizer = load_tokenizer(folder)
    try:
        with as_input_errors():
            model = DualEncoder.from_encoder(folder, layers=0, pooling="mean", **LENGTHS)
            inspect_model(model, tokenizer, folder)
    except InputError as refusal:
        assert kind in ("deberta-v2", "modernbert") and "\n" not in str(refusal)
        return
    scores = model.train()(**make_batch(tokenizer)).scores
    scores[scores.isfinite()].sum().backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert trained and all(weight.grad is not None for weight in trained)
    model.save_pretrained(tmp_path / "saved")
    loaded = DualEncoder.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        batch = make_batch(tokenizer)
        torch.testing.assert_close(loaded(**batch).scores, model.eval()(**batch).scores)


def test_a_model_without_a_transformer_is_no_start(tmp_path):
    models = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    static = models.StaticEmbedding(tiny.tokenizer().backend_tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path), create_model_card=False)
    with pytest.raises(
        InputError, match="StaticEmbedding and has no transformer to train; a transformer with layers 0"
    ):
        encoder_path(str(tmp_path))


@pytest.mark.parametrize("kind", architectures.FIELDS)
def test_dropout_is_changed_by_whatever_name_an_architecture_has_for_it(kind, tmp_path):
    folder = architectures.save_encoder(kind, tmp_path / "encoder")
    pooled = DualEncoder.from_encoder(folder, dropout=0.5, pooling="mean", embedding_dropout=0.0, **LENGTHS)
    batch = make_batch(load_tokenizer(folder))
    dropped, dropped_again = (pooled.train()(**batch).scores for _ in range(2))
    assert not torch.equal(dropped, dropped_again)
    pooled.save_pretrained(tmp_path / "saved")
    loaded = DualEncoder.from_pretrained(tmp_path / "saved").train()
    torch.manual_seed(0)
    expected = pooled(**batch).scores
    torch.manual_seed(0)
    assert torch.equal(loaded(**batch).scores, expected)
    none = DualEncoder.from_encoder(folder, dropout=0.0, pooling="mean", embedding_dropout=0.0, **LENGTHS).train()
    assert torch.equal(none(**batch).scores, none(**batch).scores)


def test_lists_of_a_value_per_layer_are_cut_with_the_layers(tmp_path):
    folder = architectures.save_encoder("modernbert", tmp_path)
    config = DualEncoder.from_encoder(folder, layers=3).config.encoder_config
    assert config.layer_types == AutoModel.from_pretrained(folder).config.layer_types[:3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("build", [DualEncoder, ColBERT, CrossEncoder])
def test_weights_of_half_precision_are_trained_in_float32(dtype, build, tmp_path):
    AutoModel.from_pretrained(architectures.save_encoder("bert", tmp_path)).to(dtype).save_pretrained(tmp_path)
    model = build.from_encoder(str(tmp_path), **LENGTHS)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    model.save_pretrained(tmp_path / "saved")
    assert {weight.dtype for weight in build.from_pretrained(tmp_path / "saved").parameters()} == {torch.float32}


def test_an_encoder_decoder_and_its_half_are_no_encoders(tmp_path):
    AutoModel.from_config(AutoConfig.for_model("bart", vocab_size=24, **architectures.BART)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a bart encoder-decoder; expected an encoder"), as_input_errors():
        DualEncoder.from_encoder(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["BartEncoder"], "is_encoder_decoder": False}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="is half of a bart encoder-decoder"), as_input_errors():
        DualEncoder.from_encoder(str(tmp_path))


def test_of_t5_the_encoder_half_is_taken(tmp_path):
    whole = AutoModel.from_pretrained(architectures.save_encoder("t5", tmp_path)).eval()
    model = DualEncoder.from_encoder(str(tmp_path), pooling="mean").eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = whole.encoder(input_ids=ids).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(model.embed(ids, torch.ones_like(ids)), expected)


def test_weights_by_other_names_are_missed_and_not_drawn_at_random(tmp_path):
    folder = architectures.save_encoder("bert", tmp_path)
    model = AutoModel.from_pretrained(folder)
    weights = {f"question_encoder.{name}": weight.clone() for name, weight in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    with pytest.raises(ValueError, match="lacks 37 weights of a bert, such as embeddings.LayerNorm.bias"):
        DualEncoder.from_encoder(folder)


def test_a_model_with_code_of_its_own_is_refused_without_a_question(tmp_path, monkeypatch):
    folder = architectures.save_encoder("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    with pytest.raises(InputError, match="models with code are not run"):
        encoder_path(folder)
    with pytest.raises(ValueError, match="contains custom code"):
        DualEncoder.from_encoder(folder)


@pytest.mark.parametrize(("document", "fits"), [(57, True), (58, False)])
def test_a_pair_must_fit_in_the_positions_of_any_architecture(document, fits, tmp_path):
    folder = architectures.save_encoder("gpt2", tmp_path, AutoModelForSequenceClassification, "bert", num_labels=1)
    model = CrossEncoder.from_encoder(folder, query_length=8, document_length=document)
    if fits:
        check_lengths(model)
    else:
        with pytest.raises(InputError, match="at most the encoder's 64 positions for both together, got 8 and 58"):
            check_lengths(model)


def test_markers_of_colbert_can_be_chosen_on_the_command_line():
    options = StudentArguments("lists", colbert_args='{"markers": null}')
    assert options.colbert_args == {"markers": None}


def test_a_cross_encoder_whose_tokenizer_gives_no_token_types_for_its_two_is_refused(tmp_path):
    folder = architectures.save_encoder("roberta", tmp_path)
    with pytest.raises(InputError, match="makes a pair of other tokens or token types than the model"):
        inspect_model(CrossEncoder.from_encoder(folder, **LENGTHS), AutoTokenizer.from_pretrained(folder), folder)


def test_scores_of_a_causal_classifier_are_read_at_the_last_token(tmp_path):
    """The padding between pairs of a batch has the model's own padding token, by which the last token is found."""
    folder = architectures.save_encoder("qwen3", tmp_path, AutoModelForSequenceClassification, "bert", num_labels=1)
    model, tokenizer = CrossEncoder.from_encoder(folder, **LENGTHS).eval(), load_tokenizer(folder)
    model.config.encoder_config.pad_token_id = model.encoder.config.pad_token_id = tokenizer.pad_token_id
    batch = make_batch(tokenizer)
    ids = torch.cat([batch["query_input_ids"][:1], batch["document_input_ids"][1:2, 1:3]], dim=1)
    with torch.no_grad():
        alone = model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        scores = model(**batch).scores
    torch.testing.assert_close(scores[0, 1], alone[0, 0])


def test_the_tiny_models_of_the_tests_are_good_starts(tmp_path):
    folder = str(write_encoder(tmp_path))
    inspect_model(DualEncoder.from_encoder(encoder_path(folder), **tiny.LENGTHS), load_tokenizer(folder), folder)


def test_weights_of_other_sizes_and_cut_short_are_refused_in_a_line(tmp_path):
    folder = architectures.save_encoder("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}), encoding="utf-8")
    with pytest.raises(InputError, match="the weights do not fit config.json") as refusal, as_input_errors():
        DualEncoder.from_encoder(folder)
    assert "\n" not in str(refusal.value)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="InvalidHeader|header|incomplete"), as_input_errors():
        DualEncoder.from_encoder(folder)
