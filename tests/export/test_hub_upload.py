"""A folder goes to the hub, with a stub in its place: nothing here reaches the network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from mstar.errors import ConfigError, StorageError
from mstar.export import hub_upload
from mstar.export.hub_upload import check_upload, upload


class StubHub:
    """Copies what is uploaded into a folder; raises what it is told to."""

    root = Path()
    fault: Exception | None = None
    created: tuple[Any, ...] = ()

    def create_repo(self, name: str, *, private: bool, repo_type: str, exist_ok: bool) -> str:
        type(self).created = (name, private, repo_type, exist_ok)
        return f"https://hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, repo_type: str, commit_message: str) -> None:
        if self.fault is not None:
            raise self.fault
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[StubHub]:
    stub = type("Hub", (StubHub,), {"root": tmp_path / "hub"})
    monkeypatch.setattr(hub_upload, "HfApi", stub)
    return stub


def refusal(status: int) -> HfHubHTTPError:
    response = httpx2.Response(status, request=httpx2.Request("POST", "https://hub"))
    return HfHubHTTPError("no\nmore", response=response)


def test_a_folder_is_uploaded(hub: type[StubHub], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/README.md").write_text("card")
    assert upload(tmp_path / "model", "me/dice", private=True) == "https://hub/me/dice"
    assert hub.created == ("me/dice", True, "model", True)
    assert (tmp_path / "hub/me/dice/README.md").read_text() == "card"


@pytest.mark.parametrize(
    ("fault", "error", "sentence"),
    [
        (refusal(403), ConfigError, "does not let this login write to 'me/dice' (status 403)"),
        (refusal(500), StorageError, "did not take 'me/dice' (no)"),
        (httpx2.ConnectError("no route"), StorageError, "cannot be reached for 'me/dice' (no route)"),
        (OfflineModeIsEnabled("offline"), StorageError, "cannot be reached for 'me/dice' (offline)"),
    ],
)
def test_a_failed_upload_says_what_to_do(
    hub: type[StubHub], tmp_path: Path, fault: Exception, error: type[Exception], sentence: str
) -> None:
    hub.fault = fault
    with pytest.raises(error) as raised:
        upload(tmp_path, "me/dice", private=False)
    assert sentence in str(raised.value)
    assert "is whole and stays" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "private", "token", "sentence"),
    [
        (None, True, "t", "private is for a folder that goes to a hub"),
        ("dice", False, "t", "does not say whose it is"),
        ("me/a b", False, "t", "is not a name that the hub takes"),
        ("me/dice", False, None, "needs a login"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before(
    monkeypatch: pytest.MonkeyPatch, name: str | None, private: bool, token: str | None, sentence: str
) -> None:
    monkeypatch.setattr(hub_upload, "get_token", lambda: token)
    with pytest.raises(ConfigError, match=sentence):
        check_upload(name, private)
