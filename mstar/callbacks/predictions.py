"""What ``predict`` writes: every response with its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from mstar.atomic import require_writable
from mstar.callbacks.rollout_check import require_policy
from mstar.datamodules.quarantined import PromptBatch
from mstar.distributed import gather_lists, is_main
from mstar.storage import PromptResponses, write_responses
from mstar.types import ScoredResponse


class PredictionsCallback(Callback):
    """Writes the greedy responses of ``predict`` to ``predictions.parquet`` in the run's folder, one row a prompt.

    Each row names the model that wrote it: ``model`` (its folder or id, or the checkpoint) and ``weights``, the hash of
    its weights that the plans of iterations have, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._groups: list[PromptResponses] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes sure that the responses can be written, and stops Lightning from keeping them too.

        Raises:
            StorageError: the run's folder cannot be written.
        """
        require_writable(Path(trainer.default_root_dir))
        # It would look for tensors in them, and refuses frozen dataclasses.
        trainer.predict_loop.return_predictions = False

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Sequence[ScoredResponse],
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's responses."""
        self._groups += [
            PromptResponses(prompt, (scored,)) for prompt, scored in zip(batch.prompts, outputs, strict=True)
        ]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes them all; a prompt that two processes were given, to have equally many, is written once."""
        groups = {group.prompt.id: group for group in gather_lists(self._groups)}
        self._groups = []
        path = Path(trainer.default_root_dir) / "predictions.parquet"
        # By all processes: of a model that is split over them each has a part.
        made_by = require_policy(pl_module, "predict needs").writer()
        if is_main():
            write_responses(path, list(groups.values()), made_by)
            tqdm.write(str(path))  # on a line of its own, though the bar is still there
