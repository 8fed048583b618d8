"""The logger of trackio, of which Lightning has none."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy import uint8
from numpy.typing import NDArray

from mstar.errors import MissingExtraError


class TrackioLogger(Logger):
    """Logs numbers, settings, pictures and tables to trackio (the extra ``trackio``).

    They go to this machine (``TRACKIO_DIR``, by default in the cache of the Hugging Face hub), where ``trackio show``
    shows them, or to a Space on the hub.

    Args:
        name: The run's name; one that is there already goes on.
        project: The project that it belongs to.
        space_id: The Space that it is logged to, as ``USER/NAME``; none logs to this machine.

    Raises:
        MissingExtraError: trackio is not installed.
    """

    def __init__(self, name: str, project: str = "mstar", space_id: str | None = None) -> None:
        super().__init__()
        try:
            import trackio
        except ModuleNotFoundError as error:
            raise MissingExtraError("trackio", "trackio", "TrackioLogger") from error
        self._trackio: Any = trackio
        self._name, self._project, self._space_id = name, project, space_id
        self._settings: dict[str, Any] = {}
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run."""
        return self._name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Trackio's run; it begins with the first thing that is logged, when the settings are known."""
        if self._run is None:
            self._run = self._trackio.init(
                project=self._project,
                name=self._name,
                space_id=self._space_id,
                config=self._settings,
                resume="allow",
                embed=False,
            )
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace) -> None:
        """Takes in the settings."""
        self._settings |= vars(params) if isinstance(params, Namespace) else params

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs numbers."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_image(self, key: str, images: Sequence[NDArray[uint8]], step: int | None = None) -> None:
        """Logs pictures, (height, width, 3) each."""
        names = [key] if len(images) == 1 else [f"{key}/{number}" for number in range(len(images))]
        shown = {name: self._trackio.Image(image) for name, image in zip(names, images, strict=True)}
        self.experiment.log(shown, step=step)

    @rank_zero_only
    def log_table(
        self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]], step: int | None = None
    ) -> None:
        """Logs a table."""
        table = self._trackio.Table(columns=list(columns), data=[list(row) for row in data])
        self.experiment.log({key: table}, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Waits until all is written; what is logged later goes on with the same run."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()
