"""Stage 1, where questions come from: one adapter a file, plus the embedded task."""

from mstar.prompts.base import PromptSource
from mstar.prompts.charts import Charts
from mstar.prompts.digits import Digits
from mstar.prompts.field_map import FieldMap
from mstar.prompts.images import PixelLimits
from mstar.prompts.mathv360k import MathV360K
from mstar.prompts.mixture import MixedPrompts
from mstar.prompts.part import PromptPart
from mstar.prompts.records import RecordPrompts
from mstar.prompts.sources import DataSources, Part
from mstar.prompts.tiny_dice import TinyDice

__all__ = [
    "Charts",
    "DataSources",
    "Digits",
    "FieldMap",
    "MathV360K",
    "MixedPrompts",
    "Part",
    "PixelLimits",
    "PromptPart",
    "PromptSource",
    "RecordPrompts",
    "TinyDice",
]
