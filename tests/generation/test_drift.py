from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.errors import EngineDriftError
from mstar.generation import Request, Sample, TransformersEngine
from mstar.generation.drift import DriftCheck, measure_drift, trainer_logprobs
from mstar.prompts import TinyDice
from mstar.types import Prompt, Response

if TYPE_CHECKING:
    from tests.conftest import Policy

DICE = list(TinyDice("pool", 6))
SAMPLE = Sample(index=0, temperature=0.0, seed=0)
TEXTS = [prompt.reference_responses[0] for prompt in DICE]


class CopyingEngine(TransformersEngine):
    """An engine with its own copy of the policy; ``shift`` is added to its log-probabilities."""

    drift_bound = 0.01

    def __init__(self, shift: float = 0.0, longest: int = 1000) -> None:
        super().__init__(24, progress=False)
        self.shift, self.longest = shift, longest
        self.read: list[str] = []

    def update_weights(self, policy: Any) -> None:
        super().update_weights(copy.deepcopy(policy))

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        self.read += [request.prompt.id for request in requests]
        return super().generate(requests)

    def response_logprobs(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[list[float]]:
        self.read += [prompt.id for prompt in prompts]
        assert self._policy is not None
        assert self._renderer is not None
        rows = trainer_logprobs(self._policy, self._renderer, prompts, responses)
        return [[value + self.shift for value in row][: self.longest] for row in rows]


def test_logprobs_are_those_of_the_likelihood(trained: Policy) -> None:
    engine = TransformersEngine(24, progress=False)
    engine.start(trained.model, trained.renderer)
    check = DriftCheck(DICE)
    written = [row[0] for row in engine.generate([Request(p, (SAMPLE,)) for p in check.prompts])]
    rows = trainer_logprobs(trained.model, trained.renderer, check.prompts, [r.text for r in written])
    for response, row in zip(written, rows, strict=True):
        assert response.finished
        assert len(row) == response.num_tokens
        assert sum(row) == pytest.approx(response.logprob, abs=1e-4)


def test_the_drift_is_the_mean_difference_of_a_token(trained: Policy) -> None:
    engine = CopyingEngine(shift=-0.25)
    engine.start(trained.model, trained.renderer)
    drift = measure_drift(engine, trained.model, trained.renderer, DICE, TEXTS)
    assert drift is not None
    assert drift.mean == pytest.approx(0.25)
    assert drift.worst == pytest.approx(0.25)
    assert drift.num_tokens == sum(len(ids) for ids in trained.renderer.encode_responses(TEXTS)[0])
    # Tokens that do not fit the engine are not compared; none at all is no proof.
    engine.longest = 2
    drift = measure_drift(engine, trained.model, trained.renderer, DICE, TEXTS)
    assert drift is not None
    assert drift.num_tokens == 12
    engine.longest = 0
    with pytest.raises(EngineDriftError, match="could not be compared"):
        measure_drift(engine, trained.model, trained.renderer, DICE, TEXTS)


def test_an_engine_without_weights_of_its_own_is_not_asked(trained: Policy) -> None:
    engine = TransformersEngine(24, progress=False)
    check = DriftCheck(DICE)
    check.prepare(engine)  # not even started
    assert check.measure(engine, trained.model, trained.renderer) is None
    assert measure_drift(engine, trained.model, trained.renderer, DICE, TEXTS) is None


def test_the_engine_reads_the_same_prompts_before_and_after_every_sync(trained: Policy) -> None:
    text = [replace(prompt, id=f"text-{prompt.id}", images=()) for prompt in DICE]
    assert [p.id for p in DriftCheck([*text, *DICE]).prompts] == [p.id for p in DICE[:4]]
    assert [p.id for p in DriftCheck(text, num_responses=2).prompts] == ["text-pool-0-0", "text-pool-0-1"]
    engine, check = CopyingEngine(), DriftCheck(DICE, num_responses=2)
    engine.start(trained.model, trained.renderer)
    first = [p.id for p in check.prompts]
    for _ in range(2):
        engine.read.clear()
        check.prepare(engine)
        assert engine.read == first
        engine.update_weights(trained.model)
        assert check.measure(engine, trained.model, trained.renderer) is not None
        assert engine.read == first * 2


def test_a_sync_that_was_left_out_stops_the_run(trained: Policy) -> None:
    engine, check = CopyingEngine(), DriftCheck(DICE)
    engine.start(copy.deepcopy(trained.model), trained.renderer)
    other: Any = copy.deepcopy(trained.model).train()
    with torch.no_grad():
        other.model.text_model.layers[1].mlp.down_proj.weight += 0.05
    check.prepare(engine)
    with pytest.raises(EngineDriftError, match=r"CopyingEngine does not compute .* and its drift_bound is 0\.01"):
        check.measure(engine, other, trained.renderer)
    engine.update_weights(other)
    drift = check.measure(engine, other, trained.renderer)
    assert drift is not None
    assert drift.mean < 1e-6
    assert other.training


def test_what_is_not_a_number_stops_the_run(trained: Policy) -> None:
    engine, check = CopyingEngine(), DriftCheck(DICE)
    engine.start(trained.model, trained.renderer)
    check.prepare(engine)
    engine.shift = float("nan")
    with pytest.raises(EngineDriftError, match="differ by inf"):
        check.measure(engine, trained.model, trained.renderer)
