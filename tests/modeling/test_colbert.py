import copy
from itertools import product

import pytest
import torch
from transformers import AutoModel

from m3se import LOSSES, DistillationTrainer, RankingConfig
from m3se.modeling import colbert as colbert_module
from m3se.modeling.colbert import ColBERT, ColBERTConfig
from m3se.modeling.colbert_inputs import add_mask_tokens, insert_marker, truncate
from tests.worlds import tiny


PAD, UNK, CLS, SEP, MASK, QUERY, DOCUMENT, COMMA = range(8)
MARKERS = {"query_marker_id": QUERY, "document_marker_id": DOCUMENT, "mask_token_id": MASK, "skiplist_ids": [COMMA]}


def colbert(dropout=0.0, seed=0, **fields):
    fields = {"query_length": 8, "document_length": 12, "projection_size": 6, **MARKERS, **fields}
    return ColBERT(ColBERTConfig(encoder_config=tiny.bert(seed, dropout), embedding_dropout=dropout, **fields)).eval()


def texts(*rows):
    """Token ids between [CLS] and [SEP], right-padded -> ids and mask."""
    length = max(map(len, rows)) + 2
    ids = torch.tensor([[CLS, *row, SEP, *[PAD] * (length - len(row) - 2)] for row in rows])
    return ids, (ids != PAD).long()


@pytest.fixture
def batch():
    """Two queries and four documents of different lengths; a document shared, a list with a hole."""
    queries, documents = texts([10, 11, 12], [13]), texts([14, 15], [16, 7, 17, 18, 19], [20], [21, 22, 23])
    return {
        "query_input_ids": queries[0],
        "query_attention_mask": queries[1],
        "document_input_ids": documents[0],
        "document_attention_mask": documents[1],
        "document_index": torch.tensor([[0, 1, 2], [3, 1, -1]]),
    }


def test_a_marker_goes_behind_the_first_token():
    ids, mask = insert_marker(*texts([10, 11], [12]), QUERY)
    assert ids.tolist() == [[CLS, QUERY, 10, 11, SEP], [CLS, QUERY, 12, SEP, PAD]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]


def test_a_text_too_long_loses_the_tokens_before_its_last():
    ids, mask = truncate(*texts([10, 11, 12, 13], [14], [15, 16, 17]), 5)
    assert ids.tolist() == [[CLS, 10, 11, 12, SEP], [CLS, 14, SEP, PAD, PAD], [CLS, 15, 16, 17, SEP]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ({"fill_to": 6}, [[CLS, 10, 11, SEP, MASK, MASK], [CLS, 12, SEP, MASK, MASK, MASK]]),
        ({"count": 2}, [[CLS, 10, 11, SEP, MASK, MASK], [CLS, 12, SEP, MASK, MASK, PAD]]),
    ],
)
def test_mask_tokens_follow_the_last_token(amount, expected):
    ids, added = add_mask_tokens(*texts([10, 11], [12]), MASK, **amount)
    assert ids.tolist() == expected
    assert added.tolist() == [[token == MASK for token in row] for row in expected]


def test_a_query_fills_its_length_with_masks_that_count_but_are_not_attended(batch):
    ids, attention, present = colbert().prepare(batch["query_input_ids"], batch["query_attention_mask"], "query")
    assert ids.tolist() == [[CLS, QUERY, 10, 11, 12, SEP, MASK, MASK], [CLS, QUERY, 13, SEP, *[MASK] * 4]]
    assert attention.tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]
    assert present.all()
    attended = colbert(attend_to_mask=True).prepare(batch["query_input_ids"], batch["query_attention_mask"], "query")
    assert attended[1].all()


def test_skipped_tokens_of_a_document_are_seen_but_not_compared(batch):
    _, mask = colbert().embed(batch["document_input_ids"], batch["document_attention_mask"], "document")
    assert mask[1].tolist() == [True, True, True, False, True, True, True, True]  # [CLS] [D] 16 , 17 18 19 [SEP]
    assert mask[2].tolist() == [True, True, True, True, False, False, False, False]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_scores_equal_those_of_sentence_transformers(batch, normalize, reduction):
    similarity = pytest.importorskip("sentence_transformers.util.similarity")
    model = colbert(normalize=normalize, reduction=reduction)
    queries, query_mask = model.embed(batch["query_input_ids"], batch["query_attention_mask"], "query")
    documents, document_mask = model.embed(batch["document_input_ids"], batch["document_attention_mask"], "document")
    maxsim = similarity.maxsim if reduction == "sum" else similarity.mean_maxsim
    every = maxsim(queries, documents, query_mask, document_mask)
    expected = torch.stack([every[0, [0, 1, 2]], every[1, [3, 1, 0]]])
    expected[1, 2] = -torch.inf
    torch.testing.assert_close(model(**batch).scores, expected * model.config.start_scale())


def test_only_means_of_cosines_are_multiplied_where_nobody_chose_a_scale():
    scales = {}
    for normalize, reduction in product((True, False), ("mean", "sum")):
        scales[normalize, reduction] = colbert(normalize=normalize, reduction=reduction).reached_scale()
    assert scales == {(True, "mean"): 20, (True, "sum"): 1, (False, "mean"): 1, (False, "sum"): 1}
    assert colbert(normalize=True, scale=3.0).reached_scale() == 3


