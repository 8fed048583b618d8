"""The worker process: reads pairs of formulas from its input, compares each in a fork of its own, prints the outcome.

The fork is stopped by the kernel, by a timer whose signal no Python code handles, because a long operation in C would
never reach a handler; and by a limit of its memory. It starts with everything imported, so that it costs milliseconds.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys

__all__ = ["main"]

_MEMORY_BYTES = 1 << 30
_EQUAL, _DIFFERENT = 10, 11


def main(seconds: float, patience: float) -> None:
    """Serves until its input ends.

    Args:
        seconds: Most computing time of a comparison.
        patience: Most time of a comparison by the clock.
    """
    logging.disable(logging.CRITICAL)
    _compare("x+1", "1+x")  # imports and builds everything that the forks share
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        gold, answer = json.loads(line)
        child = os.fork()
        if child == 0:
            _serve(gold, answer, seconds, patience)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write({_EQUAL: "equal\n", _DIFFERENT: "different\n"}.get(code, "stopped\n"))
        sys.stdout.flush()


def _serve(gold: str, answer: str, seconds: float, patience: float) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        # On a busy machine a short computation may take long by the clock; it is given the client's patience for that.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, patience)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = _EQUAL if _compare(gold, answer) else _DIFFERENT
    finally:
        # Whatever was raised, this copy of the process must not go on with the loop of the other.
        os._exit(code)


def _compare(gold: str, answer: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig()]
    parsed = [parse(f"${text}$", extraction_config=config, parsing_timeout=None) for text in (gold, answer)]
    return bool(parsed[0]) and bool(parsed[1]) and bool(verify(*parsed, timeout_seconds=None))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
