"""What a run is computed on, in which order and by which numbers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator

import mstar.cli.lightning_cli
from mstar.__main__ import main
from mstar.cli.lightning_cli import MstarCLI, fix_order, runs_on_cuda
from mstar.logs import start_logging
from tests.cli.saved_config import saved


def test_on_a_gpu_running_sums_do_not_end_a_run_that_is_to_be_deterministic() -> None:
    """Tokens are drawn by them, and PyTorch has no other way there."""
    before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(True)
        fix_order(True, CUDAAccelerator())
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(("flags", "on"), [([], True), (["--trainer.deterministic", "false"], False)])
def test_on_a_cpu_gradients_are_added_up_in_a_fixed_order(evolve: Any, flags: list[str], on: bool) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(not on)
        evolve("--trainer.max_epochs", "1", *flags, dynamics=False)
        assert torch.are_deterministic_algorithms_enabled() is on
        # Filling new memory with NaN, too, would be most of the cost.
        assert not on or not torch.empty(4096).isnan().all()
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(
    ("accelerator", "there", "cuda"),
    [("auto", True, True), ("gpu", True, True), ("cuda", True, True), ("cpu", True, False), ("auto", False, False)],
)
def test_which_runs_are_on_cuda(accelerator: str, there: bool, cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: there)
    assert runs_on_cuda(accelerator) == cuda


def test_auto_is_the_cpu_where_there_is_an_apple_gpu(evolve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has no float64; the configuration still says auto, which is another device elsewhere."""
    found: list[tuple[type, str]] = []

    def fit(cli: Any, **_: Any) -> None:
        found.append((type(cli.trainer.accelerator), cli.config["fit"]["trainer"]["accelerator"]))

    monkeypatch.setattr(mstar.cli.lightning_cli.MstarCLI, "fit", fit)
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)
    monkeypatch.setattr("lightning.fabric.accelerators.mps.MPSAccelerator.is_available", lambda: True)
    assert main(["fit", "--config", str(evolve.write(evolve.settings())), "--trainer.accelerator", "auto"]) == 0
    assert found == [(CPUAccelerator, "auto")]


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_holds_for_lightning_too(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = [
        logging.getLogger(f"lightning.{name}") for name in ("pytorch.utilities.rank_zero", "fabric.utilities.seed")
    ]
    told: list[bool] = []
    monkeypatch.setattr(
        mstar.cli.lightning_cli.LightningCLI,
        "__init__",
        lambda *_, **__: told.extend(logger.isEnabledFor(logging.INFO) for logger in loggers),
    )
    start_logging(quiet=quiet)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.INFO)  # as their import does
    MstarCLI(["fit"])
    assert told == [not quiet] * 2


@pytest.mark.parametrize(
    ("given", "bfloat16", "precision"),
    [((), True, "bf16-mixed"), ((), False, "16-mixed"), (("--trainer.precision", "32-true"), True, "32-true")],
)
def test_on_cuda_16_bits_are_computed_unless_the_user_says_otherwise(
    evolve: Any, given: tuple[str, ...], bfloat16: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saved configuration says so too; on the machine of this test it then runs on a CPU."""
    monkeypatch.setattr(mstar.cli.lightning_cli, "runs_on_cuda", lambda _: True)
    monkeypatch.setattr(mstar.models.precision, "half_type", lambda: torch.bfloat16 if bfloat16 else torch.float16)
    root = evolve("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", *given, dynamics=False)
    assert saved(root)["trainer"]["precision"] == precision
    # Lightning takes bfloat16 for either on a CPU.
    computed = json.loads((root / "iterations/0001/plan.json").read_text())["policy_compute"]
    assert computed == ("float32" if given else "bfloat16 (autocast)")


@pytest.mark.parametrize("flags", [[], ["--trainer.default_root_dir"]])
def test_a_copied_runs_configuration_works_on_the_old_place_and_says_so(
    evolve: Any, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(
        "lightning.pytorch.Trainer.fit", lambda trainer, *_, **__: begun.append(trainer.default_root_dir)
    )
    copy, old = evolve.folder / "copy", evolve.folder / "run"
    (copy / "iterations").mkdir(parents=True)
    evolve.write(evolve.settings()).rename(copy / "config.yaml")
    given = ["--config", str(copy / "config.yaml"), *flags, *([str(copy)] if flags else [])]
    assert main(["fit", *given]) == 0
    assert begun == [str(copy if flags else old)]
    said = (
        f"by it this fit works in '{old}': to go on with the run beside the file, add --trainer.default_root_dir {copy}"
    )
    assert (said in capsys.readouterr().err) == (not flags)
