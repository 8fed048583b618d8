"""The whole demo on this device, beside what it reached on a CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from benchmarks.gpu_report.bench import Bench, LeftOut

# What the command line and the dashboards need beyond what training does.
PACKAGES: Final = ("jsonargparse", "docstring_parser", "typeshed_client", "tensorboard", "pyarrow")
# Seed 0 on two CPU cores, as configs/README.md has it: after the last iteration, in per cent.
CPU: Final = {"accuracy": 98.8, "whole chain": 96.3, "within-prompt AUC of the MPRM": 0.951, "s in all": 492.0}
FITS: Final = ("warmup", "mprm", "evolve", "seed_sft", "test")
SMALL: Final = {
    "warmup": ["--trainer.max_steps=40", "--data.train.size=480"],
    "annotate": ["--prompts.size=32", "--settings.unmixed_share=1", "--settings.num_samples=4"],
    "mprm": ["--data.prompts.size=32", "--trainer.max_epochs=1"],
    "evolve": [
        "--data.train.size=64", "--data.validation.size=8", "--rollout.num_samples=4", "--trainer.max_epochs=1",
        "--rollout.refresh_reward_model=null",
    ],
    "seed_sft": ["--data.train.size=480"],
    "test": ["--data.test.size=16"],
}  # fmt: skip


def run(bench: Bench) -> None:
    """Runs every stage, with the settings that are shipped but for the device."""
    with bench.row("demo, seed 0"):
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            raise LeftOut(f"{', '.join(missing)}: not installed, and the command line needs it.")
        from mstar.demo.run import run_demo

        device = {stage: ["--trainer.enable_progress_bar=false"] for stage in FITS}
        if bench.device == "cuda":
            device = {
                stage: [*flags, "--trainer.accelerator=gpu", "--trainer.devices=1"] for stage, flags in device.items()
            }
        device["annotate"] = [f"--device={bench.device}"]
        overrides = {stage: [*flags, *(SMALL.get(stage, []) if bench.small else [])] for stage, flags in device.items()}
        with bench.measured() as found:
            summary = run_demo(0, bench.scratch / "demo", overrides)
        bench.note(
            "demo, seed 0",
            {
                "accuracy": 100 * summary["final_accuracy"],
                "whole chain": 100 * summary["final_chain_accuracy"],
                "within-prompt AUC of the MPRM": summary["mprm_within_prompt_auc"],
                "s in all": found.seconds,
            },
        )
        bench.note("the same on two CPU cores (configs/README.md)", CPU)
        bench.note("seconds of its stages", {f"{name}, s": value for name, value in summary["stage_seconds"].items()})
