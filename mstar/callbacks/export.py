"""At the end of a fit, the trained model as a folder that other programs load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from mstar.atomic import writing
from mstar.distributed import is_main
from mstar.export_folder import check_replaceable, put_in_place, unfinished_folder
from mstar.models.export_check import check_export
from mstar.models.precision import DTYPES
from mstar.modules import MPRMModule, PolicyModule
from mstar.modules.backbone_checkpoint import require_exportable

__all__ = ["ExportCallback", "ExportType", "export_atomically"]

ExportType = Literal["float32", "bfloat16", "float16"]


class ExportCallback(Callback):
    """Writes the model at the end of ``fit``: a policy to ``policy/``, an MPRM to ``mprm/`` under the run's folder.

    Args:
        folder: Where to, instead: an empty or new folder, or that of an earlier export, which is replaced.
        dtype: Type of the weights in it; by default the one that they are trained in, from which another fit goes on
            without a loss. In 16 bits the folder is half as large, and what a learning rate of 1e-6 moved is rounded
            away in part: choose it for a model that is only to be used.
    """

    def __init__(self, folder: str | None = None, dtype: ExportType | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.dtype = dtype

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes sure that the export will take the place of nothing else, before anything is written.

        Raises:
            ConfigError: the folder holds something that is not an export.
        """
        if isinstance(pl_module, PolicyModule | MPRMModule):
            check_replaceable(self._target(trainer, pl_module))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes sure that what is trained can be exported.

        Raises:
            ConfigError: its configuration or its processor cannot be saved.
        """
        # By all processes: if it fails, none waits for another.
        if isinstance(pl_module, PolicyModule):
            check_export(pl_module.policy, pl_module.renderer)
        elif isinstance(pl_module, MPRMModule):
            check_export(pl_module.scorer.backbone, pl_module.renderer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exports; the main process writes."""
        if isinstance(pl_module, PolicyModule | MPRMModule):
            export_atomically(pl_module, self._target(trainer, pl_module), self.dtype)

    def _target(self, trainer: Trainer, pl_module: PolicyModule | MPRMModule) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        return Path(trainer.default_root_dir) / ("policy" if isinstance(pl_module, PolicyModule) else "mprm")


def export_atomically(module: PolicyModule | MPRMModule, folder: Path, dtype: ExportType | None = None) -> None:
    """Exports beside ``folder`` and renames, so that a folder of that name is always a whole model.

    All processes call it where weights are sharded; the main one writes.

    Args:
        module: What is exported.
        folder: The folder.
        dtype: Type of its weights; None for that of the stored ones.

    Raises:
        ConfigError: the folder holds something that is not an export, or the weights are not finite numbers.
        StorageError: the disk is full, or the folder cannot be written.
    """
    require_exportable(module, module.model if isinstance(module, PolicyModule) else module.scorer)
    unfinished = unfinished_folder(folder)
    try:
        with writing(unfinished):
            if is_main():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.parent.mkdir(parents=True, exist_ok=True)
            module.export(unfinished, None if dtype is None else DTYPES[dtype])
            if is_main():
                put_in_place(unfinished, folder)
    finally:
        if is_main():
            shutil.rmtree(unfinished, ignore_errors=True)
