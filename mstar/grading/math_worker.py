"""The worker process: reads pairs of formulas from its input, compares each in a fork of its own, prints the outcome.

The kernel stops the fork, by a timer of its computing time whose signal no Python code handles, because a long
operation in C would never reach a handler, and by a limit of its memory (macOS has none).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial

_MEMORY_BYTES = 1 << 30
_EQUAL, _DIFFERENT = 10, 11
_WARM_UP = (
    r"\frac{1}{2}x^{2}+\sqrt{3}\pi-2ab", r"(x+1)(x-1)=x^2-1", r"\left(3, \frac{\pi}{2}\right)", r"[0, \infty)\cup(1,2]",
    r"\{1,2\}", r"\tan^2(y)+\log_2 8", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"60^\circ", r"2x\le 3",
    r"3\times10^{5}", r"5!", r"\text{cm}", r"12\%",
)  # fmt: skip


def main() -> None:
    """Serves until its input ends: a line is the JSON of two formulas and the seconds that may be computed."""
    logging.disable(logging.CRITICAL)
    # Imports and builds what the forks share, the parser's tables for what answers are made of included.
    for formula in _WARM_UP:
        _compare(formula, "a+b")
    _compare("(a+b)^2", "a^2+2ab")
    gc.freeze()
    for line in sys.stdin:
        gold, answer, seconds = json.loads(line)
        if (child := os.fork()) == 0:
            _serve(gold, answer, seconds)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print({_EQUAL: "equal", _DIFFERENT: "different"}.get(code, "stopped"), flush=True)


def _serve(gold: str, answer: str, seconds: float) -> None:
    code = 1
    try:
        gc.disable()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        # Processor time of this process alone: how busy the machine is makes no difference.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        code = _EQUAL if _compare(gold, answer) else _DIFFERENT
    finally:
        # Whatever was raised, this copy of the process must not go on with the loop of the other.
        os._exit(code)


def _compare(gold: str, answer: str) -> bool:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
    from math_verify import LatexExtractionConfig, parse, parser, verify

    # R and r are two variables, and parse takes no such setting.
    parser.latex2sympy = partial(latex2sympy, conversion_config=ConversionConfig(lowercase_symbols=False))
    # Its list of units has the variables t, h and ab, too.
    whole = replace(LatexExtractionConfig().normalization_config, units=False)
    config = [LatexExtractionConfig(normalization_config=whole)]
    parsed = [parse(f"${text}$", extraction_config=config, parsing_timeout=None) for text in (gold, answer)]
    return bool(parsed[0]) and bool(parsed[1]) and bool(verify(*parsed, timeout_seconds=None))


if __name__ == "__main__":
    main()
