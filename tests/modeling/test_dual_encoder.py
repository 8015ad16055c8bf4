import pytest
import torch
from transformers import BertModel

from m3se import ColBERT, CrossEncoder, DualEncoder, DualEncoderConfig
from m3se.modeling.dual_encoder import last_token
from tests.worlds import tiny


SHAPES = [
    {},
    {"pooling": "cls"},
    {"tied": False},
    {"projection_size": 6},
    {"output_norm": True},
    {"pooling": "last", "normalize": True, "scale": 5.0, "learn_scale": True},
    {"tied": False, "projection_size": 6, "output_norm": True, "pooling": "cls"},
]


def score(model, batch):
    with torch.no_grad():
        return model(**tiny.model_inputs(batch)).scores


@pytest.mark.parametrize("fields", SHAPES, ids=str)
def test_scores_are_inner_products_of_embeddings(fields, lists):
    model, batch = tiny.dual_encoder(**fields).eval(), tiny.batch(lists)
    queries = model.embed(batch["query_input_ids"], batch["query_attention_mask"], "query")
    documents = model.embed(batch["document_input_ids"], batch["document_attention_mask"], "document")
    expected = torch.einsum("bh,bkh->bk", queries, documents[batch["document_index"]])  # Equation 2
    expected = expected * model.config.start_scale()
    found = score(model, batch)
    torch.testing.assert_close(found[batch["mask"]], expected[batch["mask"]], rtol=1e-4, atol=1e-4)
    assert (found[~batch["mask"]] == -torch.inf).all()


def test_embeddings_are_pooled_hidden_states():
    ids, mask = torch.tensor([[2, 7, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    for pooling in ("cls", "mean", "last"):
        model = tiny.dual_encoder(pooling=pooling).eval()
        hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = {"cls": hidden[:, 0], "mean": hidden[:, :4].mean(dim=1), "last": hidden[:, 3]}[pooling]
        torch.testing.assert_close(model.embed(ids, mask), expected)


def test_the_last_token_is_found_on_either_side_of_the_padding():
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    assert last_token(hidden, torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])).tolist() == [[2], [4]]
    assert last_token(hidden, torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]])).tolist() == [[3], [7]]


def test_a_normalising_model_scores_by_cosine_times_twenty(lists):
    plain, cosine, batch = tiny.dual_encoder().eval(), tiny.dual_encoder(normalize=True).eval(), tiny.batch(lists)
    queries, documents = (
        plain.embed(batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]) for side in ("query", "document")
    )
    expected = 20 * torch.cosine_similarity(queries[:, None], documents[batch["document_index"]], dim=2)
    torch.testing.assert_close(score(cosine, batch)[batch["mask"]], expected[batch["mask"]])


def test_dropout_comes_before_the_normalisation():
    model = tiny.dual_encoder(normalize=True, embedding_dropout=0.5).train()
    embeddings = model.embed(torch.tensor([[2, 7, 9, 3]] * 3), torch.ones(3, 4, dtype=torch.long))
    assert (embeddings == 0).any()
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_untied_encoders_embed_each_side_with_their_own_weights():
    ids, mask = torch.tensor([[2, 7, 9, 3]]), torch.ones(1, 4, dtype=torch.long)
    untied, tied = tiny.dual_encoder(tied=False, projection_size=6).eval(), tiny.dual_encoder().eval()
    assert not torch.allclose(untied.embed(ids, mask, "query"), untied.embed(ids, mask, "document"))
    assert torch.equal(tied.embed(ids, mask, "query"), tied.embed(ids, mask, "document"))


