"""Every family that VllmEngine runs: real vLLM computes what Transformers computes, and can be read back whole."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mstar.generation import Request, Sample, TransformersEngine, VllmEngine
from mstar.generation.drift import measure_drift
from mstar.generation.vllm_comparison import HeldWeights, compare_named
from mstar.generation.vllm_families import PROVEN_FAMILIES
from mstar.generation.vllm_weights import checkpoint_weights
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.families import family_of
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training
from mstar.rendering import Renderer
from mstar.types import Prompt

if TYPE_CHECKING:
    from tests.vllm.conftest import MakeEngine

pytestmark = pytest.mark.vllm

FAMILIES = pytest.mark.parametrize("name", PROVEN_FAMILIES)
# Unlike one another, and unlike what the processors' defaults would make of one size.
SHAPES = {
    "qwen2_vl": {"layers": 3, "tied": True},
    "qwen3_vl": {"vision_layers": 3},
    "internvl": {"tied": True},
    "llava": {"vision_layers": 2},
    "llava_next": {"vision_layers": 3},
}
# What nothing is computed with: these read the tower before its last layer.
UNUSED = {"llava": "encoder.layers.1.|post_layernorm", "llava_next": "encoder.layers.2.|post_layernorm"}
# Ministral 3, whose positions are stretched, and whose queries are scaled from a position on that prompts reach here.
MINISTRAL = {
    "model_type": "ministral3",
    "max_position_embeddings": 512,
    "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
        "mscale_all_dim": 1.0, "original_max_position_embeddings": 32, "llama_4_scaling_beta": 0.1,
    },
}  # fmt: skip
GREEDY = (Sample(index=0, temperature=0.0, seed=0),)

# Parts that some released models of a family have in the place of the usual ones.
OTHER_PARTS = {
    # The language model of InternVL3.5, and the tower of InternVL3-38B and larger ones.
    "internvl": (
        {"model_type": "qwen3", "head_dim": 32},
        {"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": False},
    ),
    "mistral3": (MINISTRAL, {}),
}


@dataclass(frozen=True)
class Picture:
    """Coloured noise of some size."""

    width: int
    height: int

    @property
    def uri(self) -> str:
        return f"{self.width}x{self.height}"

    def load(self) -> Image.Image:
        dots = np.random.default_rng(self.width).integers(0, 255, (self.height, self.width, 3), dtype=np.uint8)
        return Image.fromarray(dots)


PROMPTS = [
    Prompt("none", "How much more is green than purple, and why is it so?"),
    Prompt("one", "Even?", (Picture(64, 64),)),
    Prompt("wide", "What is it?", (Picture(90, 40),)),
    Prompt("two", "What is red plus yellow?", (Picture(33, 100), Picture(70, 60))),
]
TEXTS = [
    "a line that is longer than the others are = 12\nAnswer: 3",
    "red = 4\nblue is 3\nAnswer: 9",
    "why = not\nso it is = 11\nAnswer: 1",
    "5 + 6 = 11\nAnswer: 11",
]


@dataclass(frozen=True)
class Loaded:
    """A family's model and renderer, as a user's are loaded."""

    model: Any
    renderer: Renderer

    def written(self, engine: VllmEngine | TransformersEngine) -> list[str]:
        return [row[0].text for row in engine.generate([Request(prompt, GREEDY) for prompt in PROMPTS])]

    def check(self, engine: VllmEngine, model: Any) -> list[str]:
        """An engine with this model's weights computes what it computes; returns what it writes."""
        found = engine.compare_weights(model)
        assert (found.different, found.stale) == ((), ())
        drift = measure_drift(engine, model, self.renderer, PROMPTS, TEXTS)
        assert drift is not None
        assert drift.num_tokens > 70
        # The last digits of float32, which processors add up differently: 1.00e-5 on one with AVX-512.
        assert drift.mean < 5e-5
        assert drift.worst < 2e-4
        reference = TransformersEngine(16, progress=False)
        reference.start(model, self.renderer)
        written = self.written(engine)
        assert written == self.written(reference)
        return written


