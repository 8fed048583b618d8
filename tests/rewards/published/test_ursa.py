"""URSA-RM as a tiny twin in its published form: the adapter gives what the published code gave for the same folder.

``PUBLISHED`` is what github.com/URSA-MATH/URSA-MATH at c4e30ff (``single_inference`` of its ``prm_infer_score.py``, and
``UrsaForTokenClassification``, in float32) made of the folder that ``write_twin`` writes, with two small vision towers
entered beside its own. Weights are a function of their names, so that nothing but names and shapes is stored.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mstar.errors import ConfigError
from mstar.rewards import RewardHost
from mstar.rewards.published import URSA
from mstar.rewards.published.ursa_model import TOWERS
from mstar.types import Prompt, Response

QUESTION = "How many dots has the red die?"
RESPONSES = [
    "Step 1: red = 4\nStep 2: so it is even\n†Answer: even",
    "Step 1: 9 + 9 = 18, I think\n†Answer: 18",
    "Step 1: x\nStep 2: y и z\nStep 3: no\n†Answer: no",
]
# Of the word that is the tag, too, the published code takes a fourth score, 0.192629.
PUBLISHED = [[0.26028, 0.203015], [0.245515], [0.374477, 0.505791, 0.292316]]
HIGH: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "output_channels": 8,
    "global_attn_indexes": [1, 2],
}  # fmt: skip
LOW: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 16,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip
# The published one's form, but for its size.
PROCESSOR: dict[str, Any] = {
    "background_color": [122, 116, 104], "do_normalize": False, "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "VLMImageProcessor", "image_size": 512,
    "image_std": [0.26862954, 0.26130258, 0.27577711], "min_size": 14, "processor_class": "Qwen2vlmProcessor",
    "rescale_factor": 0.00392156862745098,
}  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def configuration(vocabulary: int, image_id: int) -> dict[str, Any]:
    """``config.json`` in its published form."""

    def tower(name: str, side: int, mean: list[float], deviation: list[float]) -> dict[str, Any]:
        return {
            "ckpt_path": "", "image_size": side, "model_name": name, "output_dim": 32, "pixel_mean": mean,
            "pixel_std": deviation, "select_feature": "same", "select_layer": -1,
        }  # fmt: skip

    towers = {
        "concat_type": "tuple",
        "high_res_cfg": tower("sam_tiny", 512, PROCESSOR["image_mean"], PROCESSOR["image_std"]),
        "low_res_cfg": tower("siglip_tiny", 384, [0.5] * 3, [0.5] * 3),
    }
    projector = {"depth": 2, "input_dim": 32, "n_embed": 32, "projector_type": "low_high_hybrid_split_mlp_gelu"}
    return {
        "architectures": ["UrsaForTokenClassification"], "model_type": "ursa", "image_token_index": image_id,
        "aligner_config": {"cls": "MlpProjector", "model_type": "aligner", "params": projector},
        "vision_config": {"cls": "HybridVisionTower", "model_type": "vision", "params": towers},
        "text_config": TEXT | {"vocab_size": vocabulary},
    }  # fmt: skip


def published_shapes(vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the published weights, for the sizes above."""

    def linear(name: str, out: int, size: int, bias: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, size)
        if bias:
            yield f"{name}.bias", (out,)

    def norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from ((f"{name}.weight", (size,)), (f"{name}.bias", (size,)))

    high, low = "vision_model.vision_tower_high.vision_tower", "vision_model.vision_tower_low.vision_tower"
    yield f"{high}.hd_alpha_downsamples", (1,)
    yield f"{high}.pos_embed", (1, 32, 32, 16)
    for tower, width in ((high, 16), (low, 32)):
        yield f"{tower}.patch_embed.proj.weight", (width, 3, 16, 16)
        yield f"{tower}.patch_embed.proj.bias", (width,)
        for block in range(3 if tower == high else 2):
            own = f"{tower}.blocks.{block}"
            yield from (*norm(f"{own}.norm1", width), *norm(f"{own}.norm2", width))
            yield from (*linear(f"{own}.attn.qkv", 3 * width, width), *linear(f"{own}.attn.proj", width, width))
            if tower == high:
                side = 32 if block in HIGH["global_attn_indexes"] else 14
                yield from ((f"{own}.attn.rel_pos_{axis}", (2 * side - 1, 8)) for axis in "hw")
                yield from (*linear(f"{own}.mlp.lin1", 64, 16), *linear(f"{own}.mlp.lin2", 16, 64))
            else:
                yield from (*linear(f"{own}.mlp.fc1", 64, 32), *linear(f"{own}.mlp.fc2", 32, 64))
    for neck in ("neck", "neck_hd"):
        yield f"{high}.{neck}.0.weight", (8, 16, 1, 1)
        yield f"{high}.{neck}.2.weight", (8, 8, 3, 3)
        yield from (*norm(f"{high}.{neck}.1", 8), *norm(f"{high}.{neck}.3", 8))
    yield f"{high}.downsamples.0.weight", (16, 8, 3, 3)
    yield f"{high}.downsamples.1.weight", (32, 16, 3, 3)
    yield f"{low}.pos_embed", (1, 576, 32)
    yield from norm(f"{low}.norm", 32)
    # These are in the published files, too, and no score depends on them.
    yield f"{low}.attn_pool.latent", (1, 1, 32)
    yield from (*norm("vision_model.high_layer_norm", 32), *norm("vision_model.low_layer_norm", 32))
    yield "language_model.lm_head.weight", (vocabulary, 32)
    yield from (*linear("aligner.high_up_proj", 16, 32), *linear("aligner.low_up_proj", 16, 32))
    yield from linear("aligner.layers.1", 32, 32)
    yield "language_model.model.embed_tokens.weight", (vocabulary, 32)
    yield "language_model.model.norm.weight", (32,)
    for layer in range(2):
        own = f"language_model.model.layers.{layer}"
        yield from ((f"{own}.{name}_layernorm.weight", (32,)) for name in ("input", "post_attention"))
        for letter, out in (("q", 32), ("k", 16), ("v", 16)):
            yield from linear(f"{own}.self_attn.{letter}_proj", out, 32)
        yield from linear(f"{own}.self_attn.o_proj", 32, 32, bias=False)
        for name in ("gate", "up"):
            yield from linear(f"{own}.mlp.{name}_proj", 48, 32, bias=False)
        yield from linear(f"{own}.mlp.down_proj", 32, 48, bias=False)
    yield from linear("score", 1, 32)


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight that goes by a name: hashes of places as numbers in (-0.5, 0.5), or about 1 where it scales."""
    place = torch.arange(math.prod(shape)) + zlib.crc32(name.encode())
    for factor in (2654435761, 2246822519):
        place = (place ^ (place >> 15)) * factor % 2**31
    values = (place.double() / 2**31 - 0.5).float().reshape(shape)
    if "norm" in name and name.endswith("weight"):
        return 1 + values / 2
    return 4 * values if "embed_tokens" in name else values


@pytest.fixture(scope="module")
def ursa(checks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ursa")
    write_twin(checks, folder)
    return folder


def write_twin(checks: ModuleType, folder: Path) -> None:
    """A folder in the form of URSA-RM-8B's."""
    tokenizer = checks.make_tokenizer("<|im_end|>", {}, ["<|im_start|>", "<|image|>"])
    tokenizer.add_tokens([" и"])
    tokenizer.save_pretrained(folder)
    vocabulary = len(tokenizer)
    config = configuration(vocabulary, tokenizer.convert_tokens_to_ids("<|image|>"))
    for name, content in (
        ("config.json", config),
        ("preprocessor_config.json", PROCESSOR),
        ("chat_template.json", {"chat_template": TEMPLATE}),
    ):
        (folder / name).write_text(json.dumps(content))
    weights = {name: weight(name, shape) for name, shape in published_shapes(vocabulary)}
    names = sorted(weights)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in files.items():
        save_file({name: weights[name] for name in own}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, own in files.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture(autouse=True)
def _towers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOWERS, "sam_tiny", HIGH)
    monkeypatch.setitem(TOWERS, "siglip_tiny", LOW)


