"""The errors that users see: one sentence with what was wrong, where, and what to change."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "EndpointError",
    "EngineDriftError",
    "MissingExtraError",
    "MstarError",
    "ProcessLostError",
    "ServersLostError",
    "StorageError",
]


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
    """An optional package is needed for the chosen setting.

    Args:
        package: The package that could not be imported.
        extra: The extra of mstar that installs it.
        purpose: What it was needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': install it with pip install 'mstar[{extra}]'.")
