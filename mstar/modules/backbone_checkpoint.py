"""What a checkpoint says about the backbone, and what it holds of it: with adapters, only what is trained.

The weights beneath the adapters are those of ``model_name``; whether they still are is checked when a run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from mstar import __version__
from mstar.distributed import gather_lists
from mstar.errors import ConfigError
from mstar.models.finite import find_nonfinite, nonfinite_error, require_finite
from mstar.models.lora import LoraSettings
from mstar.models.sharding import is_sharded
from mstar.storage import write_json

# Facts that are no arguments of a module.
_NOTES: Final = ("kind", "frozen_weights")


def module_settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A module's arguments from the facts of its checkpoint."""
    settings = {name: value for name, value in facts.items() if name not in _NOTES}
    if "lora" in settings:
        settings["lora"] = LoraSettings(**settings["lora"])
    return settings


def find_place(model_name: str) -> str:
    """Where a model is, for whoever reads it elsewhere: a relative path could be taken for a name on the hub."""
    return str(Path(model_name).absolute()) if Path(model_name).is_dir() else model_name


def write_provenance(folder: Path, kind: str, model_name: str, weights: str) -> None:
    """Writes into an exported folder what the model in it came from."""
    facts = {"kind": kind, "trained_from": find_place(model_name), "weights": weights, "mstar": __version__}
    write_json(folder / "provenance.json", facts)


def require_savable(module: LightningModule) -> None:
    """Makes sure that what a checkpoint is to hold can be gone on with; all processes call it at the same time."""
    moments = (
        (f"optimizer.{name}", value)
        for optimizer in (module.trainer.optimizers if module._trainer is not None else ())
        for state in optimizer.state.values()
        for name, value in state.items()
        if isinstance(value, Tensor)
    )
    _require_all_finite(chain(module.named_parameters(), moments), "no checkpoint is written")


def require_exportable(module: LightningModule, root: nn.Module) -> None:
    """Makes sure that a model is worth to be exported; where it is sharded, all processes call it at the same time."""
    if is_sharded(root):
        _require_all_finite(module.named_parameters(), "nothing is exported")
    else:
        # One process may export alone, as it does an MPRM that is retrained within a run.
        require_finite(module.named_parameters(), "nothing is exported")


def _require_all_finite(tensors: Iterable[tuple[str, Tensor]], consequence: str) -> None:
    # Of sharded weights a process may have a part that is fine.
    named = [name for name in gather_lists([find_nonfinite(tensors)]) if name is not None]
    if named:
        raise nonfinite_error(named[0], consequence)


def keep_trained(checkpoint: dict[str, Any], module: nn.Module, root: nn.Module) -> None:
    """Removes from a checkpoint the weights that are not trained.

    That of a sharded model keeps all its weights: the distributed format has a place for each.
    """
    if "state_dict" in checkpoint and not is_sharded(root):
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {n: value for n, value in checkpoint["state_dict"].items() if n in trained}


def check_kind(checkpoint: Mapping[str, Any], kind: str) -> None:
    """Checks that a checkpoint is one of a module's own kind, before its model is loaded.

    Raises:
        ConfigError: it is another one's.
    """
    names = {"policy": "a policy", "mprm": "an MPRM"}
    found = checkpoint.get("mstar", {}).get("kind")
    if found != kind:
        raise ConfigError(
            f"the checkpoint is of {names.get(found, 'something that mstar did not train')}, but model is "
            f"{names[kind]}: give ckpt_path one of {names[kind]}, or choose the model's own class."
        )


def explain_other_weights(error: RuntimeError) -> ConfigError | None:
    """What to tell the user of an error, if it is torch's for a checkpoint of a model of another shape; else None."""
    first, _, rest = str(error).partition("\n")
    if not first.startswith("Error(s) in loading state_dict"):
        return None
    example = " ".join(rest.split())[:200]
    return ConfigError(
        "the checkpoint's weights do not fit the model: set model.model_name to the one that it was made from "
        f"({example})."
    )


def check_trained(
    checkpoint: Mapping[str, Any], module: nn.Module, lora: LoraSettings | None, frozen_weights: str | None
) -> None:
    """Checks that a checkpoint fits the adapters of a run.

    Raises:
        ConfigError: the checkpoint was made with other adapters, or on other weights.
    """
    facts = checkpoint.get("mstar", {})
    # What an older one does not name was the default.
    before = None if facts.get("lora") is None else asdict(LoraSettings(**facts["lora"]))
    now = None if lora is None else asdict(lora)
    if before != now:
        raise ConfigError(f"the checkpoint was made with model.lora {before}, but it is {now} now: set it back.")
    if lora is None:
        return
    if facts.get("frozen_weights") != frozen_weights:
        raise ConfigError(
            f"the checkpoint holds adapters for other weights than those of model_name '{facts.get('model_name')}' as "
            "it is loaded now: go back to that model, dtype and freeze."
        )
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    missing = sorted(trained - set(checkpoint.get("state_dict", trained)))
    if missing:
        raise ConfigError(f"the checkpoint lacks weights that this run trains ({missing[0]}): set model.freeze back.")
