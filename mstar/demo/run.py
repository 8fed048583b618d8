"""The demo's stages, in order; each is a command that also runs alone (see the printed lines)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mstar.cli.commands import run
from mstar.cli.lightning_cli import MstarCLI
from mstar.cli.shipped_configs import SHIPPED, find_config, locate_configs
from mstar.dashboards.report import write_report
from mstar.demo.stages import StageBook
from mstar.storage import RunDirectory, read_json, write_json

NOTES: Final = (
    "The gap between the selection rules is built into the data: most seed rationales of the coarse questions misread "
    "the dice yet end in the right answer. It stands for rationales kept because their answer was right, and is not a "
    "finding about real data.",
    "Accuracy ends above chain correctness: step labels come from final answers, so an MPRM trained on them cannot see "
    "a wrong reading that does not change the answer.",
    "The policy's own likelihood, without any MPRM, gets most of the way too; configs/README.md in the repository has "
    "the comparison over three seeds.",
)


def config(name: str) -> str:
    """The option of a shipped configuration, by its name unless the user has a file of that name."""
    known = f"configs/{name}"
    return f"--config={known if find_config(known).samefile(SHIPPED / name) else SHIPPED / name}"


def command(*arguments: str) -> None:
    """Runs one ``mstar`` command in this process, after printing it."""
    _show(arguments)
    run(list(arguments))


def test_policy(*arguments: str) -> dict[str, float]:
    """Runs ``mstar test`` and returns what it measured: ``accuracy`` and ``chain_accuracy``."""
    _show(("test", *arguments))
    metrics = MstarCLI(locate_configs(["test", *arguments, "--trainer.logger=false"])).trainer.callback_metrics
    return {name.removeprefix("test/"): round(float(value), 4) for name, value in metrics.items()}


def _show(arguments: Sequence[str]) -> None:
    sys.stdout.write(f"$ python -m mstar {shlex.join(arguments)}\n")
    sys.stdout.flush()


def make_start(
    seed: int, output: Path, overrides: Mapping[str, Sequence[str]] | None = None
) -> tuple[StageBook, Path, Path]:
    """Runs the stages before self-evolving training, as far as they are not done: warm-up, annotation, MPRM.

    It returns the book of the stages, the warm-up policy's folder, and the MPRM's.
    """
    extra = overrides or {}
    output.mkdir(parents=True, exist_ok=True)
    book = StageBook(output, seed)
    warmup, labels, mprm = (output / name for name in ("warmup", "annotate", "mprm"))
    policy = warmup / "policy"
    book.run("warmup", lambda: command(
        "fit", config("tiny/warmup.yaml"), f"--seed_everything={seed}", f"--trainer.default_root_dir={warmup}",
        *extra.get("warmup", ()),
    ))  # fmt: skip
    book.run("annotate", lambda: command(
        "annotate", config("tiny/annotate.yaml"), f"--policy={policy}", f"--output={labels}",
        f"--settings.seed={seed}", *extra.get("annotate", ()),
    ))  # fmt: skip
    book.run("mprm", lambda: command(
        "fit", config("tiny/mprm.yaml"), f"--seed_everything={seed}", f"--model.model_name={policy}",
        f"--model.seed={seed}", f"--data.labels={labels}", f"--trainer.default_root_dir={mprm}",
        *extra.get("mprm", ()),
    ))  # fmt: skip
    return book, policy, mprm / "mprm"


def run_demo(seed: int, output: Path, overrides: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Runs every stage that is not done yet, and writes ``summary.json``, which it returns, and ``report.html``.

    ``overrides`` are further arguments of a stage's commands, by the stage's name, e.g. to make it smaller.
    """
    extra = overrides or {}
    book, policy, reward_model = make_start(seed, output, extra)
    evolve, seed_sft = output / "evolve", output / "seed_sft"
    common = [f"--seed_everything={seed}"]

    def run_evolve() -> dict[str, Any]:
        command(
            "fit", config("tiny/evolve.yaml"), *common, f"--model.model_name={policy}",
            f"--rollout.reward_model={reward_model}", f"--trainer.default_root_dir={evolve}",
            *extra.get("evolve", ()),
        )  # fmt: skip
        return {"steps": count_steps(evolve)}

    def run_test() -> dict[str, Any]:
        test = [
            config("tiny/evolve.yaml"),
            f"--trainer.default_root_dir={output / 'test'}",
            *extra.get("test", ()),
        ]
        start = f"--model.model_name={policy}"
        checkpoints = sorted((evolve / "checkpoints").glob("iteration-*.ckpt"))
        return {
            "warmup": test_policy(*test, start),
            "iterations": [test_policy(*test, start, f"--ckpt_path={path}") for path in checkpoints],
            "seed_sft": test_policy(*test, f"--model.model_name={seed_sft / 'policy'}"),
        }

    steps = book.run("evolve", run_evolve)["steps"]
    book.run("seed_sft", lambda: command(
        "fit", config("ablations/seed_sft.yaml"), *common, f"--model.model_name={policy}",
        f"--trainer.max_steps={steps}", f"--trainer.default_root_dir={seed_sft}", *extra.get("seed_sft", ()),
    ))  # fmt: skip
    tested = book.run("test", run_test)
    summary = _summarise(seed, output, tested, book)
    write_json(output / "summary.json", summary)
    book.run("report", lambda: {"page": str(write_report(output))})
    _print_table(summary, output)
    return summary


