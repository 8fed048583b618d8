"""The embedded model: an ordinary, small, reproducible Hugging Face model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.tiny import build_tiny_model, build_tiny_processor
from mstar.prompts import TinyDice


def test_size_and_vocabulary(tiny: Any) -> None:
    parameters = sum(p.numel() for p in tiny.model.parameters())
    assert 500_000 < parameters < 1_000_000
    assert len(tiny.renderer.tokenizer) == tiny.model.config.text_config.vocab_size == 352
    # Word-level in practice: a rationale's line is a handful of tokens.
    tokens = tiny.renderer.tokenizer.tokenize("purple = 7\n7 + 9 = 16\nAnswer: yes")
    assert len(tokens) == 13
    # One picture is four tokens, between two marks and a tag.
    prompt = TinyDice("test", 1)[0]
    ids = tiny.renderer.prompt_inputs([prompt]).ids_BT[0].tolist()
    assert ids.count(tiny.model.config.image_token_id) == 4


def test_weights_follow_from_the_seed_alone() -> None:
    processor = build_tiny_processor()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_tiny_model(processor, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = build_tiny_model(processor, seed=3).state_dict(), build_tiny_model(processor, seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_processors_are_equal_and_separate() -> None:
    first, second = build_tiny_processor(), build_tiny_processor()
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    first.tokenizer.add_tokens(["<new>"])
    assert "<new>" not in second.tokenizer.get_vocab()
    assert "<new>" not in build_tiny_processor().tokenizer.get_vocab()


def test_a_saved_model_loads_as_it_was(tiny: Any, tmp_path: Path) -> None:
    save_model(tiny.model, tiny.renderer, tmp_path)
    model = load_model(str(tmp_path))
    renderer = load_renderer(str(tmp_path), model)
    saved = tiny.model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert renderer.end_ids == tiny.renderer.end_ids
    assert renderer.banned_ids == tiny.renderer.banned_ids
    prompts = list(TinyDice("seed", 3))
    texts = [prompt.rationale or "" for prompt in prompts]
    loaded, original = renderer.response_inputs(prompts, texts), tiny.renderer.response_inputs(prompts, texts)
    assert torch.equal(loaded.inputs.ids_BT, original.inputs.ids_BT)
    assert torch.equal(loaded.labels_BT, original.labels_BT)
    assert torch.equal(loaded.inputs.extras["pixel_values"], original.inputs.extras["pixel_values"])
    assert not [path.name for path in tmp_path.iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]
