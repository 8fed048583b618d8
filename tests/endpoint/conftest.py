"""A client of the stub server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstar.endpoint import AddressedModel, ChatClient, Traffic
from tests.endpoint.asking import Connect

if TYPE_CHECKING:
    from tests.stub_server import StubServer


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were waited, or would have been."""
    return []


@pytest.fixture
def connect(stub: StubServer, waits: list[float], request: pytest.FixtureRequest) -> Connect:
    def connected(cache: Path | None = None, **arguments: Any) -> ChatClient:
        asked = AddressedModel(stub.address, "teacher", **{"traffic": Traffic(concurrency=1)} | arguments)
        asked.pause = waits.append
        client = ChatClient(asked, cache)
        request.addfinalizer(client.close)
        return client

    return connected
