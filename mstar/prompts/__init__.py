"""Stage 1, where questions come from: one adapter a file, plus the embedded task."""

from mstar.prompts.base import PromptSource
from mstar.prompts.tiny_dice import TinyDice

__all__ = ["PromptSource", "TinyDice"]
