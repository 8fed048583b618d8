"""What the small model can be given eyes for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mstar.prompts.charts import ChartImage
from mstar.prompts.coloured import ColouredImage
from mstar.prompts.digits import DigitsImage, download_digits

TaskName = Literal["charts", "digits"]


@dataclass(frozen=True, slots=True)
class Task:
    """A task.

    Attributes:
        prompts: The class of its prompts, as a configuration names it.
        prepare: Brings what the pictures are made of, if that is not there yet.
    """

    prompts: str
    image: type[ColouredImage]
    prepare: Callable[[], object] = lambda: None


TASKS: Final[Mapping[TaskName, Task]] = {
    "charts": Task("mstar.prompts.Charts", ChartImage),
    "digits": Task("mstar.prompts.Digits", DigitsImage, download_digits),
}
