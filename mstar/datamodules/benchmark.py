"""A benchmark's prompts for ``test``: there is nothing to train on, and nothing that may be trained on."""

from __future__ import annotations

import numpy as np
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from mstar.datamodules.quarantined import PromptBatch
from mstar.errors import ConfigError, require_least
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.part import PromptSubset
from mstar.types import Prompt


class BenchmarkDataModule(LightningDataModule):
    """The prompts of a benchmark, for ``test`` and ``predict``.

    Args:
        test: The benchmark.
        eval_batch_size: Prompts that an engine is given at a time; it writes as many together as its memory allows.
        size: Use only this many rows, the first ones, to try a configuration out; none uses all.
        sources: In place of ``test``, a data set whose part ``test`` is asked.

    Raises:
        ConfigError: there are no prompts, or a number is below 1.
    """

    def __init__(
        self,
        test: PromptSource | None = None,
        eval_batch_size: int = 256,
        size: int | None = None,
        sources: DataSources | None = None,
    ) -> None:
        super().__init__()
        if test is None:
            if sources is None:
                raise ConfigError("data.test is not set, but a benchmark needs prompts: set data.test or data.sources.")
            test = sources.require("test", "data.sources")
        require_least("data.", eval_batch_size=eval_batch_size, size=size)
        self.test = test
        self.eval_batch_size = eval_batch_size
        self.prompts = PromptSubset(test, np.arange(min(size or len(test), len(test))))

    def test_dataloader(self) -> DataLoader[Prompt]:
        """The prompts, in order."""
        # By keyword: Lightning builds prediction and distributed loaders again from what it was told by name. No
        # worker processes: a prompt's pictures are decoded where it is encoded. Any sequence will do.
        return DataLoader(self.prompts, batch_size=self.eval_batch_size, collate_fn=PromptBatch)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader[Prompt]:
        """The prompts, in order."""
        return self.test_dataloader()


def find_benchmark(trainer: Trainer) -> PromptSource:
    """The prompts that a trainer tests on.

    Raises:
        ConfigError: the data has none.
    """
    source = getattr(trainer.datamodule, "test", None)  # type: ignore[attr-defined]
    if not isinstance(source, PromptSource):
        raise ConfigError("a benchmark needs data.test, its prompts; set it.")
    return source
