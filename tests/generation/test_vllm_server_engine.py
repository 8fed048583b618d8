"""VllmServerEngine with servers that only pretend to be vLLM, and that fail in every way that a server can."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import mstar.interruption as interruption
from mstar import process_start
from mstar.errors import ConfigError, EngineDriftError, ServersLostError, StorageError
from mstar.generation import (
    Request,
    VllmServerEngine,
    plan_samples,
    server_drawing,
    server_pool,
    vllm_server_engine,
    vllm_server_session,
)
from mstar.generation.server_drawing import draw
from mstar.generation.server_pool import Job
from mstar.generation.vllm_prompts import picture_settings
from mstar.generation.vllm_server_worker import model_sizes
from mstar.generation.weight_files import WeightsFingerprint, read_weights
from mstar.interruption import Interrupted
from mstar.prompts import TinyDice
from mstar.provenance import describe
from tests.stub_server import PatientServer

if TYPE_CHECKING:
    from tests.conftest import Policy

DICE = list(TinyDice("pool", 6))


class Stub:
    """Answers as ``vllm serve`` does, with tokens that follow from the seed and the weights."""

    def __init__(self, sizes: dict[str, Any], port: int = 0) -> None:
        self.sizes = sizes
        self.version, self.loads, self.drawn = "default", 0, 0
        self.alike: dict[str, Any] = {"different": []}
        self.dtype, self.extension = "torch.float32", "mstar.generation.vllm_server_worker.WeightExtension"
        # What happens before an answer; a status and a message if it is to be no answer.
        self.fault: Callable[[Stub, dict[str, Any]], tuple[int, str] | None] = lambda stub, body: None
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(*stub.get(self.path))

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                found = stub.post(self.path, body)
                if found is None:  # the machine is gone in the middle of an answer
                    self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
                    self.close_connection = True
                else:
                    self.answer(*found)

            def answer(self, status: int, body: Any) -> None:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = PatientServer(("127.0.0.1", port), Handler)
        # Clients that go away in the middle of an answer are what is tested.
        self.server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.open = True

    def close(self) -> None:
        if self.open:
            self.open = False
            self.server.shutdown()
            self.server.server_close()

    def get(self, path: str) -> tuple[int, Any]:
        if path.startswith("/weight_info"):
            return 200, {"weight_version": self.version}
        model = {
            "dtype": self.dtype,
            "max_model_len": 256,
            "logprobs_mode": "raw_logprobs",
            "multimodal_config": {
                "limit_per_prompt": {"image": {"count": 1}},
                "mm_processor_kwargs": {"backend": "pil"},
                "mm_device_do_normalize": False,
            },
        }
        return 200, {
            "vllm_config": {"model_config": model, "parallel_config": {"worker_extension_cls": self.extension}}
        }

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        match path:
            case "/collective_rpc":
                return self.call(body["method"], body.get("kwargs", {}))
            case "/update_weight_version":
                self.version = body["new_version"]
            case "/inference/v1/generate":
                if "token_ids" not in body:
                    return 400, {"error": {"message": "Field required"}}
                found = self.fault(self, body)
                if found is not None:
                    return None if found[0] == 0 else (found[0], {"error": {"message": found[1]}})
                self.drawn += 1
                return 200, self.draw(body)
        return 200, {"success": True}

    def call(self, method: str, arguments: dict[str, str]) -> tuple[int, Any]:
        if method == "mstar_describe":
            return 200, {"results": [self.sizes]}
        found = WeightsFingerprint()
        weights = list(read_weights(Path(arguments["folder"])))
        for name, value in weights:
            found.add(name, value)
        fingerprint = str(found) if weights else None
        if method == "mstar_load_weights":
            self.loads += 1
            return 200, {"results": [{"fingerprint": fingerprint}]}
        return 200, {"results": [{"fingerprint": fingerprint, "compared": len(weights)} | self.alike]}

    def draw(self, body: dict[str, Any]) -> dict[str, Any]:
        sampling, ids = body["sampling_params"], body["token_ids"]
        key = f"{self.version} {sampling.get('seed')} {ids}"
        tokens = [40 + byte for byte in hashlib.blake2b(key.encode(), digest_size=6).digest()]
        choice = {
            "token_ids": tokens,
            "finish_reason": "length",
            "weight_versions": [{"version": self.version, "start": 0, "end": len(tokens)}],
            "logprobs": {"content": [{"token_id": token, "logprob": -0.5} for token in tokens]},
        }
        prompt = [None, *({str(token): {"logprob": -1.0}} for token in ids[1:])]
        return {"choices": [choice], "prompt_logprobs": prompt if "prompt_logprobs" in sampling else None}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody is, and nobody is asked
    for module in (server_pool, server_drawing):
        monkeypatch.setattr(module, "RETRY", 0.05)
        monkeypatch.setattr(module, "TICK", 0.02)


@pytest.fixture
def stubs(tiny: Policy) -> Iterator[list[Stub]]:
    pictures = picture_settings(tiny.renderer.processor)
    made = [Stub(model_sizes(tiny.model.config) | {"pictures": pictures}) for _ in range(2)]
    yield made
    for stub in made:
        stub.close()


@pytest.fixture
def make(tmp_path: Path, tiny: Policy, stubs: list[Stub]) -> Iterator[Callable[..., VllmServerEngine]]:
    engines: list[VllmServerEngine] = []

    def made(*servers: Stub, **settings: Any) -> VllmServerEngine:
        arguments: dict[str, Any] = {"max_new_tokens": 8, "patience": 0.2, "concurrency": 4, "progress": False}
        addresses = [stub.address for stub in servers or stubs]
        engines.append(VllmServerEngine(addresses, str(tmp_path / "shared"), **(arguments | settings)))
        engines[-1].start(tiny.model, tiny.renderer)
        return engines[-1]

    yield made
    for engine in engines:
        engine.close()


REQUESTS = [Request(p, plan_samples(0, "rollout/1", p.id, 3, 1.0), keep_tokens=True) for p in DICE]


def texts(engine: VllmServerEngine, requests: list[Request] = REQUESTS) -> list[list[str]]:
    return [[response.text for response in row] for row in engine.generate(requests)]


def changed(model: Any) -> Any:
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    return other


def test_servers_share_the_prompts_and_draw_what_one_would(
    make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    together = texts(make())
    assert all(stub.drawn >= 3 for stub in stubs)
    assert sum(stub.drawn for stub in stubs) == 18
    assert together == texts(make(stubs[1]))
    assert together[::-1] == texts(make(stubs[0]), REQUESTS[::-1])
    assert len({text for row in together for text in row}) == 18


def test_a_response_is_what_the_server_wrote(make: Callable[..., VllmServerEngine], tiny: Policy) -> None:
    [row] = make().generate(REQUESTS[:1])
    assert [response.sample_index for response in row] == [0, 1, 2]
    assert all(r.text == tiny.renderer.decode(list(r.tokens)) and r.num_tokens == 6 for r in row)
    assert all(r.logprobs == (-0.5,) * 6 and r.logprob == -3.0 and not r.finished for r in row)


def test_answers_that_are_read_take_no_memory(
    make: Callable[..., VllmServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []

    async def watched(pool: Any, given: Any, done: Any) -> None:
        jobs.extend(given)
        await draw(pool, given, done)

    monkeypatch.setattr(vllm_server_engine, "draw", watched)
    assert all(text for row in texts(make()) for text in row)
    assert len(jobs) == len(REQUESTS)
    assert not any(job.answers for job in jobs)


@pytest.mark.parametrize("end", ["in the middle of an answer", "with errors", "without a word"])
def test_a_server_that_is_lost_loses_no_work(
    end: str, make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    expected = texts(make(stubs[1]))
    engine = make(patience=5)

    def fail(stub: Stub, body: dict[str, Any]) -> tuple[int, str] | None:
        if stub.drawn < 2:
            return None
        if end == "with errors":
            return 500, "CUDA error: an illegal memory access"
        threading.Thread(target=stub.close).start()
        return 0, ""

    stubs[0].fault = fail
    if end == "without a word":
        stubs[0].close()
    assert texts(engine) == expected
    warnings = [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()]
    assert len(warnings) == 1 or end == "with errors"
    assert f"the server {stubs[0].address} cannot be used" in warnings[0]
    assert "what it was to do goes to the others" in warnings[0]


def test_a_server_that_was_started_anew_gets_the_weights_before_it_is_used(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make(stubs[0], patience=5)
    expected = texts(engine)
    assert stubs[0].loads == 1

    def forget(stub: Stub, body: dict[str, Any]) -> None:
        if stub.drawn == 2:
            stub.version, stub.drawn = "default", 3

    stubs[0].drawn, stubs[0].fault = 0, forget
    assert texts(engine) == expected
    assert stubs[0].loads == 2
    assert "it has other weights than it was given: it was started anew" in caplog.text
    assert "has the present weights and is used again" in caplog.text


def test_any_process_gives_a_server_that_was_started_anew_the_weights(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main process may have drawn its share long since, and look after no server any more."""
    engine = make(stubs[0])
    expected = texts(engine)
    monkeypatch.setattr(vllm_server_session, "is_main", lambda: False)
    stubs[0].version = "default"
    assert texts(engine) == expected
    assert stubs[0].loads == 2
    # Another process gives it these.
    stubs[0].version = "half-way"
    with pytest.raises(ServersLostError, match="it waits for another process to give it the present weights"):
        engine.generate(REQUESTS)
    assert stubs[0].loads == 2


