"""What has a model by address: an engine that draws from it, or a judge that asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mstar.endpoint.access import check_access
from mstar.endpoint.client import ChatClient
from mstar.endpoint.traffic import Traffic


class AddressedModel:
    """How a model by address is reached. Those that have one name these arguments in their own constructors.

    Args:
        address: The server's.
        model: The model's name there.
        key_variable: Name of the environment variable with the key; none sends no key.
        omit: Fields that the server does not take.
        traffic: How fast it is asked, how long it is waited for, and what it charges.

    Raises:
        ConfigError: the address or the key's name cannot be one.
    """

    def __init__(
        self, address: str, model: str, key_variable: str | None, omit: Sequence[str] | None, traffic: Traffic
    ) -> None:
        check_access(address, key_variable)
        self.address = address
        self.model = model
        self.key_variable = key_variable
        self.omit = list(omit or [])
        self.traffic = traffic
        # What waits between two tries; None is the clock.
        self.pause: Callable[[float], object] | None = None

    def open_client(self, cache: Path | None) -> ChatClient:
        """A client whose answers are kept in a folder, if one is given.

        Raises:
            ConfigError: the address cannot be one, or the key is not there.
        """
        return ChatClient(
            self.address,
            self.model,
            key_variable=self.key_variable,
            traffic=self.traffic,
            cache=cache,
            pause=self.pause,
        )
