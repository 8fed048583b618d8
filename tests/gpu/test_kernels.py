"""What only a GPU runs: flash-attention, Liger, 4-bit weights, paged optimizers; each skipped without its package."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError
from mstar.models.attention import choose_attention
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.families import language_head
from mstar.models.lora import LoraSettings
from mstar.models.token_loss import mean_token_loss
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

DEVICE = "cuda"


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> str:
    """The embedded model as a folder."""
    save_model(tiny.model, tiny.renderer, tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flash_attention_4"])
def test_flash_attention_equals_sdpa_on_padded_rows_and_behind_a_prefix(kernel: str, folder: str, checks: Any) -> None:
    try:
        choose_attention(kernel, torch.bfloat16)
    except ConfigError as error:
        pytest.skip(str(error))
    renderer = load_renderer(folder)
    inputs = renderer.prompt_inputs(checks.PROMPTS).to(DEVICE)
    ids, mask = (value.to(DEVICE) for value in checks.right_padded([[5, 6, 7], [5], [8, 9, 5, 6], [7, 7]]))
    results = []
    for attention in (kernel, "sdpa"):
        model = load_model(folder, dtype="bfloat16", attention=attention).to(DEVICE).eval()  # type: ignore[arg-type]
        with torch.inference_mode():
            prefix = checks.encode_prefix(model, inputs).select(torch.tensor(checks.OWNERS, device=DEVICE))
            hidden, _ = checks.extend(model, prefix, ids, mask)
            results.append(checks.logits_of(model, hidden)[mask.bool()])
    torch.testing.assert_close(results[0], results[1], atol=0.1, rtol=0)
    assert results[0].std() > 0.5


def test_liger_gives_the_same_loss_and_gradients(split: Any) -> None:
    pytest.importorskip("liger_kernel")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(200, 64, generator=generator).to(DEVICE)
    target = torch.randint(0, 300, (200,), generator=generator).to(DEVICE)
    results = []
    for kernel in ("liger", "torch"):
        model = copy.deepcopy(split.model).to(DEVICE)
        leaf = hidden.clone().requires_grad_()
        loss = mean_token_loss(model, leaf, target, kernel)  # type: ignore[arg-type]
        loss.backward()
        results.append((loss.detach(), leaf.grad, language_head(model).weight.grad))
    for value, other in zip(*results, strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("quantization", "precision"), [("none", "bf16-mixed"), ("nf4", "bf16-mixed")])
def test_a_fit_with_adapters_and_a_paged_optimizer(
    quantization: Any, precision: Any, folder: str, tmp_path: Path
) -> None:
    optim = pytest.importorskip("bitsandbytes").optim
    module = PolicyModule(
        folder,
        lr=1e-2,
        optimizer=optim.PagedAdamW8bit,
        dtype="bfloat16",
        lora=LoraSettings(rank=8, quantization=quantization),
        gradient_checkpointing=True,
        max_new_tokens=8,
    )
    trainer = Trainer(
        accelerator="gpu", devices=1, precision=precision, max_steps=10, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    data = PolicyDataModule(TinyDice("seed", 64), test=TinyDice("test", 4), batch_size=8)
    trainer.fit(module, datamodule=data)
    assert float(trainer.callback_metrics["train/loss"]) < 5.5
    trainer.test(module, datamodule=data, verbose=False)
    module.export(tmp_path / "exported")
    exported = PolicyModule(str(tmp_path / "exported"), dtype="bfloat16")
    exported.configure_model()
    rows = [data.train[i] for i in range(8)]
    batch = exported.renderer.response_inputs(rows, [row.rationale or "" for row in rows])
    with torch.no_grad():
        wanted = exported.loss(batch).item()
        batch.inputs = batch.inputs.to(DEVICE)
        batch.labels_BT = batch.labels_BT.to(DEVICE)
        assert module.to(DEVICE).eval().loss(batch).item() == pytest.approx(wanted, abs=0.1)
    assert math.isfinite(wanted)
