"""The configurations that a run saved, and what the report takes from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

# Keys and passwords that a logger's settings may have: a report is handed around.
_SECRET: Final = re.compile(
    r"(?m)^([^\n:]*(?:api_?key|secret|password|(?<![a-z])token)[\"']?: *)(?!null\b)\S.*$|(?<=://)[^/\s@]+(?=@)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SavedConfig:
    """One ``config.yaml``: its path relative to the run's folder, what stands in it, and the folder that it is in."""

    path: str
    text: str
    folder: Path

    @property
    def shown(self) -> str:
        """Its text without keys and passwords."""
        return _SECRET.sub(r"\1***", self.text)

    @property
    def values(self) -> Mapping[str, Any]:
        """Its settings; none if it is no YAML mapping."""
        try:
            values = yaml.safe_load(self.text)
        except yaml.YAMLError:
            return {}
        return values if isinstance(values, dict) else {}


def read_configs(root: Path) -> Iterator[SavedConfig]:
    """The saved configs in the run and its log folders; of several versions of one log folder, the newest."""
    found = [path for depth in ("", "*/", "*/*/", "*/*/*/") for path in root.glob(f"{depth}config.yaml")]
    newest: dict[Path, Path] = {}
    for path in sorted(found, key=lambda path: path.stat().st_mtime):
        versioned = path.parent.name.startswith("version_")
        newest[path.parent.parent if versioned else path.parent] = path
    for path in sorted(newest.values()):
        text = path.read_text(encoding="utf-8", errors="replace")
        yield SavedConfig(str(path.relative_to(root)), text, path.parent)


def started_in(folder: Path, values: Mapping[str, Any]) -> Iterator[Path]:
    """The folders that a run may have been started in, by its settings and its own folder, linked or not."""
    trainer = values.get("trainer")
    given = trainer.get("default_root_dir") if isinstance(trainer, dict) else values.get("output")
    parts = Path(given).parts if isinstance(given, str) else ()
    # Of a linked "runs" the data lies beside the link.
    for place in dict.fromkeys((Path(os.path.abspath(folder)), folder.resolve())):
        if parts and place.parts[-len(parts) :] == parts:
            yield Path(*place.parts[: -len(parts)])


def groups_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """All groups of settings in a saved configuration, each before those in it."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from groups_in(item)


def settings_of(value: Any) -> Mapping[str, Any]:
    """The settings of a class, which a saved configuration names, or of a group; none of any other value."""
    inner = value.get("init_args", value) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}
