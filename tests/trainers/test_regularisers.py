import pytest
import torch
import torch.nn.functional as F
from transformers import BertForMaskedLM, BertModel, ElectraConfig

from m3se import DualEncoder, DualEncoderConfig, InputError
from m3se.trainers import regularisers
from m3se.trainers.losses import softmax_ce, softmax_distillation
from m3se.trainers.regularisers import hide_tokens, masked_lm_loss
from tests.worlds import tiny


def test_about_the_asked_share_of_tokens_is_hidden_and_never_special_ones():
    tokenizer = tiny.tokenizer()
    ids = torch.randint(len(tiny.SPECIAL), len(tokenizer), (200, 50))
    ids[:, 0], ids[:, 40], ids[:, 41:] = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    ids[:, 5] = tokenizer.unk_token_id
    mask = (torch.arange(50) <= 40).long().expand(200, -1)
    visible, hidden = hide_tokens(ids, mask, 0.3, tokenizer)
    words = mask.bool() & ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert hidden[words].float().mean().item() == pytest.approx(0.3, abs=0.03)  # of 7,600: standard deviation .005
    assert not hidden[~words].any()
    assert (visible[hidden] == tokenizer.mask_token_id).all()
    assert torch.equal(visible[~hidden], ids[~hidden])


def test_nothing_is_hidden_at_rate_0_and_every_word_at_rate_1(lists):
    batch, tokenizer = tiny.batch(lists), tiny.tokenizer()
    texts = batch["document_input_ids"], batch["document_attention_mask"]
    assert not hide_tokens(*texts, 0.0, tokenizer)[1].any()
    assert hide_tokens(*texts, 1.0, tokenizer)[1].sum() == texts[1].sum() - 2 * len(texts[1])  # all but [CLS], [SEP]


def test_tokens_are_hidden_in_training_only(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, token_dropout=0.9)
    batch = tiny.batch(lists)
    plain = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path).score(trainer.model.eval(), batch)[0]
    assert torch.equal(trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)[1]["scores"], plain)
    assert not torch.equal(trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)[1]["scores"], plain)


def test_queries_and_documents_lose_tokens(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, token_dropout=1.0)
    batch = trainer.augment(dict(tiny.batch(lists)))
    for side in ("query", "document"):
        assert torch.isin(batch[f"{side}_input_ids"], torch.tensor(tiny.tokenizer().all_special_ids)).all()


def test_drawn_negatives_lose_tokens_too(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, token_dropout=1.0, uniform_negatives=5)
    batch = trainer.augment(dict(tiny.batch(lists)))
    assert torch.isin(batch["document_input_ids"], torch.tensor(tiny.tokenizer().all_special_ids)).all()


