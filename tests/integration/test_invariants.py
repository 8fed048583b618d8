"""Runs that must be one and the same, held to a number that is written down.

Other invariants have their own tests: a resumed run and one that was not (``test_resume.py``, ``test_kill.py``), one
process and several (``test_processes.py``, ``tests/test_distributed.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.prompts import TinyDice

# The loss of 16 other rationales after three steps of eight (6.260 before): the embedded model, seed 0, measured on
# 2026-11-22 (x86-64, torch 2.13.0). Whatever moves it by more than rounding changes what every run learns.
LOSS_AFTER_THREE_STEPS = 4.858532


def train(evolve: Any, name: str, batch_size: int, accumulate: int) -> Path:
    """Supervised training from the embedded model's first weights: three optimizer steps of eight examples."""
    settings = evolve.settings(name)
    del settings["rollout"]
    settings["seed_everything"] = 0
    settings["model"]["init_args"]["model_name"] = EMBEDDED_MODEL
    settings["data"]["init_args"]["train"]["init_args"] = {"split": "seed", "size": 24}
    settings["data"]["init_args"]["batch_size"] = batch_size
    settings["trainer"] |= {"max_epochs": 1, "accumulate_grad_batches": accumulate, "limit_val_batches": 0}
    assert main(["fit", "--config", str(evolve.write(settings, name))]) == 0
    return Path(evolve.folder / name / "policy")


class Right(TinyDice):
    """Without noise in its rationales."""

    seed_noise = 0.0


def held_out_loss(folder: Path) -> float:
    model: Any = load_model(str(folder))
    prompts = list(Right("seed", 40))[24:]
    batch = load_renderer(str(folder)).response_inputs(prompts, [prompt.rationale or "" for prompt in prompts])
    inputs = batch.inputs
    with torch.no_grad():
        loss = model(
            input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, labels=batch.labels_BT, **inputs.extras
        ).loss
    return float(loss)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (1, 8), (2, 4)])
def test_however_a_step_is_cut_the_policy_learns_the_same(evolve: Any, batch_size: int, accumulate: int) -> None:
    loss = held_out_loss(train(evolve, "run", batch_size, accumulate))
    assert loss == pytest.approx(LOSS_AFTER_THREE_STEPS, rel=1e-4)