def test_scores_equal_those_of_sentence_transformers_when_all_similarities_are_negative(batch, monkeypatch):
    similarity = pytest.importorskip("sentence_transformers.util.similarity")
    model = colbert(normalize=False, reduction="sum")
    queries, documents = torch.rand(1, 3, 6), -torch.rand(2, 4, 6)
    query_mask, document_mask = torch.tensor([[1, 1, 0]]).bool(), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    pairs = model.score_pairs(
        queries, query_mask, documents, document_mask, torch.tensor([0, 0]), torch.tensor([0, 1])
    )
    assert (pairs < 0).all()
    torch.testing.assert_close(pairs[None], similarity.maxsim(queries, documents, query_mask, document_mask))


@pytest.mark.parametrize(
    "fields", [{}, {"mask_augmentation": "none"}, {"mask_augmentation": "append", "mask_tokens": 3}]
)
def test_a_score_does_not_depend_on_padding_or_neighbours(batch, fields):
    model = colbert(**fields)
    expected = model(**batch).scores
    alone = {name: value[1:] for name, value in batch.items() if name.startswith("query")}
    alone |= {name: torch.nn.functional.pad(batch[name][3:], (0, 5)) for name in batch if name.startswith("document_")}
    alone["document_index"] = torch.tensor([[0]])
    torch.testing.assert_close(model(**alone).scores[0, 0], expected[1, 0])


def test_truncation_in_the_tokenizer_and_in_the_model_agree():
    model = colbert(document_length=6)
    long, cut = texts([10, 11, 12, 13, 14, 15, 16]), texts([10, 11, 12])
    for ours, theirs in zip(model.embed(*long, "document"), model.embed(*cut, "document"), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_saved_model_scores_alike_and_keeps_its_skiplist(batch, tmp_path):
    model = colbert()
    model.save_pretrained(tmp_path)
    for loaded in (ColBERT.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert loaded.config.skiplist_ids == [COMMA]
        torch.testing.assert_close(loaded(**batch).scores, model(**batch).scores)


def test_an_empty_document_scores_minus_infinity_without_spoiling_gradients(batch):
    model = colbert()
    batch["document_attention_mask"][1] = 0
    scores = model(**batch).scores
    assert torch.isneginf(scores).tolist() == [[False, True, False], [False, True, True]]
    scores[torch.isfinite(scores)].sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def many_documents(count):
    queries = texts([10, 11, 12])
    documents = texts(*torch.randint(8, 22, (count, 8)).tolist())
    index = torch.arange(count)[None]
    return dict(zip(tiny_names(), (*queries, *documents, index), strict=True))


def tiny_names():
    return (
        "query_input_ids",
        "query_attention_mask",
        "document_input_ids",
        "document_attention_mask",
        "document_index",
    )


def gradients_of(model, batch, **settings):
    model = copy.deepcopy(model)
    for name, value in settings.items():
        setattr(model, name, value)
    torch.manual_seed(3)
    scores = model(**batch).scores
    (scores.masked_fill(scores == -torch.inf, 0).softmax(dim=1) * torch.arange(scores.shape[1])).sum().backward()
    return scores.detach(), torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])


def test_chunks_change_neither_scores_nor_gradients(monkeypatch):
    model, batch = colbert(), many_documents(20)
    expected = gradients_of(model, batch)
    monkeypatch.setattr(colbert_module, "chunk_numbers", lambda device: 600)
    for ours, theirs in zip(gradients_of(model, batch, chunk_size=3), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_scores_are_float32_under_autocast(batch):
    model = colbert()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(**batch).scores
        embeddings, _ = model.embed(batch["query_input_ids"], batch["query_attention_mask"], "query")
    assert scores.dtype == embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(embeddings.shape[:2]))
    torch.testing.assert_close(scores, model(**batch).scores, atol=0.05, rtol=0)


def test_an_encoder_brings_its_markers_mask_and_punctuation(tmp_path):
    words = [*tiny.WORDS, ","]
    tokenizer = tiny.tokenizer(words)
    tokenizer.save_pretrained(tmp_path)
    config = tiny.bert()
    config.vocab_size = len(tokenizer)
    encoder = AutoModel.from_config(config)
    encoder.save_pretrained(tmp_path)
    model = ColBERT.from_encoder(tmp_path, projection_size=4)
    known = tokenizer.get_vocab()
    expected = (known["[unused0]"], known["[unused1]"], known["[MASK]"], [known[","]])
    found = model.config
    assert (found.query_marker_id, found.document_marker_id, found.mask_token_id, found.skiplist_ids) == expected
    torch.testing.assert_close(model.encoder.state_dict(), encoder.state_dict())
    with pytest.raises(ValueError, match=r"no token '\[Q\]'"):
        ColBERT.from_encoder(tmp_path, markers=("[Q]", "[D]"))
    plain = ColBERT.from_encoder(tmp_path, markers=None, skip_punctuation=False).config
    assert (plain.query_marker_id, plain.document_marker_id, plain.skiplist_ids) == (None, None, [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "max"}, "reduction must be"),
        ({"mask_augmentation": "fixed"}, "mask_augmentation must be"),
        ({"mask_token_id": None}, "needs mask_token_id"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        colbert(**fields)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_it_through_the_same_trainer(loss, lists, tmp_path):
    args = RankingConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        loss=loss,
        max_steps=2,
        in_batch_negatives=loss in ("m3se", "softmax_ce"),
        forward_chunk_size=5,
    )
    model = colbert(dropout=0.1)
    trainer = DistillationTrainer(
        model=model,
        args=args,
        data_collator=tiny.collator(lists),
        train_dataset=lists.rows,
        eval_dataset=lists.rows,
        processing_class=tiny.tokenizer(),
    )
    start = tiny.flat_weights(model)
    trainer.train()
    assert not torch.equal(tiny.flat_weights(model), start)
    assert 0 < trainer.evaluate()["eval_MRR@10"] <= 1
