"""The Hub before and behind an upload: who may write, a card that it would refuse, and its reasons in one line."""

from pathlib import Path

from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from m3se.trainers.errors import InputError


BUSY = (429, 500, 502, 503, 504)
MEANINGS = {
    400: "the Hub refuses what was sent",
    401: "the Hub does not accept the token, or hides {repo} from it",
    403: "the Hub forbids it to write to {repo}",
    404: "{repo} does not exist or is not yours to see",
    412: "{repo} was changed by somebody else during the upload",
    413: "a file is too large for the Hub",
    429: "the Hub asks to wait: too many requests",
}
ADVICE = {401: ": check HF_TOKEN or `hf auth login`"}


def check_token(api: HfApi) -> None:
    """Raise InputError when there is no access token."""
    if not (api.token or get_token()):
        raise InputError("no access token: set HF_TOKEN, or log in once with `hf auth login`")


def check_access(api: HfApi, repo: str, option: str = "repo") -> None:
    """Raise InputError, before any work, for a name that is not OWNER/NAME or a token that cannot write there.

    `option` is the name under which the user gave the repository.

    Fine-grained tokens do not list what they may do, so that only the upload itself tells.
    """
    check_token(api)
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{option}: {first_line(error)}") from None
    owner, slash, _ = repo.partition("/")
    if not slash:
        raise InputError(f"{option}: expected OWNER/NAME, such as org/de-m3se, got {repo!r}")
    try:
        account = api.whoami()
    except HTTPError as error:
        raise InputError(explain(error, repo)) from error
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    owners = [account["name"], *(organisation["name"] for organisation in account.get("orgs", []))]
    if role == "read":
        raise InputError(f"the token of {account['name']} may only read: make one that may write to {repo}")
    if role == "write" and owner not in owners:
        raise InputError(f"{account['name']} may not write to {owner}, only to {', '.join(owners)}: join it first")


def check_card(api: HfApi, card: Path) -> None:
    """Ask the Hub if it accepts the metadata of a card, which it checks at every upload.

    Raises:
        InputError: with the Hub's reasons.
        HTTPError: the Hub cannot be asked.
    """
    content = {"content": card.read_text(encoding="utf-8"), "repoType": "model"}
    answer = get_session().post(
        f"{api.endpoint}/api/validate-yaml", json=content, headers=build_hf_headers(token=api.token)
    )
    try:
        hf_raise_for_status(answer)
    except HfHubHTTPError as error:
        if answer.status_code != 400:
            raise
        raise InputError(f"{card}: the Hub refuses the card's metadata: {server_reason(error)}") from error


def may_pass(error: Exception) -> bool:
    """Return True where it may help to wait: the Hub is busy or broken, or the connection is."""
    error = cause(error)
    return error.response.status_code in BUSY if isinstance(error, HfHubHTTPError) else isinstance(error, HTTPError)


def explain(error: Exception, repo: str) -> str:
    """Explain in one line what the Hub, or the way to it, objected to, in the Hub's own words where it has some."""
    error = cause(error)
    if not isinstance(error, HTTPError):
        return first_line(error)
    if not isinstance(error, HfHubHTTPError):
        return f"no connection to the Hub ({type(error).__name__}: {first_line(error)})"
    status = error.response.status_code
    meaning = MEANINGS[404] if isinstance(error, RepositoryNotFoundError) else MEANINGS.get(status, "the Hub failed")
    reason = server_reason(error)
    return f"{meaning.format(repo=repo)} ({status}{': ' if reason else ''}{reason}){ADVICE.get(status, '')}"


def server_reason(error: HfHubHTTPError) -> str:
    """Return the Hub's own words on an error, in one line."""
    return "; ".join((error.server_message or "").splitlines())


def cause(error: Exception) -> Exception:
    """Return the answer of the Hub behind an error of huggingface_hub's own, or the error itself."""
    behind = isinstance(error.__cause__, HTTPError) and not isinstance(error, HTTPError)
    return error.__cause__ if behind else error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
