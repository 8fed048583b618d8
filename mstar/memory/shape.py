"""The numbers of a model that memory depends on, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from mstar.errors import ConfigError
from mstar.models.backbone import EMBEDDED_MODEL, read_configuration
from mstar.models.families import FreezablePart, family_of
from mstar.models.lora import LoraSettings
from mstar.models.sharding import decoder_layers
from mstar.models.sizes import CacheSize, cache_size, empty_model, patches_per_token, vocabulary
from mstar.models.tiny import build_tiny_model, build_tiny_processor
from mstar.models.trained_part import adapted_layers, freeze

# What a model's configuration calls the width of its perceptron.
_WIDTHS: Final = ("intermediate_size", "mlp_dim")
_DEPTHS: Final = ("num_hidden_layers", "depth", "num_layers")


@dataclass(frozen=True)
class Tower:
    """A stack of like layers.

    Attributes:
        queries: Width of all heads' queries together.
        keys: Width of all heads' keys together, as they are kept.
        inner: Width within the perceptron, of all the experts that a token goes through.
        gated: Whether the perceptron multiplies two halves (SwiGLU).
        extra: Further tensors of the hidden states' width that a layer keeps (layer scale).
        layer_norm: Whether it normalises by mean and variance (one tensor kept) and not by the root mean square (two).
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    gated: bool
    head_norms: bool = False
    extra: int = 0
    layer_norm: bool = False
    heads: int = 1


@dataclass(frozen=True)
class Training:
    """What of a model is trained.

    Attributes:
        freeze: Parts that are not.
        lora: Adapters; None for the weights.
    """

    freeze: tuple[FreezablePart, ...] = ()
    lora: LoraSettings | None = None


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a model.

    Attributes:
        weights: Parameters, adapters left out.
        trained: Parameters that are trained, adapters included.
        quantised: Weights that are held in 4 bits.
        layer_weights: Parameters of the largest decoder layer.
        root_weights: Parameters outside the decoder layers, which FSDP2 has whole while it computes.
        largest: Entries of the largest trained weight.
        adapted: Inputs of the layers with adapters, in entries a token and layer.
        vision: The vision tower's; None without one.
        vision_trained: Whether a gradient flows into the vision tower.
        patch: Pixels of a patch's side.
        merge: Patches in a token of the language model.
        image_size: Pixels of a picture's side where the model has a fixed one.
    """

    weights: int
    trained: int
    adapters: int
    quantised: int
    layer_weights: int
    root_weights: int
    root_trained: int
    largest: int
    adapted: int
    vocabulary: int
    hidden: int
    text: Tower
    vision: Tower | None
    vision_trained: bool
    patch: int
    merge: int
    image_size: int | None
    config: Any

    def cache(self, num_bytes: int) -> CacheSize:
        """What decoding keeps of a row, in numbers of so many bytes."""
        return cache_size(self.config, torch.float32 if num_bytes == 4 else torch.bfloat16)


def read_config(name: str, trust_remote_code: bool, revision: str | None) -> Any:
    """The configuration of a folder, a ``config.json``, a hub id or the embedded model; no weights are read.

    Raises:
        ConfigError: there is none.
    """
    if name == EMBEDDED_MODEL:
        return build_tiny_model(build_tiny_processor()).config
    try:
        return read_configuration(name, trust_remote_code, revision)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the configuration of the model '{name}' cannot be read ({str(error).splitlines()[0].rstrip('.')}): name "
            "a folder with its config.json by --shape."
        ) from error


def shape_of(config: Any, training: Training = Training()) -> ModelShape:
    """The numbers of the model that a configuration describes; it is built without memory for its weights.

    Raises:
        ConfigError: the model is none of Transformers' own, or has no part that is to be frozen.
    """
    try:
        model: Any = empty_model(config)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"a model of the type '{config.model_type}' cannot be built without its own Python code: name the folder "
            "of a model of like dimensions by --shape."
        ) from error
    freeze(model, list(training.freeze))
    linear = _adapted(model, training)
    adapters = sum(training.lora.rank * sum(layer.weight.shape) for layer in linear) if training.lora else 0
    if training.lora is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(family_of(model).part_of(name) in training.lora.modules_to_save)
    units = decoder_layers(model)
    in_units = {id(parameter) for unit in units for parameter in unit.parameters()}
    parameters = list(model.parameters())
    rest = [parameter for parameter in parameters if id(parameter) not in in_units]
    text = config.get_text_config(decoder=True)
    vision = getattr(config, "vision_config", None)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    family = family_of(model)
    in_vision = any(p.requires_grad for n, p in model.named_parameters() if family.part_of(n) == "vision")
    return ModelShape(
        weights=sum(parameter.numel() for parameter in parameters),
        trained=sum(parameter.numel() for parameter in trained) + adapters,
        adapters=adapters,
        quantised=_quantised(model, training),
        layer_weights=max(sum(parameter.numel() for parameter in unit.parameters()) for unit in units),
        root_weights=sum(parameter.numel() for parameter in rest),
        root_trained=sum(parameter.numel() for parameter in rest if parameter.requires_grad),
        largest=max((parameter.numel() for parameter in trained), default=0),
        adapted=sum(layer.in_features for layer in linear) // len(units),
        vocabulary=vocabulary(config),
        hidden=text.hidden_size,
        text=_text_tower(text),
        vision=None if vision is None else _vision_tower(vision),
        vision_trained=in_vision or (training.lora is not None and training.lora.target == "all"),
        patch=_number(vision, "patch_size") or 14,
        merge=patches_per_token(config),
        image_size=_number(vision, "image_size"),
        config=config,
    )


def _adapted(model: Any, training: Training) -> list[nn.Linear]:
    if training.lora is None:
        return []
    modules = dict(model.named_modules())
    return [modules[name] for name in adapted_layers(model, list(training.freeze), training.lora)]


def _quantised(model: Any, training: Training) -> int:
    """Linear layers of the language model: vision, projector and head stay as they are."""
    if training.lora is None or training.lora.quantization == "none":
        return 0
    family = family_of(model)
    head = family.language_head(model)
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and family.part_of(name) == "language"
    )


def _text_tower(text: Any) -> Tower:
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    experts = getattr(text, "num_experts_per_tok", None)
    inner = text.intermediate_size
    if experts:
        inner = experts * (getattr(text, "moe_intermediate_size", None) or inner)
    return Tower(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        queries=heads * size,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * size,
        inner=inner,
        gated=True,
        head_norms=text.model_type.startswith(("qwen3", "gemma3")),
        heads=heads,
    )


def _vision_tower(vision: Any) -> Tower | None:
    names = [next((n for n in group if getattr(vision, n, None)), None) for group in (_DEPTHS, _WIDTHS)]
    # Qwen2-VL's embed_dim is the width of its tower, and its hidden_size that of the text, as which it comes out.
    hidden = getattr(vision, "embed_dim", None) or getattr(vision, "hidden_size", None)
    depth, width = names
    if depth is None or not isinstance(hidden, int):
        return None
    inner = getattr(vision, width) if width else 4 * hidden
    heads = getattr(vision, "num_attention_heads", None) or getattr(vision, "num_heads", None) or 16
    gated = str(vision.model_type).startswith("qwen2_5_vl")
    return Tower(
        layers=getattr(vision, depth), hidden=hidden, queries=hidden, keys=hidden, inner=int(inner), gated=gated,
        extra=2 if hasattr(vision, "layer_scale_init_value") else 0, layer_norm=not gated, heads=heads,
    )  # fmt: skip


def _number(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return value if isinstance(value, int) else None
