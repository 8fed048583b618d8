"""The proof of a sync: real vLLM, with hand-overs that go wrong in every way that is known."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from mstar.errors import ConfigError, EngineDriftError
from mstar.generation import VllmEngine
from mstar.generation.drift import DriftCheck, measure_drift
from mstar.prompts import TinyDice

if TYPE_CHECKING:
    from tests.conftest import Policy
    from tests.vllm.conftest import Change, MakeEngine

pytestmark = pytest.mark.vllm

DICE = list(TinyDice("pool", 8))


@pytest.fixture(scope="module")
def engine(trained: Policy, make_engine: MakeEngine) -> Iterator[VllmEngine]:
    engine = make_engine()
    engine.start(trained.model, trained.renderer)
    yield engine
    engine.close()


@pytest.fixture
def check(engine: VllmEngine, trained: Policy) -> DriftCheck:
    """A check whose prompts the engine has read with the weights of ``trained``."""
    engine.update_weights(trained.model)
    check = DriftCheck(DICE)
    check.prepare(engine)
    return check


def test_a_right_sync_has_next_to_no_drift(
    check: DriftCheck, engine: VllmEngine, trained: Policy, change: Change
) -> None:
    for model in (trained.model, change(trained.model), change(trained.model, "vision_model"), trained.model):
        check.prepare(engine)
        engine.update_weights(model)
        drift = check.measure(engine, model, trained.renderer)
        assert drift is not None
        assert drift.num_tokens > 60
        assert 0 < drift.mean <= drift.worst < 1e-4


def test_a_sync_that_was_left_out_is_caught(
    check: DriftCheck, engine: VllmEngine, trained: Policy, change: Change
) -> None:
    other = change(trained.model, scale=0.01)
    with pytest.raises(EngineDriftError, match=r"does not have the trainer's weights: 'model\..*' and \d+ more of"):
        check.measure(engine, other, trained.renderer)
    # Its log-probabilities tell too, in float32.
    drift = measure_drift(engine, other, trained.renderer, DICE, [p.reference_responses[0] for p in DICE])
    assert drift is not None
    assert engine.drift_bound == 0.001 < drift.mean


def test_a_head_that_was_left_out_is_caught(
    check: DriftCheck, engine: VllmEngine, trained: Policy, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tied embeddings a checkpoint has no head, and vLLM keeps its own old one without an error."""
    from mstar.generation import vllm_session

    whole = vllm_session.checkpoint_weights

    def headless(*arguments: Any, **rest: Any) -> Any:
        return ((name, value) for name, value in whole(*arguments, **rest) if name != "lm_head.weight")

    other = change(trained.model, "embed_tokens", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(vllm_session, "checkpoint_weights", headless)
        engine.update_weights(other)
    with pytest.raises(EngineDriftError, match=r"weights: 'lm_head.weight' of \d+ tensors"):
        check.measure(engine, other, trained.renderer)
    engine.update_weights(other)
    assert check.measure(engine, other, trained.renderer) is not None


def test_stale_features_of_pictures_are_caught(
    check: DriftCheck, engine: VllmEngine, trained: Policy, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm: Any = engine.session.llm
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    other = change(trained.model, "vision_model")
    with monkeypatch.context() as patch:
        patch.setattr(llm.llm_engine, "reset_encoder_cache", lambda: None)
        patch.setattr(runner, "reset_encoder_cache", lambda: None)
        engine.update_weights(other)
        with pytest.raises(EngineDriftError, match="cached image features"):
            check.measure(engine, other, trained.renderer)
    engine.update_weights(other)
    assert check.measure(engine, other, trained.renderer) is not None


def test_a_cache_that_was_not_emptied_is_caught(
    check: DriftCheck, engine: VllmEngine, trained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.session.llm, "reset_prefix_cache", lambda: False)
    with pytest.raises(RuntimeError, match="did not empty its prefix cache"):
        engine.update_weights(trained.model)


def test_weights_that_are_not_numbers_are_caught(check: DriftCheck, engine: VllmEngine, trained: Policy) -> None:
    broken = copy.deepcopy(trained.model)
    broken.lm_head.weight.data[3:] = float("nan")
    with pytest.raises(ConfigError, match="the weights are not finite numbers"):
        engine.update_weights(broken)
    # Had they got there, the check would tell.
    engine.session.update_weights(broken)
    with pytest.raises(EngineDriftError, match=r"weights: 'model.text_model.embed_tokens.weight' and 1 more"):
        check.measure(engine, trained.model, trained.renderer)
    # The trainer's own are no better.
    with pytest.raises(EngineDriftError, match="differ by inf"):
        check.measure(engine, broken, trained.renderer)
