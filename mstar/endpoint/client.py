"""Chat completions by address: asked together, again where that may help, and never twice for the same."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import httpx2

from mstar.endpoint.access import AddressedModel, chat_url, find_key
from mstar.endpoint.answer import NO_TEXT, Answer, Refusal, Usage
from mstar.endpoint.cache import AnswerCache
from mstar.endpoint.traffic import Pace
from mstar.errors import ConfigError, EndpointError
from mstar.interruption import stop_if_asked
from mstar.thoughts import CLOSING

_log: Final = logging.getLogger(__name__)
_AGAIN: Final = (408, 409, 425, 429)
_UNPAID: Final = 402
# What a model never came to, for its thoughts.
_NEVER_WRITTEN: Final = Answer("", finished=False, prompt_tokens=0, num_tokens=0)
_LENGTH_FIELDS: Final = frozenset({"max_tokens", "max_completion_tokens"})
_LONGEST_WAIT: Final = 60.0
# A server that wants to be left alone for longer is out for this run.
_MOST_PATIENCE: Final = 600.0
_CONNECT: Final = 30.0
# Seconds that requests may still run once the process was asked to stop, or one of them has failed for good.
_PARTING: Final = 10.0
# Seconds between two looks at whether the process was asked to stop.
_LOOK: Final = 0.5


class ChatClient:
    """Asks a model by address.

    Args:
        cache: The folder of the answers that are kept; None keeps none.

    Raises:
        ConfigError: the key is missing, or the environment's proxy or certificates are unusable.
    """

    def __init__(self, asked: AddressedModel, cache: Path | None = None) -> None:
        self.url = chat_url(asked.address)
        self.model = asked.model
        self.traffic = traffic = asked.traffic
        self.usage = Usage()
        self._omit = frozenset(asked.omit)
        self._where = f"{self.model} at {self.url.host}" + (f":{self.url.port}" if self.url.port else "")
        self._key_variable = asked.key_variable
        self._key = "" if asked.key_variable is None else find_key(asked.key_variable)
        try:
            self._http = httpx2.Client(
                headers={"Content-Type": "application/json"}
                | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
                timeout=httpx2.Timeout(traffic.timeout, connect=min(_CONNECT, traffic.timeout)),
                limits=httpx2.Limits(max_connections=traffic.concurrency),
            )
        except (ImportError, ValueError, OSError, httpx2.InvalidURL):
            # What it is is not repeated: there may be a password in it.
            raise ConfigError(
                "the proxy (ALL_PROXY, HTTPS_PROXY, HTTP_PROXY) or the certificates (SSL_CERT_FILE, SSL_CERT_DIR) in "
                "the environment cannot be used: mend or unset them; special characters of a password are percent-"
                "encoded (# as %23), and socks5 needs pip install 'httpx2[socks]'."
            ) from None
        self._cache = None if cache is None else AnswerCache(cache)
        self._stopped = threading.Event()
        # A wait ends when another request has failed for good.
        self._pause = asked.pause or self._stopped.wait
        self._pace = Pace(traffic.requests_per_minute, self._pause, time.monotonic)
        self._lock = threading.Lock()
        self._told = False
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def ask_all(
        self, bodies: Iterable[Mapping[str, Any]], done: Callable[[Answer | Refusal], None] = lambda answer: None
    ) -> list[Answer | Refusal]:
        """Asks for some chat completions at the same time, and waits for all of them.

        Args:
            bodies: What is asked, without the model's name; made when its turn comes.
            done: Called with every answer as it comes.

        Returns:
            The answers in the order of the bodies.

        Raises:
            EndpointError: the server did not answer one of them; the answers to others are kept.
            ConfigError: it does not know the model, or refuses the key.
        """
        self._stopped.clear()
        found: dict[int, Answer | Refusal] = {}
        pending: dict[Future[Answer | Refusal], int] = {}
        with ThreadPoolExecutor(self.traffic.concurrency) as pool:
            try:
                for number, body in enumerate(bodies):
                    pending[pool.submit(self._ask, dict(body))] = number
                    # Pictures of those that wait fill memory.
                    _collect(pending, found, done, 2 * self.traffic.concurrency)
                _collect(pending, found, done, 1)
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                wait([future for future in pending if future.running()], timeout=_PARTING)
                self._hang_up()
                raise
        return [found[number] for number in range(len(found))]

    def ask_judge(self, questions: Iterable[list[dict[str, Any]]], length: int) -> list[str | None]:
        """Asks for some judgements, without any randomness.

        Returns:
            For every question the whole answer, without the thought before it; None if it was cut off, or the question
            is too long or filtered.

        Raises:
            EndpointError: as for ``ask_all``.
            ConfigError: the server refuses a question for another reason, and so would all others.
        """
        bodies = ({"messages": messages, "temperature": 0.0, "max_tokens": length} for messages in questions)
        answers = self.ask_all(bodies)
        for answer in answers:
            if isinstance(answer, Refusal) and not (answer.is_too_long or answer.is_filtered):
                raise ConfigError(
                    f"{self._where} does not judge (HTTP {answer.status}: {answer.message}): mend its "
                    "settings, or leave out by omit what it does not take."
                )
        # Many chat templates open the thought themselves, and the reply begins within it.
        return [
            CLOSING.split(answer.text)[-1] if isinstance(answer, Answer) and answer.finished else None
            for answer in answers
        ]

    def close(self) -> None:
        """Closes the connections and the file of answers."""
        self._http.close()
        if self._cache is not None:
            self._cache.close()

    def _ask(self, body: dict[str, Any]) -> Answer | Refusal:
        content = {"model": self.model} | body
        # Not the address: the same model elsewhere is the same model.
        asked = content | ({"omit": left_out} if (left_out := sorted(self._omit & content.keys())) else {})
        key = hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()
        kept = None if self._cache is None else self._cache.find(key)
        if kept is not None:
            with self._lock:
                self.usage.known += 1
            return Answer.load(kept)
        sent = {name: value for name, value in content.items() if name not in self._omit}
        answer = self._request(sent)
        whole = answer != _NEVER_WRITTEN
        if isinstance(answer, Refusal) and answer.is_too_long and not _LENGTH_FIELDS.isdisjoint(sent):
            # Many servers count the longest answer in, though there is room for a shorter one.
            answer = self._request({name: value for name, value in sent.items() if name not in _LENGTH_FIELDS})
            # One that is cut off is none to what was asked: the server may have a larger context tomorrow.
            whole = isinstance(answer, Answer) and answer.finished
        if isinstance(answer, Answer):
            with self._lock:
                self.usage.add(answer)
            if self._cache is not None and whole:
                # Another process may have asked the same meanwhile, and been told otherwise.
                answer = Answer.load(self._cache.keep(key, answer.dump()))
        return answer

    def _request(self, content: Mapping[str, Any]) -> Answer | Refusal:
        # Half a surrogate pair, which JSON can hold, has no other form.
        sent = json.dumps(content, ensure_ascii=False).encode(errors="replace")
        fault, began = "", time.monotonic()
        for attempt in range(self.traffic.retries + 1):
            if attempt > 1 or time.monotonic() - began > _LONGEST_WAIT:
                self._tell(fault)
            if attempt:
                self._pause(min(2.0 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(1, 1.25))
            self._pace.enter()
            if self._stopped.is_set():
                break
            try:
                response = self._http.post(self.url, content=sent, extensions={"trace": self._trace})
            except httpx2.RequestError as error:
                fault = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            found = self._read(response)
            if not isinstance(found, str):
                return found
            fault = found
        if fault == NO_TEXT and self._writes(content) and not self._stopped.is_set():
            return _NEVER_WRITTEN
        tries = "1 try" if self.traffic.retries == 0 else f"{self.traffic.retries + 1} tries"
        raise EndpointError(
            f"{self._where} did not answer in {tries} ({self._hide(fault)}), so the run stops at "
            f"'{_question(content)}'; what was answered is kept, and the same command goes on from "
            "there once the server answers."
        )

    def _writes(self, content: Mapping[str, Any]) -> bool:
        """Whether it is this question alone that the model ends its thoughts at, at temperature 0 again and again.

        If nothing else was answered either, or it was to continue a response, the server may take answers for thoughts.
        """
        return content["messages"][-1]["role"] == "user" and self.usage.requests + self.usage.known > 0

    def _trace(self, event: str, facts: Mapping[str, Any]) -> None:
        """Takes in every new connection."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._sockets.add(facts["return_value"].get_extra_info("socket"))
            if self._stopped.is_set():
                self._hang_up()

    def _hang_up(self) -> None:
        """Ends the requests that still run: a thread that waits for an answer can be woken in no other way."""
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _tell(self, fault: str) -> None:
        """Says once that the server is waited for: the waits between the tries add up to minutes."""
        with self._lock:
            told, self._told = self._told, True
        if not (told or self._stopped.is_set()):
            _log.warning(
                "%s does not answer (%s); it is asked again, up to %d times.",
                self._where, self._hide(fault), self.traffic.retries,
            )  # fmt: skip

    def _read(self, response: httpx2.Response) -> Answer | Refusal | str:
        """The answer or refusal in a response, or what is wrong with it if another try may help."""
        try:
            body = response.json()
        except ValueError:
            body = None
        status = response.status_code
        if status == httpx2.codes.OK:
            return Answer.read(body)
        refusal = Refusal.read(status, body, response.text)
        refusal = replace(refusal, message=self._hide(refusal.message))
        said = f"HTTP {status}: {refusal.message}".rstrip(": ")
        if status == 403 and refusal.is_filtered:  # OpenRouter's
            return refusal
        if status in (401, 403):
            given = f"the key in {self._key_variable}" if self._key_variable else "a request without a key"
            raise ConfigError(
                f"{self._where} refuses {given} ({said}): set key_variable to the variable that has it, or NO_PROXY to "
                f"{self.url.host} if it was a proxy of the environment that refused."
            )
        if status in (400, 413, 422):
            return refusal
        if status not in (*_AGAIN, _UNPAID) and status < 500:
            raise ConfigError(f"{self._where} cannot be asked ({said}): mend its address or its name.")
        if status == _UNPAID or refusal.code == "insufficient_quota":
            raise EndpointError(
                f"{self._where} answers no more ({said}): what was answered is kept, and the same command goes on from "
                "there once there is quota."
            )
        after = _seconds_to_wait(response.headers.get("Retry-After", "0"))
        if after > _MOST_PATIENCE:
            raise EndpointError(
                f"{self._where} wants to be asked again in {after:,.0f} seconds ({said}), so the run stops; what was "
                "answered is kept, and the same command goes on from there."
            )
        if after:
            self._pace.hold(after)
        return said

    def _hide(self, text: str) -> str:
        """A text without the key, which servers like to repeat."""
        return text.replace(self._key, "***") if self._key else text


def _question(content: Mapping[str, Any]) -> str:
    """How the last question of a request begins."""
    asked = next((turn["content"] for turn in reversed(content["messages"]) if turn["role"] == "user"), "")
    parts = [asked] if isinstance(asked, str) else [part.get("text", "") for part in asked]
    return " ".join(" ".join(parts).split())[:100]


def _collect(
    pending: dict[Future[Answer | Refusal], int],
    found: dict[int, Answer | Refusal],
    done: Callable[[Answer | Refusal], None],
    below: int,
) -> None:
    """Takes in answers until fewer than ``below`` are missing."""
    while len(pending) >= below:
        stop_if_asked()
        for future in wait(pending, timeout=_LOOK, return_when=FIRST_COMPLETED).done:
            answer = future.result()
            found[pending.pop(future)] = answer
            done(answer)


def _seconds_to_wait(header: str) -> float:
    """What Retry-After says in seconds; 0 for a date, which servers of models do not send."""
    try:
        return max(float(header), 0.0)
    except ValueError:
        return 0.0
