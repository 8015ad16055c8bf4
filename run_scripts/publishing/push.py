"""A trained model's directory → its published folder → the Hub: for publish.py, and for --push_to_hub at the end of a
training, whose own upload would send checkpoints and pickles."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi

from m3se.run_scripts.publishing.build import build_folder, compare_scores
from m3se.run_scripts.publishing.hub_access import check_access
from m3se.run_scripts.publishing.upload import make_plan, upload
from m3se.trainers.config import RankingConfig
from m3se.trainers.errors import InputError


def publish(
    model: Path,
    folder: Path,
    repo: str | None = None,
    *,
    private: bool = False,
    revision: str = "main",
    dry_run: bool = False,
    api: HfApi | None = None,
    **card_values,
) -> str | None:
    """Build the published folder; with `repo` upload it and check what came of it. Return the commit's id, if any.

    Args:
        model: directory of the trained model.
        folder: published folder to write; its name is the model's.
        repo: id of the repository to upload to, OWNER/NAME; None for no upload.
        private: a new repository is private.
        revision: branch to upload to, made if need be.
        dry_run: show what would be uploaded, and stop.
        api: whose endpoint and token are used.
        card_values: the other arguments of `build_folder`.

    Raises:
        InputError: something that the user can mend; the repository then is as it was, or complete, and the message
            says which.
    """
    api = api or HfApi()
    if repo is not None:
        check_access(api, repo)
    print(f"published folder: {build_folder(model, folder, load_id=repo, **card_values)}")
    if repo is None:
        return None
    compare_scores(model, folder)
    plan = make_plan(api, folder, repo, revision, private)
    print(plan)
    if dry_run:
        return None
    commit = upload(api, folder, plan, private)
    print(f"{api.endpoint}/{repo}/tree/{commit}: every file is there as it is in {folder}")
    return commit


def make_publisher(config: RankingConfig) -> Callable[[Path], None] | None:
    """Return the function that publishes a trained model's directory, or None where the options ask for no upload.

    Trainer's own upload, which would take its arguments along as a pickle with paths, is turned off in `config`.

    Raises:
        InputError: --push_to_hub without an id that the Hub allows, or without a token that may write there: better
            known before training.
    """
    if not config.push_to_hub:
        return None
    config.push_to_hub = False
    if not config.hub_model_id:
        raise InputError("push_to_hub: name the repository with --hub_model_id, such as org/de-m3se")
    check_access(HfApi(), config.hub_model_id, option="hub_model_id")

    def publisher(directory: Path) -> None:
        """Publish the model in `directory`, whose published folder stands below it."""
        folder = directory / "published" / Path(config.hub_model_id).name
        revision = config.hub_revision or "main"
        publish(directory, folder, config.hub_model_id, private=bool(config.hub_private_repo), revision=revision)

    return publisher
