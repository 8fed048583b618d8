"""What of the vLLM engine can be tested without vLLM; the rest is in tests/vllm."""

from __future__ import annotations

import copy
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mstar.errors import ConfigError, MissingExtraError
from mstar.generation import VllmEngine, vllm_engine

if TYPE_CHECKING:
    from tests.conftest import Evolve, Policy


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were installed."""
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: SimpleNamespace())


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were not installed."""
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: None)


@pytest.mark.usefixtures("missing")
def test_without_vllm_the_extra_is_named(evolve: Evolve, capsys: pytest.CaptureFixture[str]) -> None:
    from mstar.__main__ import main

    message = r"VllmEngine needs the package 'vllm': install it with pip install 'mstar\[vllm\]'"
    with pytest.raises(MissingExtraError, match=message):
        VllmEngine()
    settings = evolve.settings(engine={"class_path": "mstar.generation.VllmEngine"})
    assert main(["fit", "--config", str(evolve.write(settings))]) != 0
    assert "pip install 'mstar[vllm]'" in capsys.readouterr().err
    assert not (evolve.folder / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, but it must be at least 1"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0"),
        ({"max_model_len": 0}, "max_model_len is 0"),
        ({"max_model_len": -2}, "max_model_len is -2"),
        ({"max_num_seqs": -1}, "max_num_seqs is -1"),
        ({"gpu_memory_utilization": 1.5}, r"gpu_memory_utilization is 1\.5, but it is a share; choose from \(0, 1\]"),
        ({"kv_cache_gb": 0.0}, r"kv_cache_gb is 0\.0, but it must be above 0"),
        ({"drift_bound": 0.0}, r"drift_bound is 0\.0, but it must be above 0"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_numbers_that_cannot_work(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"VllmEngine: {message}"):
        VllmEngine(**arguments)


@pytest.mark.usefixtures("installed")
def test_a_family_that_is_not_proven_is_refused_by_name(llava: Policy) -> None:
    engine = VllmEngine()
    engine.expect("qwen2_5_vl")
    for family in ("gemma3", "mllama"):
        with pytest.raises(ConfigError, match=f"does not run models of the family '{family}'.* Qwen2.5-VL"):
            engine.expect(family)
    refused: Any = copy.copy(llava.model)
    refused.config = copy.deepcopy(refused.config)
    refused.config.model_type = "vipllava"
    with pytest.raises(ConfigError, match="family 'vipllava'"):
        engine.start(refused, llava.renderer)


@pytest.mark.usefixtures("installed")
def test_a_run_says_so_before_anything_is_written(evolve: Evolve, capsys: pytest.CaptureFixture[str]) -> None:
    from mstar.__main__ import main

    settings = evolve.settings(engine={"class_path": "mstar.generation.VllmEngine"})
    # The folder of all tests is read by another worker at this moment.
    other = shutil.copytree(evolve.policy, evolve.folder / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace('"idefics3"', '"vipllava"'))
    assert main(["fit", "--config", str(evolve.write(settings)), f"--model.model_name={other}"]) != 0
    assert "does not run models of the family 'vipllava'" in capsys.readouterr().err
    assert not (evolve.folder / "run").exists()


@pytest.mark.usefixtures("installed")
def test_the_longest_sequence_follows_from_the_data(tiny: Policy) -> None:
    untyped: Any = tiny.model
    config = untyped.config.get_text_config()
    assert VllmEngine(100, max_model_len=70)._model_len(config) == 70
    engine = VllmEngine(100)
    assert engine._model_len(config) == -1  # vLLM's own choice, as far as the memory has room
    engine.expect("idefics3", 150)
    assert engine._model_len(config) == 250
    engine.expect("idefics3", 200)  # more than the model has positions
    assert engine._model_len(config) == -1
    assert VllmEngine(100, max_model_len=-1).options.max_model_len == -1
