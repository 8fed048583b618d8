"""Engine, policy and step scorer of the embedded model on a device: they give what the CPU gives."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from mstar.datamodules import PolicyDataModule
from mstar.generation import Request, Sample, TransformersEngine, plan_samples
from mstar.models.prefix import encode_prefix, extend, logits_of
from mstar.models.step_scorer import StepScorer
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.rewards import MPRM

PROMPTS = list(TinyDice("validation", 8))
TEXTS = [["red = 4\nblue = 5\nAnswer: 9", "no"], ["a longer line = 12\nAnswer: 1"]]


@pytest.fixture
def policy(name: str, request: pytest.FixtureRequest) -> Any:
    """The policy called ``name``; made here, outside the inference mode of the tests."""
    return request.getfixturevalue(name)


def moved(policy: Any, device: str, dtype: torch.dtype = torch.float32) -> Any:
    return copy.deepcopy(policy.model).to(device, dtype)


@pytest.mark.parametrize("name", ["trained", "split", "llava"])
@torch.inference_mode()
def test_the_shared_prefill_equals_the_cpu(policy: Any, device: str) -> None:
    tokens = torch.tensor([policy.renderer.tokenizer("red = 4\n")["input_ids"]]).expand(4, -1)
    rows = torch.tensor([2, 0, 1, 0])

    def logits(model: Any, device: str) -> torch.Tensor:
        prefix = encode_prefix(model, policy.renderer.prompt_inputs(PROMPTS[:3]).to(device)).select(rows.to(device))
        hidden, _ = extend(model, prefix, tokens.to(device), torch.ones_like(tokens).to(device))
        return logits_of(model, hidden).cpu()

    torch.testing.assert_close(logits(moved(policy, device), device), logits(policy.model, "cpu"), atol=2e-3, rtol=0)


def test_greedy_answers_equal_those_of_the_cpu(trained: Any, device: str) -> None:
    requests = [Request(prompt, (Sample(0, 0.0, 0),)) for prompt in PROMPTS]
    engine = TransformersEngine(24, progress=False)
    engine.start(trained.model, trained.renderer)
    expected = [row[0].text for row in engine.generate(requests)]
    engine.update_weights(moved(trained, device))
    assert [row[0].text for row in engine.generate(requests)] == expected


def test_samples_do_not_depend_on_the_batch(trained: Any, device: str) -> None:
    requests = [Request(prompt, plan_samples(0, "gpu", prompt.id, 6, 1.0)) for prompt in PROMPTS]
    rows = []
    for batch_size in (6, 48):
        engine = TransformersEngine(24, batch_size, progress=False)
        engine.start(moved(trained, device), trained.renderer)
        rows.append([response.text for row in engine.generate(requests) for response in row])
    assert rows[0] == rows[1]


def test_the_engine_in_bfloat16(tiny: Any, device: str) -> None:
    engine = TransformersEngine(24, progress=False)
    engine.start(moved(tiny, device, torch.bfloat16), tiny.renderer)
    drawn = engine.generate([Request(prompt, plan_samples(0, "gpu", prompt.id, 8, 1.6)) for prompt in PROMPTS])
    batch = tiny.renderer.response_inputs(
        [p for p in PROMPTS for _ in range(8)], [r.text for row in drawn for r in row]
    )
    image = tiny.renderer.tokenizer.convert_tokens_to_ids("<image>")
    assert set((batch.inputs.ids_BT == image).sum(1).tolist()) == {4}
    assert all(math.isfinite(response.logprob) for row in drawn for response in row)


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "bf16-true"), ("float32", "bf16-mixed")])
def test_a_fit_lowers_the_loss(tmp_path: Path, tiny: Any, dtype: str, precision: Any, place: Any) -> None:
    module = PolicyModule("mstar/tiny-idefics3", lr=2e-3, dtype=dtype, engine=TransformersEngine(24, progress=False))
    source = TinyDice("seed", 64)
    rows = [source[i] for i in range(16)]
    batch = tiny.renderer.response_inputs(rows, [row.rationale or "" for row in rows])
    with torch.no_grad():
        module.configure_model()
        before = module.loss(batch).item()
    trainer = Trainer(
        accelerator=place.accelerator,
        devices=1,
        precision=precision,
        max_steps=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    data = PolicyDataModule(source, test=TinyDice("test", 6), batch_size=8)
    trainer.fit(module, datamodule=data)
    with torch.no_grad():
        assert module.cpu().loss(batch).item() < before - 1
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert 0 <= tested["test/accuracy"] <= 1


def test_step_scores_equal_those_of_the_cpu(tiny: Any, device: str) -> None:
    scorer = StepScorer(copy.deepcopy(tiny.model), head_size=8).eval()
    torch.nn.init.normal_(scorer.head.output.weight, generator=torch.Generator().manual_seed(0))
    groups = list(zip(PROMPTS[:2], TEXTS, strict=True))
    expected = MPRM.holding(scorer, tiny.renderer).score_texts(groups)
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        there = copy.deepcopy(scorer).to(device)
        there.backbone.to(dtype)
        scored = MPRM.holding(there, tiny.renderer).score_texts(groups)
        for got, wanted in zip(scored, expected, strict=True):
            assert [len(row) for row in got] == [len(row) for row in wanted]
            for a, b in zip(got, wanted, strict=True):
                assert a == pytest.approx(b, abs=tolerance)
