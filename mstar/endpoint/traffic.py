"""How fast a server is asked, and what it charges."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from mstar.errors import require_least, require_positive


@dataclass(frozen=True)
class Traffic:
    """How fast a server is asked, how long it is waited for, and what it charges.

    Args:
        concurrency: Requests that are under way at the same time, of each process.
        requests_per_minute: Requests that each process begins in a minute at most; none is no limit.
        timeout: Seconds without a byte of an answer after which a request has failed.
        retries: How often a request that failed is tried again, after 1, 2, 4, ... up to 60 seconds, or what the server
            asks for (Retry-After). Then the run stops.
        input_price: What a million tokens of prompts cost, in any currency.
        output_price: What a million tokens of answers cost.

    Raises:
        ConfigError: a setting is out of its range.
    """

    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout: float = 600.0
    retries: int = 8
    input_price: float = 0.0
    output_price: float = 0.0

    def __post_init__(self) -> None:
        require_least("traffic.", concurrency=self.concurrency)
        require_positive("traffic.", timeout=self.timeout, requests_per_minute=self.requests_per_minute)
        require_least("traffic.", 0, retries=self.retries, input_price=self.input_price, output_price=self.output_price)


class Pace:
    """When the next request may begin, of all threads together; without a limit at once."""

    def __init__(self, per_minute: float | None, wait: Callable[[float], object], now: Callable[[], float]) -> None:
        self._interval = 0.0 if per_minute is None else 60 / per_minute
        self._wait, self._now = wait, now
        self._next = float("-inf")
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Returns when it is this request's turn."""
        with self._lock:
            now = self._now()
            start = max(now, self._next)
            self._next = start + self._interval
        if start > now:
            self._wait(start - now)

    def hold(self, seconds: float) -> None:
        """Has no request begin for so long: the server asked for it."""
        with self._lock:
            self._next = max(self._next, self._now() + seconds)
