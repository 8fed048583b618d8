"""The command line's parser: mistakes in one line. It is light, for the tools that need no model."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Final, NoReturn

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from mstar.cli.home_folders import expand_homes
from mstar.cli.kept_settings import find_kept
from mstar.cli.null_values import refuse_null
from mstar.cli.option_help import asked_option, explain_option
from mstar.cli.option_names import KEY, explain_unknown, locate, name_whole, replace_sources
from mstar.cli.option_values import explain_missing, explain_value
from mstar.errors import ConfigError, MstarError
from mstar.provenance import hash_code, is_own

# As LightningCLI has it: a configuration may lie wherever fsspec reads (s3://bucket/run.yaml).
set_parsing_settings(config_read_mode_fsspec_enabled=True)

_log = logging.getLogger(__name__)

_LONGEST: Final = 3000
# The command line that is being parsed.
_given: Final[ContextVar[tuple[str, ...]]] = ContextVar("given", default=())
# The types of the options of its command, which the parsers of classes within it do not know.
_hints: Final[ContextVar[Mapping[str, Any]]] = ContextVar("hints", default=MappingProxyType({}))
_ABSTRACT: Final = re.compile(r"Expected an instantiatable class, but ([\w.]+) is abstract")
# Packages that only a class_path names, and what installs them.
_EXTRAS: Final = {"bitsandbytes": "qlora"}


class Parser(ArgumentParser):
    """Reports a mistake in one line, and explains the options of classes within classes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would let a typo such as --trainer.max_epoch pass, or change its meaning with a new option.
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def parse_args(  # type: ignore[override]  # the settings of an option's own parser are passed on as they are
        self, args: Sequence[str] | None = None, *more: Any, **options: Any
    ) -> Any:
        """Parses a command line; the parsers of the classes within it are asked in turn, with one option each."""
        given = list(sys.argv[1:] if args is None else args)
        if _given.get():
            # The parser around this one has read "null" already, and passes it on as Python writes it.
            given = [f"{argument[:-4]}null" if argument.endswith("=None") else argument for argument in given]
            return super().parse_args(given, *more, **options)
        hints = self._hints_of(given)
        given = list(_switched_on(given, hints))
        asked = asked_option(given, list(hints))
        if asked is not None:
            # --data.train.fields.help and its like.
            sys.stdout.write(explain_option(asked, given, hints))
            raise SystemExit(0)
        # jsonargparse reads a file that another one names from within that one's folder.
        token, types = _given.set(tuple(map(_from_anywhere, given))), _hints.set(hints)
        try:
            config = expand_homes(super().parse_args(replace_sources(given), *more, **options))
        finally:
            _given.reset(token)
            _hints.reset(types)
        refuse_null(config)
        for kept in find_kept(given):
            from mstar.distributed import is_main  # which loads torch

            if is_main():
                _log.info("%s", kept)
        return config

    def get_defaults(self, *args: Any, **options: Any) -> Namespace:
        """The defaults, without the arguments of a class that is one; they are filled in once it is still chosen.

        Another class would take over those whose names it knows: of AdamW's, which nobody wrote down, the weight decay.
        """
        defaults = super().get_defaults(*args, **options)
        for action in self._actions:
            chosen, given = defaults.get(action.dest), action.default
            if isinstance(given, Mapping) and set(given) == {"class_path"} and isinstance(chosen, Namespace):
                chosen.pop("init_args", None)
        return defaults

    def _hints_of(self, given: Sequence[str]) -> dict[str, Any]:
        """The types of the options of the command that is given."""
        commands = self._subcommands_action
        parser = self if commands is None or not given else commands.choices.get(given[0], self)
        return {
            action.dest: getattr(action, "_typehint", None) or getattr(action, "basetype", None)
            for action in parser._actions
        }

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong, without the usage of some hundred options, and exits with status 2."""
        # The parser of a command's options refuses what a file has, and the one around it says so.
        parser = getattr(ex, "subcommand_parser", self)
        given, known = _given.get(), [action.dest for action in parser._actions]
        required = [action.dest for action in parser._actions if action.required and action.option_strings]
        option, fault = KEY.match(message), find_own_fault(ex)
        said = (
            (" ".join([f"{locate(option[1], given)}: {fault}", *_installs(message)]) if option and fault else None)
            or explain_unknown(condense(message), given, known, required)
            or explain_value(message, given)
            or explain_missing(message, given, _hints.get())
            or name_whole(condense(message), given)
        )
        # A value that does not fit is repeated, and may be a whole file of data.
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}... ({len(said):,} characters)"
        sys.stderr.write(f"mstar: error: {said}\n")
        raise SystemExit(2)


def _switched_on(given: Sequence[str], hints: Mapping[str, Any]) -> Iterator[str]:
    """The arguments, with true for a switch that stands alone (``--adapter``)."""
    for argument, following in pairwise([*given, "--"]):
        alone = argument.startswith("--") and following.startswith("--") and hints.get(argument[2:]) is bool
        yield f"{argument}=true" if alone else argument


def _from_anywhere(argument: str) -> str:
    """The argument, a configuration's path in it made absolute."""
    name, equals, value = argument.rpartition("=")
    is_file = value.endswith((".yaml", ".yml", ".json")) and Path(value).is_file()
    return f"{name}{equals}{Path(value).absolute()}" if is_file else argument


def condense(message: str) -> str:
    """The lines of a jsonargparse message that name the key and what is wrong with it."""
    return " ".join([*_complaints(message), *_installs(message)])


def _installs(message: str) -> list[str]:
    missing = [extra for package, extra in _EXTRAS.items() if f"No module named '{package}'" in message]
    return [f"Install it with pip install 'mstar[{extra}]'." for extra in missing]


def _complaints(message: str) -> list[str]:
    noise = (
        *("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>", "tip:"),
        "Expected a path but",
    )
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    return [line for line in lines if line and not line.startswith(noise)]


def find_mistake(error: ValueError) -> MstarError | None:
    """The user's mistake, if it was one, behind what jsonargparse raises when a class refuses its arguments."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MstarError):
            return cause
        cause = cause.__cause__
    if not str(error).startswith("Does not validate"):
        return None
    if fault := find_own_fault(error):
        return ConfigError(fault)
    # Of several alternatives only the first is chained, so the others are known by their words alone.
    return ConfigError(" ".join(line for line in _complaints(str(error)) if not line.startswith("Expected a")))


def find_own_fault(error: BaseException | None) -> str | None:
    """What is wrong with a class of the user's own, and where, behind what jsonargparse makes of it; else None."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    abstract = _ABSTRACT.match(str(error))
    if abstract is not None and hash_code(cls := resolve_name(abstract[1])) is not None:
        return f"{abstract[1]} is abstract: it lacks {', '.join(sorted(cls.__abstractmethods__))}."
    places = [] if error is None else traceback.extract_tb(error.__traceback__)
    own = [place for place in places if is_own(Path(place.filename))]
    if not own:
        return None
    path, folder = Path(own[-1].filename), Path.cwd()
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    return f"{' '.join(''.join(traceback.format_exception_only(error)).split())} ({name}, line {own[-1].lineno})"
