"""The errors that users see: one sentence with what was wrong, where, and what to change."""

from __future__ import annotations

from typing import Literal


class MstarError(Exception):
    """Base of every error that is the user's to mend; the command line prints it without a traceback."""


class ConfigError(MstarError):
    """A setting has a value that cannot work, or two settings contradict each other."""


class DataError(MstarError):
    """A file or a row of the data cannot be used."""


class EngineDriftError(MstarError):
    """The engine's weights are not the trainer's, so what it writes must not be learnt from."""


class EndpointError(MstarError):
    """A model by address does not answer, although it was asked again and again."""


class ProcessLostError(MstarError):
    """Another process of the same run has ended, or no longer answers."""


class ServersLostError(MstarError):
    """The servers that a run needs no longer answer."""


class StorageError(MstarError):
    """A file cannot be written or read: the disk is full, or its folder may not be used."""


class MissingExtraError(MstarError):
    """An optional package is needed for the chosen setting."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': install it with pip install 'mstar[{extra}]'.")


def counted(number: int, noun: str) -> str:
    """A number with what it counts, as a sentence has it: ``1 row``, ``1,200 rows``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def require_least(where: str, least: int = 1, /, **values: float | None) -> None:
    """Makes sure that settings are not too small; None passes.

    Args:
        where: What their names begin with in the message.
        least: The smallest number that works.

    Raises:
        ConfigError: one is smaller.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{where}{name} is {value}, but it must be at least {least}.")


def require_positive(where: str, /, **values: float | None) -> None:
    """Makes sure that settings are above 0; the arguments are those of ``require_least``.

    Raises:
        ConfigError: one is not.
    """
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{where}{name} is {value}, but it must be above 0.")


def require_share(key: str, share: float | None, interval: Literal["[0, 1]", "(0, 1]", "[0, 1)"] = "[0, 1]") -> None:
    """Makes sure that a setting is a share, if it is set.

    Raises:
        ConfigError: it is not in the interval.
    """
    excluded = {0.0: interval[0] == "(", 1.0: interval[-1] == ")"}
    if share is not None and (not 0 <= share <= 1 or excluded.get(share)):
        raise ConfigError(f"{key} is {share}, but it is a share; choose from {interval}.")
