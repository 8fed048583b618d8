"""Stage 1, where questions come from: one adapter a file, plus the embedded tasks.

How a row of a file becomes a prompt:

    records.py          RecordPrompts: the order of what follows
    row_files.py        the path's rows, each its values or why it cannot be read (table_rows.py: of tables)
    field_map.py        which column holds what
    row_converter.py    a row's values as a prompt, by that map
    field_values.py     the value of a field as text, number or picture
    question_text.py    the question, its options and its gold answer (chats.py: of a row of turns)
    prompt_table.py     all prompts as an Arrow table in the cache, made once
    table_prompts.py    its pictures are looked at, and a row of it is a prompt

What cannot be used goes to a quarantine (quarantine.py), and what is known of a source is told by facts.py.
"""

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
