"""Kills a fit with -9 at random moments, starts it again with the same command, and compares its end with a whole run.

Run by hand, for example on the demo once its first stages are done:

    python tests/integration/kill_many.py --output /tmp/kills --kills 20 --config configs/tiny/evolve.yaml \
        --trainer.max_epochs 3 --data.train.size 400

What follows the options is handed on to ``mstar fit``. The moments are drawn from the seconds that the whole run took
after its start, anew for every attempt. A run that ends before it was killed often enough is followed by another.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mstar.storage import RunDirectory

__all__ = ["differences", "main"]


def differences(one: Path, other: Path) -> list[str]:
    """Where two runs ended differently: weights, optimizer, schedule, random numbers, responses, kept sets, reports."""
    found = []
    a, b = (torch.load(root / "checkpoints/last.ckpt", weights_only=True) for root in (one, other))
    for key in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        if not _equal(_without_paths_and_times(a[key]), _without_paths_and_times(b[key])):
            found.append(f"last.ckpt: {key}")
    runs = [RunDirectory(root) for root in (one, other)]
    if runs[0].iterations != runs[1].iterations:
        found.append(f"iterations: {runs[0].iterations} and {runs[1].iterations}")
    folders = [tuple(run.iteration(iteration) for run in runs) for iteration in runs[0].iterations]
    for first, second in (*folders, (one / "policy", other / "policy")):
        files, twins = _files(first), _files(second)
        found += [f"{(first if name in files else second) / name} has no counterpart" for name in sorted(files ^ twins)]
        found += [str(first / name) for name in sorted(files & twins) if not _same_file(first / name, second / name)]
    return found


def _files(folder: Path) -> set[Path]:
    """The names of its files, but for what a killed process was just writing."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder) for path in paths}


def _same_file(one: Path, other: Path) -> bool:
    if one.suffix != ".json":
        return one.read_bytes() == other.read_bytes()
    reports = [_without_paths_and_times(json.loads(path.read_text())) for path in (one, other)]
    return bool(reports[0] == reports[1])


def _without_paths_and_times(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("seconds", "tokens_per_second", "trained_before", "refreshed")
        return {key: _without_paths_and_times(part) for key, part in value.items() if key not in left_out}
    return [_without_paths_and_times(part) for part in value] if isinstance(value, list) else value


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(part, b[key]) for key, part in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(*pair) for pair in zip(a, b, strict=True))
    return bool(a == b)


def _start(root: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mstar", "fit", *arguments, f"--trainer.default_root_dir={root}"]
    with (root.parent / f"{root.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _wait_until_it_works(root: Path, attempt: subprocess.Popen[bytes]) -> None:
    """Returns when the run's folder is locked, or the attempt has ended: importing takes seconds and writes nothing."""
    while attempt.poll() is None:
        lock = root / "run.lock"
        if lock.exists() and lock.read_text().startswith(f"process {attempt.pid} "):
            return
        time.sleep(0.01)


def _finish(root: Path, arguments: Sequence[str]) -> float:
    attempt = _start(root, arguments)
    _wait_until_it_works(root, attempt)
    began = time.monotonic()
    if attempt.wait() != 0:
        sys.exit(f"the fit in {root} ended with status {attempt.returncode}; see {root}.log")
    return time.monotonic() - began


def main() -> int:
    """Runs the comparison.

    Returns:
        0 if the runs ended the same.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for both runs")
    parser.add_argument("--kills", type=int, default=20, help="how often the run is killed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    given, arguments = parser.parse_known_args()
    given.output.mkdir(parents=True, exist_ok=True)
    whole, killed = given.output / "whole", given.output / "killed"
    seconds = _finish(whole, arguments)
    sys.stdout.write(f"whole run: {seconds:.0f} s\n")
    moments = random.Random(given.seed)
    done, found = 0, []
    while done < given.kills and not found:
        shutil.rmtree(killed, ignore_errors=True)
        done = _kill_and_go_on(killed, arguments, done, given.kills, lambda: moments.uniform(0, seconds))
        _finish(killed, arguments)
        found = differences(whole, killed)
        sys.stdout.write(f"after {done} kills the run has ended: {len(found)} differences\n")
    sys.stdout.write("".join(f"{difference}\n" for difference in found))
    return 1 if found else 0


def _kill_and_go_on(root: Path, arguments: Sequence[str], done: int, kills: int, draw: Callable[[], float]) -> int:
    """Kills the run until it has ended by itself or was killed often enough; returns how often."""
    while done < kills:
        attempt, moment = _start(root, arguments), draw()
        _wait_until_it_works(root, attempt)
        try:
            status = attempt.wait(moment)
        except subprocess.TimeoutExpired:
            attempt.kill()
            attempt.wait()
            done += 1
            files = [path for path in root.rglob("*") if path.is_file() and path.suffix not in (".0", ".lock")]
            newest = max(files, key=lambda path: path.stat().st_mtime_ns, default=root).relative_to(root)
            sys.stdout.write(f"kill {done} after {moment:.1f} s; last written: {newest}\n")
            sys.stdout.flush()
            continue
        if status != 0:
            sys.exit(f"an attempt ended with status {status}; see {root}.log")
        break
    return done


if __name__ == "__main__":
    sys.exit(main())
