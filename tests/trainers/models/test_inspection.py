"""What a pair of model and tokenizer must be able to do before anything is done with it."""

import json
from io import BytesIO

import pytest
import torch
from sentencepiece import SentencePieceTrainer
from transformers import AutoModel, AutoModelForSequenceClassification

from m3se import ColBERT, CrossEncoder, DualEncoder
from m3se.trainers.errors import InputError
from m3se.trainers.models.inspection import check_saved, inspect_model, load_tokenizer
from tests.worlds import architectures, tiny


LENGTHS = {"query_length": 8, "document_length": 16}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return architectures.save_encoder("bert", tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("build", [tiny.dual_encoder, tiny.colbert, tiny.cross_encoder])
def test_a_good_model_passes_and_is_left_as_it_was(build):
    model = build(dropout=0.1).train()
    weights, state = tiny.flat_weights(model), torch.get_rng_state()
    inspect_model(model, tiny.tokenizer(), "good")
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tiny.flat_weights(model), weights)


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "albert", "deberta-v2", "xlnet", "gpt2", "qwen3", "t5", "modernbert"]
)
def test_a_tokenizer_that_transformers_makes_up_is_refused(kind, tmp_path):
    architectures.save_encoder(kind, tmp_path)
    for path in tmp_path.glob("token*"):
        path.unlink()
    with pytest.raises(InputError, match="no words among them|cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_loads_padding_on_the_right(encoder, tmp_path):
    architectures.word_tokenizer(padding_side="left").save_pretrained(tmp_path)
    AutoModel.from_pretrained(encoder).save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).padding_side == "right"


def test_a_tokenizer_with_code_of_its_own_is_refused_and_not_asked_about(tmp_path):
    architectures.word_tokenizer().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}, "tokenizer_class": "Mine"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.C"}}')
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(InputError, match="contains custom code"):
        load_tokenizer(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_more_tokens_than_embeddings_are_refused_by_both_numbers(encoder):
    tokenizer = load_tokenizer(encoder)
    tokenizer.add_tokens(["zebra"])
    with pytest.raises(
        InputError, match=f"has {len(tokenizer)} tokens, the model embeddings for {len(tokenizer) - 1}"
    ):
        inspect_model(DualEncoder.from_encoder(encoder, **LENGTHS), tokenizer, "grown")


def test_no_padding_token_is_refused_with_the_line_that_mends_it(encoder):
    tokenizer = load_tokenizer(encoder)
    tokenizer.pad_token = None
    with pytest.raises(InputError, match="no padding token; choose one, such as tokenizer.pad_token = '</s>'"):
        inspect_model(DualEncoder.from_encoder(encoder, **LENGTHS), tokenizer, "unpadded")


def test_a_classifier_learns_the_padding_token_of_its_tokenizer(tmp_path):
    folder = architectures.save_encoder("qwen3", tmp_path, AutoModelForSequenceClassification, "bert", num_labels=1)
    model, tokenizer = CrossEncoder.from_encoder(folder, **LENGTHS), load_tokenizer(folder)
    model.config.encoder_config.pad_token_id = model.encoder.config.pad_token_id = None
    inspect_model(model, tokenizer, "qwen3")
    assert model.encoder.config.pad_token_id == model.config.encoder_config.pad_token_id == tokenizer.pad_token_id


def test_the_first_token_of_a_causal_model_knows_nothing_of_the_text(tmp_path):
    folder = architectures.save_encoder("qwen3", tmp_path)
    for pooling in ("mean", "last"):
        inspect_model(DualEncoder.from_encoder(folder, pooling=pooling, **LENGTHS), load_tokenizer(folder), "qwen3")
    with pytest.raises(InputError, match="a causal model needs pooling last or mean"):
        inspect_model(DualEncoder.from_encoder(folder, pooling="cls", **LENGTHS), load_tokenizer(folder), "qwen3")


def test_weights_that_are_no_numbers_are_refused(encoder):
    model = DualEncoder.from_encoder(encoder, **LENGTHS)
    next(model.parameters()).data.fill_(torch.nan)
    with pytest.raises(InputError, match="NaN or infinite"):
        inspect_model(model, load_tokenizer(encoder), "damaged")


def test_a_classifier_that_reads_its_last_position_takes_padding_for_text(tmp_path):
    folder = architectures.save_encoder("xlnet", tmp_path, AutoModelForSequenceClassification, "bert", num_labels=1)
    with pytest.raises(InputError, match="takes padding for text"):
        inspect_model(CrossEncoder.from_encoder(folder, **LENGTHS), load_tokenizer(folder), "xlnet")


def test_a_model_that_cannot_take_a_text_of_its_length_is_refused_by_its_own_words(encoder):
    model = ColBERT.from_encoder(encoder, query_length=8, document_length=80)
    with pytest.raises(InputError, match="cannot be used here: a pass over two texts fails with RuntimeError"):
        inspect_model(model, load_tokenizer(encoder), "short")


def test_other_models_are_inspected_by_what_they_make_of_texts(encoder):
    model, tokenizer = AutoModel.from_pretrained(encoder), load_tokenizer(encoder)
    inspect_model(model, tokenizer, "good", lambda texts: torch.tensor([float(len(text)) for text in texts]))
    with pytest.raises(InputError, match="the same of two different texts"):
        inspect_model(model, tokenizer, "flat", lambda texts: torch.ones(len(texts), 3))


def test_a_saved_model_is_loaded_again_and_must_score_the_same(tmp_path):
    model, tokenizer = tiny.dual_encoder(), tiny.tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    check_saved(tmp_path, model, tokenizer)
    with pytest.raises(RuntimeError, match="scores otherwise when it is loaded again"):
        check_saved(tmp_path, tiny.dual_encoder(seed=1), tokenizer)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["encoder_config"] |= {"model_type": "modernbert", "num_hidden_layers": 2, "layer_types": ["full_attention"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(RuntimeError, match="cannot be loaded again"):
        check_saved(tmp_path, model, tokenizer)


@pytest.mark.parametrize(("kind", "file"), [("deberta-v2", "spm.model"), ("xlm-roberta", "sentencepiece.bpe.model")])
def test_a_tokenizer_that_has_only_a_model_of_sentencepiece_loads(kind, file, tmp_path):
    model = BytesIO()
    texts = [" ".join(tiny.WORDS[start:] + tiny.WORDS[:start]) for start in range(len(tiny.WORDS))]
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=50, hard_vocab_limit=False, minloglevel=3
    )
    (tmp_path / file).write_bytes(model.getvalue())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.is_fast
    assert tokenizer("red stone")["input_ids"] != tokenizer("green cloud")["input_ids"]
