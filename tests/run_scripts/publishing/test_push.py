"""--push_to_hub, against a Hub on this machine."""

import json

import pytest
from huggingface_hub import HfApi

from m3se import DistillationTrainer, InputError, RankingConfig
from m3se.run_scripts.publishing.push import make_publisher
from tests.worlds import tiny


QUIET = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_steps": 1, "precision": "fp32"}


@pytest.fixture
def hub(hub, monkeypatch):
    """What HfApi() finds by itself: its address was read on import."""
    address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setenv("HF_TOKEN", "writer")
    return hub


def make_trainer(lists, args):
    return DistillationTrainer(
        model=tiny.dual_encoder(),
        args=args,
        data_collator=tiny.collator(lists),
        train_dataset=lists.rows,
        processing_class=tiny.tokenizer(),
    )


def test_training_with_push_to_hub_uploads_one_published_folder_and_nothing_else(lists, tmp_path, hub):
    options = {"push_to_hub": True, "hub_model_id": "org/de", "hub_private_repo": True, "save_steps": 1}
    config = RankingConfig(output_dir=str(tmp_path), **QUIET | options)
    publish = make_publisher(config)
    trainer = make_trainer(lists, config)
    trainer.train()
    trainer.save_model()
    assert hub.repositories == {}  # Trainer itself sends nothing, neither at a checkpoint nor on saving
    (tmp_path / "training.json").write_text(json.dumps({"loss": "m3se"}))
    publish(tmp_path)
    assert hub.repositories["org/de"].messages == ["Publish de"]
    assert hub.repositories["org/de"].private
    files = hub.files("org/de")
    assert {"README.md", "modules.json", "model.safetensors"} <= files.keys()
    assert not any("training" in name or "checkpoint" in name for name in files)
    assert b"distilled" in files["README.md"] or b"Trained on labels with the loss `m3se`" in files["README.md"]
    assert HfApi().model_info("org/de").private


def test_the_branch_that_was_asked_for_is_published_to(lists, tmp_path, hub):
    tiny.dual_encoder().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    options = {"push_to_hub": True, "hub_model_id": "org/de", "hub_revision": "trial"}
    make_publisher(RankingConfig(output_dir=str(tmp_path), **QUIET | options))(tmp_path)
    assert "model.safetensors" in hub.files("org/de", "trial")
    assert "model.safetensors" not in hub.files("org/de", "main")


@pytest.mark.parametrize(
    ("options", "token", "message"),
    [
        ({}, "writer", "name the repository with --hub_model_id"),
        ({"hub_model_id": "org/de"}, "", "no access token: set HF_TOKEN"),
    ],
)
def test_what_an_upload_will_need_is_asked_for_before_training(tmp_path, monkeypatch, hub, options, token, message):
    monkeypatch.setattr("m3se.run_scripts.publishing.hub_access.get_token", lambda: token or None)
    config = RankingConfig(output_dir=str(tmp_path), push_to_hub=True, **QUIET, **options)
    with pytest.raises(InputError, match=message):
        make_publisher(config)


def test_without_push_to_hub_there_is_no_publisher(tmp_path):
    assert make_publisher(RankingConfig(output_dir=str(tmp_path), **QUIET)) is None


def test_a_trainer_refuses_to_push_its_own_arguments(lists, tmp_path):
    config = RankingConfig(output_dir=str(tmp_path), push_to_hub=True, **QUIET)
    with pytest.raises(InputError, match="run_scripts/publish.py publishes a trained model"):
        make_trainer(lists, config)
    trainer = make_trainer(lists, RankingConfig(output_dir=str(tmp_path), **QUIET))
    with pytest.raises(InputError, match="run_scripts/publish.py publishes a trained model"):
        trainer.push_to_hub()
