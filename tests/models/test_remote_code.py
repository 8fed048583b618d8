"""Models that bring Python code: only on request and pinned; the two families, on stand-ins with their signatures."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mstar.__main__ import main
from mstar.errors import ConfigError, DataError
from mstar.models.backbone import load_model, load_renderer
from mstar.models.step_scorer import StepScorer
from mstar.models.tiny import build_tiny_processor
from mstar.types import Prompt

CODE = Path(__file__).parent / "remote_code"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAMILIES = pytest.mark.parametrize("name", ["phi_vision", "minicpm_v"])
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
AUTO = {
    "phi_vision": (
        "configuration_phi3_v.Phi3VConfig",
        "modeling_phi3_v.Phi3VForCausalLM",
        "processing_phi3_v.Phi3VProcessor",
    ),
    "minicpm_v": (
        "configuration_minicpm.MiniCPMVConfig",
        "modeling_minicpmv.MiniCPMV",
        "processing_minicpmv.MiniCPMVProcessor",
    ),
}
SIZE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass(frozen=True)
class StandIn:
    """A stand-in's folder, and what is loaded from it."""

    folder: Path
    model: Any
    renderer: Any


@pytest.fixture(scope="session")
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where Transformers copies the code to before it runs it."""
    from transformers import dynamic_module_utils

    cache = str(tmp_path_factory.mktemp("modules"))
    patch = pytest.MonkeyPatch()
    patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", cache)
    yield
    patch.undo()
    if cache in sys.path:
        sys.path.remove(cache)


def write(name: str, folder: Path) -> None:
    """Writes a stand-in as its publisher would: code, configuration, weights, tokenizer."""
    import json

    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir()
    for path in (CODE / name).glob("*.py"):
        shutil.copy(path, folder)
    tokenizer = build_tiny_processor().tokenizer
    tokenizer.add_special_tokens(
        {"eos_token": "<|end|>", "unk_token": "<unk>",
         "additional_special_tokens": ["<|user|>", "<|assistant|>", "<image>", "</image>"]}
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    configuration, model_class, processor = AUTO[name]
    settings = {
        **SIZE, "model_type": {"phi_vision": "phi3_v", "minicpm_v": "minicpmv"}[name], "vocab_size": len(tokenizer),
        "initializer_range": 0.3, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": 0,
        "tie_word_embeddings": False, "architectures": [model_class.split(".")[1]],
        "auto_map": {"AutoConfig": configuration, "AutoModel": model_class, "AutoModelForCausalLM": model_class},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": processor.split(".")[1], "auto_map": {"AutoProcessor": processor}})
    )
    torch.manual_seed(8)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().sum() == 0:
                parameter.normal_(std=0.3)
    # Phi's embedding has a second name, which is not in the files.
    state = {key: value.contiguous() for key, value in model.state_dict().items() if ".wte." not in key}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="session")
def stand_ins(modules_cache: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StandIn]:
    """Both stand-ins, loaded as a user's model is."""
    made = {}
    for name in AUTO:
        folder = tmp_path_factory.mktemp("remote") / name
        write(name, folder)
        model = load_model(str(folder), trust_remote_code=True).eval()
        made[name] = StandIn(folder, model, load_renderer(str(folder), model, trust_remote_code=True))
    return made


@pytest.fixture
def stand_in(name: str, stand_ins: dict[str, StandIn]) -> StandIn:
    """The stand-in called ``name``."""
    return stand_ins[name]


def minicpm_data(model: Any, renderer: Any, prompt: Prompt, tail: Sequence[int]) -> dict[str, Any]:
    """What MiniCPM-V's own code is called with, straight from its processor."""
    text = renderer.render_prompt(prompt)
    if prompt.images:
        inputs = renderer.processor(text, [image.load() for image in prompt.images])
    else:
        inputs = {"input_ids": torch.tensor([renderer.tokenizer.encode(text)]), "pixel_values": [[]],
                  "image_bound": [[]], "tgt_sizes": []}  # fmt: skip
    ids = torch.cat([inputs["input_ids"].long(), torch.tensor([list(tail)], dtype=torch.long)], dim=1)
    return {**inputs, "input_ids": ids, "position_ids": torch.arange(ids.shape[1])[None]}


def own_forward(model: Any, renderer: Any, prompt: Prompt, tail: Sequence[int]) -> Tensor:
    """The logits (T, V) of one row by MiniCPM-V's own ``forward``."""
    data = minicpm_data(model, renderer, prompt, tail)
    logits: Tensor = model(data, attention_mask=torch.ones_like(data["input_ids"]), use_cache=False).logits
    return logits[0].float()


def own_generate(model: Any, renderer: Any, prompt: Prompt, count: int) -> list[int]:
    """The greedy tokens of MiniCPM-V's own ``generate``."""
    tokens: list[int] = model.generate(
        minicpm_data(model, renderer, prompt, []), do_sample=False, max_new_tokens=count,
        suppress_tokens=list(renderer.banned_ids), eos_token_id=list(renderer.end_ids),
    )[0].tolist()  # fmt: skip
    return tokens


