"""How a model by address is reached. No key is to end up in a run's files or in an error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

import httpx2

from mstar.endpoint.traffic import Traffic
from mstar.errors import ConfigError


class AddressedModel:
    """A model by address: an engine that draws from it, or a judge that asks it, names these arguments in its own.

    Args:
        address: The server's, e.g. ``http://localhost:8000`` or ``https://api.openai.com/v1``.
        model: The model's name there.
        key_variable: Name of the environment variable with the key; none sends no key.
        omit: Fields that the server does not take: they are not sent, but tell requests apart.
        traffic: How fast it is asked, how long it is waited for, and what it charges.

    Raises:
        ConfigError: the address is none or has more than a machine and a path, or the other is not the name of an
            environment variable; both end up in config.yaml.
    """

    def __init__(
        self,
        address: str,
        model: str,
        key_variable: str | None = None,
        omit: Sequence[str] | None = None,
        traffic: Traffic = Traffic(),  # noqa: B008 - frozen, so sharing it is safe
    ) -> None:
        find_url(address)
        # Some providers' keys are names, too, such as hf_abc; they all have small letters.
        if key_variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", key_variable):
            raise ConfigError(
                "key_variable is not the name of an environment variable in capital letters: put the key into one, and "
                "name that, such as OPENAI_API_KEY."
            )
        self.address = address
        self.model = model
        self.key_variable = key_variable
        self.omit = list(omit or [])
        self.traffic = traffic
        # What waits between two tries; None is the clock.
        self.pause: Callable[[float], object] | None = None


def find_url(address: str) -> httpx2.URL:
    """An address as a URL.

    Raises:
        ConfigError: it is none, or has more than a machine and a path.
    """
    if re.search("[@?#]", address):
        # Not repeated: there may be a key in it.
        raise ConfigError("address has more than a machine and a path: a key goes into an environment variable.")
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"address '{address}' is none ({error}).") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"address '{address}' is none: it begins with http:// or https://, and names a machine.")
    return url


def chat_url(address: str) -> httpx2.URL:
    """Where chat completions are asked for."""
    url = find_url(address)
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.copy_with(path=f"{path or '/v1'}/chat/completions")


def find_key(variable: str) -> str:
    """The key in an environment variable.

    Raises:
        ConfigError: it is not there, or cannot be one.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {variable} is to have the key, but is not set: set it.")
    if not re.fullmatch("[!-~]+", key):
        # The errors of what would be made of it show it.
        raise ConfigError(
            f"the environment variable {variable} has a line break, a blank or a letter that is not ASCII in it, so it "
            "is no key: set it to the key alone."
        )
    return key