@pytest.mark.parametrize("fields", [{"pooling": "cls"}, {"pooling": "mean"}, {"pooling": "last"}], ids=str)
def test_a_score_does_not_depend_on_batch_neighbours_or_padding(fields, lists):
    model = tiny.dual_encoder(**fields).eval()
    together = score(model, tiny.batch(lists))
    for i, row in enumerate(lists.rows):
        alone = tiny.batch(lists, [i])
        for side in ("query", "document"):
            for name in ("input_ids", "attention_mask"):
                alone[f"{side}_{name}"] = torch.nn.functional.pad(alone[f"{side}_{name}"], (0, 5))
        count = len(row["document_ids"])
        torch.testing.assert_close(score(model, alone)[0], together[i, :count], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fields", SHAPES, ids=str)
def test_a_trained_model_saved_and_loaded_scores_the_same(fields, lists, tmp_path):
    trainer = tiny.make_trainer(
        tiny.dual_encoder(**fields), lists, tmp_path, learning_rate=0.01, in_batch_negatives=True
    )
    trainer.train()
    trainer.save_model(str(tmp_path))
    batch, loaded = tiny.batch(lists), DualEncoder.from_pretrained(tmp_path)
    assert not loaded.training
    assert torch.equal(tiny.flat_weights(loaded), tiny.flat_weights(trainer.model))
    torch.testing.assert_close(score(loaded, batch), score(trainer.model.eval(), batch))
    assert not torch.equal(score(loaded, batch), score(tiny.dual_encoder(**fields).eval(), batch))


def test_what_changes_a_score_is_in_the_saved_config(tmp_path):
    fields = {
        "tied": False,
        "pooling": "cls",
        "query_length": 9,
        "document_length": 21,
        "projection_size": 6,
        "output_norm": True,
        "normalize": True,
        "scale": 1.0,
        "learn_scale": True,
        "embedding_dropout": 0.2,
        "query_prompt": "salt ",
        "document_prompt": "iron ",
    }
    tiny.dual_encoder(**fields).save_pretrained(tmp_path)
    loaded = DualEncoderConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in fields} == fields
    other = {"name": "org/large", "fingerprints": {"torch.float32": "0f"}}
    tiny.dual_encoder(document_model=other).save_pretrained(tmp_path)
    assert DualEncoderConfig.from_pretrained(tmp_path).document_model == other
    assert sorted([*fields, "document_model"]) == DualEncoderConfig.field_names()
    with pytest.raises(ValueError, match="tied must be true where another model embeds the documents"):
        tiny.dual_encoder(document_model=other, tied=False)


def test_documents_that_another_model_has_embedded_are_met_as_they_are(lists):
    model, batch = tiny.dual_encoder().eval(), tiny.model_inputs(tiny.batch(lists))
    queries = model.embed(batch["query_input_ids"], batch["query_attention_mask"])
    vectors = torch.randn(len(batch["document_input_ids"]), 16)
    rest = {
        name: value for name, value in batch.items() if name not in ("document_input_ids", "document_attention_mask")
    }
    outputs = model(**rest, document_embeddings=vectors)
    index = batch["document_index"]
    expected = torch.einsum("bh,bkh->bk", queries, vectors[index.clamp(min=0)]).masked_fill(index < 0, -torch.inf)
    torch.testing.assert_close(outputs.scores, expected)
    assert outputs.document_embeddings is vectors
    torch.testing.assert_close(outputs.query_embeddings, queries)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_a_document_without_a_token_scores_minus_infinity_and_harms_no_gradient(pooling, lists):
    model, batch = tiny.dual_encoder(pooling=pooling), tiny.batch(lists)
    batch["document_attention_mask"][batch["document_index"][0, 1]] = 0
    scores = model(**tiny.model_inputs(batch)).scores
    assert scores[0, 1] == -torch.inf
    scores[scores.isfinite()].sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_scores_are_float32_under_bfloat16_autocast(dual_encoder, lists):
    """bfloat16 keeps 3 digits: sums near 700, as the paper's, would tie."""
    batch = tiny.batch(lists)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = score(dual_encoder, batch)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores[batch["mask"]], scores[batch["mask"]].bfloat16().float())