def calls(name: str, checks: Any) -> tuple[Any, Any]:
    """How the family's own code is called."""
    return (checks.plain_forward, checks.plain_generate) if name == "phi_vision" else (own_forward, own_generate)


@FAMILIES
def test_the_shared_prefill(name: str, stand_in: StandIn, checks: Any) -> None:
    forward, _ = calls(name, checks)
    checks.check_shared_prefill(stand_in.model, stand_in.renderer, forward)


@FAMILIES
def test_generation(name: str, stand_in: StandIn, checks: Any) -> None:
    _, generate = calls(name, checks)
    checks.check_generation(stand_in.model, stand_in.renderer, generate)


@FAMILIES
def test_scoring_and_parts(name: str, stand_in: StandIn, checks: Any) -> None:
    checks.check_scoring(copy.deepcopy(stand_in.model), stand_in.renderer)
    checks.check_parts(stand_in.model)


@FAMILIES
def test_training_and_export(name: str, stand_in: StandIn, checks: Any, tmp_path: Path) -> None:
    forward, _ = calls(name, checks)
    checks.check_training(stand_in.folder, tmp_path, trust=True, forward=forward)


@FAMILIES
def test_the_callers_ids_are_left_as_they_are(name: str, stand_in: StandIn, checks: Any) -> None:
    from mstar.models.families import family_of

    inputs = stand_in.renderer.prompt_inputs(checks.PROMPTS)
    before = inputs.ids_BT.clone()
    with torch.inference_mode():
        family_of(stand_in.model).hidden_states(stand_in.model, inputs.ids_BT, inputs.mask_BT, inputs.extras)
    assert torch.equal(inputs.ids_BT, before)


@FAMILIES
def test_a_question_must_not_hold_what_stands_for_a_picture(name: str, stand_in: StandIn) -> None:
    mark = {"phi_vision": "<|image_2|>", "minicpm_v": "(<image>./</image>)"}[name]
    with pytest.raises(DataError, match="which stands for a picture: remove it"):
        stand_in.renderer.render_prompt(Prompt("x", f"What is {mark}?"))


@FAMILIES
@pytest.mark.parametrize("load", [load_model, load_renderer])
def test_code_runs_only_on_request(name: str, load: Any, tmp_path: Path, modules_cache: None) -> None:
    folder = tmp_path / name
    write(name, folder)
    for path in folder.glob("*.py"):
        path.write_text("raise SystemExit('the code ran')")
    with pytest.raises(ConfigError) as error:
        load(str(folder))
    text = str(error.value)
    assert text.startswith(f"model_name '{folder}' comes with Python code of its own, which runs only if you allow it")
    assert text.endswith("set trust_remote_code to true and revision to the commit that you read.")
    with pytest.raises(SystemExit, match="the code ran"):
        load(str(folder), trust_remote_code=True)


@pytest.mark.parametrize("load", [load_model, load_renderer])
@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_code_from_elsewhere_must_be_pinned_to_a_commit(load: Any, revision: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        load("openbmb/MiniCPM-Llama3-V-2_5", trust_remote_code=True, revision=revision)
    assert str(error.value) == (
        f"trust_remote_code runs the Python code of 'openbmb/MiniCPM-Llama3-V-2_5', but revision is {revision!r}, "
        "which does not pin it: set revision to the 40 hexadecimal digits of the commit that you read."
    )
    with pytest.raises(ConfigError, match="is neither a folder nor a reachable model"):
        load("openbmb/MiniCPM-Llama3-V-2_5", trust_remote_code=True, revision=COMMIT)


def test_the_command_line_says_so_before_anything_is_written(
    stand_ins: dict[str, StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    arguments = [
        "fit", "--model", "mstar.modules.PolicyModule", "--model.model_name", str(stand_ins["phi_vision"].folder),
        "--data", "mstar.datamodules.PolicyDataModule", "--data.train", "mstar.prompts.TinyDice",
        "--data.train.split", "seed", "--data.train.size", "4", "--trainer.default_root_dir", str(root),
    ]  # fmt: skip
    assert main(arguments) == 1
    assert "comes with Python code of its own" in capsys.readouterr().err
    assert not root.exists()


@FAMILIES
def test_an_mprm_brings_its_code_too(name: str, stand_in: StandIn, checks: Any, tmp_path: Path) -> None:
    scorer = StepScorer(copy.deepcopy(stand_in.model), head_size=8).eval()
    scorer.save(tmp_path / "mprm", stand_in.renderer)
    with pytest.raises(ConfigError, match="comes with Python code of its own"):
        StepScorer.load(tmp_path / "mprm")
    loaded, renderer = StepScorer.load(tmp_path / "mprm", trust_remote_code=True)
    wanted = scorer.score_inputs(scorer.render(stand_in.renderer, checks.PROMPTS, checks.STEPS))
    assert loaded.score_inputs(loaded.render(renderer, checks.PROMPTS, checks.STEPS)) == wanted
