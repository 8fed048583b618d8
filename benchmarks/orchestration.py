"""What of an iteration's wall time is neither generation nor scoring nor training, on the tiny evolve config.

Run ``python benchmarks/orchestration.py``, with any override behind, e.g. ``--rollout.interval 0.1``. The warmed-up
policy and the MPRM are those of ``make demo`` where it was run, otherwise of a short warm-up here. Generation and
scoring are those of the rollouts and of the dynamics; training is that of the policy and of a refreshed MPRM, the
making of batches included.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from harness import Figure, note

from mstar.callbacks.iteration_log import IterationLog
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.rollout import RolloutCallback
from mstar.cli.commands import run
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.rewards import MPRM
from mstar.temperature import AdaptiveTemperature

TINY: Final = Path(__file__).parents[1] / "configs" / "tiny"
DEMO: Final = Path("runs", "demo")
SECONDS: Final[defaultdict[str, float]] = defaultdict(float)
STARTS: Final[list[float]] = []


def timed(stage: str, owner: type, name: str) -> None:
    """Counts the seconds that a method takes."""
    method: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            SECONDS[stage] += time.perf_counter() - began

    setattr(owner, name, wrapped)


def noted(owner: type, name: str) -> None:
    """Notes when a method is called."""
    method: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        STARTS.append(time.perf_counter())
        return method(*arguments, **named)

    setattr(owner, name, wrapped)


def trained(self: IterationLog, seconds: float, method: Callable[..., Any] = IterationLog.trained) -> None:
    """Takes the seconds of an epoch's training from the iteration's own report."""
    SECONDS["train"] += seconds
    method(self, seconds)


def sweep_share(prompts: int, interval: float, validation: int, samples: int) -> float:
    """The responses of a sweep as a share of those of the two iterations that it serves.

    Args:
        prompts: Labelled prompts.
        interval: Fraction of them in one iteration.
        validation: Validation prompts.
        samples: K, in both.
    """
    sweep = AdaptiveTemperature()
    return validation * len(sweep.candidates) * samples / (sweep.every * round(prompts * interval) * samples)


def prepare(folder: Path) -> list[str]:
    """Makes a policy and an MPRM in a minute, much shorter than the demo; returns the options that name them."""
    policy, labels, mprm = folder / "warmup" / "policy", folder / "annotate", folder / "mprm"

    def few(option: str) -> list[str]:
        own = f"--{option}.init_args"
        return [f"--{option}.class_path=mstar.prompts.TinyDice", f"{own}.split=annotation", f"{own}.size=256"]

    warm = ["--trainer.max_steps=300", f"--trainer.default_root_dir={policy.parent}"]
    made = [f"--policy={policy}", f"--output={labels}", *few("prompts")]
    read = [f"--model.model_name={policy}", f"--data.labels={labels}", f"--trainer.default_root_dir={mprm}"]
    stages = (
        ["fit", f"--config={TINY / 'warmup.yaml'}", *warm],
        ["annotate", f"--config={TINY / 'annotate.yaml'}", *made],
        [
            "fit",
            f"--config={TINY / 'mprm.yaml'}",
            "--trainer.max_epochs=1",
            f"--trainer.default_root_dir={mprm}",
            *read,
        ],
    )
    for stage in stages:
        if status := run(stage):
            sys.exit(status)
    return [f"--model.model_name={policy}", f"--rollout.reward_model={mprm / 'mprm'}"]


def main(overrides: list[str]) -> None:
    """Runs two iterations and prints where their time went."""
    with tempfile.TemporaryDirectory() as folder:
        start = [] if (DEMO / "mprm" / "mprm").exists() else prepare(Path(folder))
        measure([*start, *overrides])


def measure(options: list[str]) -> None:
    """Runs two iterations with these options and prints where their time went."""
    timed("generate", TransformersEngine, "generate")
    timed("score", MPRM, "score")
    timed("train", RewardModelRefresh, "_train")
    timed("grade", AnswerGrader, "grade")
    IterationLog.trained = trained  # type: ignore[method-assign]
    noted(RolloutCallback, "on_train_epoch_start")
    noted(RolloutCallback, "teardown")
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--trainer.max_epochs", "2", "--trainer.default_root_dir", folder]
        if status := run(["fit", "--config", str(TINY / "evolve.yaml"), *settings, *options]):
            sys.exit(status)
    wall = STARTS[-1] - STARTS[0]
    work = SECONDS["generate"] + SECONDS["score"] + SECONDS["train"]
    sys.stdout.write(f"{len(STARTS) - 1} iterations in {wall:.1f} s\n")
    for stage in ("generate", "score", "train", "grade"):
        sys.stdout.write(f"  {stage:>22} {SECONDS[stage]:8.2f} s {SECONDS[stage] / wall:7.2%}\n")
    for name, rest in (("all the rest", wall - work - SECONDS["grade"]), ("the rest and grading", wall - work)):
        sys.stdout.write(f"  {name:>22} {rest:8.2f} s {rest / wall:7.2%}\n")
    note(
        Figure(
            "orchestration, of an iteration's wall time", "%", 100 * (wall - work - SECONDS["grade"]) / wall, "under 5"
        )
    )
    for name, prompts in (("MathV360K's labelled half", 180_000), ("a tenth of it", 18_000)):
        share = sweep_share(prompts, 0.25, validation=250, samples=16)
        sys.stdout.write(f"temperature sweep / two iterations, in responses, {name}: {share:.2%}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
