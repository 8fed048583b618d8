"""A server of chat completions in a thread, which fails as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


def completion(text: str | None, reason: str = "stop", logprobs: Sequence[float] | None = None) -> Body:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 10, "completion_tokens": len((text or "").split())}
    given = None if logprobs is None else {"content": [{"token": "?", "logprob": value} for value in logprobs]}
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": given}
    return {"choices": [choice], "usage": usage}


def question_of(body: Body) -> str:
    """The text of the last turn of the user."""
    content = next(message["content"] for message in reversed(body["messages"]) if message["role"] == "user")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class StubServer:
    """Answers what ``write`` writes; before that, the faults in ``faults``, one a request.

    A fault is a status, a status with headers and an error's fields, or one of ``hang``, ``cut``, ``html``, ``wrong``
    (a form of its own) and ``null`` (an answer of nothing).
    """

    def __init__(self) -> None:
        self.address = ""
        self.write: Callable[[Body], Body | str] = lambda body: "1 + 2 = 3\nAnswer: 3"
        self.faults: list[Any] = []
        self.asked: list[Body] = []
        self.keys: list[str | None] = []
        self.down = False
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def take(self, body: Body, key: str | None) -> Any:
        """The fault of a request, or None."""
        with self._lock:
            self.asked.append(body)
            self.keys.append(key)
            return 503 if self.down else self.faults.pop(0) if self.faults else None


def _handler(stub: StubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = stub.take({"path": self.path} | body, self.headers.get("Authorization"))
            if fault is None:
                written = stub.write(body)
                self.reply(200, completion(written) if isinstance(written, str) else written)
            elif fault == "hang":
                stub.closing.wait(60)
            elif fault == "cut":
                self.send(200, json.dumps(completion("cut off")).encode()[:20], {"Content-Length": "1000"})
            elif fault == "html":
                self.send(200, b"<html>Bad gateway</html>", {"Content-Length": "24"})
            elif fault == "wrong":
                self.reply(200, {"object": "list", "data": []})
            elif fault == "null":
                self.reply(200, completion(None, "length"))
            else:
                status, headers, error = fault if isinstance(fault, tuple) else (fault, {}, {"message": "no"})
                self.reply(status, {"error": error}, headers)

        def reply(self, status: int, content: Body, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(content).encode()
            self.send(status, data, {"Content-Length": str(len(data))} | (headers or {}))

        def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            """Says nothing."""

    return Handler


class PatientServer(ThreadingHTTPServer):
    """Lets more than five connections wait: on a busy machine the next one was reset."""

    request_queue_size = 128


@contextmanager
def serving() -> Iterator[StubServer]:
    """A server that runs within the block."""
    stub = StubServer()
    server = PatientServer(("127.0.0.1", 0), _handler(stub))
    stub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


__all__ = ["StubServer", "completion", "question_of", "serving"]
