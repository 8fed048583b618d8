"""The commands: those of LightningCLI, and the tools beside them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it exports lazily

from mstar.atomic import atomic_path, explain_file_error
from mstar.callbacks.run_record import CONFIG
from mstar.commands import (
    annotate_policy,
    check_leakage,
    export_checkpoint,
    export_data,
    grade_file,
    score_responses,
    write_run_report,
)
from mstar.config_files import check_config_files
from mstar.distributed import find_lost_process
from mstar.errors import ConfigError
from mstar.lightning_cli import MstarCLI
from mstar.memory_command import show_memory
from mstar.modules.backbone_checkpoint import explain_other_weights
from mstar.parsing import Parser, find_mistake
from mstar.prompts_command import show_prompts
from mstar.shipped_configs import locate_configs

__all__ = ["MstarCLI", "run"]

_log = logging.getLogger(__name__)

_TOOLS: Final[dict[str, Callable[..., object]]] = {
    "annotate": annotate_policy,
    "prompts": show_prompts,
    "grade": grade_file,
    "score": score_responses,
    "export": export_checkpoint,
    "export-data": export_data,
    "leakage": check_leakage,
    "report": write_run_report,
}


class _ParsedOnly(MstarCLI):
    """Parses a configuration as ``fit`` does, and makes nothing of it."""

    def instantiate_classes(self) -> None:
        """Makes nothing."""

    def after_instantiate_classes(self) -> None:
        """Has nothing to check."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def _parse_fit(arguments: Sequence[str]) -> Mapping[str, Any]:
    config: Mapping[str, Any] = _ParsedOnly(["fit", *arguments]).config["fit"].as_dict()
    return config


def _show_memory(arguments: Sequence[str]) -> int:
    return show_memory(arguments, _parse_fit)


# Commands whose options are those of another command, and some of their own.
_WRAPPERS: Final[dict[str, Callable[[Sequence[str]], int]]] = {"memory": _show_memory}
# Commands that are answered before this file is imported.
_LIGHT: Final = ("configs", "demo")


def _run_tool(name: str, arguments: Sequence[str]) -> int:
    summary = (inspect.getdoc(_TOOLS[name]) or "").partition("\n\n")[0]
    parser = Parser(prog=f"mstar {name}", description=summary)
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file with the options below.")
    parser.add_function_arguments(_TOOLS[name], as_group=False, sub_configs=True, skip={"claimed"})
    config = parser.parse_args(list(arguments))
    config.pop("config", None)
    ready = parser.instantiate_classes(config).as_dict()
    if name == "annotate":
        ready["claimed"] = partial(_save_settings, Path(config.output), parser.dump(config, skip_unset=False))
    result = _TOOLS[name](**ready)
    # A tool that returns a number has done its work, but not on all of its input.
    return result if isinstance(result, int) else 0


def _save_settings(folder: Path, settings: str) -> None:
    """Writes an annotation's settings, as a fit does; its folder's manifest makes sure that its labels are theirs."""
    saved = folder / CONFIG
    if not saved.exists():
        with atomic_path(saved) as path:
            path.write_text(settings, encoding="utf-8")


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: The command and its options.

    Returns:
        The exit status.
    """
    known = [*MstarCLI.subcommands(), *_TOOLS, *_WRAPPERS, *_LIGHT]
    if not arguments[0].startswith("-") and arguments[0] not in known:
        commands = ", ".join(known)
        raise ConfigError(f"there is no such command; choose one of {commands}.")
    arguments = locate_configs(arguments)
    check_config_files(arguments)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        if arguments[0] in _TOOLS:
            return _run_tool(arguments[0], arguments[1:])
        if arguments[0] in _WRAPPERS:
            return _WRAPPERS[arguments[0]](arguments[1:])
        MstarCLI(arguments)
    except ValueError as error:
        mistake = find_mistake(error)
        if mistake is None:
            raise
        raise mistake from error
    except OSError as error:
        file_error = explain_file_error(error)
        if file_error is None:
            raise
        raise file_error from error
    except RuntimeError as error:
        explained = find_lost_process(error) or explain_other_weights(error)
        if explained is None:
            raise
        raise explained from error
    return 0
