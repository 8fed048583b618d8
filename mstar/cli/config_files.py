"""Configuration files are looked at before anything is made of them: one that cannot be meant is refused at once.

YAML lets a file of a few lines stand for more values than any memory holds (anchors within anchors), nest without
end, and repeat a key, of which only the last one would count.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import yaml

from mstar.errors import ConfigError

_log: Final = logging.getLogger(__name__)

# The largest configuration of the project has some hundred values.
MAX_BYTES: Final = 2**20
MAX_VALUES: Final = 100_000
# What only a run writes beside its configuration.
_OF_A_RUN: Final = ("run.lock", "iterations")
# Steps of an option's path that stand in files and are left out in flags.
SILENT: Final = frozenset({"class_path", "init_args", "dict_kwargs"})


def config_files(arguments: Sequence[str]) -> Iterator[Path]:
    """The existing files that a command line names with ``--config``."""
    for option, value in given_values(arguments):
        if option == "--config" and Path(value).is_file():
            yield Path(value)


def flag_name(path: str) -> str:
    """An option's path in a file as a flag has it."""
    return ".".join(step for step in path.split(".") if step not in SILENT)


def check_config_files(arguments: Sequence[str]) -> None:
    """Makes sure that all configurations that a command line names, sources among them, are reasonable YAML mappings.

    What their keys may be is the parser's to say.

    Raises:
        ConfigError: one is not UTF-8 text or no YAML, holds no mapping, is too large, nests too deeply, refers to
            itself, stands for too many values, gives a key twice, or names sources that are not there.
    """
    for option, value in given_values(arguments):
        if (option == "--config" or option.endswith("sources")) and Path(value).is_file():
            for named in _sources(_read(Path(value)), Path(value)):
                _read(named)


def warn_of_copy(files: Iterable[object], root: Path) -> None:
    """Says so where a run's own configuration has the work done in another folder than that which it lies in.

    A run that was copied or moved has the place in it that it was begun in.
    """
    for file in map(Path, map(str, files)):
        if not any((file.parent / name).exists() for name in _OF_A_RUN) or file.parent.resolve() == root.resolve():
            continue
        trainer = yaml.safe_load(file.read_text("utf-8")).get("trainer")
        said = trainer.get("default_root_dir") if isinstance(trainer, dict) else None
        if said is not None and Path(said).resolve() == root.resolve():
            _log.warning(
                "'%s' lies in a run's folder, and by it this fit works in '%s': to go on with the run beside the file, "
                "add --trainer.default_root_dir %s",
                *(file, root, file.parent),
            )


def given_values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every argument of a command line, as an option with what is behind its equals sign, or else the next argument."""
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        yield option, value if equals else "".join(arguments[place + 1 : place + 2])


def _read(path: Path) -> yaml.MappingNode:
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is too large for a configuration (over {MAX_BYTES:,} bytes); is it the right file?")
    try:
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path} holds no settings: a configuration is 'key: value' lines, such as 'model: ...'.")
        if _count_values(node, path, {}) > MAX_VALUES:
            raise ConfigError(f"{path} stands for over {MAX_VALUES:,} values by its anchors (& and *); write it out.")
        loader.construct_document(node)  # tags that stand for Python's objects are refused
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except RecursionError as error:
        raise ConfigError(f"{path} nests too deeply to be a configuration; is it the right file?") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{line}, is no YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML does not take, a day that no month has
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    return node


def _sources(node: yaml.Node, path: Path) -> Iterator[Path]:
    """The files that keys ``sources`` of a file name."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "sources" and isinstance(value, yaml.ScalarNode):
                named = path.parent / value.value
                if named.is_file():
                    yield named
                elif value.value.endswith((".yaml", ".yml")) and "://" not in value.value:
                    raise ConfigError(
                        f"{path}, line {key.start_mark.line + 1}: there is no file '{value.value}' for sources: give "
                        f"its whole path, or its path from the folder '{path.parent}'."
                    )
            yield from _sources(value, path)


def _count_values(node: yaml.Node, path: Path, known: dict[int, int | None]) -> int:
    """The number of values that a node stands for, anchors followed; ``known`` holds None for those being counted."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise ConfigError(f"{path}, line {node.start_mark.line + 1}: an anchor holds itself; write the value out.")
        return count
    known[id(node)] = None
    total = 1
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and name != "<<":
                raise ConfigError(
                    f"{path}, line {line}: the key '{name}' already stands in line {lines[name]}; remove one of them."
                )
            lines[name] = line
            total += _count_values(value, path, known)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count_values(item, path, known) for item in node.value)
    known[id(node)] = total
    return total
