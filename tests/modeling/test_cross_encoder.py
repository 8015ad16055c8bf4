import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import BertForSequenceClassification, BertModel

from m3se import CrossEncoder, CrossEncoderConfig
from m3se.modeling.cross_encoder import join_pairs, pair_fields
from tests.worlds import architectures, tiny


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


@pytest.mark.parametrize(
    ("template", "separators", "keep_start"),
    [
        ("<s> $A </s> </s> $B </s>", [2], False),  # RoBERTa
        ("<s> $A </s> $B </s>", [], False),  # BERT
        ("$A </s> $B </s>", [], True),  # T5
        ("$A $B", [], True),  # Qwen
        ("<s> $A <s> $B", [0], False),  # Llama
    ],
)
def test_pairs_are_joined_as_the_tokenizer_does_it(template, separators, keep_start):
    tokenizer = architectures.word_tokenizer()
    ids = [("<s>", 0), ("</s>", 2)]
    single = template[: template.index("$A") + 2] + " </s>" * template.endswith("</s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, pair=template, special_tokens=ids)
    fields = pair_fields(tokenizer, "model")
    assert fields == {"separator_ids": separators, "keep_document_start": keep_start}
    queries, documents = ["red", "blue tree"], ["red stone river", "salt"]
    sides = [tokenizer(side, padding=True, return_tensors="pt") for side in (queries, documents)]
    texts = [side[name] for side in sides for name in ("input_ids", "attention_mask")]
    joined, mask, _ = join_pairs(*texts, tokenizer.pad_token_id, **fields)
    expected = tokenizer(queries, documents, padding=True)["input_ids"]
    width = len(expected[0])
    assert joined[:, :width].tolist() == expected and not mask[:, width:].any()
    longest = CrossEncoderConfig(query_length=texts[0].shape[1], document_length=texts[2].shape[1], **fields)
    assert longest.pair_length == joined.shape[1]


def test_a_tokenizer_that_puts_the_document_first_is_refused():
    tokenizer = architectures.word_tokenizer(words=["a", "query", "document"])
    templates = {"single": "<s> $A </s>", "pair": "<s> $B </s> $A </s>"}
    ids = [("<s>", 0), ("</s>", 2)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(**templates, special_tokens=ids)
    with pytest.raises(ValueError, match="model: its tokenizer does not pair texts as a query, then a document"):
        pair_fields(tokenizer, "model")


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
