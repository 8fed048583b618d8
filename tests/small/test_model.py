"""The small model is an ordinary folder, and its eyes can be taught without the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.models.backbone import load_model, load_renderer
from mstar.prompts import Charts
from mstar.prompts.charts import Chart, ChartImage
from mstar.small.align import AlignSettings, align, read_share, words_of
from mstar.small.model import IMAGE_TOKENS, build_model, build_processor
from tests.small.language import tiny_language_model


@pytest.fixture(scope="module")
def built() -> tuple[Any, Any, Any]:
    language, tokenizer = tiny_language_model()
    processor = build_processor(tokenizer)
    return language, processor, build_model(language, processor, seed=1)


def test_without_a_picture_it_is_the_language_model(built: tuple[Any, Any, Any]) -> None:
    language, processor, model = built
    ids = torch.tensor([processor.tokenizer("What is the total of the red bar?").input_ids])
    with torch.inference_mode():
        wanted, found = language(input_ids=ids).logits, model(input_ids=ids).logits
    torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted)
    assert found.shape[-1] == len(processor.tokenizer) == wanted.shape[-1] + 4


def test_new_weights_follow_from_the_seed(built: tuple[Any, Any, Any]) -> None:
    language, processor, model = built
    again, other = (build_model(language, processor, seed).state_dict() for seed in (1, 2))
    name = "model.connector.modality_projection.proj.weight"
    assert torch.equal(model.state_dict()[name], again[name])
    assert not torch.equal(model.state_dict()[name], other[name])


def test_it_loads_like_any_other_and_responses_are_the_rationales(built: tuple[Any, Any, Any], tmp_path: Path) -> None:
    _, processor, model = built
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    renderer = load_renderer(str(tmp_path), loaded)
    prompt = Charts("seed", 4)[2]
    text = renderer.render_prompt(prompt)
    assert text == f"<|im_start|>user\n<image>{prompt.question}<|im_end|>\n<|im_start|>assistant\n"
    inputs = renderer.prompt_inputs([prompt])
    assert (inputs.ids_BT == loaded.config.image_token_id).sum() == IMAGE_TOKENS == 16
    assert renderer.end_id == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert loaded.state_dict().keys() == model.state_dict().keys()


def test_a_chart_in_words() -> None:
    chart = Chart((("red", 12), ("blue", 6), ("green", 20), ("black", 1)), "tallest", "", "", 0)
    assert words_of(chart) == [
        " red", "1", "2", ",", " blue", " ", "6", ",", " green", "2", "0", ",", " black", " ", "1", ",",
    ]  # fmt: skip


def test_alignment_teaches_the_eyes_alone(built: tuple[Any, Any, Any]) -> None:
    language, processor, _ = built
    model: Any = build_model(language, processor, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    align(model, processor, ChartImage, AlignSettings(steps=20, batch_size=2, held_out=4), seed=0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in changed} == {"vision_model", "connector"}
    assert all(parameter.grad is None for parameter in model.model.text_model.parameters())


def test_a_picture_of_the_right_words_is_read(built: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, processor, model = built
    images = [ChartImage("align", 0, index) for index in range(4)]
    ids = torch.tensor(
        [processor.tokenizer.convert_tokens_to_ids([w.replace(" ", "Ġ") for w in words_of(i.shown)]) for i in images]
    )
    rows = model.get_input_embeddings().weight.detach()[ids]
    # One wrong word in one bar of sixteen.
    rows[2, 4:8] = rows[2, 5:6]
    monkeypatch.setattr("mstar.small.align._features", lambda *_: rows)
    assert read_share(model, processor, images) == 15 / 16
