"""What a run has for other trainers: its rows with their prompts and pictures, in the forms that they read."""

from mstar.peers.forms import FORMS, PeerName
from mstar.peers.pictures import Pictures
from mstar.peers.reading import find_run_files
from mstar.peers.rows import Kept, LabelledSteps, Pair, Sampled
from mstar.peers.run_prompts import RunPrompts
from mstar.peers.writing import Written, write_rows

__all__ = [
    "FORMS",
    "Kept",
    "LabelledSteps",
    "Pair",
    "PeerName",
    "Pictures",
    "RunPrompts",
    "Sampled",
    "Written",
    "find_run_files",
    "write_rows",
]
