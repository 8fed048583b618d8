"""``python -m mstar.demo.arm``: one arm of the comparison on some seeds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mstar.demo.run_to_end import run_to_end
from mstar.logs import start_logging

# Arms that are not on top of tiny/evolve.yaml: the warm-up policy, where all others start; the whole demo; and the
# baseline in it.
START: Final = "warm-up"
DEMO: Final = "demo"
SEED_SFT: Final = "seed_sft"
# What an arm reached, in its folder. It is written last: an arm without it goes on.
RESULT: Final = "result.json"
# Nobody watches the bars of runs side by side.
_QUIET: Final = (
    "--trainer.callbacks=null",
    "--trainer.enable_progress_bar=false",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an arm on every seed on which it is not done, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mstar.demo.arm", description=__doc__)
    parser.add_argument("arm", help="a file of configs/ablations, or warm-up, or demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"), help="folder")
    given = parser.parse_args(arguments)
    start_logging()

    def work() -> None:
        for seed in given.seeds:
            # The demo makes both, so that they are one process's.
            for arm in (DEMO, SEED_SFT) if given.arm == DEMO else (given.arm,):
                run_arm(arm, seed, given.output)

    return run_to_end(given.arm, work)


def run_arm(arm: str, seed: int, root: Path) -> None:
    """Runs an arm on one seed, unless that is done, and writes its result and its answers to the test questions."""
    folder = root / f"seed-{seed}" / arm
    if (folder / RESULT).exists():
        return
    from mstar.demo.run import make_start, run_demo
    from mstar.storage import write_json

    clock, cpu = time.perf_counter(), time.process_time()
    demo = folder.parent / DEMO
    if arm in (DEMO, SEED_SFT):
        run_demo(seed, demo)
        policy = demo / ("evolve" if arm == DEMO else arm) / "policy"
    else:
        _, policy, mprm = make_start(seed, demo)
        if arm != START:
            policy = _fit(arm, seed, folder, policy, mprm)
    result = _measure(policy, folder)
    spent = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    write_json(folder / RESULT, result | {name: round(value, 1) for name, value in spent.items()})


def _fit(arm: str, seed: int, folder: Path, policy: Path, mprm: Path) -> Path:
    from mstar.demo.run import command, config

    command(
        # An arm without an MPRM takes it back.
        "fit", config("tiny/evolve.yaml"), f"--rollout.reward_model={mprm}", config(f"ablations/{arm}.yaml"),
        f"--seed_everything={seed}", f"--model.model_name={policy}", "--rollout.dynamics=false",
        # All start from the same policy: what one of them has drawn in its first iteration the others read.
        f"--rollout.reuse={folder.parent}",
        *_QUIET, f"--trainer.default_root_dir={folder}",
    )  # fmt: skip
    return folder / "policy"


def _measure(policy: Path, folder: Path) -> dict[str, Any]:
    from mstar.demo.run import command, config
    from mstar.demo.verdicts import read_answers

    command(
        "predict", config("tiny/evolve.yaml"), f"--model.model_name={policy}", "--trainer.logger=false",
        *_QUIET, f"--trainer.default_root_dir={folder}",
    )  # fmt: skip
    return {name: round(sum(right.values()) / len(right), 4) for name, right in read_answers(folder).items()}


if __name__ == "__main__":
    sys.exit(main())
