"""What a person is told while a command runs: the logger ``mstar``, on stderr. What is asked for goes to stdout.

Every module logs to a logger of its own name, which passes on to that one: INFO is what is going on, WARNING what a
person should look at. A program that imports mstar sets up logging as it likes.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Final

QUIET: Final = "--quiet"
# What other packages say that does not apply: by their loggers, and as Python's warnings.
_SILENCED: Final = (
    # Transformers compares every saved config with its class's defaults, which it finds invalid itself.
    ("transformers.configuration_utils", "pad_token_id must be"),
    # SmolVLM's processor passes them to itself, for every prompt that is rendered.
    ("transformers.processing_utils", "Kwargs passed to `processor.__call__`"),
    ("lightning.pytorch.utilities.rank_zero", "litlogger"),
    # A kernel of a hub for 4-bit weights on newer CPUs, which peft looks for with any adapter; it works without.
    ("bitsandbytes.backends.cpu.ops", "gemm_4bit_forward"),
)
_IGNORED: Final = (
    ".*LightningCLI's args parameter.*",
    ".*does not have many workers.*",
    ".*number of training batches.*is smaller than the logging interval.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*Total length of `.*` across ranks is zero.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*find_unused_parameters=True was specified.*",
)


class _Told(logging.Handler):
    """Writes to the stderr of the moment: news as they are, and what is to be looked at with who says it."""

    def emit(self, record: logging.LogRecord) -> None:
        said = self.format(record)
        sys.stderr.write(f"{said}\n" if record.levelno < logging.WARNING else f"mstar: {said}\n")


def take_quiet(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Takes ``--quiet``, which every command has, out of a command line; and says whether it was there."""
    return [argument for argument in arguments if argument != QUIET], QUIET in arguments


def start_logging(*, quiet: bool = False) -> None:
    """Sets up what a command tells (warnings and errors alone if quiet), and silences advice that would bury it."""
    ours = logging.getLogger("mstar")
    ours.handlers = [_Told()]
    ours.setLevel(logging.WARNING if quiet else logging.INFO)
    ours.propagate = False
    for name, words in _SILENCED:
        logger = logging.getLogger(name)
        if not any(getattr(known, "words", None) == words for known in logger.filters):
            logger.addFilter(_Without(words))
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message=message)


def level_lightning() -> None:
    """Has Lightning, whose packages set their own level when they are imported, tell as much as mstar does."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.getLogger("mstar").getEffectiveLevel())


class _Without(logging.Filter):
    """Drops the records that have some words in them."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self.words not in record.getMessage()
