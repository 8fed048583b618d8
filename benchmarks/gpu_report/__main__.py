"""``python -m benchmarks.gpu_report [PART ...]``: measures and checks mstar on one GPU, part by part.

Every part runs in a process of its own with a time limit; its rows are in the report as soon as it has ended, however
it ended. Needs neither an installation, if the repository's root is the present folder, nor a network.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.gpu_report.catalogue import PARTS, Part
from benchmarks.gpu_report.machine import commit, describe, file_name
from benchmarks.gpu_report.markdown import as_markdown
from benchmarks.gpu_report.record import PartResult, Report, read_rows

ROOT: Final = Path(__file__).parents[2]
DEFAULT: Final = ROOT / "benchmarks" / "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        0 if every part did what it should, 1 if one failed, 2 for arguments that cannot be.
    """
    given = _parse(arguments)
    command = f"python -m benchmarks.gpu_report {shlex.join(sys.argv[1:] if arguments is None else arguments)}".strip()
    environment = describe(given.device, command)
    given.output.mkdir(parents=True, exist_ok=True)
    name = file_name(environment["card"], environment["date"])
    report = Report(given.output / f"{name}.json")
    deadline = time.monotonic() + 60 * given.minutes
    failed = []
    for part in (part for part in PARTS if not given.parts or part.name in given.parts):
        sys.stdout.write(f"\n{part.name} (at most {part.seconds} s)\n")
        sys.stdout.flush()
        result = _run(part, given.device, given.small, deadline)
        report.add(result, environment)
        page = as_markdown(environment, report.parts, rehearsal=given.small)
        (given.output / f"{name}.md").write_text(page, encoding="utf-8")
        failed += [] if result.problem is None else [part.name]
        sys.stdout.write(f"{part.name}: {result.problem or 'as it should be'} ({result.seconds:.0f} s)\n")
    sys.stdout.write(f"\n{given.output / name}.md\n")
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_report", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts, of {', '.join(names)} (default: all)")
    parser.add_argument("--small", action="store_true", help="tiny models and few steps: a rehearsal")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for rehearsals")
    parser.add_argument("--output", type=Path, help="folder of the report (default: benchmarks/gpu)")
    parser.add_argument("--minutes", type=float, default=25.0, help="no part goes on for longer in all (default: 25)")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.parts if name not in names]:
        parser.error(f"there is no part '{unknown[0]}': choose from {', '.join(names)}")
    if given.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("there is no CUDA device; a rehearsal runs with --device cpu --small --output DIR")
    elif not given.small:
        parser.error("real sizes are for GPUs: add --small")
    rehearsal = given.small or given.device == "cpu"
    if rehearsal and (given.output is None or DEFAULT in (given.output.resolve(), *given.output.resolve().parents)):
        parser.error("the figures of a rehearsal mean nothing, so they go to a folder of their own: add --output DIR")
    given.output = given.output or DEFAULT
    return given


def _run(part: Part, device: str, small: bool, deadline: float) -> PartResult:
    """Runs one part in its own session, none of whose processes outlives it."""
    begin = time.monotonic()
    seconds = min(part.seconds, deadline - begin)
    scratch = Path(tempfile.mkdtemp(prefix="mstar-report-"))
    rows, problem = scratch / "rows.jsonl", None
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    work = scratch / "work"
    work.mkdir()
    worker = [sys.executable, "-m", "benchmarks.gpu_report.worker", part.name, device]
    try:
        if seconds <= 0:
            problem = "it was not begun: the minutes of all parts were over."
        else:
            with subprocess.Popen(  # noqa: S603 - this package's own worker
                [*worker, "small" if small else "real", str(rows), str(work)],
                cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True, errors="replace",
            ) as process:  # fmt: skip
                try:
                    _, errors = process.communicate(timeout=seconds)
                    problem = None if process.returncode == 0 else _reason(process.returncode, errors)
                except subprocess.TimeoutExpired:
                    problem = f"it was stopped after {seconds:.0f} s."
                finally:
                    _end(process)
        found = read_rows(rows)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    wrong = [row.what for row in found if row.problem is not None]
    if problem is None and wrong:
        problem = f"{len(wrong)} of its rows ({wrong[0]})"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return PartResult(part.name, found, time.monotonic() - begin, problem, commit(), now)


def _reason(status: int, errors: str) -> str:
    sys.stderr.write(errors)
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "nothing was said")
    return f"it ended with status {status}: {last[:300]}"


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
