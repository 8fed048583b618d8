"""What of the vLLM engine can be tested without vLLM; the rest is in tests/vllm."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch

from mstar.errors import ConfigError, MissingExtraError
from mstar.generation import Request, Sample, VllmEngine, plan_samples, vllm_engine
from mstar.generation.vllm_process import keeping_process_state, require_same_device
from mstar.generation.vllm_prompts import SampleSeeds, equal_temperatures, find_fault, prompt_tokens, shows_images
from mstar.generation.vllm_session import VllmSession, _adapter_options
from mstar.generation.vllm_weights import checkpoint_weights, trains_base_weights
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training
from mstar.prompts import TinyDice
from mstar.types import Prompt

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


def test_adapters_outside_of_the_language_model_are_not_sent_apart(tiny: Policy) -> None:
    model: Any = copy.deepcopy(tiny.model)
    prepare_training(model, [], lora=LoraSettings(rank=4, target="all"))
    with pytest.raises(ConfigError, match=r"not in the language model \('model\.vision_model\..* set adapters: merged"):
        _adapter_options(model)
    attention: Any = copy.deepcopy(tiny.model)
    prepare_training(attention, [], lora=LoraSettings(rank=9, target="attention"))
    options = _adapter_options(attention)
    assert options["max_lora_rank"] == 16
    assert options["lora_target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]


def test_vllm_computes_on_the_policys_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cpu", "cuda", "cuda:0"):
        require_same_device(torch.device(device))
    with pytest.raises(ConfigError, match=r"on GPU 0 .* the policy is on cuda:1: .* CUDA_VISIBLE_DEVICES"):
        require_same_device(torch.device("cuda:1"))
    # Of several processes each takes the GPU of its number.
    monkeypatch.setattr("mstar.generation.vllm_process.world_size", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    require_same_device(torch.device("cuda:1"))
    with pytest.raises(ConfigError, match=r"on GPU 1 .* the policy is on cuda:3"):
        require_same_device(torch.device("cuda:3"))


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
    assert find_fault(prompt, [], max_images=1, max_len=10) == "it is empty"
    assert "10 tokens, and max_model_len is 10" in str(find_fault(prompt, [5] * 10, max_images=1, max_len=10))
    two = replace(prompt, images=prompt.images * 2)
    assert "2 pictures, and --limit-mm-per-prompt is 1" in str(find_fault(two, [5], max_images=1, max_len=10))
    assert "2 pictures, and the chat template has no place" in str(find_fault(two, [5], max_images=0, max_len=10))
    assert shows_images(tiny.renderer)
    blind = copy.copy(tiny.renderer)
    blind.processor = SimpleNamespace(apply_chat_template=lambda messages, **_: messages[0]["content"][-1]["text"])
    assert not shows_images(blind)


def test_weights_are_named_as_in_a_checkpoint_with_the_tied_head(tiny: Policy) -> None:
    state = tiny.model.state_dict()
    sent = dict(checkpoint_weights(tiny.model))
    assert sent.keys() == state.keys()
    assert "lm_head.weight" in sent
    assert all(torch.equal(value, state[name]) for name, value in sent.items())


def test_adapters_are_merged_or_left_out(tiny: Policy) -> None:
    model: Any = copy.deepcopy(tiny.model)
    prepare_training(model, [], lora=LoraSettings(rank=2, alpha=4, target="attention"))
    assert not trains_base_weights(model)
    assert trains_base_weights(tiny.model)
    layer = model.model.text_model.layers[0].self_attn.q_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    name = "model.text_model.layers.0.self_attn.q_proj.weight"
    plain = tiny.model.state_dict()
    with torch.no_grad():
        expected = plain[name] + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = dict(checkpoint_weights(model))
    assert merged.keys() == plain.keys()
    torch.testing.assert_close(merged[name], expected)
    apart = dict(checkpoint_weights(model, merge=False))
    assert apart.keys() == plain.keys()
    assert all(torch.equal(value, plain[n]) for n, value in apart.items())


class RecordingLLM:
    """Writes down what is asked of vLLM."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(enable_sleep_mode=True),
            reset_encoder_cache=lambda: self.calls.append("reset encoder"),
            engine_core=SimpleNamespace(engine_core=SimpleNamespace(scheduler=self.empty_caches())),
        )

    @staticmethod
    def empty_caches() -> Any:
        blocks = SimpleNamespace(cached_block_hash_to_block={})
        return SimpleNamespace(
            encoder_cache_manager=SimpleNamespace(cached={}), kv_cache_manager=SimpleNamespace(block_pool=blocks)
        )

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def wake_up(self, tags: Sequence[str] = ("weights", "kv_cache")) -> None:
        self.calls.append(f"wake {' '.join(tags)}")

    def collective_rpc(self, method: Any, kwargs: dict[str, Any] | None = None) -> list[Any]:
        if callable(method):
            return [method(SimpleNamespace(model_runner=SimpleNamespace(encoder_cache=None)))]
        self.calls.append(method)
        return [None]

    def reset_prefix_cache(self) -> bool:
        self.calls.append("reset prefix")
        return True

    def reset_mm_cache(self) -> None:
        self.calls.append("reset pictures")


@pytest.mark.parametrize("level", [1, 2])
def test_memory_comes_back_weights_first(level: Literal[1, 2], tiny: Policy) -> None:
    session = VllmSession.__new__(VllmSession)
    llm: Any = RecordingLLM()
    session.llm, session.policy, session.asleep = llm, tiny.model, False
    session.sleep_level = level
    session._apart, session._pushes, session.dtype = False, 1, "float32"
    sync = ["wake weights", "reload_weights", "wake kv_cache", "reset prefix", "reset pictures", "reset encoder"]
    session.rest()
    session.rest()
    session.update_weights(tiny.model)
    assert llm.calls == [f"sleep {level}", *sync]
    llm.calls.clear()
    session.wake()  # it is awake
    session.rest()
    session.wake()
    # The second level has let go of the weights: they come from the policy again.
    assert llm.calls == [f"sleep {level}", *(sync if level == 2 else ["wake weights kv_cache"])]


def test_products_have_the_trainers_precision_after_vllm_has_started() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with keeping_process_state():
            torch.set_float32_matmul_precision("highest")  # as vLLM's GPU worker does
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
