"""The numbers of a run's TensorBoard files: losses, learning rates, validation scores by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard.backend.event_processing.event_accumulator import (
    COMPRESSED_HISTOGRAMS,
    HISTOGRAMS,
    IMAGES,
    SCALARS,
    TENSORS,
    EventAccumulator,
)

# Pictures and texts are not looked at, and the smallest number that can be kept of them is 1; 0 keeps all.
_KEPT: Final = {SCALARS: 0, IMAGES: 1, TENSORS: 1, HISTOGRAMS: 1, COMPRESSED_HISTOGRAMS: 1}


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """The numbers of one log folder.

    Attributes:
        path: The folder, relative to the run's.
        scalars: For every tag its (step, value) pairs; values that are not finite are left out.
    """

    path: str
    scalars: Mapping[str, tuple[tuple[float, float], ...]]

    @property
    def of_iterations(self) -> bool:
        """Whether it is that of a self-evolving fit, whose dynamics are logged by iteration."""
        return any(tag.startswith("funnel/") for tag in self.scalars)

    def last(self, tag: str) -> float | None:
        """The last value of a tag; None if there is none."""
        points = self.scalars.get(tag, ())
        return points[-1][1] if points else None


def read_training_logs(root: Path) -> tuple[TrainingLog, ...]:
    """The logs in a run's folder and in those below it, as far as there are numbers in them."""
    found = {path.parent for depth in range(4) for path in root.glob("*/" * depth + "events.out.tfevents.*")}
    logs = []
    for folder in sorted(found):
        # What a killed run logged after its last checkpoint is left out: the run says so in the file.
        events = EventAccumulator(str(folder), size_guidance=_KEPT, purge_orphaned_data=True).Reload()
        scalars = {
            tag: tuple((event.step, event.value) for event in events.Scalars(tag) if math.isfinite(event.value))
            for tag in events.Tags()[SCALARS]
        }
        if scalars:
            logs.append(TrainingLog(str(folder.relative_to(root)), scalars))
    return tuple(logs)
