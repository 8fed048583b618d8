"""An engine in bfloat16, fed from a policy in float32: a stale one is found at once, and a healthy one is let be."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.errors import EngineDriftError
from mstar.generation import VllmEngine
from mstar.generation.drift import DriftCheck, measure_drift
from mstar.prompts import TinyDice

if TYPE_CHECKING:
    from tests.conftest import Policy
    from tests.vllm.conftest import MakeEngine

pytestmark = pytest.mark.vllm

DICE = list(TinyDice("pool", 8))
TEXTS = [prompt.reference_responses[0] for prompt in DICE]


def step(model: Any, size: float, seed: int, part: str = "") -> Any:
    """The model after a step of that size for every weight, as Adam makes them."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if part in name:
                parameter += size * torch.randn(parameter.shape, generator=generator).sign()
    return other.eval()


@pytest.fixture(scope="module")
def engine(trained: Policy, make_engine: MakeEngine) -> Iterator[VllmEngine]:
    engine = make_engine(dtype="bfloat16")
    engine.start(trained.model, trained.renderer)
    yield engine
    engine.close()


@pytest.fixture
def check(engine: VllmEngine, trained: Policy) -> DriftCheck:
    """A check after a first, healthy hand-over."""
    check = DriftCheck(DICE)
    check.prepare(engine)
    engine.update_weights(trained.model)
    assert check.measure(engine, trained.model, trained.renderer) is not None
    check.prepare(engine)
    return check


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_a_healthy_engine_passes_twenty_hand_overs(
    weights: torch.dtype, check: DriftCheck, engine: VllmEngine, trained: Policy
) -> None:
    model: Any = copy.deepcopy(trained.model).to(weights)
    for number in range(20):
        # From steps that hardly any weight shows to such that change all of what is written.
        model = step(model, 1e-6 * 1.7**number, number)
        check.prepare(engine)
        engine.update_weights(model)
        drift = check.measure(engine, model, trained.renderer)
        assert drift is not None
        assert drift.mean < 0.1


def test_a_tiny_update_that_was_skipped_is_found(check: DriftCheck, engine: VllmEngine, trained: Policy) -> None:
    model = step(trained.model, 1e-6, 0)
    drift = measure_drift(engine, model, trained.renderer, DICE, TEXTS)
    assert drift is not None
    assert drift.mean < 0.05  # log-probabilities do not tell
    with pytest.raises(
        EngineDriftError, match=r"does not have the trainer's weights: '.*' and \d+ more of \d+ tensors"
    ):
        check.measure(engine, model, trained.renderer)


def test_any_tensor_that_is_left_out_is_named(
    check: DriftCheck, engine: VllmEngine, trained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mstar.generation import vllm_session

    whole = vllm_session.checkpoint_weights
    # The head is tied, so that the embedding may bring it along.
    names = [name for name in trained.model.state_dict() if name != "lm_head.weight"]
    model = trained.model
    for number, left_out in enumerate(names):
        model = step(model, 1e-3, number)
        gone = {left_out, "lm_head.weight"} if "embed_tokens" in left_out else {left_out}

        def push(*arguments: Any, _gone: set[str] = gone, **rest: Any) -> Any:
            return ((name, value) for name, value in whole(*arguments, **rest) if name not in _gone)

        with monkeypatch.context() as patch:
            patch.setattr(vllm_session, "checkpoint_weights", push)
            engine.update_weights(model)
        assert left_out in engine.compare_weights(model).different
    with pytest.raises(EngineDriftError, match=rf"weights: '{names[-1]}' of {len(names) + 1} tensors"):
        check.measure(engine, model, trained.renderer)


@pytest.mark.parametrize("cache", ["features", "prefixes"])
def test_what_old_weights_made_is_found(
    cache: str, check: DriftCheck, engine: VllmEngine, trained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm: Any = engine.session.llm
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    model = step(trained.model, 1e-6, 0, "vision_model")
    engine.response_logprobs(DICE * 4, [text * 12 for text in TEXTS * 4])  # longer than a block
    with monkeypatch.context() as patch:
        if cache == "features":
            patch.setattr(llm.llm_engine, "reset_encoder_cache", lambda: None)
            patch.setattr(runner, "reset_encoder_cache", lambda: None)
        else:
            patch.setattr(llm, "reset_prefix_cache", lambda: True)
        engine.update_weights(model)
        with pytest.raises(EngineDriftError, match=r"cached image features|blocks of the prefix cache"):
            check.measure(engine, model, trained.renderer)
    engine.update_weights(model)
    assert check.measure(engine, model, trained.renderer) is not None
