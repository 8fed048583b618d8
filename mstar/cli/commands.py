"""The commands: those of LightningCLI, and the tools beside them.

What a command needs is imported when it is asked for: torch and Lightning take seconds.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Final

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it exports lazily

from mstar.atomic import explain_file_error, write_text
from mstar.cli.config_files import check_config_files
from mstar.cli.parsing import Parser, find_mistake
from mstar.cli.shipped_configs import locate_configs
from mstar.errors import ConfigError

_LIGHTNING_CLI: Final = "mstar.cli.lightning_cli:MstarCLI"
_LIGHTNING: Final = ("fit", "validate", "test", "predict")
# Plain typed functions, whose arguments and docstrings are the options' help.
_TOOLS: Final = {
    "annotate": "mstar.annotation.command:annotate_policy",
    "prompts": "mstar.cli.prompts_command:show_prompts",
    "grade": "mstar.cli.grade_command:grade_file",
    "score": "mstar.cli.score_command:score_responses",
    "export": "mstar.cli.export_command:export_checkpoint",
    "export-data": "mstar.cli.export_data_command:export_data",
    "leakage": "mstar.evaluation.leakage:check_leakage",
    "report": "mstar.dashboards.report:write_report",
}
# Commands that are answered before this file is imported.
_LIGHT: Final = ("configs", "demo")


def _find(place: str) -> Callable[..., object]:
    """Imports a command, without looking for garbage: what is imported stays, and to look takes a second or more."""
    collects = gc.isenabled()
    gc.disable()
    try:
        found: Callable[..., object] = resolve_name(place)
    finally:
        if collects:
            gc.enable()
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
    return found


def _run_tool(name: str, arguments: Sequence[str]) -> int:
    # The parser takes the short names of the classes that are loaded, and --help lists them.
    import mstar.judges
    import mstar.prompts.benchmarks  # noqa: F401

    tool = _find(_TOOLS[name])
    if name == "prompts":
        arguments = _find("mstar.cli.prompts_command:name_source")(arguments)  # type: ignore[assignment]
    summary = (inspect.getdoc(tool) or "").partition("\n\n")[0]
    parser = Parser(prog=f"mstar {name}", description=summary)
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file with the options below.")
    parser.add_function_arguments(tool, as_group=False, sub_configs=True, skip={"claimed"})
    config = parser.parse_args(list(arguments))
    config.pop("config", None)
    ready = parser.instantiate(config).as_dict()
    if name == "annotate":
        ready["claimed"] = partial(_save_settings, Path(config.output), parser.dump(config, skip_unset=False))
    return _status(tool(**ready))


def _status(result: object) -> int:
    if isinstance(result, Path):
        # What a tool has written.
        sys.stdout.write(f"{result}\n")
    # A tool that returns a number has done its work, but not on all of its input.
    return result if isinstance(result, int) else 0


def _save_settings(folder: Path, settings: str) -> None:
    """Writes an annotation's settings, as a fit does; its folder's manifest makes sure that its labels are theirs."""
    from mstar.callbacks.config_check import CONFIG

    saved = folder / CONFIG
    if not saved.exists():
        write_text(saved, settings)


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        The exit status.
    """
    known = [*_LIGHTNING, *_TOOLS, "memory", *_LIGHT]
    if not arguments[0].startswith("-") and arguments[0] not in known:
        commands = ", ".join(known)
        raise ConfigError(f"there is no such command; choose one of {commands}.")
    arguments = locate_configs(arguments)
    check_config_files(arguments)
    try:
        if arguments[0] in _TOOLS:
            return _run_tool(arguments[0], arguments[1:])
        if arguments[0] == "memory":
            # Its options are those of another command, and some of its own.
            return _status(_find("mstar.cli.memory_command:show_memory")(arguments[1:]))
        _find(_LIGHTNING_CLI)(arguments)
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
        from mstar.distributed import find_lost_process
        from mstar.modules.backbone_checkpoint import explain_other_weights

        explained = find_lost_process(error) or explain_other_weights(error)
        if explained is None:
            raise
        raise explained from error
    return 0
