"""Scores of every kind of teacher against an independent computation."""

import json
import shutil
from io import StringIO

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from m3se import CrossEncoder
from m3se.run_scripts.publishing.build import build_folder
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds.architectures import save_encoder
from tests.worlds.teachers import (
    byte_tokenizer,
    float32,
    random_pairs,
    save_classifier,
    save_cross_encoder,
    save_decoder,
    save_roberta,
    word_tokenizer,
)


PAIRS = random_pairs(60)


def logits_one_by_one(folder, queries, documents):
    """The stock model on one unpadded pair at a time -> [n, labels]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    longest = min(tokenizer.model_max_length, 64)
    with torch.no_grad():
        return torch.cat(
            [
                model(**tokenizer(*pair, truncation="longest_first", max_length=longest, return_tensors="pt")).logits
                for pair in zip(queries, documents, strict=True)
            ]
        ).numpy()


def test_our_checkpoint_scores_as_its_model_does_in_training(tmp_path):
    folder = save_cross_encoder(tmp_path)
    model, tokenizer = CrossEncoder.from_pretrained(folder).eval(), word_tokenizer()
    expected = []
    for query, document in zip(*PAIRS, strict=True):
        query = tokenizer([query], truncation=True, max_length=8, return_tensors="pt")
        document = tokenizer([document], truncation=True, max_length=20, return_tensors="pt")
        batch = {
            "query_input_ids": query["input_ids"],
            "query_attention_mask": query["attention_mask"],
            "document_input_ids": document["input_ids"],
            "document_attention_mask": document["attention_mask"],
        }
        expected.append(model(**batch, document_index=torch.tensor([[0]])).scores.item())
    np.testing.assert_allclose(float32(folder).score(*PAIRS), expected, atol=1e-5)


def test_a_published_teacher_is_the_same_teacher(tmp_path):
    checkpoint = float32(save_cross_encoder(tmp_path / "trained"))
    published = float32(str(build_folder(tmp_path / "trained", tmp_path / "published")))
    assert published.encoder.joined
    assert (published.encoder.query_length, published.encoder.document_length) == (8, 20)
    np.testing.assert_array_equal(published.score(*PAIRS), checkpoint.score(*PAIRS))
    assert published.fingerprint == checkpoint.fingerprint


def test_a_classifier_with_one_logit_scores_by_it(tmp_path):
    folder = save_classifier(tmp_path)
    np.testing.assert_allclose(float32(folder).score(*PAIRS), logits_one_by_one(folder, *PAIRS)[:, 0], atol=1e-5)


def test_a_classifier_with_two_logits_scores_by_their_difference(tmp_path):
    folder = save_classifier(tmp_path, num_labels=2)
    logits = logits_one_by_one(folder, *PAIRS)
    np.testing.assert_allclose(float32(folder).score(*PAIRS), logits[:, 1] - logits[:, 0], atol=1e-5)


def test_a_teacher_with_another_tokeniser_reads_pairs_its_own_way(tmp_path):
    folder = save_roberta(tmp_path)
    np.testing.assert_allclose(float32(folder).score(*PAIRS), logits_one_by_one(folder, *PAIRS)[:, 0], atol=1e-5)


@pytest.mark.parametrize("save", [save_cross_encoder, save_classifier])
def test_the_side_that_a_tokeniser_pads_does_not_matter(tmp_path, save):
    folder = save(tmp_path)
    expected = float32(folder).score(*PAIRS)
    word_tokenizer(padding_side="left").save_pretrained(folder)
    np.testing.assert_allclose(float32(folder).score(*PAIRS), expected, atol=1e-5)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("pad_token, pad_token_id", [("</s>", 2), ("<pad>", 1), ("<pad>", None), ("</s>", None)])
def test_a_decoder_scores_as_transformers_does_one_pair_at_a_time(tmp_path, padding_side, pad_token, pad_token_id):
    folder = save_decoder(tmp_path, padding_side, pad_token, pad_token_id=pad_token_id)
    queries = ["red tree", "blue", "fish bird horse"] * 4
    documents = ["red tree river stone", "horse", "salt iron glass paper sound", "light night"] * 3
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = 1 if pad_token == "<pad>" else 2
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        pairs = [tokenizer(*pair, return_tensors="pt") for pair in zip(queries, documents, strict=True)]
        expected = [model(**inputs).logits.item() for inputs in pairs]
    np.testing.assert_allclose(float32(folder).score(queries, documents), expected, atol=1e-5)


def test_our_own_cross_encoder_on_a_decoder_scores_a_pair_beside_others_as_alone(tmp_path):
    start = save_encoder("qwen3", tmp_path / "start", AutoModelForSequenceClassification, "bert", num_labels=1)
    model = CrossEncoder.from_encoder(start, query_length=12, document_length=20)
    model.save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(start).save_pretrained(tmp_path / "teacher")
    queries, documents = ["red tree", "fish bird horse"], ["red", "salt iron glass paper sound light night"]
    teacher = float32(str(tmp_path / "teacher"))
    alone = [teacher.score([query], [document])[0] for query, document in zip(queries, documents, strict=True)]
    np.testing.assert_allclose(teacher.score(queries, documents), alone, atol=1e-5)


def test_a_half_precision_teacher_is_computed_in_float32(tmp_path):
    folder = save_classifier(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float16).save_pretrained(folder)
    half = float32(folder).score(*PAIRS)
    AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).save_pretrained(folder)
    np.testing.assert_array_equal(float32(folder).score(*PAIRS), half)


@pytest.mark.parametrize("labels", [1, 2])
def test_sentence_transformers_checkpoints_give_the_raw_logits_of_predict(tmp_path, labels):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    stock = save_classifier(tmp_path / "stock", num_labels=labels)
    theirs = sentence_transformers.CrossEncoder(stock, num_labels=labels, device="cpu")
    theirs.save_pretrained(str(tmp_path / "saved"))
    logits = theirs.predict(list(zip(*PAIRS, strict=True)), activation_fn=torch.nn.Identity(), convert_to_numpy=True)
    expected = logits if labels == 1 else logits[:, 1] - logits[:, 0]
    assert labels == 2 or not np.allclose(theirs.predict([(PAIRS[0][0], PAIRS[1][0])]), expected[0])  # a sigmoid
    np.testing.assert_allclose(float32(tmp_path / "saved").score(*PAIRS), expected, atol=1e-5)


@pytest.mark.parametrize("save", [save_cross_encoder, save_classifier, save_roberta])
def test_a_score_does_not_depend_on_the_other_pairs(tmp_path, save):
    scorer = float32(save(tmp_path))
    together = scorer.score(*PAIRS)
    alone = [scorer.score([query], [document])[0] for query, document in zip(*PAIRS, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_bfloat16_keeps_documents_apart(tmp_path):
    folder = save_cross_encoder(tmp_path)
    exact = float32(folder).score(*PAIRS)
    rounded = PairScorer.from_pretrained(folder, dtype="bfloat16").score(*PAIRS)
    assert abs(rounded - exact).mean() < 0.05 * exact.std()
    assert len(np.unique(rounded)) == len(np.unique(exact))
    assert (torch.tensor(rounded).bfloat16().float().numpy() != rounded).mean() > 0.9


@pytest.mark.parametrize("save", [save_cross_encoder, save_classifier, save_roberta])
def test_empty_texts_get_a_score(tmp_path, save):
    assert np.isfinite(float32(save(tmp_path)).score(["", "how tall", ""], ["a giraffe", "", ""])).all()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text() | st.sampled_from(["\0", "giraffe\u202eeffarig", "😀" * 500, "a" * 100_000, "\r\n\t"]))
def test_any_text_gets_a_score(hostile_teachers, query, document):
    for scorer in hostile_teachers:
        assert np.isfinite(scorer.score([query, "how tall"], [document, document], progress=False)).all()


@pytest.fixture
def hostile_teachers(tmp_path):
    kinds = (save_cross_encoder, save_classifier, save_roberta)
    return [float32(save(tmp_path / save.__name__)) for save in kinds]


def test_no_pairs_give_no_scores(tmp_path):
    assert float32(save_cross_encoder(tmp_path)).score([], []).shape == (0,)


def test_every_pair_moves_the_bar_once(tmp_path):
    bar = tqdm(total=60, file=StringIO())
    float32(save_cross_encoder(tmp_path)).score(*PAIRS, bar=bar)
    assert bar.n == 60


def test_queries_without_documents_are_our_mistake(tmp_path):
    with pytest.raises(ValueError, match="got 2 and 1"):
        float32(save_cross_encoder(tmp_path)).score(["a", "b"], ["c"])


def test_lengths_asked_for_cut_each_text_of_any_teacher(tmp_path):
    folder = save_classifier(tmp_path)
    long, cut = ["how tall is a giraffe"], ["how tall is"]  # five tokens leave three
    document, start = ["adult giraffes stand five metres"], ["adult giraffes"]
    scorer = float32(folder, query_length=5, document_length=4)
    assert scorer.score(long, document) == pytest.approx(float32(folder).score(cut, start), abs=1e-5)
    assert float32(folder, query_length=5).score(long, document) == pytest.approx(
        float32(folder).score(cut, document), abs=1e-5
    )
    assert float32(folder).score(long, document) != pytest.approx(float32(folder).score(cut, start), abs=1e-3)


def test_lengths_of_a_byte_level_teacher_count_its_own_tokens(tmp_path):
    folder = save_roberta(tmp_path)
    ids = byte_tokenizer()("how tall is", add_special_tokens=False)["input_ids"]
    inputs = float32(folder, query_length=len(ids)).encoder(["how tall is"], ["a bird"])
    rest = byte_tokenizer()("a bird", add_special_tokens=False)["input_ids"]
    assert inputs["input_ids"].tolist() == [[0, *ids[:-2], 2, 2, *rest, 2]]


def test_lengths_override_those_of_our_config(tmp_path):
    folder = save_cross_encoder(tmp_path)
    cut = float32(folder, query_length=5).score(["how tall is a giraffe"], ["adult giraffes"])
    assert cut == pytest.approx(float32(folder).score(["how tall is"], ["adult giraffes"]), abs=1e-5)


def test_the_fingerprint_stays_when_the_folder_moves_or_scores_were_computed(tmp_path):
    folder = save_cross_encoder(tmp_path / "first")
    scorer = float32(folder)
    scorer.score(*PAIRS)
    scorer.encoder.tokenizer.save_pretrained(folder)  # with the truncation of its last call
    shutil.copytree(folder, tmp_path / "second")
    assert float32(tmp_path / "second").fingerprint == scorer.fingerprint


def test_the_fingerprint_changes_with_whatever_changes_a_score(tmp_path):
    folder = save_cross_encoder(tmp_path / "teacher")
    fingerprints = [
        float32(folder).fingerprint,
        float32(folder, query_length=7).fingerprint,
        float32(folder, document_length=21).fingerprint,
        PairScorer.from_pretrained(folder, dtype="bfloat16").fingerprint,
        float32(save_cross_encoder(tmp_path / "seed", seed=1)).fingerprint,
        float32(save_classifier(tmp_path / "classifier")).fingerprint,
    ]
    save_cross_encoder(tmp_path / "epsilon")
    config = json.loads((tmp_path / "epsilon/config.json").read_text(encoding="utf-8"))
    config["encoder_config"]["layer_norm_eps"] = 1e-3
    (tmp_path / "epsilon/config.json").write_text(json.dumps(config), encoding="utf-8")
    fingerprints.append(float32(tmp_path / "epsilon").fingerprint)
    save_cross_encoder(tmp_path / "cased")
    word_tokenizer(do_lower_case=False).save_pretrained(tmp_path / "cased")
    fingerprints.append(float32(tmp_path / "cased").fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
