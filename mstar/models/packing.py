"""Hidden states of a batch without its padding: the rows laid end to end, each attending to itself alone.

With flash-attention the rows' lengths go to its kernel. Other implementations build a mask of all tokens by all tokens,
which costs more than the padding once a batch is long: they serve to test this.

Shapes: B rows, T tokens of the padded batch, N its real tokens, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mstar.errors import ConfigError
from mstar.models.attention import kernel_of
from mstar.models.families import family_of
from mstar.models.prefix import is_recurrent
from mstar.rendering import ModelInputs


def check_packing(model: nn.Module) -> None:
    """Makes sure that a model keeps packed rows apart (else ``ConfigError``)."""
    kernel = kernel_of(model)
    apart = getattr(model, "_supports_attention_backend", False) and family_of(model).packs(model)
    # The states of recurrent layers would run from one packed row into the next.
    if not apart or not (kernel == "sdpa" or "flash" in kernel) or is_recurrent(model):
        raise ConfigError(
            f"model.packing is on, but {type(model).__name__} with attention '{kernel}' does not keep packed rows "
            "apart: turn it off, or set model.attention to flash_attention_2, if it has no recurrent layers."
        )


def packed_hidden_states(model: Any, inputs: ModelInputs) -> Tensor:
    """The last hidden states (N, H) of all real tokens of right-padded rows: the padded batch's, up to rounding."""
    family = family_of(model)
    real_BT = inputs.mask_BT.bool()
    positions = (inputs.mask_BT.cumsum(1) - 1)[real_BT][None]
    if family.has_planes(model):
        # Without a fourth plane for the text positions, samples would silently attend to each other.
        positions = torch.cat([positions[None], _planes(model.model, inputs)[:, real_BT][:, None]])
    extras: dict[str, Any] = {
        name: value[real_BT][None] if value.shape == real_BT.shape else value for name, value in inputs.extras.items()
    }
    if "flash" in kernel_of(model):
        lengths_B = inputs.mask_BT.sum(1)
        # Explicit, because finding them from the positions waits for the device in every layer.
        boundaries = pad(lengths_B.cumsum(0), (1, 0)).int()
        longest = int(lengths_B.max())
        extras |= {
            "cu_seq_lens_q": boundaries, "cu_seq_lens_k": boundaries, "max_length_q": longest, "max_length_k": longest
        }  # fmt: skip
    hidden_1NH = family.hidden_states(model, inputs.ids_BT[real_BT][None], None, extras, positions)
    return hidden_1NH[0]


def _planes(base: Any, inputs: ModelInputs) -> Tensor:
    """Multimodal rotary positions (3, B, T) of a padded batch."""
    names = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts", "mm_token_type_ids")
    given = {name: inputs.extras[name] for name in names if name in inputs.extras}
    if not any(name.endswith("grid_thw") for name in given):
        text_BT = (inputs.mask_BT.cumsum(1) - 1).clamp(min=0)
        return text_BT.expand(3, -1, -1)
    planes: Tensor = base.get_rope_index(inputs.ids_BT, attention_mask=inputs.mask_BT, **given)[0]
    return planes
