"""The trained model as a folder that other programs load: at the end of a fit, and of its best epoch."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Final, Literal

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from mstar.datamodules.policy import PolicyDataModule
from mstar.distributed import from_main, is_main, wait_for_all
from mstar.errors import ConfigError, MstarError
from mstar.export.card import CardFacts, write_card
from mstar.export.folder import check_replaceable, exporting
from mstar.models.export import check_export
from mstar.models.families import family_of
from mstar.models.precision import DTYPES
from mstar.modules import MPRMModule, PolicyModule
from mstar.modules.backbone_checkpoint import require_exportable

_log = logging.getLogger(__name__)

ExportType = Literal["float32", "bfloat16", "float16"]
# What the best epoch is by: of a policy with rollouts and without, of an MPRM.
_BEST: Final = ("dynamics/greedy_accuracy", "val/accuracy", "mprm/auc_within")


class ExportCallback(Callback):
    """Writes the model at the end of ``fit``: a policy to ``policy/``, an MPRM to ``mprm/`` under the run's folder.

    The folder has a card (``README.md``) with what the run's own files say of its base model, method, data and results.

    Args:
        folder: Where to, instead: an empty or new folder, or that of an earlier export, which is replaced.
        dtype: Type of the weights in it; by default the stored one, from which another fit goes on without a loss. In
            16 bits the folder is half as large, and what a learning rate of 1e-6 moved is rounded away in part: choose
            it for a model that is only to be used. That goes for adapters on 16-bit weights too: only float32 has all
            that they add.
        export_best: Whether the model of the best epoch (iteration) is kept too, in the folder's name with ``-best``
            (``policy-best/``). The best is by dynamics/greedy_accuracy with rollouts, val/accuracy without, and of an
            MPRM by mprm/auc_within; or give the name of another number that is logged.
        mode: Whether the best is the largest (max) or the smallest (min) number.
    """

    def __init__(
        self,
        folder: str | None = None,
        dtype: ExportType | None = None,
        export_best: bool | str = False,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        super().__init__()
        self.folder = folder
        self.dtype = dtype
        self.export_best = export_best
        self.mode = mode
        self._best: dict[str, float | int] = {}

    def check(self, trainer: Trainer, pl_module: LightningModule, data: LightningDataModule | None = None) -> None:
        """Makes sure that the export will take the place of nothing else, before anything is written.

        Raises:
            ConfigError: the folder holds something that is not an export, or there is nothing to find the best by.
            StorageError: it cannot be written.
        """
        if isinstance(pl_module, PolicyModule | MPRMModule):
            check_replaceable(self._target(trainer, pl_module))
            if self.export_best:
                check_replaceable(self._best_target(trainer, pl_module))
                if isinstance(data, PolicyDataModule) and data.validation is None and self.export_best is True:
                    raise ConfigError(
                        "ExportCallback: export_best needs prompts that the epochs are compared on: set "
                        "data.validation, or give the name of a number that is logged without."
                    )

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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what was measured after the checkpoint that the fit goes on from."""
        self._keep_best(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exports the model if it is the best so far."""
        watched = self._watched(trainer)
        if self.export_best and watched is None and is_main():
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            _log.warning(
                "epoch %d cannot be the best, because what export_best asks for was not measured in it; there is %s",
                *(trainer.current_epoch + 1, known),
            )
        self._keep_best(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exports; the main process writes."""
        # A fast_dev_run leaves nothing behind, wherever the folder is.
        if not isinstance(pl_module, PolicyModule | MPRMModule) or getattr(trainer, "fast_dev_run", False):
            return
        self._keep_best(trainer, pl_module)
        self._export(trainer, pl_module, self._target(trainer, pl_module))
        if self._best and is_main():
            _log.info(
                "the best epoch was %s, with %s %.4g: %s",
                *(self._best["epoch"], self._watched(trainer), self._best["value"]),
                self._best_target(trainer, pl_module),
            )

    def state_dict(self) -> dict[str, Any]:
        """What the best was."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._best = state_dict["best"]

    def _keep_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.export_best or not isinstance(pl_module, PolicyModule | MPRMModule):
            return
        watched = self._watched(trainer)
        # One process decides, because all export together; it alone has some numbers.
        value = from_main(math.nan if watched is None else float(trainer.callback_metrics[watched]))
        best = self._best.get("value", -math.inf if self.mode == "max" else math.inf)
        # What is not a number is never better.
        if value > best if self.mode == "max" else value < best:
            self._export(trainer, pl_module, self._best_target(trainer, pl_module), watched)
            progress: Any = trainer.fit_loop.epoch_progress.current
            self._best = {"epoch": progress.processed, "value": value}

    def _export(
        self, trainer: Trainer, pl_module: PolicyModule | MPRMModule, folder: Path, best_by: str | None = None
    ) -> None:
        card = _card(trainer, pl_module, folder, best_by) if is_main() else None
        export_atomically(pl_module, folder, self.dtype, card=card)
        # One process writes, which may take longer than a step may wait.
        wait_for_all()

    def _watched(self, trainer: Trainer) -> str | None:
        """The name of the number that the best is by; None if it was not measured."""
        names = _BEST if self.export_best is True else [self.export_best]
        return next((str(name) for name in names if name in trainer.callback_metrics), None)

    def _target(self, trainer: Trainer, pl_module: PolicyModule | MPRMModule) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        return Path(trainer.default_root_dir) / ("policy" if isinstance(pl_module, PolicyModule) else "mprm")

    def _best_target(self, trainer: Trainer, pl_module: PolicyModule | MPRMModule) -> Path:
        last = self._target(trainer, pl_module)
        return last.with_name(f"{last.name}-best")


def _card(trainer: Trainer, module: PolicyModule | MPRMModule, folder: Path, best_by: str | None) -> str | None:
    """The card of the model as it is now; None if a file of the run is damaged, which must not cost the model."""
    root = Path(trainer.default_root_dir)
    run = root if (root / "config.yaml").is_file() else None
    progress: Any = trainer.fit_loop.epoch_progress.current
    facts = CardFacts(
        name=folder.absolute().name,
        kind=module.kind,
        trained_from=module.model_name,
        run=run,
        iterations=progress.processed,
        within=progress.started > progress.processed,
        best_by=best_by,
        auto_class=family_of(module.root).auto_class,
    )
    try:
        return write_card(facts)
    except (MstarError, OSError) as error:
        _log.warning("'%s' gets no card (README.md): %s", folder, error)
        return None


def export_atomically(
    module: PolicyModule | MPRMModule,
    folder: Path,
    dtype: ExportType | None = None,
    adapter: bool = False,
    card: str | None = None,
) -> None:
    """Exports beside ``folder`` and renames, so that a folder of that name is always a whole model.

    All processes call it where weights are sharded; the main one writes.
    """
    require_exportable(module, module.model if isinstance(module, PolicyModule) else module.scorer)
    with exporting(folder) as unfinished:
        module.export(unfinished, None if dtype is None else DTYPES[dtype], adapter)
        if card is not None and is_main():
            # peft has written one that tells nothing of the run.
            (unfinished / "README.md").write_text(card, encoding="utf-8")
