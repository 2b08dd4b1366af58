"""To the hub: a dataset that `sq build` has made, uploaded with a token of the environment that nobody ever sees."""

from __future__ import annotations

import logging
from pathlib import Path

from sq.core.errors import ConfigError, EngineError, RowError
from sq.core.secrets import redact
from sq.report.artifacts import read_json
from sq.report.build import EARLIER, FORMAT, NOTE

log = logging.getLogger(__name__)


def push(directory: Path, repo: str, *, private: bool = False) -> str:
    """Upload the dataset and return its address; what is there already is not sent again, an earlier build's rows go.

    Args:
        directory: what `sq build` wrote.
        repo: OWNER/NAME; made where it does not exist.
        private: whether a repository that is made now is private.

    Raises:
        RowError: a directory that holds no dataset.
        ConfigError: no token, or a name that the hub does not take.
        EngineError: the hub cannot be reached, or refuses.
    """
    note = read_json(directory / NOTE)
    if note.get("format") not in (FORMAT, EARLIER) or not (directory / "README.md").is_file():
        raise RowError(f"{directory} holds no dataset of sq build; build one first: sq build RUN --output {directory}")
    import httpx
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    owner, slash, name = repo.partition("/")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--repo {repo}: {str(error).splitlines()[0]}") from error
    if not (owner and slash and name):
        raise ConfigError(f"--repo {repo} must be OWNER/NAME, as in --repo me/my-questions")
    if constants.HF_HUB_OFFLINE:
        raise EngineError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it")
    token = get_token()
    if not token:
        raise ConfigError(
            "there is no token for the hub: put one that may write into $HF_TOKEN (never on a command line)"
        )
    api = HfApi(token=token)
    try:
        made = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=directory,
            delete_patterns="data/*.parquet",  # an earlier build's shards are not this one's, whatever their names
            commit_message=f"{note.get('rows', 0):,} rows, digest {str(note.get('rows_digest'))[:12]}",
        )
    except HfHubHTTPError as error:
        raise EngineError(_refusal(repo, error)) from None  # the original names the request, header and all
    except (httpx.HTTPError, OSError, OfflineModeIsEnabled) as error:
        raise EngineError(
            f"{constants.ENDPOINT} cannot be reached ({redact(type(error).__name__)}); run the same command again"
        ) from None
    return str(made)


def _refusal(repo: str, error: Exception) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code if error.response is not None else 0
    fixes = {
        401: "the token is not valid: put a good one into $HF_TOKEN",
        403: f"the token may not write to {repo}: take one with the right to write, or another owner",
        404: f"there is no {repo} that this token may see: check the owner's name",
        429: "the hub asks for a pause: run the same command again later",
    }
    said = redact(str(error.server_message or "")).splitlines()
    return f"the hub refuses ({status}): {fixes.get(status, said[0] if said else 'run the same command again')}"