@dataclass(frozen=True)
class Wide:
    """A picture that is wider than high, so that what is put around it matters."""

    uri: str = "wide"

    def load(self) -> Image.Image:
        """Every byte follows from its place."""
        return Image.frombytes("RGB", (40, 24), bytes(place * place % 251 for place in range(3 * 40 * 24)))


def test_it_scores_as_the_published_code_does(ursa: Path) -> None:
    reward = URSA(str(ursa), batch_size=2)
    reward.check()
    reward.load(RewardHost())
    responses = [Response("p", n, text, 0, True, 1.0, 0.0) for n, text in enumerate(RESPONSES)]
    [found] = reward.score([(Prompt("p", QUESTION, (Wide(),)), responses)])
    # The answer is no step to it, and has the score of the one before.
    assert [list(row[:-1]) for row in found] == [pytest.approx(row, abs=1e-5) for row in PUBLISHED]
    assert all(row[-1] == pytest.approx(row[-2], abs=1e-6) for row in found)
    assert len({round(score, 4) for row in PUBLISHED for score in row}) == sum(map(len, PUBLISHED))


def test_other_forms_of_a_response_are_read_in_its_own(ursa: Path) -> None:
    reward = URSA(str(ursa), separator="paragraph")
    reward.load(RewardHost())
    prompt = Prompt("p", f"<image> {QUESTION}<|im_end|>", (Wide(),))
    head, steps, tail = reward._render((prompt, ("so <|im_<|image|>end|>it is", "Step 2: 4", "†Answer: 4", "or 5")))
    assert head.endswith(f"the correctness of each step.\nQuestion:<|image|> {QUESTION}\n")
    assert steps == ["Step 1: so it is и", "\n\nStep 2: 4 и"]
    assert tail == "\n\n†Answer: 4\n\nor 5<|im_end|>\n<|im_start|>assistant\n"
    # The answer alone is a step, and a question of text alone has no picture.
    [[alone, several]] = reward.score_steps([(Prompt("q", "1 + 1?"), [["†Answer: 2"], ["1", "2", "†Answer: 2", "."]])])
    assert len(alone) == 1
    assert several[1:] == pytest.approx([several[1]] * 3, abs=1e-6)
    assert abs(several[0] - several[1]) > 1e-3
    assert "dtype" in reward.facts()


def test_what_is_no_ursa_is_refused(ursa: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(ursa, folder)

    def refused(config: dict[str, Any], complaint: str) -> None:
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=f"'{re.escape(str(folder))}' is not a model for URSA: {complaint}"):
            URSA(str(folder)).load(RewardHost())

    config = json.loads((ursa / "config.json").read_text())
    refused(config | {"model_type": "qwen2"}, "its config.json says 'qwen2', and not 'ursa'")
    refused(config | {"image_token_index": 0}, r"'<\|image\|>' is not its image_token_index")
    refused({"model_type": "ursa"}, r"its config.json is not URSA's \(there is no 'vision_config'\)")
    wider = config["text_config"] | {"intermediate_size": 64}
    refused(config | {"text_config": wider}, "it has a weight '.*mlp.*' that URSA's architecture has not")
    deeper = config["text_config"] | {"num_hidden_layers": 3}
    refused(config | {"text_config": deeper}, r"it lacks weights of URSA's architecture \(backbone")
    (folder / "model-00002-of-00002.safetensors").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"cannot be loaded|without a usable model"):
        URSA(str(folder)).load(RewardHost())
