"""Weights sent by NCCL, as far as that goes without vLLM; with it, ``tests/vllm/test_servers.py``."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.errors import ConfigError, MissingExtraError
from mstar.generation import VllmServerEngine, weight_sender
from mstar.generation.vllm_server import RefusedError, ServerLostError, VllmServer
from mstar.generation.weight_files import write_weights
from mstar.generation.weight_sender import WeightSender
from tests.stub_server import serving

if TYPE_CHECKING:
    from tests.conftest import Policy


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights, and this machine's own memory in the place of a GPU."""
    monkeypatch.setattr(weight_sender, "find_gpu", lambda: torch.device("cpu"))
    write_weights([("a.weight", torch.ones(2, 3)), ("b.bias", torch.zeros(4))], tmp_path, torch.bfloat16)
    return tmp_path


class Sending:
    """What vLLM's code does, without a server."""

    def __init__(self, send: Any) -> None:
        self.client: Any = None
        self.source: Any = None
        self.left = threading.Event()
        self.model_update_group = SimpleNamespace(destroy=self.left.set)
        self.send_weights = lambda: send(self)


def test_what_is_sent_is_what_is_in_the_folder(folder: Path) -> None:
    sent: list[tuple[str, torch.Tensor]] = []
    sender = WeightSender(VllmServer("http://127.0.0.1:1"), 10)
    sender._engine = Sending(lambda engine: sent.extend(engine.source))
    asyncio.run(sender.send(folder))
    assert [(name, value.dtype, value.tolist()) for name, value in sent] == [
        ("a.weight", torch.bfloat16, [[1.0] * 3] * 2),
        ("b.bias", torch.bfloat16, [0.0] * 4),
    ]


def test_no_proxy_is_asked_for_a_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with serving() as server:
        server.faults = [(400, {}, {"message": "here it is"})]
        sender = WeightSender(VllmServer(server.address), 10)
        sender._engine = Sending(lambda engine: engine.client.ask("/start_weight_update", {}))
        with pytest.raises(RefusedError, match="here it is"):
            asyncio.run(sender.send(folder))


def test_a_transfer_that_hangs_costs_the_server_and_not_the_run(folder: Path) -> None:
    """The other side may end in the middle, of which NCCL does not tell."""
    sender = WeightSender(VllmServer("http://127.0.0.1:1"), 0.2)
    hanging = sender._engine = Sending(lambda engine: engine.left.wait(60))
    with pytest.raises(ServerLostError, match=r"it did not take the weights in 0\.2 seconds"):
        asyncio.run(sender.send(folder))
    assert hanging.left.is_set()
    # The next time it is joined anew; so it is after an error.
    assert sender._engine is None
    sender = WeightSender(VllmServer("http://127.0.0.1:1"), 60)
    failing = sender._engine = Sending(lambda engine: (_ for _ in ()).throw(RuntimeError("NCCL error: remote process")))
    with pytest.raises(ServerLostError, match=r"the weights could not be sent: NCCL error: remote process"):
        asyncio.run(sender.send(folder))
    assert failing.left.is_set()
    assert sender._engine is None


def test_what_is_missing_is_said_before_anything_is_written(
    tiny: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = VllmServerEngine("http://127.0.0.1:1", str(tmp_path / "weights"), transfer="nccl")
    monkeypatch.setattr(weight_sender.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"transfer: nccl needs the package 'vllm'"):
        engine.start(tiny.model, tiny.renderer)
    monkeypatch.setattr(weight_sender.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"transfer is 'nccl', .* and this machine has none: set it to folder"):
        engine.start(tiny.model, tiny.renderer)
    assert not (tmp_path / "weights").exists()
