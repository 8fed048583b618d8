"""Runs the benchmarks one after the other and prints one table, which it also writes to ``runs/bench/table.md``.

Run ``make bench``, or ``python benchmarks/run.py rollouts sft`` for some of them. Nothing else should be running.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from harness import MARK

HERE: Final = Path(__file__).parent
TABLE: Final = Path("runs", "bench", "table.md")
# What vLLM needs is in an environment of its own (``make test-vllm`` makes it).
VLLM_PYTHON: Final = Path(".venv-vllm", "bin", "python")
SCRIPTS: Final = (
    "rollouts", "sft", "scoring", "annotation", "rollouts_vllm", "orchestration", "iteration_memory", "grading",
)  # fmt: skip


def run(name: str) -> tuple[list[dict[str, Any]], bool]:
    """Runs one script, passing on what it prints; the comparisons that it reported, and whether it came to its end."""
    python = sys.executable
    if name == "rollouts_vllm":
        if not VLLM_PYTHON.exists():
            sys.stdout.write("left out: it needs vLLM's environment, which 'make test-vllm' makes\n")
            return [], True
        python = str(VLLM_PYTHON)
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
    results = []
    with subprocess.Popen(  # noqa: S603 - the project's own scripts
        [python, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            if line.startswith(MARK):
                results.append(json.loads(line.removeprefix(MARK)))
            else:
                sys.stdout.write(line)
                sys.stdout.flush()
    return results, process.returncode == 0


def as_table(results: list[dict[str, Any]]) -> str:
    """The comparisons and figures in Markdown."""
    lines = ["| what | unit | ours | theirs | ratio | target |", "| --- | --- | --- | --- | --- | --- |"]
    for row in results:
        if "value" in row:
            lines.append(f"| {row['name']} | {row['unit']} | {row['value']:.4g} | | | {row['target']} |")
            continue
        target = f"{row['target']:g}" if row["target"] else ""
        rates = f"{row['ours']:.4g} | {row['theirs']:.4g} | {row['ratio']:.2f}"
        lines.append(f"| {row['name']} | {row['unit']} | {rates} | {target} |")
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> int:
    """Runs the scripts; 1 if one failed."""
    results: list[dict[str, Any]] = []
    failed = []
    for name in names:
        if not (HERE / f"{name}.py").exists():
            continue
        sys.stdout.write(f"\n{name}\n")
        sys.stdout.flush()
        begin = time.perf_counter()
        found, ended = run(name)
        results += found
        failed += [] if ended else [name]
        sys.stdout.write(f"({time.perf_counter() - begin:.0f} s)\n")
    head = f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, one thread\n\n"
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(head + as_table(results), encoding="utf-8")
    sys.stdout.write(f"\n{head}{as_table(results)}")
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SCRIPTS)))
