"""Answers that were kept: by several processes, through a kill, each once."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstar.endpoint import Traffic
from mstar.endpoint.cache import AnswerCache
from mstar.errors import StorageError
from tests.endpoint.asking import Connect, body

if TYPE_CHECKING:
    from tests.stub_server import StubServer


def test_answers_survive_a_kill_and_are_shared_by_processes(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from mstar.endpoint.cache import AnswerCache\n"
        "cache = AnswerCache(Path(sys.argv[1])); [cache.keep(f'{sys.argv[2]}{n}', str(n)) for n in range(50)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
    assert [process.wait() for process in running] == [-9, -9]
    cache = AnswerCache(tmp_path)
    assert all(cache.find(f"{name}{n}") == str(n) for name in "ab" for n in range(50))
    cache.keep("a0", "another")
    assert cache.find("a0") == "0"
    assert cache.find("c0") is None


def test_a_file_that_holds_no_answers_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.joinpath("answers.sqlite").write_text(json.dumps({"not": "SQLite"}) * 100)
    with pytest.raises(StorageError, match=r"answers.sqlite' cannot be read or written .*choose another folder"):
        AnswerCache(tmp_path).find("a")


def test_two_that_ask_the_same_at_once_go_on_with_one_answer(
    stub: StubServer, connect: Connect, tmp_path: Path
) -> None:
    both, texts = threading.Barrier(2, timeout=10), iter("ab")

    def write(asked: dict[str, Any]) -> str:
        both.wait()
        return next(texts)

    stub.write = write
    client = connect(traffic=Traffic(concurrency=2), cache=tmp_path)
    first, second = client.ask_all([body("x"), body("x")])
    assert first == second == client.ask_all([body("x")])[0]


def test_those_of_a_team_are_shared(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    AnswerCache(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "answers.sqlite").stat().st_mode) == 0o664
