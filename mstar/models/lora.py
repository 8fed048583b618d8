"""Low-rank adapters (LoRA) on a backbone: adding them, and folding them into ordinary weights for an export.

The adapters are put into the model in place, so that its class and the paths of its parts stay what they were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from mstar.errors import require_least, require_share
from mstar.models.quantization import require_origin
from mstar.models.seeding import seeded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADAPTER: Final = "default"
_BASE: Final = ".base_layer"


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation: small matrices beside the linear layers are trained, the weights themselves stay.

    What is neither adapted nor in ``modules_to_save`` is frozen. LoRA needs a learning rate about ten times that of
    training all weights.

    Args:
        rank: Rank of the matrices.
        alpha: Their product is scaled by alpha / rank.
        dropout: Dropout on the input of the matrices, in training.
        target: Which linear layers: all of the language model (language), its attention alone (attention), or those of
            vision and projector too (all; parts named in ``model.freeze`` are left out). Experts that a family keeps as
            one parameter, in no linear layers, get no adapters, which a warning says.
        modules_to_save: Parts of which all weights are trained beside the adapters, in float32, such as a new
            connector: vision, projector. They get no adapters, and checkpoints hold them.
        quantization: nf4 loads the weights of the language model's linear layers in 4 bits (QLoRA); needs the extra
            ``qlora``.

    Raises:
        ConfigError: a number is out of its range.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target: Literal["language", "attention", "all"] = "language"
    quantization: Literal["none", "nf4"] = "none"
    modules_to_save: tuple[Literal["vision", "projector"], ...] = ()

    def __post_init__(self) -> None:
        require_least("model.lora.", rank=self.rank, alpha=self.alpha)
        require_share("model.lora.dropout", self.dropout, "[0, 1)")
        # From a configuration it comes as a list, and from a checkpoint it must be equal.
        object.__setattr__(self, "modules_to_save", tuple(sorted(set(self.modules_to_save))))


def add_lora(
    model: PreTrainedModel, settings: LoraSettings, layers: list[str], seed: int, whole: Collection[str] = ()
) -> None:
    """Adds adapters to a model, which compute nothing yet, and freezes all the rest."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=layers, bias="none"
    )
    with seeded(seed):
        inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or name in whole)
        if parameter.requires_grad:
            # In 16 bits the small steps of training would be rounded away.
            parameter.data = parameter.data.float()


def has_lora(model: nn.Module) -> bool:
    """Whether ``add_lora`` was applied to the model."""
    return any(hasattr(module, "lora_A") for module in model.modules())


def merged_state(
    model: nn.Module,
    state: Mapping[str, Tensor] | None = None,
    base: nn.Module | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """The state of an ordinary model: adapters folded into the weights, the usual names, nothing in 4 bits.

    Of 4-bit weights there are two answers. What the model computes with is what they unpack to; a program that is to
    compute the same gets that. But it lies on the grid of the 4 bits: quantised again, it becomes the same 4-bit
    weights, and nearly all that the adapters added is rounded away. A model that is to be loaded in 4 bits, or trained
    on, has the adapters on the weights as they were before.

    Args:
        model: A model, with adapters or without; it is not changed.
        state: Its state, if not that which it holds (whole tensors of a sharded model).
        base: The model that its 4-bit weights were made from; None to unpack them.
        dtype: What the sums of weights and adapters are rounded to; None for the type of the weights.
        device: Where the weights go that are made for it, each as soon as it is; None to leave them. The model's own
            stay where they are.

    Raises:
        ConfigError: ``base`` is another model.
    """
    origins = {} if base is None else {n: value for n, value in base.state_dict().items() if value.is_floating_point()}
    modules = dict(model.named_modules(remove_duplicate=False))
    given = model.state_dict() if state is None else state
    merged = {}
    for name, value in given.items():
        weight, within, _ = name.rpartition(".weight.")
        if ".lora_" in name or (within and f"{weight}.weight" in given):  # an adapter; a scale of a 4-bit weight
            continue
        path, _, kind = name.rpartition(".")
        module = modules.get(path)
        plain = path.removesuffix(_BASE)
        usual = f"{plain}.{kind}" if plain else kind
        if kind == "weight" and not value.is_floating_point():
            value = require_origin(module, usual, origins[usual]) if usual in origins else _unpack(module).to(device)
        owner = modules.get(plain)
        if kind == "weight" and path.endswith(_BASE) and owner is not None:
            down, up = (given[f"{plain}.lora_{side}.{_ADAPTER}.weight"].float() for side in "AB")
            total = value.float() + owner.scaling[_ADAPTER] * (up @ down).to(value.device)
            value = total.to(device, dtype or value.dtype)
        merged[usual] = value
    return merged


def _unpack(module: Any) -> Tensor:
    from peft.utils.integrations import dequantize_module_weight

    weight: Tensor = dequantize_module_weight(module)
    return weight.detach().to(module.compute_dtype)


def cast_state(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A state with its floating-point tensors in a type, off the device; tied ones stay tied. None changes nothing."""
    if dtype is None:
        return dict(state)
    cast: dict[str, Tensor] = {}
    first: dict[int, str] = {}
    for name, value in state.items():
        tied = cast.get(first.setdefault(value.data_ptr(), name))
        own = value.to("cpu", dtype) if tied is None and value.is_floating_point() else value
        cast[name] = own if tied is None else tied
    return cast


def note_dtype(config: Any, dtype: torch.dtype) -> None:
    """Writes the type of a model's weights into its configuration, where each of its parts has one of its own."""
    config.dtype = dtype
    for part in config.sub_configs:
        if getattr(config, part, None) is not None:
            note_dtype(getattr(config, part), dtype)


def plain_shell(model: PreTrainedModel, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The same model without adapters, quantisation or weights: what writes the folder of a merged state.

    It says that the weights have this type, by default the model's.
    """
    config = deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    if dtype is not None:
        note_dtype(config, dtype)
    family: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with torch.device("meta"):
        shell: Any = family._from_config(config, dtype=config.dtype)
    if hasattr(model, "generation_config"):
        shell.generation_config = model.generation_config
    # How the names in the files differ from those in the model, which is known only to a model that was loaded.
    if hasattr(model, "_weight_conversions"):
        shell._weight_conversions = model._weight_conversions
    plain: PreTrainedModel = shell
    return plain


def save_adapter(model: Any, folder: Path, state: Mapping[str, Tensor] | None = None, base: str | None = None) -> None:
    """Writes the adapters alone, as a folder that peft and vLLM load beside the base model.

    Args:
        state: Its state, if not that which it holds (whole tensors of a sharded model).
        base: Folder or id of the base model, which the folder then names.
    """
    given = model.state_dict() if state is None else state
    adapters = {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": value.detach().cpu().contiguous()
        for name, value in given.items()
        if ".lora_" in name
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = deepcopy(model.peft_config[_ADAPTER])
    config.base_model_name_or_path = base or config.base_model_name_or_path
    config.save_pretrained(folder)
    save_file(adapters, folder / "adapter_model.safetensors")
