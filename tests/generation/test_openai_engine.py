"""Responses of a model by address: what is asked, what becomes of it, and where no policy is loaded."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from mstar.__main__ import main
from mstar.endpoint import Traffic, chat_messages
from mstar.errors import ConfigError, DataError
from mstar.generation import OpenAIEngine, Request, Sample, plan_samples
from mstar.prompts import TinyDice
from mstar.provenance import describe
from mstar.rewards import Likelihood
from mstar.storage import read_step_labels
from mstar.types import Prompt, Turn

if TYPE_CHECKING:
    from tests.conftest import Evolve
    from tests.stub_server import StubServer

[DICE] = TinyDice("pool", 1)
GREEDY = (Sample(0, 0.0, 7),)
Make = Callable[..., OpenAIEngine]


@pytest.fixture
def make(stub: StubServer, tmp_path: Path) -> Make:
    def made(**arguments: Any) -> OpenAIEngine:
        engine = OpenAIEngine(stub.address, "teacher", progress=False, **arguments)
        engine.pause = lambda seconds: None
        engine.work_in(tmp_path)
        return engine

    return made


def key_of(messages: list[dict[str, Any]]) -> str:
    return json.dumps([message for message in messages if message["role"] != "assistant"])


def teach(stub: StubServer, *sources: TinyDice) -> None:
    """Has the server know the answers: every third time it is asked it is wrong."""
    known = {key_of(chat_messages(prompt)): prompt for source in sources for prompt in source}

    def write(body: dict[str, Any]) -> str:
        right = known[key_of(body["messages"])].reference_responses[0]
        said = right if body["temperature"] == 0 or body["seed"] % 3 else "red = 1\nblue = 0\nAnswer: 77"
        begun = body["messages"][-1]["content"] if body["messages"][-1]["role"] == "assistant" else ""
        return said.removeprefix(begun)

    stub.write = write


def test_a_sample_is_a_request_with_its_own_seed_and_the_turns_have_their_pictures(
    stub: StubServer, make: Make
) -> None:
    prompt = replace(
        DICE,
        question="Now <image>?",
        turns=(Turn("system", "Be brief."), Turn("user", "First."), Turn("assistant", "Yes.")),
    )
    samples = plan_samples(0, "x", prompt.id, 3, 0.7)
    [responses] = make(max_new_tokens=50).generate([Request(prompt, samples)])
    assert [r.sample_index for r in responses] == [0, 1, 2]
    assert all(r.text == "1 + 2 = 3\nAnswer: 3" and r.finished and math.isnan(r.logprob) for r in responses)
    assert all(r.num_tokens == 7 and r.temperature == 0.7 for r in responses)
    assert sorted(body["seed"] for body in stub.asked) == sorted(sample.seed % 2**31 for sample in samples)
    assert {(body["temperature"], body["max_tokens"]) for body in stub.asked} == {(0.7, 50)}
    system, first, yes, last = stub.asked[0]["messages"]
    assert (system, first, yes) == tuple({"role": turn.role, "content": turn.text} for turn in prompt.turns)
    before, picture, after = last["content"]
    assert (before["text"], after["text"]) == ("Now ", "?")
    sent = picture["image_url"]["url"].removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(sent))).tobytes() == prompt.images[0].load().tobytes()


def test_the_answer_is_shown_to_a_teacher_alone(stub: StubServer, make: Make) -> None:
    make().generate([Request(DICE, GREEDY, show_answer=True), Request(DICE, GREEDY)])
    texts = sorted(body["messages"][0]["content"][-1]["text"] for body in stub.asked)
    assert texts[0] == DICE.question
    assert f"The correct answer is {DICE.answer}." in texts[1]


def test_log_probabilities_are_summed_where_they_are_asked_for(
    stub: StubServer, stub_server: ModuleType, make: Make
) -> None:
    known = stub_server.completion("so Answer: 3", logprobs=(-0.5, -0.25, -1.0))
    stub.write = lambda body: known if "logprobs" in body else "so Answer: 3"
    [[asked]] = make(logprobs=True).generate([Request(DICE, GREEDY)])
    assert (asked.logprob, asked.num_tokens) == (-1.75, 3)
    assert Likelihood().score([(DICE, [asked])]) == [[(pytest.approx(math.exp(-1.75 / 3)),)]]
    # It is another question than without, and is kept with its answer.
    [[silent]] = make().generate([Request(DICE, GREEDY)])
    assert math.isnan(silent.logprob)
    assert make(logprobs=True).generate([Request(DICE, GREEDY)]) == [[asked]]
    assert [body.get("logprobs") for body in stub.asked] == [True, None]
    stub.write = lambda body: "so Answer: 3"
    with pytest.raises(ConfigError, match=f"the server of 'teacher' gives no log-probabilities .* to '{DICE.id}'"):
        make(logprobs=True, max_new_tokens=9).generate([Request(DICE, GREEDY)])


@pytest.mark.parametrize(
    ("continuing", "fields", "turn"),
    [
        ("continue_final_message", {"continue_final_message": True, "add_generation_prompt": False}, {}),
        ("prefix", {}, {"prefix": True}),
        ("last_turn", {}, {}),
    ],
)
def test_a_response_is_continued_as_the_server_does_it(
    continuing: Any, fields: dict[str, Any], turn: dict[str, Any], stub: StubServer, make: Make
) -> None:
    stub.write = lambda body: "two\nAnswer: 2"
    [[response]] = make(continuing=continuing).generate([Request(DICE, GREEDY, prefix="one\n")])
    assert response.text == "one\ntwo\nAnswer: 2"
    [body] = stub.asked
    assert body["messages"][-1] == {"role": "assistant", "content": "one\n"} | turn
    assert {name: body[name] for name in ("continue_final_message", "add_generation_prompt") if name in body} == fields


def test_a_server_that_gives_the_beginning_back_does_not_double_it(stub: StubServer, make: Make) -> None:
    stub.write = lambda body: "one\ntwo"
    [[response]] = make().generate([Request(DICE, GREEDY, prefix="one\n")])
    assert response.text == "one\ntwo"


def test_a_server_that_cannot_continue_is_one_sentence(stub: StubServer, make: Make) -> None:
    request = Request(DICE, GREEDY, prefix="one\n")
    with pytest.raises(ConfigError, match=r"engine\.continuing is none"):
        make(continuing="none").generate([request])
    stub.faults = [(400, {}, {"message": "Unrecognized request argument supplied: continue_final_message"})]
    with pytest.raises(ConfigError, match=r"teacher does not continue a response .*continue_final_message.*continuing"):
        make().generate([request])


def test_a_thought_that_the_template_opened_is_not_continued(stub: StubServer, make: Make) -> None:
    """What was thought was sent back as the answer behind an empty thought, and labelled by what came of that."""
    engine, first = make(), Request(DICE, GREEDY)
    for text, is_refused in (("<think>\none\n</think>\ntwo", False), ("one\n</think>\ntwo", True), ("one\ntwo", False)):
        stub.write = lambda body, text=text: text
        first = replace(first, samples=(Sample(0, 0.0, first.samples[0].seed + 1),))
        assert engine.generate([first])[0][0].text == text
        if is_refused:
            with pytest.raises(ConfigError, match=r"template of 'teacher' opens a thought, which its server cannot be"):
                engine.generate([replace(first, prefix="one\n")])
        else:
            engine.generate([replace(first, prefix="one\n")])


def test_a_thought_that_the_model_opened_is_continued_with_a_warning(
    stub: StubServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make()
    stub.write = lambda body: "two</think>3"
    for prefix, told in (("<think>one</think>\n", 0), ("\n<think>one\n", 1), ("<think>one\n", 1)):
        engine.generate([Request(DICE, GREEDY, prefix=prefix)])
        assert caplog.text.count("continued within their thoughts") == told


def test_a_prompt_that_is_too_long_has_no_response_and_another_refusal_stops(stub: StubServer, make: Make) -> None:
    # Without a longest response it is too long, too.
    stub.faults = [(400, {}, {"message": "too long", "code": "context_length_exceeded"})] * 2
    [[response]] = make(traffic=Traffic(concurrency=1)).generate([Request(DICE, GREEDY)])
    assert (response.text, response.finished, response.num_tokens) == ("", False, 0)
    stub.faults = [(400, {}, {"message": "'temperature' does not support 0.0"})]
    with pytest.raises(DataError, match=rf"refuses the prompt '{DICE.id}' .*does not support 0\.0.*engine\.omit"):
        make().generate([Request(DICE, GREEDY)])
    # Nothing can stand for the continuation that a filter refuses: it would be a label.
    stub.faults = [(400, {}, {"message": "no", "code": "content_filter"})]
    with pytest.raises(DataError, match="leave the prompt out"):
        make().generate([Request(DICE, GREEDY, prefix="one\n")])


def test_an_address_with_a_key_is_refused_before_it_is_written_anywhere() -> None:
    for address in ("https://host/v1?key=abc", "https://me:abc@host"):
        with pytest.raises(ConfigError, match="a key goes into") as raised:
            OpenAIEngine(address, "teacher")
        assert "abc" not in str(raised.value)


def test_where_it_is_and_how_fast_is_no_fact_but_the_model_is(stub: StubServer, make: Make) -> None:
    elsewhere = OpenAIEngine("http://elsewhere", "teacher", cache="x", traffic=Traffic(concurrency=2))
    assert describe(make()) == describe(elsewhere)
    assert describe(make()) != describe(OpenAIEngine(stub.address, "another"))
    assert describe(make()) != describe(make(max_new_tokens=7))


ANNOTATE = ("--settings.num_samples", "4", "--settings.num_continuations", "2", "--settings.shard_size", "2")


def annotate(stub: StubServer, output: Path, *flags: str) -> int:
    return main([
        "annotate", "--prompts", "mstar.prompts.TinyDice", "--prompts.split", "annotation", "--prompts.size", "4",
        "--output", str(output), "--engine", "mstar.generation.OpenAIEngine", "--engine.address", stub.address,
        "--engine.model", "teacher", "--engine.traffic.retries", "0", "--engine.progress", "false", *ANNOTATE, *flags,
    ])  # fmt: skip


def test_annotate_needs_no_policy_and_an_outage_makes_no_label(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSTAR_TEST_KEY", "top-secret")
    teach(stub, TinyDice("annotation", 4))
    key = ("--engine.key_variable", "MSTAR_TEST_KEY")
    assert annotate(stub, tmp_path / "whole", *key) == 0
    asked = {json.dumps(body, sort_keys=True) for body in stub.asked}
    assert set(stub.keys) == {"Bearer top-secret"}
    assert len(asked) == len(stub.asked)
    stub.asked.clear()

    answer = stub.write

    def goes_down(body: dict[str, Any]) -> Any:
        stub.down = len(stub.asked) >= 20
        return answer(body)

    stub.write = goes_down
    assert annotate(stub, tmp_path / "resumed", *key) == 1
    told = capsys.readouterr().err
    assert "did not answer in 1 try (HTTP 503: no), so the run stops at '" in told
    assert "'; what was answered is kept" in told
    answered = {json.dumps(body, sort_keys=True) for body in stub.asked[:20]}
    stub.down, stub.write = False, answer
    stub.asked.clear()
    assert annotate(stub, tmp_path / "resumed", *key) == 0
    again = [json.dumps(body, sort_keys=True) for body in stub.asked]
    assert not answered & set(again)
    assert set(again) <= asked
    for shard in ("labels-00000.parquet", "labels-00001.parquet"):
        labels = read_step_labels(tmp_path / "resumed" / shard)
        assert labels == read_step_labels(tmp_path / "whole" / shard)
        assert all(label.logprob is None for label in labels)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"top-secret" not in path.read_bytes()


def test_annotate_says_what_does_not_go_together(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate(stub, tmp_path, "--policy", "some/policy") == 1
    assert "OpenAIEngine asks 'teacher': set policy to null." in capsys.readouterr().err
    assert annotate(stub, tmp_path, "--engine.key_variable", "MSTAR_NOT_SET") == 1
    assert "MSTAR_NOT_SET" in capsys.readouterr().err
    assert stub.asked == []


def by_address(evolve: Evolve, stub: StubServer, name: str) -> Path:
    """A configuration whose model has no folder: nothing could be loaded."""
    settings = evolve.settings(name)
    del settings["rollout"]
    engine = {"address": stub.address, "model": "teacher", "progress": False, "traffic": {"retries": 0}}
    settings["model"]["init_args"] = {
        "model_name": "no/such/model",
        "engine": {"class_path": "mstar.generation.OpenAIEngine", "init_args": engine},
    }
    return evolve.write(settings, name)


def test_test_and_predict_load_no_policy(evolve: Evolve, stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    teach(stub, TinyDice("test", 8), TinyDice("validation", 8))
    config = str(by_address(evolve, stub, "run"))
    assert main(["predict", "--config", config]) == 0
    rows = pq.read_table(evolve.folder / "run" / "predictions.parquet").to_pylist()
    assert all(row["correct"] and row["model"] == "teacher" for row in rows)
    assert len(rows) == 8
    stub.asked.clear()
    # What predict asked is known already.
    assert main(["test", "--config", config]) == 0
    assert main(["validate", "--config", config]) == 0
    assert len(stub.asked) == 8
    assert "test/accuracy" in capsys.readouterr().out
    benchmark = str(by_address(evolve, stub, "benchmark"))
    assert main(["test", "--config", benchmark, "--benchmark.num_samples", "2"]) == 0
    assert "Policy: teacher, weights by address: teacher." in capsys.readouterr().out
    assert main(["test", "--config", config, "--ckpt_path", __file__]) == 1
    assert "ckpt_path is set, but 'teacher' by its address answers" in capsys.readouterr().err


def test_an_outage_is_no_wrong_answer(evolve: Evolve, stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.down = True
    assert main(["test", "--config", str(by_address(evolve, stub, "run"))]) == 1
    captured = capsys.readouterr()
    assert "did not answer in 1 try" in captured.err
    assert "accuracy" not in captured.out


def test_a_teacher_warms_a_policy_up_and_trains_nothing_else(
    evolve: Evolve, stub: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def shows(prompt: Prompt) -> Prompt:
        hinted = chat_messages(prompt, show_answer=True)[-1]["content"][-1]["text"]
        return replace(prompt, question=hinted)

    teach(stub, [shows(prompt) for prompt in TinyDice("pool", 32)])  # type: ignore[arg-type]
    engine = {"address": stub.address, "model": "teacher", "progress": False}
    teacher = {"class_path": "mstar.generation.OpenAIEngine", "init_args": engine}
    assert main(["fit", "--config", str(evolve.write(evolve.settings("no", engine=teacher), "no"))]) == 1
    assert "no weights can be handed, but rollouts are drawn from the policy that is trained" in capsys.readouterr().err
    unlikely = evolve.settings("no", engine=teacher, answer_conditioned=True, selection="likelihood")
    assert main(["fit", "--config", str(evolve.write(unlikely, "no"))]) == 1
    assert (
        "rollout.selection reads log-probabilities, which OpenAIEngine does not give: set rollout.engine.logprobs"
        in capsys.readouterr().err
    )
    assert stub.asked == []
    assert not (evolve.folder / "no" / "iterations").exists()
    settings = evolve.settings("warmup", engine=teacher, answer_conditioned=True)
    settings["trainer"]["max_epochs"] = 1
    assert main(["fit", "--config", str(evolve.write(settings, "warmup"))]) == 0
    report = json.loads((evolve.folder / "warmup/iterations/0001/report.json").read_text())
    assert len(stub.asked) == 64
    assert report["funnel"]["correct"] > 32
    # The dynamics are those of the policy, which the teacher does not answer for.
    assert report["dynamics"]["greedy_accuracy"] < 1
    assert "top" not in yaml.safe_load((evolve.folder / "warmup/config.yaml").read_text())
