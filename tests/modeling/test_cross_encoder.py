import pytest
import torch
from transformers import BertForSequenceClassification, BertModel

from m3se import CrossEncoder, CrossEncoderConfig
from m3se.modeling.cross_encoder import join_pairs
from tests.worlds import tiny


def score(model, batch):
    with torch.no_grad():
        return model(**tiny.model_inputs(batch)).scores


def texts_of(lists):
    return [(row["query"], text) for row in lists.rows for text in lists.documents.texts(row["document_ids"])]


def test_joined_pairs_are_what_the_tokeniser_makes_of_them(lists):
    tokenizer, pairs = tiny.tokenizer(), texts_of(lists)
    sides = [tokenizer(list(side), padding=True, return_tensors="pt") for side in zip(*pairs, strict=True)]
    expected = tokenizer(pairs, padding=True, return_tensors="pt")
    joined = join_pairs(*(side[name] for side in sides for name in ("input_ids", "attention_mask")))
    width = expected["input_ids"].shape[1]
    for found, name in zip(joined, ("input_ids", "attention_mask", "token_type_ids"), strict=True):
        assert torch.equal(found[:, :width], expected[name]), name
        assert not found[:, width:].any()


def test_scores_are_the_raw_logits_of_the_stock_classifier(lists, tmp_path):
    stock = BertForSequenceClassification(tiny.bert(num_labels=1)).eval()
    stock.save_pretrained(tmp_path)
    model, batch = CrossEncoder.from_encoder(str(tmp_path), **tiny.LENGTHS).eval(), tiny.batch(lists)
    inputs = tiny.tokenizer()(texts_of(lists), padding=True, return_tensors="pt")
    scores = score(model, batch)
    torch.testing.assert_close(scores[batch["mask"]], stock(**inputs).logits[:, 0], rtol=1e-4, atol=1e-5)
    assert (scores[~batch["mask"]] == -torch.inf).all()


def test_two_logits_give_their_difference(lists, tmp_path):
    stock = BertForSequenceClassification(tiny.bert(num_labels=2)).eval()
    stock.save_pretrained(tmp_path)
    model, batch = CrossEncoder.from_encoder(str(tmp_path)).eval(), tiny.batch(lists)
    logits = stock(**tiny.tokenizer()(texts_of(lists), padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(score(model, batch)[batch["mask"]], logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-5)


def test_a_classifier_of_more_labels_is_refused(tmp_path):
    BertForSequenceClassification(tiny.bert(num_labels=3)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has 3 labels; a ranker has 1, or 2"):
        CrossEncoder.from_encoder(str(tmp_path))


def test_an_encoder_gets_a_new_head_of_one_logit(tmp_path):
    bert = BertModel(tiny.bert(num_hidden_layers=2))
    bert.save_pretrained(tmp_path)
    model = CrossEncoder.from_encoder(str(tmp_path), layers=1)
    assert model.encoder.config.num_labels == 1
    assert model.config.encoder_config.num_hidden_layers == 1
    assert torch.equal(model.encoder.bert.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight)


def test_a_score_does_not_depend_on_batch_neighbours(cross_encoder, lists):
    together = score(cross_encoder, tiny.batch(lists))
    for i, row in enumerate(lists.rows):
        alone = score(cross_encoder, tiny.batch(lists, [i]))[0]
        torch.testing.assert_close(alone, together[i, : len(row["document_ids"])], rtol=1e-5, atol=1e-5)


def test_a_trained_model_saved_and_loaded_scores_the_same(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.cross_encoder(), lists, tmp_path, learning_rate=0.01)
    trainer.train()
    trainer.save_model(str(tmp_path))
    batch, loaded = tiny.batch(lists), CrossEncoder.from_pretrained(tmp_path)
    assert torch.equal(tiny.flat_weights(loaded), tiny.flat_weights(trainer.model))
    torch.testing.assert_close(score(loaded, batch), score(trainer.model.eval(), batch))
    assert not torch.equal(score(loaded, batch), score(tiny.cross_encoder().eval(), batch))
    assert CrossEncoderConfig.from_pretrained(tmp_path).document_length == tiny.LENGTHS["document_length"]


def test_a_document_without_a_token_scores_minus_infinity(cross_encoder, lists):
    batch = tiny.batch(lists)
    batch["document_attention_mask"][batch["document_index"][0, 1]] = 0
    assert score(cross_encoder, batch)[0, 1] == -torch.inf


def test_a_batch_without_documents_has_no_scores(cross_encoder, lists):
    batch = tiny.batch(lists)
    batch["document_index"] = torch.full_like(batch["document_index"], -1)
    assert (score(cross_encoder, batch) == -torch.inf).all()
