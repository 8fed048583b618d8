"""Starting, ending and restarting real vLLM in the training process, with models of several kinds."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from mstar.generation import Request, Sample, TransformersEngine, VllmEngine
from mstar.generation.drift import DriftCheck, measure_drift
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training
from mstar.prompts import TinyDice
from mstar.types import Prompt

if TYPE_CHECKING:
    from tests.conftest import Policy
    from tests.vllm.conftest import Change, MakeEngine

pytestmark = pytest.mark.vllm

GREEDY = (Sample(index=0, temperature=0.0, seed=0),)
DICE = list(TinyDice("pool", 6))
PROMPTS = [*DICE, *(replace(prompt, id=f"text-{prompt.id}", images=()) for prompt in DICE[:2])]


def greedy(engine: VllmEngine | TransformersEngine, prompts: list[Prompt]) -> list[str]:
    return [row[0].text for row in engine.generate([Request(prompt, GREEDY) for prompt in prompts])]


def expected(model: Any, policy: Policy) -> list[str]:
    reference = TransformersEngine(24, progress=False)
    reference.start(model, policy.renderer)
    return greedy(reference, PROMPTS)


def test_pictures_in_parts_and_untied_embeddings(split_folder: Path, split: Policy, make_engine: MakeEngine) -> None:
    """Besides: another template, several end tokens, and rows behind the vocabulary, none of which is drawn."""
    from transformers import AutoConfig, Idefics3ForConditionalGeneration

    config = AutoConfig.from_pretrained(split_folder)
    # vLLM's attention on a CPU has no heads of 16.
    config.text_config.num_attention_heads, config.text_config.head_dim = 2, 32
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model: Any = Idefics3ForConditionalGeneration(config).eval()
        model.generation_config = split.model.generation_config
        # Without the ban a row behind the vocabulary would win nearly everywhere.
        model.lm_head.weight.data[len(split.renderer.tokenizer) :] *= 5
        models.append(model)
    engine = make_engine(max_model_len=512)
    engine.start(models[0], split.renderer)
    try:
        for model in models:
            engine.update_weights(model)
            assert greedy(engine, PROMPTS) == expected(model, split)
            drift = measure_drift(engine, model, split.renderer, DICE, [p.reference_responses[0] for p in DICE])
            assert drift is not None
            assert drift.mean < 1e-4
    finally:
        engine.close()


@pytest.mark.parametrize("adapters", ["merged", "apart"])
def test_adapters_reach_the_engine(adapters: str, trained: Policy, make_engine: MakeEngine) -> None:
    model: Any = copy.deepcopy(trained.model)
    prepare_training(model, [], lora=LoraSettings(rank=4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine = make_engine(adapters=adapters)
    engine.start(model, trained.renderer)
    check = DriftCheck(DICE)
    try:
        plain = greedy(engine, PROMPTS)
        assert plain == expected(model, trained)
        torch.manual_seed(0)
        for _ in range(2):
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_" in name:
                        parameter += 0.03 * torch.randn_like(parameter)
            check.prepare(engine)
            engine.update_weights(model)
            drift = check.measure(engine, model, trained.renderer)
            assert drift is not None
            assert drift.mean < 1e-4
            assert greedy(engine, PROMPTS) == expected(model, trained) != plain
        assert engine.session is not None
        # Of those that were handed over only the last ones are kept.
        assert len(list(Path(engine.session._folder.name).glob("adapter-*"))) == (adapters == "apart")
        assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items() if "lora_" not in n)
    finally:
        engine.close()


def test_another_policy_restarts_it(trained: Policy, change: Change, make_engine: MakeEngine) -> None:
    engine = make_engine()
    other = change(trained.model)
    try:
        engine.start(trained.model, trained.renderer)
        first = engine.session
        engine.start(trained.model, trained.renderer)
        assert engine.session is first
        engine.start(other, trained.renderer)
        assert engine.session is not first
        assert greedy(engine, PROMPTS) == expected(other, trained)
    finally:
        engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="before start"):
        engine.generate([])


def test_start_and_end_leave_the_process_as_it_was(trained: Policy, make_engine: MakeEngine) -> None:
    def seed() -> None:
        torch.manual_seed(4)
        random.seed(4)
        np.random.seed(4)

    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), random.random(), float(np.random.rand())

    seed()
    drawn = draw()
    seed()
    threads, setter = torch.get_num_threads(), torch.set_num_threads
    engine = make_engine()
    engine.start(trained.model, trained.renderer)
    engine.rest()  # nothing to free on a CPU
    assert len(greedy(engine, DICE)) == len(DICE)
    engine.close()
    assert draw() == drawn
    assert (torch.get_num_threads(), torch.set_num_threads) == (threads, setter)
    assert not torch.distributed.is_initialized()


def test_a_process_group_of_the_trainer_survives(trained: Policy, make_engine: MakeEngine, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        engine = make_engine()
        engine.start(trained.model, trained.renderer)
        assert greedy(engine, PROMPTS) == expected(trained.model, trained)
        engine.close()
        assert torch.distributed.is_initialized()
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def test_groups_must_fit_the_processes(trained: Policy, make_engine: MakeEngine) -> None:
    from mstar.errors import ConfigError

    with pytest.raises(ConfigError, match="tensor_parallel_size is 2, but 1 processes cannot be put into groups"):
        make_engine(tensor_parallel_size=2).start(trained.model, trained.renderer)
