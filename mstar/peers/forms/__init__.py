"""The forms of others, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from mstar.peers.forms.base import PeerForm
from mstar.peers.forms.llama_factory import LLAMA_FACTORY
from mstar.peers.forms.mpo import MPO
from mstar.peers.forms.ms_swift import MS_SWIFT
from mstar.peers.forms.trl import TRL
from mstar.peers.forms.verl import VERL

__all__ = ["FORMS", "PeerForm", "PeerName"]

PeerName = Literal["trl", "ms-swift", "llama-factory", "verl", "mpo"]

FORMS: Final[Mapping[PeerName, PeerForm]] = {
    "trl": TRL,
    "ms-swift": MS_SWIFT,
    "llama-factory": LLAMA_FACTORY,
    "verl": VERL,
    "mpo": MPO,
}
