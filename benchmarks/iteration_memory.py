"""Peak memory of one iteration by its number of prompts: everything but the models, whose share does not depend on it.

Run ``python benchmarks/iteration_memory.py``, or with other numbers of prompts as arguments. Each number is measured in
a process of its own. A stub writes 16 responses of five lines a prompt, another scores their steps; grading, selection,
files and the reading of the examples are the real ones.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from harness import Figure, note
from PIL import Image

from mstar.evaluation.gradeable import check_prompts
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader
from mstar.iteration.iteration import Stages, run_iteration
from mstar.iteration.plan import IterationPlan, IterationPrompts, iteration_indices
from mstar.prompts import PromptSource
from mstar.prompts.part import PromptSubset
from mstar.rewards import Reward
from mstar.selection import Selector
from mstar.storage import RunDirectory
from mstar.types import AnswerType, Prompt, Response

SIZES: Final = (1_000, 10_000, 100_000)
SAMPLES: Final = 16
LINES: Final = tuple(
    f"The {colour} bar of the {place} group has a height of {value}, which is {more} more than the bar beside it."
    for value, (colour, place, more) in enumerate(
        (colour, place, more)
        for colour in ("red", "blue", "green", "grey")
        for place in ("first", "second", "third", "last")
        for more in (2, 5, 11)
    )
)


class Picture:
    """A reference to a picture of one colour."""

    def __init__(self, index: int) -> None:
        self.uri = f"bars/{index:07d}.png"

    def load(self) -> Image.Image:
        """A small picture, so that the time is that of the iteration."""
        return Image.new("RGB", (32, 32))


class Bars(PromptSource):
    """Questions that are built when they are asked for."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Prompt:
        if not 0 <= index < self.size:
            raise IndexError(index)
        question = f"{LINES[index % len(LINES)]} What is the sum of all bars that are not {index % 7} high?"
        return Prompt(f"bars-{index:07d}", question, (Picture(index),), str(index % 97), AnswerType.INTEGER)

    def index_of(self, prompt_id: str) -> int | None:
        """The number in the id."""
        index = int(prompt_id.rpartition("-")[2])
        return index if 0 <= index < self.size else None


class Stub(Engine):
    """Writes five lines, and the right answer every second time."""

    max_new_tokens = 256

    def start(self, policy: Any, renderer: Any) -> None:
        """Needs nothing."""

    def update_weights(self, policy: Any) -> None:
        """Has none."""

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """One response a sample."""
        return [[self._write(r.prompt, s.index, s.temperature, s.seed) for s in r.samples] for r in requests]

    def _write(self, prompt: Prompt, index: int, temperature: float, seed: int) -> Response:
        draw = random.Random(seed)
        answer = prompt.answer if draw.random() < 0.5 else str(draw.randrange(97))
        text = "\n".join([*draw.sample(LINES, 4), f"The answer is {answer}."])
        return Response(prompt.id, index, text, len(text) // 4, True, temperature, -draw.random())


class StubReward(Reward):
    """Scores five steps."""

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """One tuple a response."""
        draw = random.Random(len(groups))
        return [[tuple(draw.random() for _ in range(5)) for _ in texts] for _, texts in groups]


def memory(name: str) -> float:
    """A line of the process's status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def measure(size: int) -> None:
    """Runs one iteration and prints (prompts, peak memory in MiB, that before, seconds, examples)."""
    began = time.perf_counter()
    # The imports have had a peak of their own, which would hide a lower one (Linux).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS")
    source, grader = Bars(size), AnswerGrader()
    check_prompts(source, "data.train", grader)
    plan = IterationPlan(iteration=1, seed=0, num_samples=SAMPLES, temperature=1.0)
    prompts = IterationPrompts(PromptSubset(source, iteration_indices(size, 1.0, 1, seed=0)), (), plan)
    for number in range(prompts.num_shards):
        prompts.fingerprint(number)
    stages = Stages(Stub(), grader, StubReward(), Selector())
    with tempfile.TemporaryDirectory() as folder:
        result = run_iteration(prompts, stages, RunDirectory(Path(folder)))
        for example in result.examples:
            source[source.index_of(example.prompt_id) or 0]
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{size} {memory('VmHWM'):.1f} {before:.1f} {seconds:.1f} {len(result.examples)}\n")


def main(sizes: Sequence[int]) -> None:
    """Measures every number of prompts, and what a further prompt takes."""
    rows = []
    sys.stdout.write(f"{'prompts':>8} {'responses':>10} {'examples':>9} {'seconds':>8} {'peak MiB':>9} {'before':>8}\n")
    for size in sizes:
        made = subprocess.run(  # noqa: S603 - this file itself
            [sys.executable, __file__, "--one", str(size)], check=True, capture_output=True, text=True
        ).stdout.split()
        rows.append((size, float(made[1])))
        sys.stdout.write(f"{size:>8} {size * SAMPLES:>10} {made[4]:>9} {made[3]:>8} {made[1]:>9} {made[2]:>8}\n")
        sys.stdout.flush()
    for (few, low), (many, high) in pairwise(rows):
        sys.stdout.write(f"from {few} to {many} prompts: {(high - low) * 2**20 / (many - few):.0f} bytes a prompt\n")
    (fewest, first), (most, last) = rows[0], rows[-1]
    note(Figure(f"peak memory of an iteration, {most} prompts / {fewest}", "ratio", last / first, "about 1"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
    else:
        main([int(argument) for argument in sys.argv[1:]] or SIZES)
