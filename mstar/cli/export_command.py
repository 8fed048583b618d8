"""``python -m mstar export``: a Lightning checkpoint as a folder for Transformers and vLLM, or for mstar."""

from __future__ import annotations

import errno
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException

from mstar.callbacks.checkpoint import find_checkpoint
from mstar.callbacks.export import ExportType, export_atomically
from mstar.errors import ConfigError
from mstar.export.card import CardFacts, find_run, write_card
from mstar.export.folder import check_replaceable
from mstar.export.hub_upload import check_upload, upload
from mstar.models.families import family_of
from mstar.models.sharding import load_distributed
from mstar.modules import MPRMModule, PolicyModule
from mstar.modules.backbone_checkpoint import module_settings


def export_checkpoint(
    checkpoint: str,
    output: str,
    trust_remote_code: bool = False,
    dtype: ExportType | None = None,
    adapter: bool = False,
    merged: bool = False,
    push: str | None = None,
    private: bool = False,
    model_name: str | None = None,
) -> None:
    """Writes a Lightning checkpoint as a folder: a policy for Transformers and vLLM, an MPRM for mstar.

    The folder has a card (``README.md``) with what the run's own files say of its base model, method, data and results.

    Args:
        checkpoint: The checkpoint, e.g. ``runs/demo/evolve/checkpoints/last.ckpt``. One that is a folder (FSDP) has a
            pickled index: export it only if you trust its source.
        output: The folder to write: a new or an empty one, or that of an earlier export, which is replaced.
        trust_remote_code: Run Python code that comes with the model.
        dtype: Type of the weights in the folder; none is the stored one (``model.dtype``). bfloat16 halves a folder of
            float32, and rounds away part of what a small learning rate moved, or of what adapters add.
        adapter: Write a policy's adapters alone, as a folder that peft and vLLM load beside the base model, in the type
            that they were trained in.
        merged: Write a policy's whole weights, with the adapters merged into them, which is also done without it.
        push: Where the folder is uploaded to on the Hugging Face hub, as ``USER/NAME``, with the login that
            ``hf auth login`` or ``HF_TOKEN`` gives.
        private: Make a new one on the hub private.
        model_name: Where the model that was trained is by now (a folder or an id), if it is not where the run found it.
            With adapters its weights must still be the same.

    Raises:
        ConfigError: the checkpoint is missing, is damaged, is not one of mstar, or is asked for adapters that it lacks;
            or the folder holds something that is not an export; or there is no login that may write to the hub.
        StorageError: the hub cannot be reached; the folder is there.
    """
    check_replaceable(Path(output))
    check_upload(push, private)
    path = Path(checkpoint)
    # Lightning puts all but the weights of a distributed checkpoint into this file.
    main = path / "meta.pt" if path.is_dir() else path
    if not main.is_file():
        found = find_checkpoint(path) or find_checkpoint(path.parent)
        meant = f" Did you mean '{found}'?" if found else ""
        raise ConfigError(
            f"checkpoint '{checkpoint}' is neither a file nor the folder of a distributed checkpoint.{meant}"
        )
    try:
        content: Any = torch.load(main, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which torch makes of a file that breaks off
            raise
        # torch's own words advise to switch off the protection against code in the file.
        raise ConfigError(
            f"checkpoint '{checkpoint}' cannot be read as a checkpoint of tensors: it is damaged, or holds something "
            "else, which could run code; use one that mstar wrote."
        ) from error
    facts = content.get("mstar") if isinstance(content, dict) else None
    if not isinstance(facts, dict):
        raise ConfigError(f"checkpoint '{checkpoint}' was not written by mstar, so its model is not known.")
    settings = module_settings(facts) | {"trust_remote_code": trust_remote_code}
    settings["model_name"] = model_name or settings["model_name"]
    module = MPRMModule(**settings) if facts["kind"] == "mprm" else PolicyModule(**settings)
    if adapter:
        if dtype is not None or merged:
            whole = "merged" if merged else "dtype"
            raise ConfigError(
                f"{whole} is for a whole model, and --adapter writes adapters as they are: leave one out."
            )
        module.require_adapter()
    module.on_load_checkpoint(content)
    if path.is_dir():
        try:
            load_distributed(module, path)
        except (CheckpointException, OSError) as error:
            raise ConfigError(f"the checkpoint '{checkpoint}' lacks a part, or one of its parts is damaged.") from error
    else:
        module.load_state_dict(content["state_dict"], strict=module.strict_loading)
    progress = content.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    run = find_run(path)
    options = [f"--dtype {dtype}"] if dtype is not None else ["--adapter"] if adapter else []
    card = write_card(
        CardFacts(
            name=push or Path(output).absolute().name,
            kind="mprm" if facts["kind"] == "mprm" else "adapter" if adapter else "policy",
            trained_from=settings["model_name"],
            run=run,
            iterations=progress.get("processed"),
            within=progress.get("started", 0) > progress.get("processed", 0),
            command=" ".join(
                [
                    f"mstar export --checkpoint {path.name if run is None else path.absolute().relative_to(run)}",
                    f"--output {Path(output).absolute().name}",
                    *options,
                ]
            ),
            auto_class=family_of(module.root).auto_class,
        )
    )
    export_atomically(module, Path(output), dtype, adapter, card)
    sys.stdout.write(f"{output}\n")
    if push is not None:
        sys.stdout.write(f"{upload(Path(output), push, private=private)}\n")
