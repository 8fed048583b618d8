"""A run that is done says by which limit, and goes on where that one is raised."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstar.__main__ import main

EARLY = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=train/loss",
    "--trainer.callbacks.stopping_threshold=1000", "--trainer.callbacks.check_on_train_epoch_end=true",
]  # fmt: skip


@pytest.fixture
def fit(evolve: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Supervised training of two epochs of four steps, and what it says on the terminal."""
    settings = evolve.settings()
    del settings["rollout"], settings["data"]["init_args"]["validation"]
    settings["data"]["init_args"]["train"]["init_args"] = {"split": "seed", "size": 16}
    config = str(evolve.write(settings))

    def run(*flags: str) -> tuple[int, str]:
        capsys.readouterr()
        assert main(["fit", "--config", config, *flags]) == 0
        path = evolve.folder / "run/checkpoints/last.ckpt"
        steps = torch.load(path, weights_only=True)["global_step"] if path.exists() else 0
        return steps, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("limit", "steps", "advice"),
    [
        (["--trainer.max_steps", "6"], 6, "raise trainer.max_steps"),
        (["--trainer.max_time", "00:00:00:00"], 0, "raise trainer.max_time"),
        (EARLY, 4, "change what ended it (EarlyStopping)"),
        ([], 8, "raise trainer.max_epochs"),
    ],
)
def test_the_limit_is_named_and_can_be_raised(fit: Any, limit: list[str], steps: int, advice: str) -> None:
    assert fit(*limit)[0] == steps
    assert f"is finished, so there is nothing to do: {advice} to go on" in fit(*limit)[1]
    more = ["--trainer.max_epochs", "3"] if not limit else []
    reached, said = fit(*more)
    assert reached == (12 if not limit else 8)
    assert "finished" not in said


def test_an_epoch_that_was_cut_short_is_not_done(fit: Any) -> None:
    assert fit("--trainer.max_steps", "6")[0] == 6
    assert fit("--trainer.max_steps", "8", "--trainer.max_epochs", "1")[0] == 6
    assert "raise trainer.max_epochs" in fit("--trainer.max_epochs", "1")[1]
    assert fit()[0] == 8
