"""A folder goes to a hub: the login is that of the environment, and is never stored."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # mypy sees no export in it

from mstar.errors import ConfigError, StorageError


def check_upload(name: str | None, private: bool) -> None:
    """Makes sure that there is a login and a name (``USER/NAME``; None for nowhere), before anything is done for it.

    Raises:
        ConfigError: the name cannot be one, there is no login, or there is no name but what needs one.
    """
    if name is None:
        if private:
            raise ConfigError("private is for a folder that goes to a hub: give --push USER/NAME too.")
        return
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push '{name}' is not a name that the hub takes: {error}") from error
    if name.count("/") != 1:
        raise ConfigError(f"--push '{name}' does not say whose it is: give USER/NAME, or ORGANISATION/NAME.")
    if get_token() is None:
        raise ConfigError(
            "--push needs a login at the hub: run 'hf auth login', or set HF_TOKEN (with rights to write)."
        )


def upload(folder: Path, name: str, *, private: bool, repo_type: Literal["model", "dataset"] = "model") -> str:
    """Uploads a folder, and returns its address on the hub.

    A repository of that name which is there gets a new commit, keeps its other files, and stays as private as it is.

    Raises:
        ConfigError: the login has no right to write there.
        StorageError: the hub cannot be reached, or refuses the files.
    """
    kept = f"the folder '{folder}' is whole and stays"
    try:
        api = HfApi()
        address = str(api.create_repo(name, private=private, repo_type=repo_type, exist_ok=True))
        api.upload_folder(repo_id=name, folder_path=folder, repo_type=repo_type, commit_message="Export of mstar")
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in {401, 403, 404}:
            raise ConfigError(
                f"the hub does not let this login write to '{name}' (status {error.response.status_code}): give --push "
                f"a name of your own, or log in with a token that may write ('hf auth login', HF_TOKEN); {kept}."
            ) from error
        raise StorageError(f"the hub did not take '{name}' ({_reason(error)}); {kept}: try again.") from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise StorageError(f"the hub cannot be reached for '{name}' ({_reason(error)}); {kept}: try again.") from error
    return address


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
