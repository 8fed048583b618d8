"""One arm of the comparison on one seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

# Arms that are not on top of tiny/evolve.yaml: the warm-up policy, where all others start; the whole demo; and the
# baseline in it.
START: Final = "warm-up"
DEMO: Final = "demo"
SEED_SFT: Final = "seed_sft"
# The stages of the demo in which they are trained.
_TRAINED: Final = {START: ("warmup", "annotate", "mprm"), DEMO: ("evolve",), SEED_SFT: ("seed_sft",)}
# What an arm reached, in its folder. It is written last: an arm without it goes on.
RESULT: Final = "result.json"
# Nobody watches the bars of runs side by side.
_QUIET: Final = (
    "--trainer.callbacks=null",
    "--trainer.enable_progress_bar=false",
)


def run_arm(arm: str, seed: int, root: Path) -> None:
    """Runs an arm on one seed, unless that is done, and writes its result and its answers to the test questions.

    With the demo comes its baseline: both are one process's.
    """
    for name in (DEMO, SEED_SFT) if arm == DEMO else (arm,):
        folder = root / f"seed-{seed}" / name
        if not (folder / RESULT).exists():
            _run(name, seed, folder)


def _run(arm: str, seed: int, folder: Path) -> None:
    from mstar.demo.run import make_start, run_demo
    from mstar.demo.stages import StageBook
    from mstar.demo.verdicts import read_answers
    from mstar.storage import write_json

    demo = folder.parent / DEMO
    made, policy, mprm = make_start(seed, demo)
    book = StageBook(folder, seed)
    if arm in (DEMO, SEED_SFT):
        run_demo(seed, demo)
        policy = demo / ("evolve" if arm == DEMO else arm) / "policy"
    elif arm != START:
        book.run("fit", lambda: _fit(arm, seed, folder, policy, mprm))
        policy = folder / "policy"
    book.run("predict", lambda: _predict(policy, folder))
    trained = [made.stages[name] for name in _TRAINED[arm]] if arm in _TRAINED else [book.stages["fit"]]
    spent = [*trained, book.stages["predict"]]
    result: dict[str, Any] = {
        name: round(sum(right.values()) / len(right), 4) for name, right in read_answers(folder).items()
    }
    for name in ("seconds", "cpu_seconds"):
        result[name] = round(sum(stage[name] for stage in spent), 1)
    write_json(folder / RESULT, result)


def _fit(arm: str, seed: int, folder: Path, policy: Path, mprm: Path) -> None:
    from mstar.demo.run import command, config

    command(
        # An arm without an MPRM takes it back.
        "fit", config("tiny/evolve.yaml"), f"--rollout.reward_model={mprm}", config(f"ablations/{arm}.yaml"),
        f"--seed_everything={seed}", f"--model.model_name={policy}", "--rollout.dynamics=false",
        # All start from the same policy: what one of them has drawn in its first iteration the others read.
        f"--rollout.reuse={folder.parent}",
        *_QUIET, f"--trainer.default_root_dir={folder}",
    )  # fmt: skip


def _predict(policy: Path, folder: Path) -> None:
    from mstar.demo.run import command, config

    command(
        "predict", config("tiny/evolve.yaml"), f"--model.model_name={policy}", "--trainer.logger=false",
        *_QUIET, f"--trainer.default_root_dir={folder}",
    )  # fmt: skip
