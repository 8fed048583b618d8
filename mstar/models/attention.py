"""Which attention kernel a model runs with: flash-attention where it can, else what the model has by default."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Final

import torch

from mstar.distributed import is_main
from mstar.errors import ConfigError
from mstar.models.precision import Precision

_KINDS: Final = ("auto", "sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_4")
_HALF: Final = (torch.bfloat16, torch.float16)
_log = logging.getLogger(__name__)


def choose_attention(requested: str | None, compute: torch.dtype, config: Any = None) -> str | None:
    """Transformers' ``attn_implementation`` for a request.

    Args:
        requested: ``auto`` (or None) takes flash-attention 4, else 2, where the package, the GPU, the type of the
            computation and the model allow it, else the model's default (sdpa where it has it). Anything else is taken
            as it is.
        compute: Type that the model computes in; flash-attention needs 16 bits. The weights may have more: under
            autocast, Transformers hands queries, keys and values over in its type.
        config: The model's configuration; None where it is not known yet.

    Returns:
        The implementation; None for the model's default.

    Raises:
        ConfigError: ``requested`` is unknown, or cannot run, or computes something else for the model.
    """
    kind = requested or "auto"
    if kind not in _KINDS:
        raise ConfigError(f"attention '{kind}' is unknown: choose one of {', '.join(_KINDS)}.")
    if kind == "auto":
        if compute not in _HALF or not torch.cuda.is_available() or _sees_both_ways(config):
            return None
        return next((name for name in ("flash_attention_4", "flash_attention_2") if _runs(name)), None)
    if kind.startswith("flash"):
        if not _runs(kind):
            # No extra: the package's setup imports torch, which an isolated build does not have.
            raise ConfigError(
                f"attention '{kind}' cannot run here: it needs a GPU that it supports, and its package (flash-attn-4, "
                "or pip install --no-build-isolation 'flash-attn>=2.8,<3' beside torch): set attention to auto."
            )
        if compute not in _HALF:
            raise ConfigError(
                f"attention '{kind}' computes in 16 bits alone: set trainer.precision to bf16-mixed (where there is no "
                "trainer, dtype to bfloat16), or attention to auto."
            )
        if _sees_both_ways(config):
            raise ConfigError(
                f"attention '{kind}' computes something else for a '{config.model_type}', whose tokens of a picture "
                "see those behind them, too: set attention to auto."
            )
    return kind


def _sees_both_ways(config: Any) -> bool:
    """Whether the tokens of a picture attend to each other both ways, which flash-attention has no mask for."""
    if config is None:
        return False
    text = config.get_text_config()
    # Gemma 4's configuration says which models do; in Gemma 3's the setting is about text.
    both = getattr(text, "use_bidirectional_attention", None) == "vision"
    return both or config.model_type == "gemma3"


@cache
def _runs(kind: str) -> bool:
    from transformers.utils import import_utils

    if not torch.cuda.is_available():
        return False
    major, _ = torch.cuda.get_device_capability()
    if kind == "flash_attention_4":  # Hopper and Blackwell
        return major >= 9 and import_utils.is_flash_attn_4_available()
    return major >= 8 and import_utils.is_flash_attn_2_available()  # Ampere and newer


@cache
def announce(who: str, precision: Precision, kind: str) -> None:
    """Logs what a model (``who``, e.g. ``policy``) computes in and with which kernel, once for each choice."""
    if is_main():
        _log.info("%s: computes in %s; attention %s", who, precision, kind)


def kernel_of(model: Any) -> str:
    """The kernel that a model's text part runs with."""
    return str(model.config.get_text_config()._attn_implementation)
