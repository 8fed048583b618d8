"""``mstar demo``: warm-up, annotation, MPRM, self-evolving training, baseline, test, report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mstar.demo.run_to_end import run_to_end
from mstar.logs import start_logging, take_quiet

_DESCRIPTION: Final = """\
The whole method on an embedded model and data set: warm-up, step annotation, MPRM, self-evolving training, a baseline,
a test on 1,000 held-out questions, and a report. Nothing is downloaded. A second call goes on where the first one
stopped; to start over, remove the folder.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="mstar demo", description=_DESCRIPTION)
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and sampling (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder (default: runs/demo)")
    words, quiet = take_quiet(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(words)
    start_logging(quiet=quiet)

    def work() -> None:
        from mstar.demo.run import run_demo

        run_demo(given.seed, given.output.expanduser())

    return run_to_end("demo", work)


if __name__ == "__main__":
    sys.exit(main())
