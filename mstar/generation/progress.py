"""The progress bar of generation: it moves with every response, and its estimate counts in tokens.

Responses that are done say little about how long the others will take: of those that are written at the same time the
long ones end last, and until the first ends there are none. So what is still to come is counted in tokens, by the
lengths of the responses that have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

# Seconds between two looks at requests; tqdm draws no more often either.
_PAUSE: Final = 0.1
# Of how many of the last responses the lengths say how long the others will be: the thread that looks hands the GPU its
# work, too, so that a look must not take longer and longer.
_SAMPLE: Final = 8192
_FORMAT: Final = "{desc}: {percentage:3.0f}%|{bar}| {done}/{total} [{elapsed}<{left}, {tokens} tokens/s]"


class ResponseBar:
    """Counts the responses of an engine.

    Nothing is shown before the first one is begun, so what was there already counts from the start.
    """

    def __init__(self, total: int, max_new_tokens: int, *, name: str = "generate", show: bool) -> None:
        self.total = total
        self.done = 0
        self._max_new_tokens = max_new_tokens
        self.name = name
        self._show = show
        self._ended: list[int] = []
        self._tokens = 0
        self._running: Sequence[int] = ()
        self._bar: _Tqdm | None = None

    def skip(self, number: int) -> None:
        """Counts responses that need not be written: they are there already, or their prompts are put aside."""
        self.done += number
        if self._bar is not None:
            self._bar.initial += number
            self._bar.update(number)

    def look(self, ended: Sequence[int], running: Sequence[int]) -> None:
        """Takes in how far it is.

        Args:
            ended: Tokens of the responses that have ended since the last look.
            running: Tokens so far of those that are being written.
        """
        if not self._show:
            return
        if self._bar is None:
            self._bar = _Tqdm(self._estimate, self.name, self.total, self.done)
        self._ended += ended
        self._tokens += sum(ended)
        self._running = running
        self.done += len(ended)
        self._bar.update(len(ended))

    def restart_clock(self) -> None:
        """Has the time count from now on, unless a response has ended: what is done once, says nothing of the rest."""
        if self._bar is not None and not self._ended:
            self._bar.began = time.perf_counter()

    def take_back(self, done: int) -> None:
        """Forgets the last responses, which are written again."""
        if self._bar is not None and self.done > done:
            self._tokens -= sum(self._ended[done - self.done :])
            del self._ended[done - self.done :]
            self._bar.update(done - self.done)
            self.done = done

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _estimate(self, elapsed: float) -> tuple[float, float, float | None]:
        """Responses so far, those that are being written in part; tokens so far; and the seconds that are left."""
        ended, running = np.array(self._ended[-_SAMPLE:], dtype=float), np.array(self._running, dtype=float)
        tokens = float(self._tokens + running.sum())
        # While most of the first ones are still being written, nobody knows how long they are.
        if not len(ended) or len(self._ended) < len(running):
            return self.done + float(running.sum()) / self._max_new_tokens, tokens, None
        whole = expected_lengths(ended, running, self._max_new_tokens)
        waiting = self.total - self.done - len(running)
        left = (whole - running).sum() + waiting * (ended.sum() + whole.sum()) / (len(ended) + len(running))
        return self.done + float((running / whole).sum()), tokens, float(left * elapsed / tokens)


class RequestWatch:
    """Tells a bar how far the requests are that another program (vLLM) works off.

    Args:
        requests: The unfinished ones by their ids, each with its ``num_output_tokens`` so far; they leave it when they
            end.
    """

    def __init__(self, requests: Mapping[str, Any], bar: ResponseBar) -> None:
        self._requests, self._bar = requests, bar
        self._before = dict.fromkeys(requests, 0)
        self._next: float | None = None
        bar.look((), ())

    def expect(self) -> None:
        """Takes in what has been handed over since, which may end before the next look."""
        self._before = dict.fromkeys(self._requests, 0) | self._before

    def look(self) -> None:
        """Looks, unless it has just done so."""
        now = time.perf_counter()
        if self._next is None:
            # vLLM compiles in its first step.
            self._bar.restart_clock()
        elif now < self._next and self._requests:
            return
        self._next = now + _PAUSE
        lengths = {key: request.num_output_tokens for key, request in self._requests.items()}
        ended = [length for key, length in self._before.items() if key not in lengths]
        self._bar.look(ended, [length for length in lengths.values() if length])
        self._before = lengths


def expected_lengths(
    ended: NDArray[np.floating[Any]], running: NDArray[np.floating[Any]], max_new_tokens: int
) -> NDArray[np.floating[Any]]:
    """How long responses are going to be that are being written.

    Each is expected to become as long as those that ended later than it is now did on average. Where none did, as for
    all that began together, it is expected to go on for their mean length.
    """
    ended = np.sort(ended)
    sums = np.append(ended[::-1].cumsum()[::-1], 0.0)
    place = np.searchsorted(ended, running, side="right")
    longer = len(ended) - place
    whole = np.where(longer > 0, sums[place] / np.maximum(longer, 1), running + ended.mean())
    return np.minimum(whole, max_new_tokens)


class _Tqdm(tqdm):  # type: ignore[misc]
    """A bar that asks for its estimate when it is drawn."""

    def __init__(
        self, estimate: Callable[[float], tuple[float, float, float | None]], name: str, total: int, initial: int
    ) -> None:
        self._estimate, self.began = estimate, time.perf_counter()
        super().__init__(total=total, initial=initial, desc=name, leave=False, miniters=0, bar_format=_FORMAT)

    @property
    def format_dict(self) -> dict[str, Any]:
        elapsed = time.perf_counter() - self.began
        begun, tokens, left = self._estimate(elapsed)
        return {
            **super().format_dict,
            "n": min(begun, self.total),
            "done": self.n,
            "tokens": f"{tokens / elapsed:,.0f}" if elapsed > 0 else "?",
            "left": "?" if left is None else self.format_interval(left),
        }
