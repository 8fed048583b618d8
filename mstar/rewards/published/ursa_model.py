"""URSA's architecture out of Transformers' parts: it is DeepSeek-VL's, with Qwen2 for the language model and one logit.

Both say the same in other words: a picture goes through SAM (1024 x 1024) and SigLIP (384 x 384), whose 576 features
are projected side by side. Weights are read from the folder as it is published (github.com/URSA-MATH/URSA-MATH:
``models/ursa_model``), so that neither its code nor a conversion is needed.

Shapes: C colours, S the side of a picture, P pictures, H hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from mstar.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

# What the names of vision towers stand for in the published code.
TOWERS: Final[dict[str, dict[str, Any]]] = {
    "sam_b_downsample": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "output_channels": 256,
        "global_attn_indexes": [2, 5, 8, 11],
    },
    "siglip_large_patch16_384": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "patch_size": 16,
    },
}  # fmt: skip
_HIGH: Final = r"vision_model\.vision_tower_high\.vision_tower\."
_LOW: Final = r"vision_model\.vision_tower_low\.vision_tower\."
_ENCODER: Final = "backbone.high_res_vision_model.vision_encoder."
# The published names of weights, and those of Transformers. None is not used by a reward model.
_NAMES: Final[tuple[tuple[str, str | None], ...]] = (
    (r"language_model\.lm_head\.|vision_model\.(high|low)_layer_norm\.", None),
    (rf"{_LOW}(attn_pool|head)\.", None),
    (r"language_model\.model\.", "backbone.language_model."),
    (r"aligner\.high_up_proj\.", "backbone.aligner.high_res_vision_proj."),
    (r"aligner\.low_up_proj\.", "backbone.aligner.vision_proj."),
    (r"aligner\.layers\.1\.", "backbone.aligner.proj."),
    (rf"{_HIGH}hd_alpha_downsamples", "backbone.high_res_vision_alpha"),
    (rf"{_HIGH}downsamples\.0\.", "backbone.high_res_vision_proj.conv1."),
    (rf"{_HIGH}downsamples\.1\.", "backbone.high_res_vision_proj.conv2."),
    (rf"{_HIGH}neck_hd\.", "backbone.high_res_vision_neck."),
    (rf"{_HIGH}patch_embed\.proj\.", f"{_ENCODER}patch_embed.projection."),
    (rf"{_HIGH}blocks\.", f"{_ENCODER}layers."),
    (_HIGH, _ENCODER),
    (rf"{_LOW}patch_embed\.proj\.", "backbone.vision_model.embeddings.patch_embedding."),
    (rf"{_LOW}pos_embed", "backbone.vision_model.embeddings.position_embedding.weight"),
    (rf"{_LOW}blocks\.", "backbone.vision_model.encoder.layers."),
    (rf"{_LOW}norm\.", "backbone.vision_model.post_layernorm."),
)
# What else has another name inside a vision tower: of both, and of one.
_INSIDE: Final = (
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"(vision_neck|neck)\.0\.", r"\1.conv1."),
    (r"(vision_neck|neck)\.1\.", r"\1.layer_norm1."),
    (r"(vision_neck|neck)\.2\.", r"\1.conv2."),
    (r"(vision_neck|neck)\.3\.", r"\1.layer_norm2."),
    (r"(backbone\.vision_model\..*)\.attn\.proj\.", r"\1.self_attn.out_proj."),
)


class UrsaScorer(nn.Module):
    """The backbone (Transformers' ``DeepseekVLHybridModel``), and a logit of "right" for every token."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        config: Any = backbone.config
        self.config = config
        self.score = nn.Linear(config.text_config.hidden_size, 1, dtype=next(backbone.parameters()).dtype)


def make_ursa(config: Mapping[str, Any], dtype: str) -> UrsaScorer:
    """The model that a published ``config.json`` describes; its weights are not set.

    Raises:
        ConfigError: it is no URSA, or its vision towers have names that are not known.
    """
    from transformers import DeepseekVLHybridConfig, DeepseekVLHybridModel
    from transformers.initialization import no_init_weights

    try:
        towers = config["vision_config"]["params"]
        high, low = ({**TOWERS[part["model_name"]], "image_size": part["image_size"]} for part in _parts(towers))
        made = DeepseekVLHybridConfig(
            text_config=dict(config["text_config"]),
            vision_config=low | {"vision_use_head": False, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
            high_res_vision_config=high,
            image_token_id=config["image_token_index"],
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"its config.json is not URSA's (there is no {error})") from error
    with no_init_weights():
        return UrsaScorer(DeepseekVLHybridModel._from_config(made, dtype=getattr(torch, dtype)))


def _parts(towers: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return towers["high_res_cfg"], towers["low_res_cfg"]


def read_weights(model: UrsaScorer, files: list[str]) -> None:
    """Sets the weights from the published files, one of them in memory at a time.

    Raises:
        ConfigError: they are not those of this architecture.
    """
    wanted: dict[str, Tensor] = dict(model.state_dict())
    for file in files:
        for name, value in load_file(file).items():
            for own, part in _convert(name, value):
                if own not in wanted or wanted[own].shape != part.shape:
                    raise ConfigError(f"it has a weight '{name}' that URSA's architecture has not, or not so")
                wanted.pop(own).copy_(part)
    if wanted:
        raise ConfigError(f"it lacks weights of URSA's architecture ({', '.join(sorted(wanted)[:3])})")


def _convert(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A published weight by its names here: what makes queries, keys and values is one there, and three in SigLIP."""
    for pattern, own in _NAMES:
        if re.match(pattern, name):
            if own is None:
                return
            name = re.sub(pattern, own, name)
            break
    if not name.startswith(("backbone.vision_model.", "backbone.high_res_vision_")):
        yield name, value
        return
    for pattern, own in _INSIDE:
        name = re.sub(pattern, own, name)
    if name.startswith("backbone.vision_model.") and ".attn.qkv." in name:
        for letter, part in zip("qkv", value.chunk(3), strict=True):
            yield name.replace(".attn.qkv.", f".self_attn.{letter}_proj."), part
    else:
        yield name, value[0] if name.endswith("position_embedding.weight") else value


class PictureSettings:
    """How pictures are made ready, as the published ``config.json`` and ``preprocessor_config.json`` say.

    Raises:
        ConfigError: one of them says something else.
    """

    def __init__(self, config: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
        high, low = _parts(config["vision_config"]["params"])
        try:
            self.side = int(processor["image_size"])
            mean, deviation = processor["image_mean"], processor["image_std"]
        except KeyError as error:
            raise ConfigError(f"its preprocessor_config.json is not URSA's (there is no {error})") from error
        self.least = int(processor.get("min_size", 14))
        self.background = tuple(int(255 * value) for value in mean)
        self.rescale = float(processor.get("rescale_factor", 1 / 255))
        # What is done to all of them before, and what each tower does itself.
        self.common = (mean, deviation) if processor.get("do_normalize", True) else ([0.0] * 3, [1.0] * 3)
        self.high, self.low = ((part["pixel_mean"], part["pixel_std"]) for part in (high, low))
        self.low_side = int(low["image_size"])

    def prepare(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        """The pictures for SAM (P, C, S, S) and for SigLIP (P, C, S', S').

        Each is scaled so that its longer side fits, in the middle of a square; SigLIP's is made of SAM's.
        """
        pixels_PCSS = _normalise(torch.stack([self._square(picture) for picture in pictures]), *self.common)
        small_PCSS = functional.interpolate(pixels_PCSS, self.low_side, mode="bilinear", antialias=True)
        return _normalise(pixels_PCSS, *self.high), _normalise(small_PCSS, *self.low)

    def _square(self, picture: Image.Image) -> Tensor:
        import numpy as np
        from PIL import Image

        rgb = picture.convert("RGB")
        longer = max(rgb.size)
        width, height = (max(int(length / longer * self.side), self.least) for length in rgb.size)
        square = Image.new("RGB", (self.side, self.side), self.background)
        scaled = rgb.resize((width, height), Image.Resampling.BICUBIC)
        square.paste(scaled, ((self.side - width) // 2, (self.side - height) // 2))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() * self.rescale


def _normalise(pixels_PCSS: Tensor, mean: list[float], deviation: list[float]) -> Tensor:
    return (pixels_PCSS - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
