from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.errors import EngineDriftError
from mstar.generation import Request, Sample, TransformersEngine
from mstar.generation.base import HandOver
from mstar.generation.drift import DriftCheck, measure_drift, trainer_logprobs
from mstar.models.families import language_head
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

    def response_logprobs(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> dict[str, list[list[float]]]:
        self.read += [prompt.id for prompt in prompts]
        assert self._policy is not None
        assert self._renderer is not None
        rows = trainer_logprobs(self._policy, self._renderer, prompts, responses)
        return {"": [[value + self.shift for value in row][: self.longest] for row in rows]}


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


def test_the_logits_of_all_tokens_are_never_held_at_once(trained: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trainer_logprobs(trained.model, trained.renderer, DICE, TEXTS)
    sizes: list[int] = []
    head: Any = language_head(trained.model)
    monkeypatch.setattr("mstar.models.token_loss.MOST_LOGITS", 5 * head.weight.shape[0])
    hook = head.register_forward_hook(lambda _, inputs, output: sizes.append(output[..., 0].numel()))
    parts = trainer_logprobs(trained.model, trained.renderer, DICE, TEXTS)
    hook.remove()
    assert sum(sizes) == sum(len(row) for row in whole)
    assert max(sizes) == 5
    for row, again in zip(whole, parts, strict=True):
        assert again == pytest.approx(row, abs=1e-5)


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


def test_every_part_of_an_engine_is_asked_and_the_worst_is_named(
    trained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CopyingEngine()
    engine.start(trained.model, trained.renderer)

    one = engine.response_logprobs

    def each(prompts: Sequence[Prompt], responses: Sequence[str]) -> dict[str, list[list[float]]]:
        rows = one(prompts, responses)[""]
        return {"http://a": rows, "http://b": [[value + 0.5 for value in row] for row in rows], "http://c": rows}

    monkeypatch.setattr(engine, "response_logprobs", each)
    check = DriftCheck(DICE)
    check.prepare(engine)
    engine.update_weights(trained.model)
    with pytest.raises(EngineDriftError, match=r"the CopyingEngine \(http://b\) does not compute .* differ by 0\.5 "):
        check.measure(engine, trained.model, trained.renderer)


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


class HalfEngine(CopyingEngine):
    """An engine in bfloat16 that can be read back, as vLLM is: it takes the weights rounded, or ``skips`` them."""

    dtype = torch.bfloat16
    drift_bound, drift_floor = 0.25, 0.05

    def __init__(self) -> None:
        super().__init__()
        self.skips: tuple[str, ...] = ()
        self.stale: tuple[str, ...] = ()

    def update_weights(self, policy: Any) -> None:
        held: Any = None if self._policy is None else self._policy
        fresh = copy.deepcopy(policy).bfloat16()
        if held is not None and held is not policy:
            old = held.state_dict()
            fresh.load_state_dict({n: old[n] if n.startswith(self.skips) else v for n, v in fresh.state_dict().items()})
        TransformersEngine.update_weights(self, fresh)

    def compare_weights(self, policy: Any) -> HandOver:
        assert self._policy is not None
        held = self._policy.state_dict()
        wrong = [n for n, v in policy.state_dict().items() if not torch.equal(v.bfloat16(), held[n])]
        return HandOver(len(held), tuple(wrong), self.stale)


@pytest.fixture
def half(trained: Policy) -> HalfEngine:
    engine = HalfEngine()
    engine.start(trained.model, trained.renderer)
    engine.update_weights(trained.model)
    return engine


def stepped(model: Any, size: float, seed: int = 0) -> Any:
    """The model after a step of that size for every weight, as Adam makes them."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator).sign()
    return other


def test_small_updates_of_a_16_bit_engine_pass_and_a_skipped_one_is_found(half: HalfEngine, trained: Policy) -> None:
    check, model = DriftCheck(DICE), trained.model
    for step in range(20):
        check.prepare(half)
        model = stepped(model, 1e-5, step)
        half.update_weights(model)
        assert check.measure(half, model, trained.renderer) is not None
    check.prepare(half)
    half.skips = ("",)
    model = stepped(model, 1e-5, 20)
    half.update_weights(model)
    # The responses' log-probabilities do not tell: rounding is larger than what such a step does.
    drift = measure_drift(half, model, trained.renderer, check.prompts, TEXTS[:4])
    assert drift is not None
    assert drift.mean < 0.05
    with pytest.raises(EngineDriftError, match=r"HalfEngine does not have the trainer's weights: 'model\..* more of"):
        check.measure(half, model, trained.renderer)


def test_an_update_that_16_bits_cannot_show_is_not_staleness(half: HalfEngine, trained: Policy) -> None:
    check = DriftCheck(DICE)
    check.prepare(half)
    half.skips = ("",)
    rounded: Any = copy.deepcopy(trained.model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16().float() * (1 + 1e-5))
    half.update_weights(rounded)
    assert check.measure(half, rounded, trained.renderer) is not None


def test_one_tensor_that_was_left_out_is_named(half: HalfEngine, trained: Policy) -> None:
    check, model = DriftCheck(DICE), stepped(trained.model, 1e-3)
    check.prepare(half)
    half.skips = ("model.text_model.layers.0.self_attn.k_proj",)
    half.update_weights(model)
    with pytest.raises(EngineDriftError, match=r"weights: 'model.text_model.layers.0.self_attn.k_proj.weight' of \d+"):
        check.measure(half, model, trained.renderer)
    half.skips = ()
    half.update_weights(model)
    assert check.measure(half, model, trained.renderer) is not None


def test_what_earlier_weights_made_is_named(half: HalfEngine, trained: Policy) -> None:
    check = DriftCheck(DICE)
    check.prepare(half)
    half.stale = ("cached image features of 2 pictures",)
    with pytest.raises(EngineDriftError, match="still has cached image features of 2 pictures, made by earlier"):
        check.measure(half, trained.model, trained.renderer)


def test_the_bound_of_16_bits_follows_from_the_first_hand_over(trained: Policy) -> None:
    engine, check = CopyingEngine(shift=0.1), DriftCheck(DICE)
    engine.drift_bound, engine.drift_floor = 0.25, 0.05
    engine.start(trained.model, trained.renderer)
    check.prepare(engine)

    def measured(shift: float) -> float:
        engine.shift = shift
        drift = check.measure(engine, trained.model, trained.renderer)
        assert drift is not None
        return drift.mean

    with pytest.raises(EngineDriftError, match=r"drift_bound is 0\.25"):
        measured(1.0)  # what wrong pictures give, at once
    assert measured(0.1) == pytest.approx(0.1)
    assert measured(0.29) == pytest.approx(0.29)
    with pytest.raises(EngineDriftError, match=r"drift_bound is 0\.3"):
        measured(0.31)
    # A first drift of next to nothing leaves the floor; another process begins anew.
    check = DriftCheck(DICE)
    check.prepare(engine)
    measured(0.001)
    assert measured(0.049) == pytest.approx(0.049)
    with pytest.raises(EngineDriftError, match=r"drift_bound is 0\.05"):
        measured(0.06)


def test_the_trainer_computes_in_the_engines_type(trained: Policy) -> None:
    def logprobs(model: Any, dtype: torch.dtype | None) -> torch.Tensor:
        rows = trainer_logprobs(model, trained.renderer, DICE[:2], TEXTS[:2], dtype)
        return torch.tensor([value for row in rows for value in row])

    exact, rounded = logprobs(trained.model, None), logprobs(trained.model, torch.bfloat16)
    assert 1e-4 < (exact - rounded).abs().mean() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logprobs(trained.model, None), rounded)
        assert torch.equal(logprobs(trained.model, torch.float32), exact)
    # Weights of 16 bits are computed with as they are.
    half_model: Any = copy.deepcopy(trained.model).bfloat16()
    assert torch.equal(logprobs(half_model, torch.bfloat16), logprobs(half_model, None))


def test_a_sleeping_engine_is_not_woken_to_read(trained: Policy) -> None:
    engine, check = CopyingEngine(), DriftCheck(DICE)
    engine.start(trained.model, trained.renderer)
    check.prepare(engine)
    engine.read.clear()
    engine.asleep = True
    check.prepare(engine)
    assert engine.read == []