def test_a_server_that_comes_back_must_compute_what_the_others_do(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make(patience=0.3)
    found = engine.response_logprobs(DICE[:2], ["one", "two"])
    assert list(found) == [stub.address for stub in stubs]
    assert all(set(row) == {-1.0} for rows in found.values() for row in rows)
    stubs[1].close()
    plain = stubs[0].draw
    wrong = {str(i): {"logprob": -1.5} for i in range(1000)}
    stubs[0].draw = lambda body: plain(body) | {"prompt_logprobs": [wrong] * len(body["token_ids"])}  # type: ignore[method-assign]
    stubs[0].fault = lambda stub, body: (500, "lost") if "seed" in body["sampling_params"] else None
    with pytest.raises(ServersLostError, match=r"its log-probabilities differ by 0\.5 from those of the others"):
        engine.generate(REQUESTS)


def test_a_server_that_hangs_is_lost_after_answer_timeout(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    expected = texts(make(stubs[0]))
    engine, release = make(answer_timeout=3.0, patience=30), threading.Event()

    def hang(stub: Stub, body: dict[str, Any]) -> None:
        release.wait(60)

    stubs[1].fault = hang
    assert texts(engine) == expected
    release.set()
    assert f"the server {stubs[1].address} cannot be used (ReadTimeout)" in caplog.text


def test_without_any_server_the_run_ends_with_one_sentence(
    make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    engine = make()
    for stub in stubs:
        stub.close()
    with pytest.raises(
        ServersLostError, match=r"no server has answered for 0\.2 seconds .*same command again"
    ) as error:
        engine.generate(REQUESTS)
    assert all(stub.address in str(error.value) for stub in stubs)
    with pytest.raises(ServersLostError, match="no server has answered"):
        make()


def test_a_run_waits_for_a_server_that_comes_back(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], tiny: Policy
) -> None:
    engine = make(stubs[0], patience=30)
    expected = texts(engine)
    stubs[0].close()
    started: list[Stub] = []
    port = stubs[0].server.server_port
    timer = threading.Timer(0.3, lambda: started.append(Stub(model_sizes(tiny.model.config), port)))
    timer.start()
    assert texts(engine) == expected
    assert started[0].loads == 1
    started[0].close()


def test_a_prompt_that_ends_every_server_is_named(make: Callable[..., VllmServerEngine], stubs: list[Stub]) -> None:
    engine = make(patience=5)
    for stub in stubs:
        stub.fault = lambda stub, body: (500, "out of memory")
    with pytest.raises(
        ServersLostError, match=r"the prompt '.*' was with 5 servers when they were lost.*out of memory"
    ):
        engine.generate(REQUESTS[:1])


def test_a_picture_that_a_server_misses_is_asked_with_again(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    """VLLM takes a picture of a prompt that it refuses for read, and answers the next request that shows it by 500."""
    engine = make(stubs[0])
    expected, missed = texts(engine), set[int]()

    def miss(stub: Stub, body: dict[str, Any]) -> tuple[int, str] | None:
        seed = body["sampling_params"]["seed"]
        if seed in missed:
            return None
        missed.add(seed)
        return 500, "Internal server error"

    stubs[0].fault = miss
    assert texts(engine) == expected
    assert not caplog.messages


def test_a_prompt_that_is_refused_is_left_out_alone(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make(stubs[0])
    expected = texts(engine)
    seeds = {sample.seed for sample in REQUESTS[1].samples}
    stubs[0].fault = lambda stub, body: (400, "too long") if body["sampling_params"]["seed"] in seeds else None
    found = texts(engine)
    assert found == [row if number != 1 else ["", "", ""] for number, row in enumerate(expected)]
    assert f"prompt '{DICE[1].id}' is left without responses: too long." in caplog.text


def test_new_weights_reach_every_server(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], tiny: Policy, tmp_path: Path
) -> None:
    engine = make()
    before = texts(engine)
    other = changed(tiny.model)
    engine.update_weights(other)
    assert [stub.loads for stub in stubs] == [2, 2]
    assert stubs[0].version == stubs[1].version
    assert len(list((tmp_path / "shared").glob("*/*"))) == 1  # the earlier weights are deleted
    assert texts(engine) != before
    found = engine.compare_weights(other)
    assert found is not None
    assert found.num_tensors == 2 * 52
    assert not found.different
    # The same weights need not go there again.
    engine.update_weights(other)
    assert [stub.loads for stub in stubs] == [2, 2]
    engine.close()
    assert not any((tmp_path / "shared").iterdir())


def test_a_server_with_other_weights_than_it_was_given_stops_the_run(
    make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    stubs[1].alike = {"different": ["model.a", "model.b"]}
    with pytest.raises(EngineDriftError, match=rf"{stubs[1].address} does not have .*: 'model.a' and 1 more of 52"):
        make()


def test_a_server_that_misses_a_hand_over_is_left_out_until_it_has_the_weights(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], tiny: Policy
) -> None:
    engine, other = make(patience=5), changed(tiny.model)
    call = stubs[1].call
    stubs[1].call = lambda method, arguments: (503, {})  # type: ignore[method-assign]
    engine.update_weights(other)
    stubs[1].drawn = 0
    expected = texts(engine)
    assert stubs[1].drawn == 0
    stubs[1].call = call  # type: ignore[method-assign]
    # While the other one does nothing, it comes back and does all.
    stubs[0].fault = lambda stub, body: (503, "busy")
    assert texts(engine) == expected
    assert stubs[1].loads == 2


def test_a_server_that_was_started_anew_wrongly_does_not_end_a_run_that_goes_on(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], tiny: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make()
    stubs[1].dtype, stubs[1].drawn = "torch.bfloat16", 0
    engine.update_weights(changed(tiny.model))
    assert f"the server {stubs[1].address} cannot be used (it computes in bfloat16" in caplog.text
    texts(engine)
    assert (stubs[0].drawn, stubs[1].drawn) == (18, 0)


def test_weights_that_a_hand_over_left_half_way_are_not_taken_for_the_earlier_ones(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], tiny: Policy
) -> None:
    engine = make(stubs[0])
    post = stubs[0].post
    # The server has new weights, and is told no more: the run was killed.
    stubs[0].post = lambda path, body: (503, {}) if path.startswith("/reset") else post(path, body)  # type: ignore[method-assign]
    with pytest.raises(ServersLostError):
        engine.update_weights(changed(tiny.model))
    # It goes on from a checkpoint with the earlier ones.
    stubs[0].post, loads = post, stubs[0].loads  # type: ignore[method-assign]
    make(stubs[0])
    assert stubs[0].loads == loads + 1


def test_a_page_of_a_gateway_in_any_encoding_is_no_answer(
    make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    expected = texts(make(stubs[1]))
    engine = make()
    for status in (200, 502):
        stubs[0].post = lambda path, body, status=status: (status, "arrêté".encode("latin-1"))  # type: ignore[misc]
        assert texts(engine) == expected


def test_a_server_that_refuses_what_it_is_told_is_left_out(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], caplog: pytest.LogCaptureFixture
) -> None:
    stubs[0].call = lambda method, arguments: (400, {"error": {"message": "no such method"}})  # type: ignore[method-assign]
    make()
    assert f"the server {stubs[0].address} cannot be used (no such method)" in caplog.text


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [
        ("sizes", {"model_type": "idefics3", "hidden_size": 7}, r"serves another model .*'hidden_size': 7"),
        ("dtype", "torch.bfloat16", r"computes in bfloat16, but dtype is float32: start it with --dtype float32"),
        ("extension", "", r"without --worker-extension-cls mstar\.generation\.vllm_server_worker\.WeightExtension"),
        ("get", lambda path: (404, {"detail": "Not Found"}), "has no /server_info: start it with VLLM_SERVER_DEV_MODE"),
        ("get", lambda path: (200, {"model_path": "of another kind of server"}), r"it is no vLLM 0\.32"),
        ("get", lambda path: (401, {"error": "Unauthorized"}), "wants a key: set VLLM_API_KEY"),
    ],
)
def test_a_server_that_was_started_wrongly_is_refused(
    attribute: str, value: Any, sentence: str, make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    setattr(stubs[0], attribute, value)
    with pytest.raises(ConfigError, match=rf"the server {stubs[0].address} cannot be used: it .*{sentence}|{sentence}"):
        make()


@pytest.mark.parametrize("kind", ["kv", "ec"])
def test_a_server_that_keeps_what_earlier_weights_made_elsewhere_is_refused(
    kind: str, make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    plain, store = stubs[0].get, {"value": None}

    def get(path: str) -> tuple[int, Any]:
        status, found = plain(path)
        if "vllm_config" in found:
            found["vllm_config"][f"{kind}_transfer_config"] = {f"{kind}_connector": store["value"]}
        return status, found

    stubs[0].get = get  # type: ignore[method-assign]
    make()
    store["value"] = "LMCacheMPConnector"
    with pytest.raises(ConfigError, match=rf"in LMCacheMPConnector: start it without --{kind}-transfer-config"):
        make()


def test_a_server_whose_processor_prepares_pictures_otherwise_is_refused(
    make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    pictures = stubs[0].sizes["pictures"]
    stubs[0].sizes["pictures"] = pictures | {"size": {"longest_edge": 7}, "unknown_to_the_policy": 1}
    with pytest.raises(ConfigError, match=r"otherwise .*\(size is {'longest_edge': 7} in place of .*processor_config"):
        make()


def test_a_server_that_would_leave_out_a_scaling_is_refused(
    make: Callable[..., VllmServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_server_session, "find_query_scaling", lambda config: (255, 0.1))
    with pytest.raises(ConfigError, match="scales queries from position 255 on: start it with --max-model-len 255"):
        make()


def test_a_folder_that_the_servers_do_not_see(make: Callable[..., VllmServerEngine]) -> None:
    with pytest.raises(ConfigError, match=r"sees no weights in '/nowhere/mstar-weights-.*': set shared_folder"):
        make(shared_folder_on_servers="/nowhere")


def test_a_folder_that_cannot_be_written(tmp_path: Path, tiny: Policy, stubs: list[Stub]) -> None:
    (tmp_path / "file").write_text("")
    engine = VllmServerEngine([stubs[0].address], str(tmp_path / "file" / "shared"))
    with pytest.raises(StorageError, match=r"shared_folder '.*' cannot be written"):
        engine.start(tiny.model, tiny.renderer)


@pytest.mark.parametrize(
    "settings",
    [
        {"addresses": ["gpu-7:8000"]},
        {"addresses": "http://me:secret@a:1"},
        {"addresses": "http://a:1x"},
        {"concurrency": 0},
        {"answer_timeout": 0},
        {"patience": -1},
        {"max_new_tokens": 0},
        {"drift_bound": 0.0},
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"addresses": ["http://a:1"], "shared_folder": "shared"}
    with pytest.raises(ConfigError, match=f"VllmServerEngine: {next(iter(settings))}"):
        VllmServerEngine(**(arguments | settings))


def test_a_process_may_have_a_connection_for_every_response_that_it_waits_for(
    make: Callable[..., VllmServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(process_start.resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(process_start.resource, "setrlimit", lambda _, limits: made.append(limits))
    assert make(concurrency=64).session.pool.concurrency == 64
    assert not made
    # By default a server has enough to keep a GPU busy.
    defaults = VllmServerEngine([f"http://gpu-{number}:8000" for number in range(4)], "shared").options
    assert defaults.concurrency == 256
    for concurrency, limit in ((256, 1536), (4000, 4096)):
        make(concurrency=concurrency)
        assert made.pop() == (limit, 4096)


def test_what_cannot_be_a_key_is_not_shown(
    make: Callable[..., VllmServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "top-secret\nanother")
    with pytest.raises(ConfigError, match="VLLM_API_KEY has a line break") as raised:
        make()
    assert "secret" not in str(raised.value)


def test_families_that_vllm_is_not_proven_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="VllmServerEngine does not run models of the family 'gemma3'"):
        VllmServerEngine(["http://a:1"], "shared").expect("gemma3")


def test_a_run_keeps_its_shards_when_it_moves_to_other_servers() -> None:
    here = VllmServerEngine(["http://a:1"], "shared", concurrency=8, dtype="bfloat16")
    there = VllmServerEngine(["http://b:1", "http://c:1"], "/else", shared_folder_on_servers="/x", dtype="bfloat16")
    assert describe(here) == describe(there)
    assert VllmServerEngine("http://b:1, http://c:1/v1", "shared").options.addresses == there.options.addresses
    assert describe(here) != describe(VllmServerEngine(["http://a:1"], "shared", dtype="float32"))


def test_it_stops_when_it_is_asked_to(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    engine = make()

    def ask(stub: Stub, body: dict[str, Any]) -> None:
        monkeypatch.setattr(interruption, "_received", signal.SIGTERM)
        time.sleep(0.2)

    stubs[0].fault = ask
    with pytest.raises(Interrupted):
        engine.generate(REQUESTS)
    stubs[0].fault = lambda stub, body: None
    monkeypatch.setattr(interruption, "_received", None)
    assert texts(engine) == texts(make(stubs[1]))


@pytest.mark.parametrize(("longest_prompt", "most", "wanted"), [(200, 100, 300), (None, 256, 257)])
def test_it_says_that_servers_are_short(
    make: Callable[..., VllmServerEngine], tiny: Policy, tmp_path: Path, stubs: list[Stub], caplog: Any,
    longest_prompt: int | None, most: int, wanted: int,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING)
    engine = VllmServerEngine([stubs[0].address], str(tmp_path), max_new_tokens=most)
    engine.expect("idefics3", longest_prompt=longest_prompt)
    engine.start(tiny.model, tiny.renderer)
    assert f"--max-model-len is 256 tokens, but a prompt with its response may have {wanted}" in caplog.text
    engine.close()


def test_a_server_that_was_started_anew_is_joined_anew(
    make: Callable[..., VllmServerEngine], stubs: list[Stub], tiny: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its earlier process is gone from the group that it was in, of which NCCL does not tell."""
    steps: list[str] = []

    class Sender:
        def __init__(self, server: Any, timeout: float) -> None:
            pass

        async def send(self, folder: Path) -> None:
            steps.append("send")

        async def compare(self, folder: Path) -> list[dict[str, Any]]:
            return [{"compared": 1, "different": []}]

        def close(self) -> None:
            steps.append("close")

    monkeypatch.setattr(vllm_server_session, "WeightSender", Sender)
    plain = stubs[0].get

    def get(path: str) -> tuple[int, Any]:
        status, found = plain(path)
        if "vllm_config" in found:
            found["vllm_config"]["weight_transfer_config"] = {"backend": "nccl"}
        return status, found

    stubs[0].get = get  # type: ignore[method-assign]
    engine = make(stubs[0], transfer="nccl")
    steps.clear()
    engine.update_weights(changed(tiny.model))
    assert steps == ["send"]
    stubs[0].version = "default"
    engine.update_weights(tiny.model)
    assert steps == ["send", "close", "send"]


def test_every_engine_behind_an_address_must_have_the_weights(
    make: Callable[..., VllmServerEngine], stubs: list[Stub]
) -> None:
    """With --data-parallel-size, vLLM hands on what the first engine answers, and no other."""
    plain_get, plain_post = stubs[0].get, stubs[0].post
    sums = {"dp0:pp0:pcp0:tp0:a": "1", "dp1:pp0:pcp0:tp0:a": "1"}

    def get(path: str) -> tuple[int, Any]:
        status, found = plain_get(path)
        if "vllm_config" in found:
            found["vllm_config"]["parallel_config"]["data_parallel_size"] = 2
        return status, found

    def post(path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        return (200, {"checksums": sums}) if path == "/weight_checker" else plain_post(path, body)

    stubs[0].get, stubs[0].post = get, post  # type: ignore[method-assign]
    make(stubs[0])
    sums["dp1:pp0:pcp0:tp0:a"] = "2"
    with pytest.raises(ConfigError, match=r"its engines hold different weights \('dp1:pp0:pcp0:tp0:a'\)"):
        make(stubs[0])
