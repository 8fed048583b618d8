"""Batches are prepared while others are computed: in a thread that ends with them, and whose errors arrive."""

from __future__ import annotations

import threading

import pytest

from mstar.models.ahead import Ahead


def test_a_batch_is_prepared_once_and_before_it_is_taken() -> None:
    prepared: list[int] = []
    both = threading.Event()

    def prepare(batch: int) -> int:
        prepared.append(batch)
        if batch == 2:
            both.set()
        return 10 * batch

    with Ahead(prepare, threaded=True) as ahead:
        assert ahead.take(1, 2) == 10
        assert both.wait(60)
        assert ahead.take(2, 3) == 20
        # Another one than was said is prepared, too.
        assert ahead.take(4, None) == 40
    assert prepared == [1, 2, 3, 4]


def test_without_a_thread_nothing_is_prepared_ahead() -> None:
    prepared: list[threading.Thread] = []
    with Ahead(lambda batch: prepared.append(threading.current_thread()), threaded=False) as ahead:
        ahead.take(1, 2)
    assert prepared == [threading.main_thread()]


def test_an_error_arrives_where_its_batch_is_taken_and_nothing_runs_on() -> None:
    threads: list[threading.Thread] = []

    def prepare(batch: int) -> int:
        threads.append(threading.current_thread())
        if batch == 2:
            raise ValueError("two")
        return batch

    def run() -> None:
        with Ahead(prepare, threaded=True) as ahead:
            assert ahead.take(1, 2) == 1
            ahead.take(2, 3)

    with pytest.raises(ValueError, match="two") as raised:
        run()
    assert "prepare" in [entry.name for entry in raised.traceback]
    assert not threads[0].is_alive()
