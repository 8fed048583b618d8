"""Stage 5: examples -> batches; step labels -> batches; a benchmark's prompts."""

from mstar.datamodules.benchmark import BenchmarkDataModule
from mstar.datamodules.policy import PolicyDataModule
from mstar.datamodules.step_labels import StepLabelDataModule

__all__ = ["BenchmarkDataModule", "PolicyDataModule", "StepLabelDataModule"]
