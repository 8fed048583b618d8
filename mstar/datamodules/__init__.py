"""Stage 5: examples -> batches; step labels -> batches."""

from mstar.datamodules.policy import PolicyDataModule
from mstar.datamodules.step_labels import StepLabelDataModule

__all__ = ["PolicyDataModule", "StepLabelDataModule"]
