"""The bar of generation: it moves before a batch ends, what it expects is near what comes, and what is there counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mstar.generation import TransformersEngine, plan_samples, progress
from mstar.generation.base import Request
from mstar.generation.progress import RequestWatch, ResponseBar, expected_lengths
from mstar.prompts import TinyDice

LENGTHS = np.random.default_rng(0).lognormal(5, 0.5, 512).round().clip(1, 1024)


class Clock:
    """Stands for the modules' clocks: a step of the engine takes a second."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only the test moves."""
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.mark.parametrize("batch", [64, 512])
def test_the_time_that_is_left_is_known_from_the_middle_of_the_first_batch_on(batch: int, clock: Clock) -> None:
    bar = ResponseBar(len(LENGTHS), 1024, show=True)
    bar.look((), ())
    seen: list[tuple[float, float]] = []
    shares = []
    for start in range(0, len(LENGTHS), batch):
        rows = LENGTHS[start : start + batch]
        for step in range(1, int(rows.max()) + 1):
            clock.now += np.mean(rows >= step) * batch  # a running row costs a second
            bar.look([step] * int((rows == step).sum()), [step] * int((rows > step).sum()))
            begun, _, left = bar._estimate(clock.now - 100)
            shares.append(begun / len(LENGTHS))
            if left is not None:
                seen.append((clock.now - 100, left))
    bar.close()
    whole = LENGTHS.sum()
    assert seen[0][0] < 0.8 * LENGTHS[:batch].sum()
    assert all(abs(elapsed + left - whole) < 0.3 * whole for elapsed, left in seen)
    # Before anything has ended it moves, too.
    assert 0 < shares[0] < shares[1]
    assert shares[-1] == 1


def test_a_response_is_expected_to_be_as_long_as_the_longer_ones() -> None:
    ended = np.array([10.0, 40.0, 20.0])
    running = np.array([0.0, 10.0, 30.0, 40.0, 95.0])
    assert expected_lengths(ended, running, 100).tolist() == pytest.approx([70 / 3, 30, 40, 40 + 70 / 3, 100])


def test_what_is_there_counts_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ResponseBar(100, 8, show=True)
    bar.skip(60)
    assert capsys.readouterr().err == ""
    bar.look((), ())
    assert "60%" in (shown := capsys.readouterr().err)
    assert "60/100 [00:00<?" in shown
    bar.look([8] * 30, ())
    bar.take_back(60)
    assert bar.done == 60
    assert not bar._ended
    bar.close()


def test_a_look_takes_no_longer_after_many_responses(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def expect(ended: Any, running: Any, longest: int) -> Any:
        sizes.append(len(ended))
        return expected_lengths(ended, running, longest)

    monkeypatch.setattr(progress, "expected_lengths", expect)
    bar = ResponseBar(720_000, 1024, show=True)
    bar.look([100] * 490_000, ())
    bar.look([300] * 10_000, [50] * 4)
    sizes.clear()
    begun, tokens, left = bar._estimate(1000.0)
    assert sizes == [8192]
    assert tokens == 49_000_000 + 3_000_000 + 200
    # All that are to come are expected to be as long as the last ones.
    assert begun == pytest.approx(500_000 + 4 * 50 / 300)
    assert left == pytest.approx((4 * 250 + 219_996 * 300) * 1000 / tokens)
    bar.take_back(495_000)
    assert bar._estimate(1000.0)[:2] == (pytest.approx(495_000 + 4 * 50 / 300), 49_000_000 + 1_500_000 + 200)
    bar.close()


def test_requests_of_another_program_are_watched(clock: Clock) -> None:
    requests: dict[str, Any] = {str(number): SimpleNamespace(num_output_tokens=0) for number in range(3)}
    bar = ResponseBar(3, 8, show=True)
    watch = RequestWatch(requests, bar)
    requests["0"].num_output_tokens = 4
    watch.look()
    assert (bar.done, bar._running) == (0, [4])
    del requests["0"]
    watch.look()
    assert bar.done == 0  # it has just looked
    clock.now += 1
    requests["1"].num_output_tokens = 2
    watch.look()
    assert (bar.done, bar._ended, bar._running) == (1, [4], [2])
    bar.close()


def test_the_engine_s_bar_moves_within_a_batch(
    trained: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[tuple[int, int]] = []
    look = ResponseBar.look
    monkeypatch.setattr(
        ResponseBar,
        "look",
        lambda bar, ended, running: (looks.append((len(ended), len(running))), look(bar, ended, running)),
    )
    requests = [Request(prompt, plan_samples(0, "bar", prompt.id, 2, 1.0)) for prompt in TinyDice("validation", 8)]
    written = []
    for shown in (True, False):
        engine = TransformersEngine(24, 8, progress=shown)
        engine.start(trained.model, trained.renderer)
        written.append(engine.generate(requests))
        assert ("/16 [00:0" in capsys.readouterr().err) is shown
    assert written[0] == written[1]
    assert sum(ended for ended, _ in looks) == 2 * 16
    assert len(looks) == 2 + 2 * sum(
        max(r.num_tokens for group in written[0][half : half + 4] for r in group) for half in (0, 4)
    )
