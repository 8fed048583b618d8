"""How a command of several stages ends: with a status, and a sentence where it did not get to its end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mstar.errors import MstarError
from mstar.interruption import Interrupted, stopping_on_signals
from mstar.process_start import prepare_process


def run_to_end(name: str, work: Callable[[], object]) -> int:
    """Runs stages that a signal may stop, and that the same command goes on with.

    Returns:
        The exit status: 0; 1 after an error that is the user's to mend; 128 and the signal's number if one stopped it.
    """
    prepare_process()
    try:
        with stopping_on_signals():
            work()
    except Interrupted as interrupted:
        sys.stderr.write(f"{name}: stopped by {interrupted.received.name}; the same command goes on.\n")
        return 128 + interrupted.received
    except MstarError as error:
        # The boundary where an error becomes a sentence: it is the user's to mend, so a traceback would only hide it.
        sys.stderr.write(f"{name}: error: {error}\n")
        return 1
    return 0
