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
    except (MstarError, OSError) as error:
        return tell_error(name, error)
    return 0


def tell_error(name: str, error: MstarError | OSError) -> int:
    """Writes an error that is the user's to mend as a sentence, and returns the exit status; any other is raised."""
    from mstar.atomic import explain_file_error

    # The boundary where an error becomes a sentence: a traceback would only hide it.
    told = explain_file_error(error) if isinstance(error, OSError) else error
    if told is None:
        raise error
    sys.stderr.write(f"{name}: error: {told}\n")
    return 1