def test_an_encoder_is_wrapped_whole_or_by_its_first_layers(tmp_path):
    bert = BertModel(tiny.bert(num_hidden_layers=3))
    bert.save_pretrained(tmp_path)
    ids = torch.tensor([[2, 7, 9, 3]])
    mask = torch.ones_like(ids)
    whole = DualEncoder.from_encoder(str(tmp_path), pooling="mean").eval()
    states = bert.eval()(ids, mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(whole.embed(ids, mask), states[3].mean(dim=1))
    two = DualEncoder.from_encoder(str(tmp_path), layers=2, pooling="mean").eval()
    torch.testing.assert_close(two.embed(ids, mask), states[2].mean(dim=1))
    assert two.config.encoder_config.num_hidden_layers == 2
    untied = DualEncoder.from_encoder(str(tmp_path), tied=False).eval()
    assert torch.equal(untied.embed(ids, mask, "query"), untied.embed(ids, mask, "document"))


def test_an_encoder_without_layers_is_the_mean_of_normalised_token_and_position_vectors(tmp_path):
    bert = BertModel(tiny.bert(num_hidden_layers=2))
    bert.save_pretrained(tmp_path)
    model = DualEncoder.from_encoder(str(tmp_path), layers=0, pooling="mean").eval()
    ids, mask = torch.tensor([[2, 7, 9, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    weights = {name.removeprefix("embeddings."): tensor for name, tensor in bert.state_dict().items()}
    rows = []
    for place, token in enumerate([2, 7, 9, 3]):
        vector = weights["word_embeddings.weight"][token] + weights["position_embeddings.weight"][place]
        vector = vector + weights["token_type_embeddings.weight"][0]
        centred = vector - vector.mean()
        rows.append(centred / (centred.square().mean() + 1e-12).sqrt() * weights["LayerNorm.weight"])
    expected = sum(rows) / 4 + weights["LayerNorm.bias"]
    torch.testing.assert_close(model.embed(ids, mask)[0], expected)
    assert not any("encoder.layer" in name for name in model.state_dict())
    swapped = model.embed(torch.tensor([[2, 9, 7, 3]]), torch.ones(1, 4, dtype=torch.long))
    assert not torch.allclose(swapped[0], expected)  # positions count


@pytest.mark.parametrize("layers", [-1, 4])
def test_layers_that_an_encoder_does_not_have_are_refused(layers, tmp_path):
    BertModel(tiny.bert(num_hidden_layers=3)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"layers must be 0 to 3 for .*, got {layers}"):
        DualEncoder.from_encoder(str(tmp_path), layers=layers)


@pytest.mark.parametrize(
    ("build", "fields", "message"),
    [
        (DualEncoder, {"pooling": "cls"}, "pooling must be 'mean' with layers 0, where tokens never meet, got 'cls'"),
        (
            DualEncoder,
            {"pooling": "last"},
            "pooling must be 'mean' with layers 0, where tokens never meet, got 'last'",
        ),
        (ColBERT, {}, "layers must be at least 1 for ColBERT"),
        (CrossEncoder, {}, "layers must be at least 1 for a cross-encoder"),
    ],
    ids=str,
)
def test_tokens_that_have_to_meet_need_a_layer(build, fields, message, tmp_path):
    BertModel(tiny.bert()).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        build.from_encoder(str(tmp_path), layers=0, **fields)


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be 'cls', 'mean' or 'last', got 'max'"):
        DualEncoderConfig(encoder_config=tiny.bert(), pooling="max")


def test_a_bare_backbone_is_not_loaded_with_a_guessed_pooling(tmp_path):
    BertModel(tiny.bert()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="bare bert model: use from_encoder"):
        DualEncoder.from_pretrained(tmp_path)


def test_poolers_take_no_part_in_training():
    model = tiny.dual_encoder()
    assert {name for name, weight in model.named_parameters() if not weight.requires_grad} == {
        "encoder.pooler.dense.weight",
        "encoder.pooler.dense.bias",
    }