@pytest.fixture(scope="module")
def load(tiny_families: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    """Loads a family's model, once; it must not be changed."""
    made: dict[str, Loaded] = {}

    def find(name: str) -> Loaded:
        if name not in made:
            size = tiny_families.Size(hidden=128, intermediate=192, **SHAPES.get(name, {}))
            made[name] = save_and_load(*tiny_families.build(name, size), tmp_path_factory.mktemp(name))
        return made[name]

    return find


def save_and_load(model: Any, processor: Any, folder: Path) -> Loaded:
    save_model(model, Renderer(processor), folder)
    model = load_model(str(folder)).eval()
    return Loaded(model, load_renderer(str(folder), model))


def start(make_engine: MakeEngine, loaded: Loaded, model: Any, **arguments: Any) -> VllmEngine:
    engine = make_engine(max_new_tokens=16, **arguments)
    engine.start(model, loaded.renderer)
    return engine


def used_weights(name: str, model: Any) -> set[str]:
    """The names of all weights that a family computes with."""
    return {weight for weight in model.state_dict() if name not in UNUSED or not re.search(UNUSED[name], weight)}


def changed(model: Any, part: str, seed: int) -> Any:
    """The model with other weights in one part."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if family_of(other).part_of(name) == part:
                parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return other


def adapted(model: Any, target: str) -> Any:
    """The model with adapters that do something."""
    other = copy.deepcopy(model)
    prepare_training(other, [], lora=LoraSettings(rank=4, target=target))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if ".lora_B." in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return other.eval()


@pytest.mark.parametrize("name", OTHER_PARTS)
def test_other_parts_within_a_family(name: str, tiny_families: Any, make_engine: MakeEngine, tmp_path: Path) -> None:
    usual, processor = tiny_families.build(name, tiny_families.Size(hidden=128, intermediate=192))
    described = usual.config.to_dict()
    text, vision = OTHER_PARTS[name]
    described["text_config"] |= text
    described["vision_config"] |= vision
    torch.manual_seed(9)
    model = type(usual)(type(usual.config).from_dict(described))
    model.generation_config = usual.generation_config
    loaded = save_and_load(model, processor, tmp_path)
    engine = start(make_engine, loaded, loaded.model)
    try:
        written = loaded.check(engine, loaded.model)
        other = adapted(changed(loaded.model, "vision", 0), "all")
        engine.update_weights(other)
        assert loaded.check(engine, other) != written
        assert engine.compare_weights(other).num_tensors == len(loaded.model.state_dict())
    finally:
        engine.close()


@pytest.mark.parametrize("name", ["idefics3", "llava"])
def test_pictures_are_prepared_by_the_library_that_the_trainer_uses(
    name: str, load: Callable[[str], Loaded], make_engine: MakeEngine, tmp_path: Path
) -> None:
    # Pillow and torchvision resize otherwise, and vLLM takes torchvision by itself.
    loaded = load(name)
    processor = copy.deepcopy(loaded.renderer.processor)
    images: Any = type(processor.image_processor)  # type: ignore[attr-defined]
    pillow: Any = getattr(transformers, images.__name__ + "Pil")
    processor.image_processor = pillow.from_dict(processor.image_processor.to_dict())  # type: ignore[attr-defined]
    save_model(loaded.model, Renderer(processor), tmp_path)
    renderer = load_renderer(str(tmp_path), loaded.model)
    assert type(renderer.processor.image_processor) is pillow  # type: ignore[attr-defined]
    assert not torch.equal(pixels(renderer), pixels(loaded.renderer))
    assert torch.equal(pixels(renderer), pixels(Renderer(processor)))
    own = Loaded(loaded.model, renderer)
    engine = start(make_engine, own, own.model)
    try:
        own.check(engine, own.model)
    finally:
        engine.close()


def pixels(renderer: Renderer) -> torch.Tensor:
    processor: Any = renderer.processor
    pictures = [picture.load() for prompt in PROMPTS for picture in prompt.images]
    found: torch.Tensor = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    return found


@FAMILIES
def test_whole_weights_and_merged_adapters(name: str, load: Callable[[str], Loaded], make_engine: MakeEngine) -> None:
    loaded = load(name)
    engine = start(make_engine, loaded, loaded.model)
    try:
        written = [loaded.check(engine, loaded.model)]
        models = [changed(loaded.model, "language", 0), changed(loaded.model, "vision", 1)]
        models += [changed(loaded.model, "projector", 2), adapted(loaded.model, "all"), loaded.model]
        for model in models:
            engine.update_weights(model)
            written.append(loaded.check(engine, model))
        assert written[0] == written[-1]
        assert len({tuple(texts) for texts in written}) > 3
        assert all(texts[0] == written[0][0] for texts in written[2:4])  # without a picture, the tower does nothing

        # Every tensor that vLLM holds is compared: a change of any one is found, and of nothing else.
        [vllm_model] = engine.session.llm.collective_rpc(lambda worker: worker.get_model())
        held = HeldWeights(vllm_model, torch.float32)
        state = loaded.model.state_dict()
        used = used_weights(name, loaded.model)
        count, different = compare_named(held, checkpoint_weights(loaded.model))
        assert (count, different, held.unread()) == (len(used), [], [])
        other = copy.deepcopy(loaded.model)
        tied = {"lm_head.weight", "model.language_model.embed_tokens.weight"}
        for weight, value in other.state_dict().items():
            value.view(-1)[-1] += 0.5
            # CLIP's tower has another name in vLLM.
            wrong = {n.replace("tower.vision_model", "tower") for n in engine.compare_weights(other).different}
            expected = tied if weight in tied and loaded.model.config.tie_word_embeddings else {weight} & used
            assert wrong == expected
            value.view(-1)[-1] = state[weight].view(-1)[-1]
    finally:
        engine.close()


@FAMILIES
def test_adapters_apart(name: str, load: Callable[[str], Loaded], make_engine: MakeEngine) -> None:
    loaded = load(name)
    model = adapted(loaded.model, "language")
    engine = start(make_engine, loaded, model, adapters="apart")
    try:
        for _ in range(2):
            loaded.check(engine, model)
            with torch.no_grad():
                for weight_name, parameter in model.named_parameters():
                    if ".lora_" in weight_name:
                        parameter *= 1.1
            engine.update_weights(model)
        adapters = [weight_name for weight_name, _ in model.named_parameters() if ".lora_" in weight_name]
        assert engine.compare_weights(model).num_tensors == len(used_weights(name, loaded.model)) + len(adapters)
        with torch.no_grad():
            for weight_name in adapters:
                parameter = model.get_parameter(weight_name)
                before = parameter.clone()
                parameter[0, 0] += 0.5
                assert engine.compare_weights(model).different == (weight_name,)
                parameter.copy_(before)
    finally:
        engine.close()
