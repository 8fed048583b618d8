"""``python -m mstar.demo.ablations``: the arms of configs/ablations side by side, and their table."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mstar.logs import start_logging
from mstar.shipped_configs import SHIPPED

__all__ = ["ARMS", "interval", "main", "table"]

# In the order in which they are run: an interrupted comparison has the most telling arms.
ARMS: Final = (
    "random_2_duplicates",
    "mprm_top_2_fixed",
    "likelihood_top_2",
    "oracle_top_2",
    "random_2",
    "refreshed_mprm",
    "contrast_mprm",
    "adaptive_temperature",
    "mprm_top_1",
    "mprm_top_4",
    "mprm_threshold",
    "mprm_threshold_rising",
    "mixed_top_2",
    "balance",
    "balanced_temperature",
    "optimizer_reset",
    "interval_100",
    "interval_50",
    "interval_25",
    "interval_12_5",
    "interval_6_25",
    "iterative_rft",
    "rest_em",
    "rloop",
    "nft",
    "grpo",
    "reinforce_rej",
    "grpo_drop",
    "grpo_decoupled",
    "grpo_consistency",
    "unlabelled_voting",
    "unlabelled_abstaining",
    "unlabelled_oracle",
)
# Student's t at 97.5 %, by degrees of freedom.
_T: Final = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}

Results = dict[str, dict[int, dict[str, float]]]


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval (Student's t) of one number over seeds, in per cent; the mean alone for one seed."""
    mean = 100 * statistics.fmean(values)
    if len(values) - 1 not in _T:
        return f"{mean:.1f}"
    half = 100 * _T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def table(results: Results, seeds: Sequence[int]) -> str:
    """The Markdown table: an arm a row; accuracy and chain correctness by seed, and their interval."""
    head = ["arm", *(f"seed {seed}" for seed in seeds), "accuracy", "whole chain", "n"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for arm, by_seed in results.items():
        cells = [
            f"{100 * by_seed[s]['accuracy']:.1f} / {100 * by_seed[s]['chain_accuracy']:.1f}" if s in by_seed else ""
            for s in seeds
        ]
        accuracy = interval([row["accuracy"] for row in by_seed.values()])
        chain = interval([row["chain_accuracy"] for row in by_seed.values()])
        lines.append(f"| {' | '.join([arm, *cells, accuracy, chain, str(len(by_seed))])} |")
    return "\n".join(lines) + "\n"


def _run_demo(seed: int, root: Path, results: Results) -> None:
    """The demo of one seed: its warm-up and MPRM are the start of every arm, and its ends are rows of the table."""
    from mstar.demo.run import run_demo

    summary = run_demo(seed, _demo(root, seed))
    for arm, name in (("warm-up", "warmup"), ("seed-only SFT", "seed_sft"), ("demo (refreshed, adaptive)", "final")):
        row = {key: float(summary[f"{name}_{key}"]) for key in ("accuracy", "chain_accuracy")}
        results.setdefault(arm, {})[seed] = row


def _run_arm(arm: str, seed: int, root: Path) -> dict[str, float]:
    """One arm of one seed: a fit from the demo's warm-up policy, and a test of where it ends."""
    from mstar.demo.run import command, config, test_policy
    from mstar.demo.stages import StageBook

    folder, demo = root / f"seed-{seed}" / arm, _demo(root, seed)
    base, overlay = config("tiny/evolve.yaml"), config(f"ablations/{arm}.yaml")

    def fit_and_test() -> dict[str, Any]:
        reward = [f"--rollout.reward_model={demo / 'mprm' / 'mprm'}"] if _uses_reward_model(arm) else []
        command(
            "fit", base, overlay, f"--seed_everything={seed}",
            f"--model.model_name={demo / 'warmup' / 'policy'}", *reward, "--rollout.dynamics=false",
            # All start from the same policy: what one of them has drawn in its first iteration the others read.
            f"--rollout.reuse={folder.parent}",
            "--trainer.callbacks=null", f"--trainer.default_root_dir={folder}",
        )  # fmt: skip
        final = f"--model.model_name={folder / 'policy'}"
        return dict(test_policy(base, final, f"--trainer.default_root_dir={folder}"))

    return StageBook(root / f"seed-{seed}", seed).run(arm, fit_and_test)


def _demo(root: Path, seed: int) -> Path:
    return root / f"seed-{seed}" / "demo"


def _uses_reward_model(arm: str) -> bool:
    text = (SHIPPED / "ablations" / f"{arm}.yaml").read_text(encoding="utf-8")
    return "reward_model: null" not in text.replace("refresh_reward_model: null", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo of every seed, then arm by arm; what is done is not run again.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m mstar.demo.ablations", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM", help="which arms")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"), help="folder")
    given = parser.parse_args(arguments)
    start_logging()
    # As in mstar.__main__: it must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from mstar.atomic import atomic_path
    from mstar.errors import MstarError

    results: Results = {}
    try:
        for seed in given.seeds:
            _run_demo(seed, given.output, results)
        for arm in given.arms:
            for seed in given.seeds:
                results.setdefault(arm, {})[seed] = _run_arm(arm, seed, given.output)
            with atomic_path(given.output / "table.md") as path:
                path.write_text(table(results, given.seeds), encoding="utf-8")
    except MstarError as error:
        # The boundary where an error becomes a sentence: it is the user's to mend, so a traceback would only hide it.
        sys.stderr.write(f"ablations: error: {error}\n")
        return 1
    sys.stdout.write(f"\n{table(results, given.seeds)}\n{given.output / 'table.md'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
