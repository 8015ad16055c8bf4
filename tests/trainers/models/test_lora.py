import pytest
import torch
from peft import PeftModel
from transformers import BertModel

from m3se import CrossEncoder, DualEncoder, InputError
from m3se.trainers.models.lora import add_adapter
from tests.worlds import tiny


BUILDERS = {
    "dual encoder": tiny.dual_encoder,
    "untied": lambda: tiny.dual_encoder(tied=False, projection_size=6, output_norm=True),
    "learned scale": lambda: tiny.dual_encoder(normalize=True, learn_scale=True),
    "cross-encoder": tiny.cross_encoder,
    "colbert": tiny.colbert,
}


def score(model, lists):
    with torch.no_grad():
        return model.eval()(**tiny.model_inputs(tiny.batch(lists))).scores


def trained(model, lists, folder, **options):
    trainer = tiny.make_trainer(add_adapter(model, rank=2), lists, folder, learning_rate=0.05, **options)
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", BUILDERS)
def test_adapters_train_save_reload_and_merge_to_equal_scores(name, lists, tmp_path):
    trainer = trained(BUILDERS[name](), lists, tmp_path, in_batch_negatives=True)
    expected = score(trainer.model, lists)
    assert (expected - score(BUILDERS[name](), lists)).abs().nan_to_num().max() > 1e-2
    trainer.save_model(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(BUILDERS[name](), tmp_path / "adapter")
    torch.testing.assert_close(score(again, lists), expected)
    merged = trainer.model.merge_and_unload()
    torch.testing.assert_close(score(merged, lists), expected, rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    reloaded = type(merged).from_pretrained(tmp_path / "merged")
    assert torch.equal(tiny.flat_weights(reloaded), tiny.flat_weights(merged))
    torch.testing.assert_close(score(reloaded, lists), expected, rtol=1e-5, atol=1e-5)
    assert merged.state_dict().keys() == BUILDERS[name]().state_dict().keys()


def test_the_encoder_is_frozen_and_what_comes_after_it_is_not(lists, tmp_path):
    model = add_adapter(tiny.dual_encoder(projection_size=6, output_norm=True), rank=2)
    free = {name for name, weight in model.named_parameters() if weight.requires_grad}
    adapters = {name for name in free if "lora_" in name}
    assert {name.split(".modules_to_save")[0].rsplit(".", 1)[-1] for name in free - adapters} == {
        "projection",
        "output_norm",
    }
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in adapters}
    assert layers == {"query", "key", "value", "dense"}
    assert not any("pooler" in name for name in free)


def test_a_cross_encoders_head_is_trained_whole():
    model = add_adapter(tiny.cross_encoder(), rank=2)
    free = {name for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name}
    assert {name.split(".modules_to_save")[0] for name in free} == {
        "base_model.model.encoder.classifier",
        "base_model.model.encoder.bert.pooler.dense",
    }


def test_targets_are_the_named_layers():
    model = add_adapter(tiny.dual_encoder(), rank=2, targets=["query", "value"])
    free = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in free} == {"query", "value"}


def test_an_unknown_target_or_rank_is_refused():
    with pytest.raises(InputError, match="lora_targets: expected some of dense, key, query, value, got Wqkv"):
        add_adapter(tiny.dual_encoder(), rank=2, targets=["query", "Wqkv"])
    with pytest.raises(InputError, match="lora_r: expected at least 1, got 0"):
        add_adapter(tiny.dual_encoder(), rank=0)


def test_gradient_checkpointing_and_chunks_change_no_gradient(lists, tmp_path):
    def gradients(**options):
        model = add_adapter(tiny.dual_encoder(), rank=2)
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight)  # zero at the start: no gradient would reach lora_A
        trainer = tiny.make_trainer(
            model, lists, tmp_path, max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=0.0, **options
        )
        trainer.train()
        return torch.cat([w.detach().flatten() for w in trainer.model.parameters() if w.requires_grad])

    plain = gradients()
    torch.testing.assert_close(gradients(gradient_checkpointing=True), plain)
    torch.testing.assert_close(gradients(forward_chunk_size=3), plain, rtol=1e-5, atol=1e-5)


def test_an_adapter_resumes_bit_identical_and_its_best_checkpoint_is_restored(lists, tmp_path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}

    def trainer():
        return tiny.make_trainer(
            add_adapter(tiny.dual_encoder(dropout=0.1), rank=2), lists, tmp_path, lists, learning_rate=0.05,
            load_best_model_at_end=True, **options,
        )  # fmt: skip

    whole, again = trainer(), trainer()
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(score(whole.model, lists), score(again.model, lists))
    best = PeftModel.from_pretrained(tiny.dual_encoder(), tmp_path / f"checkpoint-{whole.state.best_global_step}")
    torch.testing.assert_close(score(whole.model, lists), score(best, lists))


@pytest.mark.parametrize("kind", [DualEncoder, CrossEncoder])
def test_a_pretrained_encoder_takes_an_adapter(kind, lists, tmp_path):
    BertModel(tiny.bert(num_hidden_layers=2)).save_pretrained(tmp_path)
    trained(kind.from_encoder(str(tmp_path), layers=1, **tiny.LENGTHS), lists, tmp_path / "run")
