"""Architectures that keep states or change their logits are computed rightly; those that cannot be are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mstar.errors import ConfigError
from mstar.models.backbone import load_model
from mstar.models.compatibility import check_configuration, check_model
from mstar.models.families import AfterHead, family_of
from mstar.models.packing import check_packing
from mstar.models.prefix import is_recurrent, logits_of
from mstar.models.token_loss import mean_token_loss
from mstar.modules import MPRMModule

HYBRID = ["qwen3_5", "qwen3_5_moe", "minicpmv4_6", "minicpmv4_7", "lfm2_vl", "glm5_next", "qwen4_exp"]
AFTER_HEAD = ["gemma4", "gemma4_unified", "granite4_vision", "hyperclovax_vision_v2", "cohere_compass", "muse_glimmer"]


@pytest.fixture(scope="module")
def renderer(architectures: Any) -> Any:
    return architectures.text_renderer()


@pytest.mark.parametrize("name", [*HYBRID, *AFTER_HEAD, "kimi_k25"])
def test_logits_are_those_of_the_models_own_forward_pass(name: str, architectures: Any, renderer: Any) -> None:
    """Padding on either side, rows that are repeated, lengthened and dropped: kept states must follow all of it."""
    model = architectures.tiny_model(name)
    check_model(name, model, family_of(model))
    assert architectures.scoring_error(model, renderer) < 2e-4
    assert architectures.decoding_error(model, renderer) < 2e-4
    assert architectures.loss_error(model, renderer) < 2e-4


@pytest.mark.parametrize("name", HYBRID)
def test_states_that_would_run_into_the_next_row_are_not_packed(name: str, architectures: Any) -> None:
    model = architectures.tiny_model(name)
    assert is_recurrent(model)
    with pytest.raises(ConfigError, match=r"model\.packing is on, but .* (recurrent|does not keep packed rows apart)"):
        check_packing(model)


def test_a_model_without_states_is_not_recurrent(tiny: Any) -> None:
    assert not is_recurrent(tiny.model)


@pytest.mark.parametrize("name", AFTER_HEAD)
def test_what_comes_after_the_head_counts(name: str, architectures: Any) -> None:
    """These models would be wrong without it, and their check finds that."""
    model = architectures.tiny_model(name)
    family = family_of(model)
    after = family.after_head(model)
    assert after != AfterHead()
    hidden = torch.randn(3, model.config.get_text_config().hidden_size) * 10
    assert (family.language_head(model)(hidden) - logits_of(model, hidden)).abs().max() > 0.1
    blind = type(family)()
    blind.after_head = lambda model: AfterHead()  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="changes the output of its language head in a way that mstar does not know"):
        check_model(name, model, blind)


def test_what_the_fused_kernel_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale, cap and size of the logits as arguments of liger-kernel's function; here a stand-in computes them."""
    import sys
    from types import ModuleType, SimpleNamespace

    from mstar.models import token_loss

    def fused(hidden: Any, weight: Any, target: Any, bias: Any, softcap: float | None, accum_dtype: Any) -> Any:
        logits = nn.functional.linear(hidden, weight, bias)
        return nn.functional.cross_entropy(logits if softcap is None else softcap * (logits / softcap).tanh(), target)

    functional = ModuleType("liger_kernel.transformers.functional")
    functional.liger_fused_linear_cross_entropy = fused  # type: ignore[attr-defined]
    for module in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.functional", functional)
    monkeypatch.setattr(token_loss, "check_loss_kernel", lambda kernel: None)
    torch.manual_seed(0)
    head = nn.Linear(8, 20)
    family = SimpleNamespace(after_head=lambda model: AfterHead(0.3, 2.0, 15))
    monkeypatch.setattr(token_loss, "language_head", lambda model: head)
    monkeypatch.setattr(token_loss, "family_of", lambda model: family)
    hidden, target = torch.randn(6, 8) * 5, torch.randint(0, 15, (6,))
    # The kernel runs on CUDA alone; what is passed to it does not depend on that.
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    found = mean_token_loss(head, hidden, target, "liger")
    logits = AfterHead(0.3, 2.0, 15)(head(hidden))
    assert logits.shape[1] == 15
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits, target))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("git", "puts its pictures in outside"),
        ("llama4", "puts its pictures in outside"),
        ("mllama", "by cross-attention"),
        ("florence2", "reads the question in an encoder"),
        ("paligemma", "in both directions"),
    ],
)
def test_families_that_cannot_work_get_a_sentence_before_they_are_loaded(
    name: str, reason: str, architectures: Any, tmp_path: Path
) -> None:
    config = architectures.tiny_config(name)
    with pytest.raises(ConfigError, match=reason):
        check_configuration(name, config)
    config.save_pretrained(tmp_path)  # without weights: they are not looked for
    with pytest.raises(ConfigError, match=reason):
        load_model(str(tmp_path))


def test_a_model_without_a_body_is_refused(tiny: Any) -> None:
    class Other(nn.Module):
        config = tiny.model.config

    with pytest.raises(ConfigError, match="its hidden states are not where mstar looks for them"):
        check_model("other", Other(), family_of(tiny.model))


def test_the_check_leaves_the_model_as_it_was(tiny: Any) -> None:
    state = torch.get_rng_state()
    check_model("tiny", tiny.model, family_of(tiny.model))
    assert torch.equal(torch.get_rng_state(), state)
    assert "forward" not in tiny.model.model.__dict__


def test_an_mprm_of_a_hybrid_model_does_not_share_prompts(architectures: Any, tmp_path: Path) -> None:
    """Its training would fail in the backward pass: the shared states are overwritten."""
    model, renderer = architectures.tiny_model("qwen3_5"), architectures.text_renderer()
    model.save_pretrained(tmp_path)
    module = MPRMModule(str(tmp_path), lr=1e-3)
    assert module.share_prompts
    module.configure_model()
    assert not module.share_prompts
    inputs = renderer.response_inputs(architectures.PROMPTS, architectures.TEXTS[:3])
    module.scorer(inputs).logits_N.sum().backward()


def test_a_model_is_checked_wherever_new_tensors_go(tiny: Any) -> None:
    """Lightning loads models with a GPU as that place; this one every machine has."""
    with torch.device("meta"):
        check_model("tiny", tiny.model, family_of(tiny.model))
