"""The memory and the weights of a session, as far as that goes without vLLM."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch

from mstar.errors import ConfigError
from mstar.generation.vllm_session import VllmSession, _adapter_options
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training

if TYPE_CHECKING:
    from tests.conftest import Policy


def test_adapters_outside_of_the_language_model_are_not_sent_apart(tiny: Policy) -> None:
    model: Any = copy.deepcopy(tiny.model)
    prepare_training(model, [], lora=LoraSettings(rank=4, target="all"))
    with pytest.raises(ConfigError, match=r"not in the language model \('model\.vision_model\..* set adapters: merged"):
        _adapter_options(model)
    attention: Any = copy.deepcopy(tiny.model)
    prepare_training(attention, [], lora=LoraSettings(rank=9, target="attention"))
    options = _adapter_options(attention)
    assert options["max_lora_rank"] == 16
    assert options["lora_target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]


class RecordingLLM:
    """Writes down what is asked of vLLM."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(enable_sleep_mode=True),
            reset_encoder_cache=lambda: self.calls.append("reset encoder"),
            engine_core=SimpleNamespace(engine_core=SimpleNamespace(scheduler=self.empty_caches())),
        )

    @staticmethod
    def empty_caches() -> Any:
        blocks = SimpleNamespace(cached_block_hash_to_block={})
        return SimpleNamespace(
            encoder_cache_manager=SimpleNamespace(cached={}), kv_cache_manager=SimpleNamespace(block_pool=blocks)
        )

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def wake_up(self, tags: Sequence[str] = ("weights", "kv_cache")) -> None:
        self.calls.append(f"wake {' '.join(tags)}")

    def collective_rpc(self, method: Any, kwargs: dict[str, Any] | None = None) -> list[Any]:
        if callable(method):
            return [method(SimpleNamespace(model_runner=SimpleNamespace(encoder_cache=None)))]
        self.calls.append(method)
        return [None]

    def reset_prefix_cache(self) -> bool:
        self.calls.append("reset prefix")
        return True

    def reset_mm_cache(self) -> None:
        self.calls.append("reset pictures")


@pytest.mark.parametrize("level", [1, 2])
def test_memory_comes_back_weights_first(level: Literal[1, 2], tiny: Policy) -> None:
    session = VllmSession.__new__(VllmSession)
    llm: Any = RecordingLLM()
    session.llm, session.policy, session.asleep = llm, tiny.model, False
    session.sleep_level = level
    session._apart, session._pushes, session.dtype = False, 1, torch.float32
    sync = ["wake weights", "reload_weights", "wake kv_cache", "reset prefix", "reset pictures", "reset encoder"]
    session.rest()
    session.rest()
    session.update_weights(tiny.model)
    assert llm.calls == [f"sleep {level}", *sync]
    llm.calls.clear()
    session.wake()  # it is awake
    session.rest()
    session.wake()
    # The second level has let go of the weights: they come from the policy again.
    assert llm.calls == [f"sleep {level}", *(sync if level == 2 else ["wake weights kv_cache"])]
