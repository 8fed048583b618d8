"""Qwen2.5-VL, InternVL and SmolVLM on a device: what the engine, the scorer and a fit compute is what the models do.

Tiny models with the families' own processors, without the part for videos that needs torchvision.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from benchmarks.gpu_report.models import FAMILIES, Policy, build_policy, small_config
from benchmarks.gpu_report.prompts import Rows, make_prompts, make_steps
from benchmarks.gpu_report.training import GivenPolicy
from mstar.datamodules import PolicyDataModule
from mstar.generation import Request, Sample, TransformersEngine, plan_samples
from mstar.generation.drift import trainer_logprobs
from mstar.models.lora import LoraSettings
from mstar.models.step_scorer import StepScorer
from mstar.rewards import MPRM

NUM = 4


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    """A tiny model on the CPU, which must not be changed."""
    return build_policy(small_config(request.param), torch.float32, "cpu", seed=3)


def moved(policy: Policy, device: str) -> Any:
    return copy.deepcopy(policy.model).to(device)


def test_greedy_responses_are_those_of_the_models_own_generate(policy: Policy, device: str, checks: Any) -> None:
    prompts = make_prompts(NUM, policy)
    engine = TransformersEngine(12, progress=False)
    engine.start(moved(policy, device), policy.renderer)
    drawn = engine.generate([Request(prompt, (Sample(0, 0.0, 0),)) for prompt in prompts])
    for prompt, (response,) in zip(prompts, drawn, strict=True):
        tokens = checks.plain_generate(policy.model, policy.renderer, prompt, 12)
        assert response.text == policy.renderer.decode(tokens[: len(tokens) - response.finished])
    assert len({response.text for (response,) in drawn}) > 1


def test_logprobs_of_samples_are_those_of_plain_forward_passes(policy: Policy, device: str) -> None:
    prompts = make_prompts(NUM, policy)
    engine = TransformersEngine(12, progress=False)
    engine.start(moved(policy, device), policy.renderer)
    drawn = engine.generate([Request(prompt, plan_samples(0, "gpu", prompt.id, 4, 1.0)) for prompt in prompts])
    ended = [(prompt, r) for prompt, row in zip(prompts, drawn, strict=True) for r in row]
    rows = trainer_logprobs(policy.model, policy.renderer, [p for p, _ in ended], [r.text for _, r in ended])
    vocabulary = policy.renderer.tokenizer.get_vocab()
    compared = 0
    for (_, response), row in zip(ended, rows, strict=True):
        words = response.text.split(" ")[1:]
        # A text of whole words is read in the tokens that it was written in.
        if len(words) == response.num_tokens - response.finished and all(f"Ġ{word}" in vocabulary for word in words):
            assert response.logprob == pytest.approx(sum(row[: response.num_tokens]), abs=5e-3)
            compared += 1
    assert compared >= NUM


def test_step_scores_are_those_of_each_response_alone(policy: Policy, device: str) -> None:
    prompts = make_prompts(2, policy)
    texts = [[make_steps(10 * i + k, 3, 12 + 6 * k) for k in range(3)] for i in range(2)]
    scorer = StepScorer(copy.deepcopy(policy.model), head_size=8).eval()
    torch.nn.init.normal_(scorer.head.output.weight, generator=torch.Generator().manual_seed(0))
    pairs = [(prompt, text) for prompt, row in zip(prompts, texts, strict=True) for text in row]
    with torch.inference_mode():
        alone = scorer(policy.renderer.response_inputs([p for p, _ in pairs], [t for _, t in pairs])).logits_N.sigmoid()
    there = MPRM.holding(scorer.to(device), policy.renderer)
    scored = there.score_texts(list(zip(prompts, texts, strict=True)))
    flat = torch.tensor([value for rows in scored for row in rows for value in row])
    assert flat.std() > 1e-3
    torch.testing.assert_close(flat, alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
def test_a_fit_begins_with_the_models_own_loss_and_lowers_it(
    policy: Policy, device: str, place: Any, lora: LoraSettings | None, tmp_path: Path
) -> None:
    rows = Rows(4, policy, 8)
    batch = policy.renderer.response_inputs(list(rows), [row.rationale or "" for row in rows])
    with torch.no_grad():
        wanted = policy.model(
            input_ids=batch.inputs.ids_BT, attention_mask=batch.inputs.mask_BT, labels=batch.labels_BT,
            **batch.inputs.extras,
        ).loss.item()  # fmt: skip
    module = GivenPolicy(Policy(moved(policy, device), policy.renderer), lora=lora, lr=2e-3)
    with torch.no_grad():
        on_device = copy.copy(batch)
        on_device.inputs, on_device.labels_BT = batch.inputs.to(device), batch.labels_BT.to(device)
        module.configure_model()
        assert module.loss(on_device).item() == pytest.approx(wanted, abs=2e-3)
    trainer = Trainer(
        accelerator=place.accelerator, devices=1, max_steps=6, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=PolicyDataModule(rows, batch_size=4))
    assert float(trainer.callback_metrics["train/loss"]) < wanted - 0.05
