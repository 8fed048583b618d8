"""Packed batches: loss and gradients equal those of padded ones, and rows do not see each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mstar.datamodules.step_batches import StepBatch
from mstar.errors import ConfigError
from mstar.models.packing import check_packing, packed_hidden_states
from mstar.modules.policy import PolicyModule
from mstar.prompts import TinyDice
from mstar.rendering import ResponseInputs
from mstar.types import Prompt

PICTURES = [prompt.images[0] for prompt in TinyDice("validation", 2)]
PROMPTS = [
    Prompt("one", "Even?", (PICTURES[0],)),
    Prompt("two", "What is red plus yellow, and why is that so?", (PICTURES[1],)),
    Prompt("three", "How much more is green than purple?", (PICTURES[0],)),
]
RESPONSES = ["red = 4\nblue = 5\n4 + 5 = 9\nAnswer: yes", "5", "a much longer line than all the others = 12\nAnswer: 1"]


@pytest.fixture(params=["tiny", "split", "llava", "qwen"])
def policy(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def module_of(policy: Any, packing: bool) -> PolicyModule:
    module = PolicyModule("unused", packing=packing)
    module.model = policy.model
    return module


def gradients(module: PolicyModule, batch: ResponseInputs) -> tuple[float, dict[str, torch.Tensor]]:
    module.model.zero_grad()
    loss = module.loss(batch)
    loss.backward()
    found = {name: value.grad.clone() for name, value in module.model.named_parameters() if value.grad is not None}
    module.model.zero_grad()
    return loss.item(), found


def test_packed_loss_and_gradients_equal_padded_ones(policy: Any) -> None:
    batch = policy.renderer.response_inputs(PROMPTS, RESPONSES)
    assert len(set(batch.inputs.mask_BT.sum(1).tolist())) == 3
    padded_loss, padded = gradients(module_of(policy, False), batch)
    packed_loss, packed = gradients(module_of(policy, True), batch)
    assert packed_loss == pytest.approx(padded_loss, abs=1e-5)
    assert padded.keys() == packed.keys()
    for name, value in padded.items():
        torch.testing.assert_close(packed[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert max(value.abs().max() for value in padded.values()) > 1e-3


def test_a_row_does_not_depend_on_those_before_it(policy: Any) -> None:
    def states(prompts: list[Prompt], responses: list[str]) -> torch.Tensor:
        inputs = policy.renderer.response_inputs(prompts, responses).inputs
        with torch.inference_mode():
            return packed_hidden_states(policy.model, inputs)

    together, alone = states(PROMPTS, RESPONSES), states(PROMPTS[2:], RESPONSES[2:])
    torch.testing.assert_close(together[-len(alone) :], alone, rtol=1e-3, atol=2e-4)


def test_a_part_of_a_step_has_its_share_of_the_mean_over_the_step(tiny: Any) -> None:
    renderer, module = tiny.renderer, module_of(tiny, False)
    whole = renderer.response_inputs(PROMPTS, RESPONSES)
    parts = [renderer.response_inputs(PROMPTS[i:j], RESPONSES[i:j]) for i, j in ((0, 2), (2, 3))]
    mean = sum(int((part.labels_BT >= 0).sum()) for part in parts) / 2
    losses = [module.loss(StepBatch(part.inputs, part.labels_BT, part.step_ends, mean)) for part in parts]
    assert sum(losses).item() / 2 == pytest.approx(module.loss(whole).item(), abs=1e-6)
    assert sum(module.loss(part) for part in parts).item() / 2 != pytest.approx(module.loss(whole).item(), abs=1e-3)


def test_models_that_would_mix_packed_rows_are_refused(tiny: Any) -> None:
    check_packing(tiny.model)
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(_attn_implementation="eager"))
    with pytest.raises(ConfigError, match="does not keep packed rows apart"):
        check_packing(SimpleNamespace(config=config, _supports_attention_backend=True))  # type: ignore[arg-type]
    own: Any = SimpleNamespace(config=tiny.model.config)
    with pytest.raises(ConfigError, match="does not keep packed rows apart"):
        check_packing(own)
