"""Loading a model to split it: no process holds all of it, not when it starts, goes back to the start or exports."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from safetensors.torch import load_file, save_file

from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer, load_stored
from mstar.models.export import save_model
from mstar.modules import PolicyModule, backbone_module

PROCESSES = 4


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some 60 million weights in bfloat16, most of them in its layers."""
    folder = tmp_path_factory.mktemp("large")
    tiny: Any = load_model(EMBEDDED_MODEL)
    config = tiny.config
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 512, 2048, 14
    text.num_attention_heads = text.num_key_value_heads = 8
    text.head_dim = 64
    torch.manual_seed(0)
    model = type(tiny)(config).to(torch.bfloat16)
    save_model(model, load_renderer(EMBEDDED_MODEL, tiny), folder)
    return folder


@pytest.fixture(scope="module")
def made(forker: Any, large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes found and wrote."""
    out = tmp_path_factory.mktemp("made")
    # What is freed is given back at once: what is measured is what the processes hold, not what their allocators keep.
    allocator = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    worker = Path(__file__).with_name("loading_worker.py")
    forker.run([large, out], out / "log", number=PROCESSES, script=worker, **allocator)
    return out


def test_no_process_holds_the_whole_model(large: Path, made: Path) -> None:
    weights = load_file(large / "model.safetensors").values()
    whole = 4 * sum(value.numel() for value in weights)
    assert whole > 200e6
    found = json.loads((made / "found.json").read_text())
    for number, one in enumerate(found):
        assert one["plainly"] > whole
        # Its part is a quarter; the largest unit, and what the allocator keeps, come on top.
        assert one["taken"] < 0.65 * whole
        assert one["restoring"] < 0.3 * whole
        # The main process has the state in 16 bits, which is half, and a whole tensor or two.
        assert one["exporting"] < (0.8 if number == 0 else 0.3) * whole


def test_all_weights_are_those_of_the_plain_model(made: Path) -> None:
    for one in json.loads((made / "found.json").read_text()):
        assert one["same"]
        assert one["types"] == ["torch.float32"]
        assert one["changed"]
        assert one["restored"]


def test_exports_of_a_split_model_are_those_of_a_plain_one(large: Path, made: Path) -> None:
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (made / "exact" / name).read_bytes() == (made / "plain" / name).read_bytes(), name
    half, stored = made / "half", large / "model.safetensors"
    assert (half / "model.safetensors").read_bytes() == stored.read_bytes()
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"


def test_files_of_several_types_are_loaded_as_wanted(large: Path, tmp_path: Path) -> None:
    tiny: Any = load_model(EMBEDDED_MODEL)
    save_model(tiny, load_renderer(EMBEDDED_MODEL, tiny), tmp_path)
    assert next(load_stored(str(tmp_path), dtype="bfloat16").parameters()).dtype == torch.bfloat16
    state = load_file(tmp_path / "model.safetensors")
    name = min(state)
    # The configuration still says float32, and this one would be rounded if it were believed.
    mixed = {key: value if key == name else value.to(torch.bfloat16) for key, value in state.items()}
    save_file(mixed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model: Any = load_stored(str(tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    # And the type of the files counts, not that which the configuration tells of.
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text()) | {"dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_stored(str(tmp_path)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    # Adapters want what they adapt in its type.
    assert next(load_stored(str(large), widen=False).parameters()).dtype == torch.float32
    assert next(load_stored(str(large)).parameters()).dtype == torch.bfloat16


def test_what_is_not_mapped_goes_to_the_device_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module itself is on the CPU when it loads its model."""
    place = torch.device("cuda", 3)
    module = PolicyModule("unused")
    state, strategy = SimpleNamespace(fn=TrainerFn.FITTING), SimpleNamespace(root_device=place)
    module._trainer = SimpleNamespace(state=state, strategy=strategy, precision="bf16-mixed")  # type: ignore[assignment]
    module._device_mesh = object()  # type: ignore[assignment]
    given: dict[str, Any] = {}
    monkeypatch.setattr(backbone_module, "load_stored", lambda name, **settings: given.update(settings))
    monkeypatch.setattr(backbone_module, "prepare_training", lambda *_: None)
    module.load_backbone()
    assert given["device"] == place
