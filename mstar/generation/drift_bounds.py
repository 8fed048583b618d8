"""How far an engine's log-probabilities may be from the trainer's, by what both compute in."""

from __future__ import annotations

from typing import Final

import torch

__all__ = ["drift_bounds"]

# Mean absolute differences of a token's log-probability by what is computed in: what the first hand-over may have, and
# what later ones may have even if it had less. Rounding gives 1e-6 to 1e-5 in float32 and 1e-2 to 3e-2 in 16 bits; TF32
# has three bits more than bfloat16, so an eighth of that is to be expected. Wrong pictures gave 0.5 and more.
_EXACT: Final = (1e-3, None)
_TF32: Final = (5e-2, 1e-2)
_IN_16_BITS: Final = (2.5e-1, 5e-2)


def drift_bounds(exact: bool, device: torch.device) -> tuple[float, float | None]:
    """The largest drift of the first hand-over, and the floor of the bound that later ones get.

    Args:
        exact: Whether policy and engine both compute in float32.
        device: Where they compute.
    """
    if not exact:
        return _IN_16_BITS
    # cuDNN's convolutions use it where nothing is set, and so the patches of pictures do.
    tf32 = torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"
    return _TF32 if device.type == "cuda" and tf32 else _EXACT
