"""Where the responses of ``predict`` go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import LightningModule

from mstar.callbacks import PredictionsCallback
from mstar.errors import StorageError


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_answered(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trainer: Any = SimpleNamespace(default_root_dir=str(tmp_path / "file"), predict_loop=SimpleNamespace())
    with pytest.raises(StorageError, match=r"file cannot be written"):
        PredictionsCallback().on_predict_start(trainer, LightningModule())
