"""``python -m mstar.demo.ablations``: the arms of configs/ablations side by side, their table, and its verdicts."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from mstar.demo.arm import DEMO, RESULT, SEED_SFT, START, run_arm
from mstar.demo.run_to_end import run_to_end, tell_error
from mstar.demo.verdicts import T, read_answers, verdict_table, verdicts
from mstar.errors import ConfigError, MstarError
from mstar.evaluation.markdown import markdown_table
from mstar.logs import start_logging
from mstar.process_start import end_with_parent

# In the order in which they are run: an interrupted comparison has what the verdicts need first.
ARMS: Final = (
    START,
    "mprm_top_2_fixed",
    "optimizer_reset",
    "oracle_top_2",
    "refreshed_mprm",
    "contrast_mprm",
    "nft",
    "grpo",
    "adaptive_temperature",
    "rloop",
    "balance",
    "mprm_top_1",
    "mprm_top_4",
    "interval_25",
    "interval_50",
    "interval_100",
    "interval_12_5",
    "interval_6_25",
    "random_2_duplicates",
    "likelihood_top_2",
    "random_2",
    "mprm_threshold",
    "mprm_threshold_rising",
    "mixed_top_2",
    "refreshed_mixed",
    "contrast_mixed",
    "balanced_temperature",
    "iterative_rft",
    "rest_em",
    "reinforce_rej",
    "grpo_drop",
    "grpo_decoupled",
    "grpo_consistency",
    "contrast_consistency",
    "unlabelled_voting",
    "unlabelled_abstaining",
    "unlabelled_soft",
    "unlabelled_oracle",
    DEMO,
)

# The tables are written after every arm, and what an arm answered does not change.
_read_once: Final = cache(read_answers)

# By arm and seed.
Results = Mapping[str, Mapping[int, Mapping[str, float]]]


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval (Student's t) of one number over seeds, in per cent; the mean alone for one seed."""
    mean = 100 * statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = 100 * T[min(len(values), len(T)) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ± {half:.1f}"


def table(results: Results, seeds: Sequence[int]) -> str:
    """The Markdown table: an arm a row; accuracy and chain correctness by seed, their interval, and the work."""
    head = ["arm", *(f"seed {seed}" for seed in seeds), "accuracy", "whole chain", "CPU-s", "n"]
    rows = []
    for arm, by_seed in results.items():
        cells = [
            f"{100 * by_seed[s]['accuracy']:.1f} / {100 * by_seed[s]['chain_accuracy']:.1f}" if s in by_seed else ""
            for s in seeds
        ]
        accuracy, chain = (interval([row[name] for row in by_seed.values()]) for name in ("accuracy", "chain_accuracy"))
        work = f"{statistics.fmean(row['cpu_seconds'] for row in by_seed.values()):.0f}"
        rows.append([arm, *cells, accuracy, chain, work, str(len(by_seed))])
    return "\n".join(markdown_table(head, rows)) + "\n"


def write_tables(root: Path, seeds: Sequence[int]) -> str:
    """Writes ``table.md``, which it returns, and ``verdicts.json`` of all that is measured in a folder.

    Arms and seeds that were not asked for are in them, too.
    """
    from mstar.atomic import write_text
    from mstar.storage import read_json, write_json

    measured = {int(path.parents[1].name.removeprefix("seed-")) for path in root.glob(f"seed-*/*/{RESULT}")}
    seeds = sorted(measured | set(seeds))
    folders = {
        arm: {seed: path for seed in seeds if ((path := root / f"seed-{seed}" / arm) / RESULT).exists()}
        for arm in (*ARMS, SEED_SFT)
    }
    results = {arm: {seed: read_json(path / RESULT) for seed, path in row.items()} for arm, row in folders.items()}
    answers = {arm: {seed: _read_once(path) for seed, path in row.items()} for arm, row in folders.items()}
    rows = verdicts(answers)
    text = f"{table({arm: row for arm, row in results.items() if row}, seeds)}\n## Verdicts\n\n{verdict_table(rows)}"
    write_json(root / "verdicts.json", {"seeds": seeds, "verdicts": rows})
    write_text(root / "table.md", text)
    return text


def _run_all(arms: Sequence[str], seeds: Sequence[int], root: Path, jobs: int) -> None:
    """Runs every arm on one thread, so many side by side; a process takes one arm and seed after the other.

    Next to each other are seeds, not arms: what arms of one seed have in common one of them makes and the others read,
    which two that run at the same time could not.
    """
    # Last digits depend on the number of threads, and a comparison on this machine's number of cores must not. Each
    # process reads it when it begins.
    os.environ["OMP_NUM_THREADS"] = "1"
    # An arm whose process ends with this one goes on where its last iteration ended.
    with ProcessPoolExecutor(jobs, get_context("spawn"), end_with_parent, (os.getpid(),)) as pool:
        # What all others start from is there before them.
        _run_side_by_side(pool, jobs, [(START, seed) for seed in seeds], root, seeds)
        others = [(arm, seed) for arm in arms if arm != START for seed in seeds]
        _run_side_by_side(pool, jobs, others, root, seeds)


def _run_side_by_side(
    pool: ProcessPoolExecutor, jobs: int, work: Sequence[tuple[str, int]], root: Path, seeds: Sequence[int]
) -> None:
    waiting = iter(work)
    running: dict[Future[tuple[int, Path]], tuple[str, int]] = {}
    # What runs ends by the same signal as this process, or to the end; what a pool holds beyond that would be begun.
    while True:
        for arm, seed in islice(waiting, jobs - len(running)):
            running[pool.submit(_run_logged, arm, seed, root)] = arm, seed
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            arm, seed = running.pop(future)
            status, log = future.result()
            if status:
                raise ConfigError(f"the arm {arm} ended with exit status {status}: see '{log}'.")
            sys.stdout.write(f"{arm}, seed {seed}: done\n")
            sys.stdout.flush()
            write_tables(root, seeds)


def _run_logged(arm: str, seed: int, root: Path) -> tuple[int, Path]:
    """Runs an arm on a seed; whatever this process says of it goes to a file."""
    path = root / "logs" / f"{arm}-{seed}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    start_logging()
    return run_to_end(arm, lambda: run_arm(arm, seed, root)), path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the arms that are not done, writes the table and verdicts of all that are, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mstar.demo.ablations", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM", help="which arms")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"), help="folder")
    # Those that this process may run on: in a SLURM job or a container not all of the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores, help="arms side by side (default: the cores)")
    given = parser.parse_args(arguments)
    try:
        _run_all(given.arms, given.seeds, given.output, given.jobs)
        text = write_tables(given.output, given.seeds)
    except KeyboardInterrupt:
        # The arms have it from the terminal, too, and were waited for.
        sys.stderr.write("ablations: stopped by SIGINT; the same command goes on.\n")
        return 128 + signal.SIGINT
    except (MstarError, OSError) as error:
        return tell_error("ablations", error)
    sys.stdout.write(f"\n{text}\n{given.output / 'table.md'}\n{given.output / 'verdicts.json'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