def count_steps(root: Path) -> int:
    """How many optimizer steps a fit took."""
    import torch

    checkpoint = torch.load(root / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    return int(checkpoint["global_step"])


def _summarise(seed: int, output: Path, tested: dict[str, Any], book: StageBook) -> dict[str, Any]:
    before = read_json(RunDirectory(output / "evolve").report(0))
    last = tested["iterations"][-1]
    return {
        "seed": seed,
        "warmup_accuracy": tested["warmup"]["accuracy"],
        "warmup_chain_accuracy": tested["warmup"]["chain_accuracy"],
        "iteration_accuracies": [row["accuracy"] for row in tested["iterations"]],
        "iteration_chain_accuracies": [row["chain_accuracy"] for row in tested["iterations"]],
        "final_accuracy": last["accuracy"],
        "final_chain_accuracy": last["chain_accuracy"],
        "seed_sft_accuracy": tested["seed_sft"]["accuracy"],
        "seed_sft_chain_accuracy": tested["seed_sft"]["chain_accuracy"],
        "mprm_within_prompt_auc": before["mprm"]["auc_within"],
        # The report is written from this summary, so its own seconds cannot be in it.
        "stage_seconds": {name: seconds for name, seconds in book.seconds.items() if name != "report"},
        "policy": "evolve/policy",
        "mprm": "mprm/mprm",
        "notes": list(NOTES),
    }


def _print_table(summary: dict[str, Any], output: Path) -> None:
    rows = [("warm-up", summary["warmup_accuracy"], summary["warmup_chain_accuracy"])]
    pairs = zip(summary["iteration_accuracies"], summary["iteration_chain_accuracies"], strict=True)
    rows += [(f"iteration {number}", *pair) for number, pair in enumerate(pairs, start=1)]
    rows.append(("seed-only SFT, as many steps", summary["seed_sft_accuracy"], summary["seed_sft_chain_accuracy"]))
    lines = [f"{'1,000 test questions, greedy':30}{'accuracy':>10}{'whole chain':>13}"]
    lines += [f"{name:30}{accuracy:>10.1%}{chain:>13.1%}" for name, accuracy, chain in rows]
    gain = summary["final_accuracy"] - summary["warmup_accuracy"]
    lines.append(f"self-evolving training: {100 * gain:+.1f} points over warm-up")
    ranking = summary["mprm_within_prompt_auc"]
    lines.append(f"first MPRM, AUC within prompts: {'not measurable' if ranking is None else format(ranking, '.3f')}")
    lines.append(f"seconds: {sum(summary['stage_seconds'].values()):.0f}")
    lines += ["", "What this shows, and what it does not:", *(f"- {note}" for note in NOTES), ""]
    lines.append(f"report:      {output / 'report.html'}")
    lines.append(f"dashboards:  tensorboard --logdir {output}    then http://localhost:6006/#custom_scalars")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
