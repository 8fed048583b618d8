"""Packed batches with flash-attention on a GPU: the loss and the gradients of padded ones, in 16 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.export import save_model
from mstar.modules.policy import PolicyModule
from mstar.prompts import TinyDice

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


def test_packed_loss_and_gradients_equal_padded_ones(tmp_path: Path) -> None:
    pytest.importorskip("flash_attn")
    embedded = load_model(EMBEDDED_MODEL)
    save_model(embedded, load_renderer(EMBEDDED_MODEL, embedded), tmp_path)
    model = load_model(str(tmp_path), dtype="bfloat16", attention="flash_attention_2").cuda()
    renderer = load_renderer(str(tmp_path), model)
    prompts = list(TinyDice("seed", 16))
    batch = renderer.response_inputs(prompts, [prompt.rationale or "" for prompt in prompts])
    batch.inputs, batch.labels_BT = batch.inputs.to("cuda"), batch.labels_BT.cuda()
    found = []
    for packing in (False, True):
        module = PolicyModule("unused", packing=packing)
        module.model = model
        model.zero_grad()
        loss = module.loss(batch)
        loss.backward()
        gradient = torch.cat([value.grad.float().flatten() for value in model.parameters() if value.grad is not None])
        found.append((loss.item(), gradient))
    (padded, one), (packed, other) = found
    assert packed == pytest.approx(padded, rel=1e-2)
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.999
