"""Step labels that others have published, for training an MPRM without annotating anything."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

import numpy as np

from mstar.annotation.step_label_forms import LabelledRow, StepLabelForm, find_form, read_labelled_row
from mstar.errors import DataError
from mstar.prompts import PromptSource
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.images import PixelLimits
from mstar.prompts.prompt_table import PromptRecord, TablePictures, build_table, cache_folder, content_id
from mstar.prompts.quarantine import RowError
from mstar.prompts.raw_rows import RawRow, RawRows, open_rows
from mstar.prompts.records import clean_path
from mstar.prompts.table_prompts import TablePrompts, TableSettings, open_table
from mstar.steps import split_steps
from mstar.storage import read_step_labels, write_step_labels
from mstar.types import StepLabels

__all__ = ["PublicStepLabels"]

_SHARD = 4096
