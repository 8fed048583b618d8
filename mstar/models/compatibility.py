"""Which models mstar computes rightly: what does not fit is refused with a sentence.

Where the configuration shows it, that is before the weights are loaded.

Shapes: T tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError, counted
from mstar.models.families import Family

# By model type: what keeps models of it from being trained and sampled here.
_NOT_IN_BODY: Final = "puts its pictures in outside of the part that makes the hidden states"
_CROSS: Final = "looks at its pictures by cross-attention, for which there is no shared prompt"
_UNSUPPORTED: Final[dict[str, str]] = {
    **dict.fromkeys(("blip", "git", "llama4", "nemotron_h_omni", "kosmos-2", "kosmos-2.5"), _NOT_IN_BODY),
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo"), _NOT_IN_BODY),
    **dict.fromkeys(("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"), _NOT_IN_BODY),
    **dict.fromkeys(("mllama", "idefics"), _CROSS),
    "chameleon": "never writes the tokens of its pictures, and says so in its logits in a way of its own",
    "diffusion_gemma": "writes by diffusion, not token after token",
    "evolla": "reads proteins, not pictures",
    "hunyuan_vl": "has positions of four planes",
    "mistral4": "reads no pictures",
    "paligemma": "reads the prompt in both directions, so that a response cannot be learned from left to right",
    "pi0": "writes a robot's actions, not text",
    "shieldgemma2": "has weights that are saved under other names than are read, and would begin at random",
}


def check_configuration(name: str, config: Any) -> None:
    """Refuses models that are known not to work (``ConfigError``)."""
    kind = str(getattr(config, "model_type", ""))
    reason = _UNSUPPORTED.get(kind)
    if reason is None and getattr(config, "is_encoder_decoder", False):
        reason = "reads the question in an encoder of its own, and mstar continues one text"
    if reason is not None:
        raise ConfigError(
            f"model_name '{name}' is a '{kind}', which mstar cannot use: it {reason}. docs/families.md in "
            "the repository lists the families that work."
        )


def check_weights(name: str, model: nn.Module, info: Mapping[str, Any]) -> None:
    """Refuses files that lack weights of the model: Transformers begins these at random, with no more than a warning.

    Args:
        info: What Transformers says about the loading (``output_loading_info``).

    Raises:
        ConfigError: weights are missing, or have other sizes than the configuration says.
    """
    kind = type(model).__name__
    if info["mismatched_keys"]:
        key, stored, wanted = min(info["mismatched_keys"])
        raise ConfigError(
            f"model_name '{name}' cannot be loaded: '{key}' has the shape {tuple(stored)} in its files, and its "
            f"configuration makes it {tuple(wanted)}: mend config.json, or save the model again."
        )
    # What is computed rather than learned need not be in the files.
    missing = sorted(info["missing_keys"] & {key for key, _ in model.named_parameters()})
    if missing:
        others = f", while they have '{min(info['unexpected_keys'])}'" if info["unexpected_keys"] else ""
        raise ConfigError(
            f"model_name '{name}' cannot be loaded: its files lack {counted(len(missing), 'weight')} of {kind} "
            f"('{missing[0]}' is the first{others}): save the whole model, under its own names."
        )


@torch.no_grad()
def check_model(name: str, model: nn.Module, family: Family) -> None:
    """Makes sure that a model's hidden states and logits are where they are looked for.

    The model's own forward pass runs with random hidden states in place of its body's: what it makes of them must be
    what ``Family.logits`` makes of them. That costs the head's product with two tokens.

    Raises:
        ConfigError: the model has no body or no head, or computes its logits in a way that is not known.
    """
    kind = type(model).__name__
    try:
        body = family.body(model)
    except AttributeError as error:
        raise ConfigError(
            f"model_name '{name}' ({kind}) cannot be used: its hidden states are not where mstar looks for them "
            f"({error}). docs/families.md in the repository lists the families that work."
        ) from error
    arguments = inspect.signature(body.forward).parameters
    if family.pictures_in_body and not any(name.startswith(("pixel_values", "image_patches")) for name in arguments):
        raise ConfigError(f"model_name '{name}' ({kind}) cannot be used: it {_NOT_IN_BODY}.")
    weight: Any = family.language_head(model).weight
    if weight.is_meta:
        return
    # As its generator, on the CPU: Lightning loads a model with its GPU as the place of new tensors.
    hidden_1TH = torch.randn(1, 2, weight.shape[1], generator=torch.Generator().manual_seed(0), device="cpu")
    hidden_1TH = hidden_1TH.to(weight.device, weight.dtype)
    # So large that the bound of a model that caps its logits is reached.
    largest = family.language_head(model)(hidden_1TH).abs().max().clamp(min=1e-6)
    hidden_1TH = hidden_1TH * (100 / largest)
    wanted = _own_logits(model, body, family, hidden_1TH)
    found = family.logits(model, hidden_1TH)
    tolerance = float(wanted.abs().max()) * max(1e-4, 4 * torch.finfo(weight.dtype).eps)
    if found.shape != wanted.shape or float((found - wanted).abs().max()) > tolerance:
        raise ConfigError(
            f"model_name '{name}' ({kind}) changes the output of its language head in a way that mstar does not know, "
            "so that its probabilities would be wrong. docs/families.md in the repository lists the families that work."
        )


def _own_logits(model: nn.Module, body: Any, family: Family, hidden_1TH: Tensor) -> Tensor:
    """The logits (1, T, V) of the model's forward pass if its body returned these hidden states."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Output(BaseModelOutputWithPast):
        """Whatever else a model asks its body for is not there."""

        def __getattr__(self, name: str) -> None:
            return None

    before = body.__dict__.get("forward")
    hidden: Any = hidden_1TH
    body.forward = lambda *_, **__: Output(last_hidden_state=hidden)
    try:
        ids_1T = torch.ones(1, hidden_1TH.shape[1], dtype=torch.long, device=hidden_1TH.device)
        return family.own_logits(model, ids_1T).float()
    finally:
        del body.forward
        if before is not None:
            body.forward = before
