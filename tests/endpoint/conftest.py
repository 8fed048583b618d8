"""A client of the stub server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mstar.endpoint import ChatClient, Traffic
from tests.endpoint.asking import Connect

if TYPE_CHECKING:
    from tests.stub_server import StubServer


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were waited, or would have been."""
    return []


@pytest.fixture
def connect(stub: StubServer, waits: list[float], request: pytest.FixtureRequest) -> Connect:
    def connected(**arguments: Any) -> ChatClient:
        settings: dict[str, Any] = {"traffic": Traffic(concurrency=1), "pause": waits.append} | arguments
        client = ChatClient(stub.address, "teacher", **settings)
        request.addfinalizer(client.close)
        return client

    return connected
