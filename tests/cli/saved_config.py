"""The configuration that a run saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def saved(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())
    return loaded
