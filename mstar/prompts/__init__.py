"""Stage 1, where questions come from: one adapter a file, plus the embedded task."""

from mstar.prompts.base import PromptSource
from mstar.prompts.field_map import FieldMap
from mstar.prompts.images import PixelLimits
from mstar.prompts.mathv360k import MathV360K
from mstar.prompts.records import RecordPrompts
from mstar.prompts.tiny_dice import TinyDice

__all__ = ["FieldMap", "MathV360K", "PixelLimits", "PromptSource", "RecordPrompts", "TinyDice"]
