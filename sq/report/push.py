"""To the hub: a dataset that `sq build` has made, uploaded with a token of the environment that nobody ever sees."""

from __future__ import annotations

import re
from pathlib import Path

from sq.core.errors import ConfigError, EngineError, RowError
from sq.core.files import read_json
from sq.core.secrets import redact
from sq.report.build import FORMAT, NOTE

FIXES = {
    401: "the token is not valid: put a good one into $HF_TOKEN",
    403: "the token may not write to {repo}: take one with the right to write, or another owner",
    404: "there is no {repo} that this token may see: check the owner's name",
    429: "the hub asks for a pause: run the same command again later",
}
"""What to do about a refusal, by its status."""


def push(directory: Path, repo: str, *, private: bool = False) -> str:
    """Upload what `sq build` wrote and return its address; the repository is made where it does not exist.

    What is there already is not sent again; the rows of an earlier build go.

    Raises:
        RowError: a directory that holds no dataset.
        ConfigError: no token, or a name that the hub does not take.
        EngineError: the hub cannot be reached, or refuses.
    """
    note = read_json(directory / NOTE)
    if note.get("format") != FORMAT or not (directory / "README.md").is_file():
        raise RowError(f"{directory} holds no dataset of sq build; build one first: sq build RUN --output {directory}")
    import httpx
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if not re.fullmatch("[^/]+/[^/]+", repo):
        raise ConfigError(f"--repo {repo} must be OWNER/NAME, as in --repo me/my-questions")
    if not (token := get_token()):
        raise ConfigError(
            "there is no token for the hub: put one that may write into $HF_TOKEN (not on a command line)"
        )
    api = HfApi(token=token)
    try:
        created = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=directory,
            delete_patterns="data/*.parquet",  # an earlier build's shards are not this one's, whatever their names
            commit_message=f"{note.get('rows', 0):,} rows, digest {str(note.get('rows_digest'))[:12]}",
        )
    except HFValidationError as error:
        raise ConfigError(f"--repo {repo}: {str(error).splitlines()[0]}") from error
    except HfHubHTTPError as error:  # the original names the request, header and all
        status = error.response.status_code if error.response is not None else 0
        detail = next(iter(redact(str(error.server_message or "")).splitlines()), "run the same command again")
        raise EngineError(f"the hub refuses ({status}): {FIXES.get(status, detail).replace('{repo}', repo)}") from None
    except (httpx.HTTPError, OSError, OfflineModeIsEnabled) as error:
        why = "HF_HUB_OFFLINE is set: unset it" if constants.HF_HUB_OFFLINE else "run the same command again"
        raise EngineError(f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}); {why}") from None
    return str(created)
