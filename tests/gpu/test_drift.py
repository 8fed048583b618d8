"""A 16-bit engine after training: one with the present weights is told from one that has kept the old ones."""

from __future__ import annotations

import copy
from typing import Any

import torch

from mstar.generation.drift import trainer_logprobs
from mstar.prompts import TinyDice

DICE = list(TinyDice("seed", 64))


def train(policy: Any, model: Any, steps: int, device: str) -> None:
    """A few steps under autocast, weights in float32."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for step in range(steps):
        rows = [DICE[(8 * step + i) % len(DICE)] for i in range(8)]
        batch = policy.renderer.response_inputs(rows, [row.rationale or "" for row in rows])
        inputs = batch.inputs.to(device)
        with torch.autocast(device, torch.bfloat16):
            loss = model(
                input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, labels=batch.labels_BT.to(device),
                **inputs.extras,
            ).loss  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def test_rounding_alike_tells_a_stale_engine_from_a_present_one(trained: Any, device: str) -> None:
    model = copy.deepcopy(trained.model).to(device)
    stale = copy.deepcopy(model).to(torch.bfloat16)
    train(trained, model, 8, device)
    present = copy.deepcopy(model).to(torch.bfloat16)
    rows = DICE[:6]
    texts = [row.rationale or "" for row in rows]

    def logprobs(of: Any) -> torch.Tensor:
        found = trainer_logprobs(of, trained.renderer, rows, texts)
        return torch.tensor([value for row in found for value in row])

    with torch.autocast(device, torch.bfloat16):
        policy = logprobs(model)
    healthy, late = ((policy - logprobs(engine)).abs().mean().item() for engine in (present, stale))
    assert 0 < healthy < 0.05
    assert late > 3 * healthy
