"""LightningCLI's parser, with mstar's sentences, and a help that shows what the classes behind the keys take."""

from __future__ import annotations

import inspect
from argparse import HelpFormatter
from typing import Final

from lightning.pytorch.cli import LightningArgumentParser

from mstar.callbacks import BenchmarkCallback, RolloutCallback
from mstar.datamodules import PolicyDataModule, StepLabelDataModule
from mstar.models.lora import LoraSettings
from mstar.modules import MPRMModule, PolicyModule
from mstar.parsing import Parser

_DOCUMENTED: Final = (
    RolloutCallback, PolicyModule, MPRMModule, LoraSettings, PolicyDataModule, StepLabelDataModule, BenchmarkCallback
)  # fmt: skip


class LightningParser(Parser, LightningArgumentParser):
    """The parser of ``fit`` and its like."""

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The options, then the arguments of the classes that ``rollout``, ``model`` and ``data`` take."""
        text = str(super().format_help(formatter))
        if "--rollout" not in text:
            return text
        sections = [f"{cls.__module__}.{cls.__name__}:\n{inspect.getdoc(cls)}" for cls in _DOCUMENTED]
        return "\n\n".join([text.rstrip(), *sections]) + "\n"