def test_masked_lm_loss_is_that_of_berts_own_head_reduced_to_its_embeddings(lists, monkeypatch):
    batch = tiny.batch(lists)
    ids, mask = batch["document_input_ids"], batch["document_attention_mask"]
    model = BertForMaskedLM(tiny.bert()).eval()
    model.cls.predictions.transform = torch.nn.Identity()
    torch.nn.init.zeros_(model.cls.predictions.bias)
    hidden = (torch.arange(ids.shape[1]) % 3 == 1) & mask.bool()
    monkeypatch.setattr(regularisers, "hide_tokens", lambda *_: (ids.masked_fill(hidden, 4), hidden))
    expected = model(ids.masked_fill(hidden, 4), attention_mask=mask, labels=ids.masked_fill(~hidden, -100)).loss
    loss = masked_lm_loss(model.bert, ids, mask, tiny.tokenizer())
    torch.testing.assert_close(loss, expected)
    words = model.bert.embeddings.word_embeddings.weight  # read twice: as embeddings and as the head
    gradients = [torch.autograd.grad(one, words)[0] for one in (loss, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(masked_lm_loss(model.bert, ids, mask, tiny.tokenizer(), chunk_size=3), expected)


def test_masked_lm_loss_without_a_hidden_token_is_0_with_a_gradient_of_0(monkeypatch, lists):
    batch = tiny.batch(lists)
    ids, mask = batch["document_input_ids"], batch["document_attention_mask"]
    monkeypatch.setattr(regularisers, "hide_tokens", lambda *_: (ids, torch.zeros_like(ids, dtype=torch.bool)))
    encoder = tiny.dual_encoder().encoder
    loss = masked_lm_loss(encoder, ids, mask, tiny.tokenizer())
    loss.backward()
    assert loss == 0
    assert (encoder.embeddings.word_embeddings.weight.grad == 0).all()


@pytest.mark.parametrize("tied", [True, False])
def test_the_masked_lm_loss_is_added_with_its_weight(tied, lists, tmp_path):
    def loss(weight):
        trainer = tiny.make_trainer(tiny.dual_encoder(tied=tied), lists, tmp_path, mlm_weight=weight)
        torch.manual_seed(3)
        return trainer.compute_loss(trainer.model.train(), tiny.batch(lists))

    none, one, two = loss(0.0), loss(1.0), loss(2.0)
    assert one > none + 0.1
    torch.testing.assert_close(two - none, 2 * (one - none))


def test_the_masked_lm_loss_teaches_the_encoder_of_documents_in_training_only(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(tied=False), lists, tmp_path, mlm_weight=1.0)
    batch = tiny.batch(lists)
    trainer.auxiliary_loss(batch).backward()
    assert all(weight.grad is None for weight in trainer.model.encoder.parameters())
    assert trainer.model.document_encoder.embeddings.word_embeddings.weight.grad.abs().max() > 0
    plain = tiny.make_trainer(trainer.model, lists, tmp_path)
    losses = [one.compute_loss(trainer.model.eval(), dict(batch)) for one in (trainer, plain)]
    assert losses[0] == losses[1]


def test_as_many_tokens_are_masked_as_in_bert(monkeypatch):
    asked = []

    def hide(ids, mask, rate, tokenizer):
        asked.append(rate)
        return hide_tokens(ids, mask, rate, tokenizer)

    monkeypatch.setattr(regularisers, "hide_tokens", hide)
    texts = tiny.tokenizer()(["red river"], return_tensors="pt")
    masked_lm_loss(tiny.dual_encoder().encoder, texts["input_ids"], texts["attention_mask"], tiny.tokenizer())
    assert asked == [0.15]


def test_masked_lm_training_predicts_words_better(lists, tmp_path):
    batch = tiny.batch(lists)
    texts = batch["document_input_ids"], batch["document_attention_mask"]

    def trained(weight):
        trainer = tiny.make_trainer(
            tiny.dual_encoder(), lists, tmp_path, mlm_weight=weight, max_steps=20, learning_rate=0.01
        )
        trainer.train()
        torch.manual_seed(0)
        return masked_lm_loss(trainer.model.eval().encoder, *texts, tiny.tokenizer())

    assert trained(1.0) < trained(0.0) - 0.5


def test_a_trained_model_has_no_masked_lm_head(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, mlm_weight=1.0)
    trainer.train()
    assert trainer.model.state_dict().keys() == tiny.dual_encoder().state_dict().keys()


def test_hiding_tokens_needs_a_mask_token(lists, tmp_path, monkeypatch):
    without = tiny.tokenizer()
    without.mask_token = None
    monkeypatch.setattr(tiny, "tokenizer", lambda: without)
    with pytest.raises(InputError, match="token_dropout and mlm_weight need a tokeniser with a mask token"):
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, token_dropout=0.1)


def test_a_masked_lm_head_needs_word_embeddings_as_wide_as_the_states(lists, tmp_path):
    sizes = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = DualEncoderConfig(encoder_config=ElectraConfig(vocab_size=28, num_hidden_layers=1, **sizes))
    with pytest.raises(InputError, match="mlm_weight: .* as wide as its states, 16, got 8"):
        tiny.make_trainer(DualEncoder(config), lists, tmp_path, mlm_weight=0.1)


def test_a_masked_lm_head_needs_layers(lists, tmp_path):
    BertModel(tiny.bert()).save_pretrained(tmp_path / "encoder")
    model = DualEncoder.from_encoder(str(tmp_path / "encoder"), layers=0, pooling="mean")
    with pytest.raises(InputError, match="mlm_weight: expected layers, .* got layers 0"):
        tiny.make_trainer(model, lists, tmp_path, mlm_weight=0.1)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_embedding_dropout_acts_on_the_embedding_in_training_only(rate, lists):
    model = tiny.dual_encoder(embedding_dropout=rate)
    batch = tiny.batch(lists)
    texts = batch["document_input_ids"], batch["document_attention_mask"]
    plain, dropped = model.eval().embed(*texts), model.train().embed(*texts)
    zeros = dropped == 0
    assert zeros.float().mean().item() == pytest.approx(rate, abs=0.1)
    torch.testing.assert_close(dropped[~zeros], plain[~zeros] / (1 - rate))


def test_label_smoothing_is_a_teacher_that_predicts_the_uniform_distribution():
    """Appendix C.9: mixing with the one-hot label is mixing the two cross-entropies."""
    scores, labels = torch.randn(4, 5), F.one_hot(torch.tensor([0, 1, 2, 4]), 5).float()
    mask, unknown = torch.ones(4, 5, dtype=torch.bool), torch.full((4, 5), torch.nan)
    uniform = softmax_distillation(scores, torch.zeros(4, 5), labels, mask)
    mixed = 0.8 * softmax_ce(scores, unknown, labels, mask) + 0.2 * uniform
    torch.testing.assert_close(softmax_ce(scores, unknown, labels, mask, label_smoothing=0.2), mixed)
