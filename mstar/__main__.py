"""``python -m mstar``: answers --help and --version at once, and imports the rest only when it is needed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from mstar import __version__
from mstar.logs import QUIET, start_logging, take_quiet
from mstar.process_start import prepare_process

_STOPPABLE: Final = ("fit", "validate", "test", "predict", "annotate", "score", "export-data")
# What has written something that it goes on from.
_RESUMABLE: Final = ("fit", "annotate", "score")

_HELP: Final = f"""\
mstar {__version__}: self-evolving training for multimodal reasoning (M-STaR, arXiv 2412.17451)

usage: python -m mstar COMMAND [options]

Training and evaluation (LightningCLI: a YAML file, and overrides by flag):
  fit        train: policy SFT, MPRM, or a whole self-evolving run
  validate   accuracy on data.validation
  test       accuracy on data.test
  predict    write the responses to data.test

Data and models:
  prompts    what a prompt source holds: columns, answers, lengths, bad rows
  annotate   sample a policy's responses and label their steps, for the MPRM
  grade      grade a file of responses (JSONL or Parquet in, JSONL out)
  score      step scores and rewards of a file of responses, by any reward model; best-of-N and votes
  memory     what a configuration takes: GPUs, main memory, disk
  leakage    training prompts whose picture or question also stands in a benchmark
  export     a checkpoint -> a folder for Transformers and vLLM (policy) or for mstar (MPRM)
  export-data  a run's kept, rejected and step-labelled rows -> TRL, ms-swift, LLaMA-Factory, verl, MPO
  report     a run -> one HTML page

To begin with:
  demo       the whole method on an embedded model and data set, in minutes on a CPU
  configs    the configurations that come with mstar: list them, show one

Examples:
  python -m mstar demo
  python -m mstar fit --config tiny/evolve.yaml --rollout.num_samples 8 --trainer.max_epochs 2
  python -m mstar fit --help
  python -m mstar annotate --help

Options: --help, --version, --quiet (tell warnings and errors alone)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit status: 0; 1 after an error that is the user's to mend; 143, 130 or 138 if it was stopped by SIGTERM,
        SIGINT or, in a SLURM job, SIGUSR1.
    """
    given, quiet = take_quiet(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and not sys.flags.safe_path and os.getcwd() not in sys.path:
        # A class of the user's own lies in the working directory: "python -m" looks there, the console script does not.
        sys.path.append(os.getcwd())
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(_HELP)
        return 0
    if given[0] == "--version":
        sys.stdout.write(f"mstar {__version__}\n")
        return 0
    if sys.platform == "win32":
        sys.stderr.write("mstar: error: Windows itself is not supported: run mstar within WSL, which has a Linux.\n")
        return 1
    if given[0] == "demo":
        from mstar.demo.__main__ import main as run_demo

        return run_demo([*given[1:], QUIET] if quiet else given[1:])
    prepare_process()
    start_logging(quiet=quiet)
    from mstar.errors import MstarError
    from mstar.interruption import Interrupted, stopping_on_signals

    try:
        if given[0] == "configs":
            from mstar.cli.shipped_configs import main as show_configs

            if arguments is None and hasattr(signal, "SIGPIPE"):
                # A reader that has seen enough, such as head, ends it as it ends other programs that list.
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            return show_configs(given[1:])
        # The other commands have nothing to save: a signal ends them at once.
        with stopping_on_signals() if given[0] in _STOPPABLE else nullcontext():
            from mstar.cli.commands import run

            return run(given)
    except Interrupted as interrupted:
        then = "; the same command goes on" if given[0] in _RESUMABLE else ""
        sys.stderr.write(f"mstar {given[0]}: stopped by {interrupted.received.name}{then}.\n")
        return 128 + interrupted.received
    except KeyboardInterrupt:
        sys.stderr.write(f"mstar {given[0]}: stopped by SIGINT.\n")
        return 128 + signal.SIGINT
    except MstarError as error:
        # The boundary where an error becomes a sentence: it is the user's to mend, so a traceback would only hide it.
        sys.stderr.write(f"mstar {given[0]}: error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
