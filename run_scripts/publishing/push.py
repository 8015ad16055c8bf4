"""--push_to_hub of the training commands: the model goes through publish.py, never through Trainer's own upload."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from m3se.run_scripts.publishing.upload import check_token
from m3se.trainers.config import RankingConfig
from m3se.trainers.errors import InputError


def make_publisher(config: RankingConfig) -> Callable[[Path], None] | None:
    """Return what publishes a trained model's directory when the options ask for it, None when they do not.

    Trainer's own upload, which would take its arguments along as a pickle with paths, is turned off in `config`.

    Raises:
        InputError: --push_to_hub without an id that the Hub allows, or without an access token: better known before
            training.
    """
    if not config.push_to_hub:
        return None
    config.push_to_hub = False
    if not config.hub_model_id:
        raise InputError("push_to_hub: name the repository with --hub_model_id, such as org/de-m3se")
    try:
        validate_repo_id(config.hub_model_id)
    except HFValidationError as error:
        raise InputError(f"hub_model_id: {str(error).splitlines()[0]}") from None
    check_token(HfApi())
    from m3se.run_scripts.publish import publish  # with matplotlib, a second of every start

    def publisher(directory: Path) -> None:
        folder = directory / "published" / Path(config.hub_model_id).name
        revision = config.hub_revision or "main"
        publish(directory, folder, config.hub_model_id, private=bool(config.hub_private_repo), revision=revision)

    return publisher
