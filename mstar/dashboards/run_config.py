"""The configurations that a run saved, and what the report takes from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mstar.prompts.row_files import folder_of

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


def image_roots(configs: tuple[SavedConfig, ...]) -> tuple[str, ...]:
    """The folders that pictures named by a relative path may be in, in the order in which they are to be tried.

    They are those of the prompt sources: ``image_root``, or else the folder of the data. One that is relative is so to
    the folder that the run was started in: the working directory, or what the run's own folder says of it.
    """
    roots: dict[str, None] = {}
    for config in configs:
        values = config.values
        for root in _source_roots(values):
            roots |= dict.fromkeys(str(base / root) for base in (Path(), *started_in(config.folder, values)))
    return (*roots, ".")


def _source_roots(values: Mapping[str, Any]) -> Iterator[str]:
    """The folders of the pictures of all prompt sources in a configuration."""
    for group in groups_in(values):
        image_root, path, root = (group.get(name) for name in ("image_root", "path", "root"))
        if isinstance(image_root, str | list):
            yield from [image_root] if isinstance(image_root, str) else image_root[:1]
        elif isinstance(path, str | list):
            yield folder_of(path)
        elif isinstance(root, str):
            yield str(Path(root, "data_images"))  # MathV360K


def started_in(folder: Path, values: Mapping[str, Any]) -> Iterator[Path]:
    """The folder that a run was started in, if its own folder and its settings say which one."""
    trainer = values.get("trainer")
    given = trainer.get("default_root_dir") if isinstance(trainer, dict) else values.get("output")
    parts, place = Path(given).parts if isinstance(given, str) else (), folder.resolve()
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
