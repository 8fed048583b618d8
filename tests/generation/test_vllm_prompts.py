"""Prompts as vLLM is given them, and their samples."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from mstar.generation import Request, Sample, plan_samples
from mstar.generation.vllm_prompts import SampleSeeds, equal_temperatures, find_fault, prompt_tokens, shows_images
from mstar.prompts import TinyDice
from mstar.types import Prompt

if TYPE_CHECKING:
    from tests.conftest import Policy


def test_vllm_adds_a_number_and_gets_the_planned_seed() -> None:
    samples = plan_samples(0, "rollout/1", "a", 4, 1.0)
    seeds = SampleSeeds(samples)
    assert [seeds + i for i in range(4)] == [sample.seed for sample in samples]
    copied = copy.deepcopy(seeds)
    assert copied + 3 == samples[3].seed
    assert copied == samples[0].seed


def test_samples_are_drawn_together_where_their_temperatures_are_equal() -> None:
    samples = (Sample(0, 1.0, 7), Sample(1, 0.0, 0), Sample(2, 1.0, 9))
    groups = list(equal_temperatures(Request(Prompt("a", "?"), samples)))
    assert groups == [(0.0, [(1, samples[1])]), (1.0, [(0, samples[0]), (2, samples[2])])]


def test_a_prompt_has_one_placeholder_a_picture(tiny: Policy) -> None:
    [prompt] = TinyDice("pool", 1)
    image = tiny.renderer.tokenizer.convert_tokens_to_ids("<image>")
    ids = prompt_tokens(tiny.renderer, prompt, "red = 1\n")
    assert ids.count(image) == 1
    assert tiny.renderer.tokenizer.decode(ids) == f"<image>{prompt.question}\nred = 1\n"
    # With as many as the picture needs it is what the Transformers engine reads.
    expanded = tiny.renderer.prompt_inputs([prompt], prefixes=["red = 1\n"]).ids_BT[0].tolist()
    assert [i for i in expanded if i not in (3, 4, image)] == [i for i in ids if i != image]


def test_faults_of_prompts(tiny: Policy) -> None:
    [prompt] = TinyDice("pool", 1)
    assert find_fault(prompt, [5] * 9, max_images=1, max_len=10) is None
    assert "10 tokens, and max_model_len is 10" in str(find_fault(prompt, [5] * 10, max_images=1, max_len=10))
    two = replace(prompt, images=prompt.images * 2)
    assert "2 pictures, and --limit-mm-per-prompt is 1" in str(find_fault(two, [5], max_images=1, max_len=10))
    assert "2 pictures, and the chat template has no place" in str(find_fault(two, [5], max_images=0, max_len=10))
    assert shows_images(tiny.renderer)
    blind = copy.copy(tiny.renderer)
    blind.processor = SimpleNamespace(apply_chat_template=lambda messages, **_: messages[0]["content"][-1]["text"])
    assert not shows_images(blind)
