"""The vLLM engine on real vLLM (CPU): it writes what the trainer's own model would write, before and after a sync."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.generation import Request, Sample, TransformersEngine, VllmEngine, plan_samples
from mstar.generation.drift import trainer_logprobs
from mstar.prompts import TinyDice
from mstar.types import Prompt, Response

if TYPE_CHECKING:
    from tests.conftest import Policy
    from tests.vllm.conftest import Change, MakeEngine

pytestmark = pytest.mark.vllm

GREEDY = (Sample(index=0, temperature=0.0, seed=0),)
DICE = list(TinyDice("pool", 8))
TEXT_ONLY = [replace(prompt, id=f"text-{prompt.id}", images=()) for prompt in DICE[:4]]


def greedy(engine: VllmEngine | TransformersEngine, prompts: list[Prompt]) -> list[str]:
    return [row[0].text for row in engine.generate([Request(prompt, GREEDY) for prompt in prompts])]


def sampled(prompts: list[Prompt], number: int = 4, temperature: float = 1.0) -> list[Request]:
    return [Request(p, plan_samples(0, "rollout/1", p.id, number, temperature)) for p in prompts]


@pytest.fixture(scope="module")
def running(trained: Policy, make_engine: MakeEngine) -> Iterator[VllmEngine]:
    """One engine for the tests of this file; whoever changes its weights puts them back (``engine``)."""
    engine = make_engine()
    engine.start(trained.model, trained.renderer)
    yield engine
    engine.close()


@pytest.fixture
def engine(running: VllmEngine, trained: Policy) -> VllmEngine:
    running.update_weights(trained.model)
    return running


def test_greedy_equals_transformers_before_and_after_a_sync(
    engine: VllmEngine, trained: Policy, change: Change
) -> None:
    reference = TransformersEngine(24, progress=False)
    other = change(trained.model)
    written = []
    for model in (trained.model, other, trained.model):
        engine.update_weights(model)
        reference.start(model, trained.renderer)
        written.append(greedy(engine, DICE + TEXT_ONLY))
        assert written[-1] == greedy(reference, DICE + TEXT_ONLY)
    assert written[0] == written[2]
    assert written[0] != written[1]


def test_logprobs_are_those_of_the_policy_at_temperature_1(engine: VllmEngine, trained: Policy) -> None:
    for temperature in (0.0, 0.5, 1.0):
        [[response]] = engine.generate([Request(DICE[0], (Sample(0, temperature, 3),), keep_tokens=True)])
        [tokens] = trainer_logprobs(trained.model, trained.renderer, [DICE[0]], [response.text])
        assert response.finished
        assert response.num_tokens == len(tokens)  # the text is encoded as it was written
        assert response.logprob == pytest.approx(sum(tokens), abs=1e-4)
        assert response.logprobs == pytest.approx(tokens, abs=1e-4)
        assert trained.renderer.encode_responses([response.text])[0] == [list(response.tokens)]


def test_a_sample_does_not_depend_on_what_else_is_drawn(engine: VllmEngine) -> None:
    requests = sampled(DICE, 4)
    together = engine.generate(requests)
    assert len({response.text for row in together for response in row}) > 8
    reordered = engine.generate(requests[::-1])[::-1]
    alone = [engine.generate([request])[0] for request in requests]
    single = [engine.generate([replace(request, samples=request.samples[2:3])])[0][0] for request in requests]
    texts = [[response.text for response in row] for row in together]
    assert [[response.text for response in row] for row in reordered] == texts
    assert [[response.text for response in row] for row in alone] == texts
    assert [response.text for response in single] == [row[2] for row in texts]
    other_seed = engine.generate([Request(DICE[0], plan_samples(1, "rollout/1", DICE[0].id, 4, 1.0))])[0]
    assert [response.text for response in other_seed] != texts[0]


def test_more_prompts_than_vllm_reads_at_once(engine: VllmEngine) -> None:
    """On a CPU vLLM fails if it has to read a part of a prompt for a sample with a seed."""
    requests = sampled(list(TinyDice("pool", 24)), 16)
    limit = engine.session.llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens
    assert sum(engine.session.renderer.count_tokens(r.prompt) * len(r.samples) for r in requests) > 1.2 * limit
    rows = engine.generate(requests)
    last = engine.generate(requests[-1:])[0]
    assert [response.text for response in rows[-1]] == [response.text for response in last]


def test_one_request_draws_all_samples_of_a_temperature(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    llm: Any = engine.session.llm
    numbers = []
    enqueue = llm.enqueue
    monkeypatch.setattr(
        llm, "enqueue", lambda p, params, **rest: numbers.append(params.n) or enqueue(p, params, **rest)
    )
    samples = (*GREEDY, *plan_samples(0, "x", DICE[0].id, 6, 1.0, first_index=1), Sample(7, 0.5, 4), Sample(8, 0.0, 0))
    [row] = engine.generate([Request(DICE[0], samples)])
    assert sorted(numbers) == [1, 1, 6]
    assert [(r.sample_index, r.temperature) for r in row] == [(s.index, s.temperature) for s in samples]
    assert row[0].text == row[8].text


def test_a_given_beginning_is_continued(engine: VllmEngine, trained: Policy) -> None:
    reference = TransformersEngine(24, progress=False)
    reference.start(trained.model, trained.renderer)
    requests = [Request(p, GREEDY, prefix=p.reference_responses[0].splitlines(keepends=True)[0]) for p in DICE[:3]]
    ours, theirs = engine.generate(requests), reference.generate(requests)
    assert [row[0].text for row in ours] == [row[0].text for row in theirs]
    assert [row[0].num_tokens for row in ours] == [row[0].num_tokens for row in theirs]


def test_pictures_are_loaded_once_and_while_vllm_runs(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Watched:
        def __init__(self, prompt: Prompt) -> None:
            [self.image] = prompt.images
            self.uri = self.image.uri

        def load(self) -> Any:
            loaded.append(self.uri)
            return self.image.load()

    prompts = [replace(prompt, images=(Watched(prompt),)) for prompt in DICE]
    samples = (*GREEDY, Sample(1, 0.5, 3), Sample(2, 1.0, 4))
    expected = engine.generate([Request(prompt, samples) for prompt in DICE])
    # As if vLLM wrote two at the same time: the other prompts are handed over when there is room.
    session, begun = engine.session, []
    monkeypatch.setattr(session, "options", replace(session.options, max_num_seqs=2))
    step = session.llm.llm_engine.step
    monkeypatch.setattr(session.llm.llm_engine, "step", lambda: (begun.append(len(loaded)), step())[1])
    rows = engine.generate([Request(prompt, samples) for prompt in prompts])
    assert [[response.text for response in row] for row in rows] == [[r.text for r in row] for row in expected]
    assert loaded == [prompt.images[0].uri for prompt in DICE]
    assert begun[0] <= 3  # two, and the next one's
    assert len(DICE) == 8


def test_special_tokens_are_never_drawn(tiny: Policy, monkeypatch: pytest.MonkeyPatch, engine: VllmEngine) -> None:
    engine.update_weights(tiny.model)  # untrained, it would draw every token about equally often
    outputs: list[Any] = []
    finish = engine.session.finish

    def watched(*given: Any) -> Iterator[Any]:
        for place, output in finish(*given):
            outputs.append(output)
            yield place, output

    monkeypatch.setattr(engine.session, "finish", watched)
    engine.generate(sampled(DICE, 16, temperature=2.0))
    drawn = [token for output in outputs for one in output.outputs for token in one.token_ids]
    assert len(drawn) > 2000
    assert len(set(drawn)) > 300
    assert not set(drawn) & set(tiny.renderer.banned_ids)


def test_bad_prompts_are_left_out_alone(engine: VllmEngine, caplog: pytest.LogCaptureFixture) -> None:
    long_text = replace(DICE[1], id="long", question="plus " * 300)
    # 250 tokens of text fit into the model's 256; those of the picture do not.
    room = engine.session.longest - engine.session.renderer.count_tokens(replace(DICE[2], question=""))
    long_picture = replace(DICE[2], id="wide", question=" plus" * (room + 1))
    many = replace(DICE[3], id="many", images=DICE[3].images * 2)
    prompts = [DICE[0], long_text, DICE[1], long_picture, DICE[2], many, DICE[3]]
    expected = greedy(engine, [DICE[0], DICE[1], DICE[2], DICE[3]])
    engine.session.reset_caches()  # so that the pictures of the refused prompts are new to vLLM
    rows = engine.generate([Request(prompt, (*GREEDY, Sample(1, 1.0, 5))) for prompt in prompts])
    assert [rows[i][0].text for i in (0, 2, 4, 6)] == expected
    assert rows[5][0].num_tokens > 0  # two pictures are no fault
    for number, prompt in ((1, long_text), (3, long_picture)):
        assert rows[number] == [
            Response(prompt.id, 0, "", 0, False, 0.0, 0.0),
            Response(prompt.id, 1, "", 0, False, 1.0, 0.0),
        ]
        assert f"'{prompt.id}' is left without responses" in caplog.text
    assert greedy(engine, [DICE[3], DICE[2]]) == [expected[3], expected[2]]


def test_after_an_error_it_goes_on(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = greedy(engine, DICE)
    llm: Any = engine.session.llm
    core = llm.llm_engine.engine_core.engine_core
    execute = core.model_executor.execute_model
    steps = []

    def run_out(*arguments: Any, **rest: Any) -> Any:
        steps.append(1)
        if len(steps) == 5:
            raise torch.OutOfMemoryError("no memory is left")
        return execute(*arguments, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(core.model_executor, "execute_model", run_out)
        with pytest.raises(torch.OutOfMemoryError, match="no memory is left"):
            engine.generate(sampled(DICE))
    assert not llm.llm_engine.has_unfinished_requests()
    assert greedy(engine, DICE) == expected


def test_an_error_while_prompts_are_handed_over(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        uri = "broken"

        def load(self) -> Any:
            raise OSError("the disk is gone")

    expected = greedy(engine, DICE[:2])
    with pytest.raises(OSError, match="the disk is gone"):
        engine.generate(sampled([DICE[0], replace(DICE[1], images=(Broken(),))]))
    assert greedy(engine, DICE[:2]) == expected
