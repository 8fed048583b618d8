"""``mstar memory``: the account of a configuration, without weights and without data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mstar.__main__ import main

ROOT = Path(__file__).parents[2]
CONFIGS, SHAPES = ROOT / "configs", ROOT / "benchmarks" / "shapes"


def account(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The account that the command writes."""
    path = tmp_path / "memory.json"
    assert main(["memory", *arguments, "--json", str(path)]) in {0, 1}
    capsys.readouterr()
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def real(stage: str, model: str, *more: str) -> list[str]:
    """The arguments for a stage of a real model."""
    base = {"warmup": "mathv360k_answer_conditioned", "evolve": "mathv360k_continuous"}.get(stage, "paper")
    files = [f"{stage}/{base}.yaml", f"{stage}/{model}.yaml", *more]
    return [part for name in files for part in ("--config", str(CONFIGS / name))]


def test_the_shares_of_a_sharded_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [*real("evolve", "qwen2_5_vl_7b", "overlays/fsdp2.yaml"), "--shape", str(SHAPES / "qwen2_5_vl_7b")]
    found = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "80")
    train = found["stages"]["train"]
    parameters = 8_292_166_656
    assert train["weights"] == train["gradients"] == parameters * 4 // 8
    assert train["optimizer states"] == parameters
    # The root: embeddings, head and vision tower (GPU.md: 1.767 B), whole in bfloat16 with gradients of 2 and 4 bytes.
    assert train["root whole, with gradients"] == pytest.approx(1.767e9 * 8, rel=0.01)
    assert found["stages"]["generate"]["weights whole"] == parameters * 2
    # Every process copies its part of weights and optimizer states from its GPU before it is written.
    copied = found["host"]["checkpoint"]["what a checkpoint gets from here"]
    assert copied == pytest.approx(parameters * 12, rel=0.01)
    on_two = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "80", "--trainer.num_nodes", "2")
    assert on_two["host"]["checkpoint"]["what a checkpoint gets from here"] == copied // 2


def test_lora_in_4_bits_has_neither_gradients_nor_states_of_the_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    overlays = ("overlays/lora.yaml", "overlays/qlora.yaml")
    arguments = [*real("warmup", "qwen2_5_vl_7b", *overlays), "--shape", str(SHAPES / "qwen2_5_vl_7b")]
    found = account(capsys, tmp_path, *arguments, "--trainer.devices", "1", "--gpu_memory_gb", "24")
    train = found["stages"]["train"]
    # 6.5 B weights are linear layers of the language model, with 0.52 bytes each; the rest has 2 (GPU.md: 6.9 GB).
    assert train["weights"] - train["gradients"] == pytest.approx(6.9e9, rel=0.01)
    assert train["gradients"] < 0.7e9
    assert train["optimizer states"] == 2 * train["gradients"]


def test_a_run_that_cannot_fit_is_told_what_would_make_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*real("warmup", "qwen2_5_vl_7b"), "--shape", str(SHAPES / "qwen2_5_vl_7b")]
    assert main(["memory", *arguments, "--trainer.devices", "1", "--gpu_memory_gb", "80"]) == 1
    said = capsys.readouterr().out
    assert "weights, gradients and optimizer states alone take" in said
    assert "- it would fit with configs/overlays/lora.yaml" in said
    assert "fsdp2.yaml on 8 GPUs" in said
    assert "fsdp2.yaml on 2 GPUs" not in said.replace("with configs/overlays/fsdp2.yaml on 2 GPUs with", "")


def test_an_mprm_is_left_responses_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*real("mprm", "internvl2_2b"), "--shape", str(SHAPES / "internvl3_2b"), "--rows", "0"]
    main(["memory", *arguments, "--gpu_memory_gb", "60"])
    said = capsys.readouterr().out
    assert "--data.batch_size 4 (and trainer.accumulate_grad_batches raised as much)" in said
    assert "--data.batch_size 1" not in said


def test_copies_to_decode_with_lie_beside_the_share_of_the_engine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [*real("evolve", "internvl2_2b", "overlays/lora.yaml"), "--shape", str(SHAPES / "internvl3_2b")]
    generate = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "80")["stages"]["generate"]
    assert generate["the engine's share of the GPU"] == int(0.3 * 80 * 2**30)
    # The linear layers of the language model, 1.31 B weights, with the adapters folded in.
    assert generate["copies of weights to decode with"] == pytest.approx(1.31e9 * 2, rel=0.01)


def test_of_frozen_weights_in_float32_the_backward_pass_keeps_copies_in_16_bits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shape = ["--shape", str(SHAPES / "internvl3_2b"), "--gpu_memory_gb", "80", "--rows", "0"]
    arguments = [*real("warmup", "internvl2_2b"), *shape, "--model.lora.rank", "8", "--model.gradient_checkpointing"]
    copies = [
        account(capsys, tmp_path, *arguments, given)["stages"]["train"]["16-bit weights of autocast"]
        for given in ("false", "true")
    ]
    # The linear layers of the language model, 1.31 B weights in 28 layers, of which one at a time is computed again.
    assert copies == pytest.approx([1.31e9 * 2, 1.31e9 * 2 / 28], rel=0.01)


def test_vllms_share_is_named_where_it_is_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*real("evolve", "internvl2_2b", "overlays/vllm.yaml"), "--shape", str(SHAPES / "internvl3_2b")]
    share = ["--rollout.engine.init_args.gpu_memory_utilization", "0.9", "--gpu_memory_gb", "24", "--rows", "0"]
    assert main(["memory", *arguments, *share]) == 1
    assert re.search(r"and weights, optimizer states, vLLM and MPRM alone take [\d.]+ GB", capsys.readouterr().out)


def test_vllms_share_must_hold_its_weights_which_are_whole_under_qlora(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = ("cards/24gb.yaml", "cards/24gb_rollouts.yaml", "overlays/vllm.yaml")
    arguments = [*real("evolve", "internvl2_2b", *files), "--shape", str(SHAPES / "internvl3_2b"), "--rows", "0"]
    weights = 2_088_957_440 * 2
    share = "--rollout.engine.init_args.gpu_memory_utilization"
    found = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "24", share, "0.4")
    assert found["stages"]["generate"]["vLLM"] == int(0.4 * 24 * 2**30)
    assert found["fault"] is None
    found = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "24", share, "0.1")
    assert found["stages"]["generate"]["vLLM"] == weights
    # It would have room at 0.3 by its total, but does not start there.
    main(["memory", *arguments, "--gpu_memory_gb", "12", share, "0.5"])
    assert "it would fit with --rollout.engine" not in capsys.readouterr().out
    assert main(["memory", *arguments, "--gpu_memory_gb", "12", share, "0.3"]) == 1
    said = capsys.readouterr().out
    assert "gpu_memory_utilization 0.3 gives it 3.9 GB, and its weights, which are never in 4 bits, take 4.2 GB" in said


@pytest.mark.parametrize(("level", "held"), [("0", int(0.4 * 80 * 2**30)), ("2", 2_200_000_000)])
def test_vllm_that_does_not_sleep_keeps_its_share_while_the_policy_trains(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, level: str, held: int
) -> None:
    engine = ["--rollout.engine", "mstar.generation.VllmEngine", "--rollout.engine.sleep_level", level]
    arguments = [*real("evolve", "internvl2_2b"), "--shape", str(SHAPES / "internvl3_2b"), *engine]
    train = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "80", "--rows", "0")["stages"]["train"]
    assert [size for name, size in train.items() if name.startswith("vLLM")] == [held]


def test_annotation_is_known_by_its_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [*real("annotate", "internvl2_2b"), "--shape", str(SHAPES / "internvl3_2b")]
    found = account(capsys, tmp_path, *arguments, "--gpu_memory_gb", "80")
    assert list(found["stages"]) == ["start", "generate"]
    assert found["stages"]["generate"]["weights"] == 2_088_957_440 * 2
    assert (found["device"], found["capacity_bytes"]) == ("cuda", 80 * 2**30)


REFRESH = "--rollout.refresh_reward_model"


def test_a_refresh_trains_as_the_policy_does_and_its_batch_can_be_made_smaller(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prompts = [f"{REFRESH}.prompts", "mstar.prompts.TinyDice", f"{REFRESH}.prompts.split=refresh"]
    prompts.append(f"{REFRESH}.prompts.size=8")
    refresh = [REFRESH, "mstar.callbacks.RewardModelRefresh", f"{REFRESH}.iterations", "[3]", *prompts]
    settings = real("evolve", "internvl2_2b", "cards/80gb.yaml", "overlays/vllm.yaml")
    arguments = [*settings, *refresh, "--shape", str(SHAPES / "internvl3_2b"), "--gpu_memory_gb", "80", "--rows", "0"]
    main(["memory", *arguments, f"{REFRESH}.batch_size", "128"])
    assert f"- it would fit with {REFRESH}.batch_size 4\n" in capsys.readouterr().out
    stages = account(capsys, tmp_path, *arguments, f"{REFRESH}.batch_size", "4")["stages"]
    # A batch of 4 rows, as the policy's, in the same types and with activations computed again; vLLM is asleep.
    shared = ("activations", "one layer's gradients", "vLLM asleep")
    assert [stages["refresh"][name] for name in shared] == [stages["train"][name] for name in shared]


def test_tokens_are_counted_where_the_data_is_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tiny = ["--config", str(CONFIGS / "tiny/warmup.yaml")]
    assert account(capsys, tmp_path, *tiny)["assumptions"][0].startswith("counted on 32 prompts")
    assert account(capsys, tmp_path, *tiny, "--rows", "0")["assumptions"][0].startswith("assumed")


def test_a_folder_that_is_not_there_yet_asks_for_a_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", *real("evolve", "qwen2_5_vl_7b")]) == 1
    assert "by --shape" in capsys.readouterr().err


def test_overrides_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tiny = ["--config", str(CONFIGS / "tiny/warmup.yaml")]
    few = account(capsys, tmp_path, *tiny, "--data.batch_size", "8")
    many = account(capsys, tmp_path, *tiny, "--data.batch_size", "64")
    assert many["stages"]["train"]["activations"] == 8 * few["stages"]["train"]["activations"]


def test_help_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["memory", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--shape", "--gpu_memory_gb", "--json", "--prompt_tokens"))


def peaks(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, shape: str, *more: str) -> dict[str, float]:
    """The largest stages of self-evolving training, in GB."""
    card = "24" if any("24gb" in name for name in more) else "80"
    arguments = [*real("evolve", model, *more), "--shape", str(SHAPES / shape), "--gpu_memory_gb", card, "--rows", "0"]
    found = account(capsys, tmp_path, *arguments)
    assert found["peak_bytes"] <= found["capacity_bytes"]
    stages = {name: sum(amounts.values()) for name, amounts in found["stages"].items()}
    return {"peak": found["peak_bytes"] / 1e9, "train": stages["train"] / 1e9, "disk": found["disk_bytes"] / 1e9}


@pytest.mark.parametrize(
    ("model", "shape", "sharded"),
    [
        ("minicpm_llama3_v_2_5", "minicpm_llama3_v_2_5", True),
        ("phi_3_5_vision", "phi_3_5_vision", True),
        ("internvl2_2b", "internvl3_2b", False),
        ("qwen2_5_vl_7b", "qwen2_5_vl_7b", True),
        ("smolvlm_256m", "smolvlm_256m", False),
    ],
)
def test_the_table_of_the_real_models_is_what_the_command_says(
    model: str, shape: str, sharded: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = peaks(capsys, tmp_path, model, shape, *(["overlays/fsdp2.yaml"] if sharded else []))
    large = peaks(capsys, tmp_path, model, shape, "cards/80gb.yaml")
    small = peaks(capsys, tmp_path, model, shape, "cards/24gb.yaml", "cards/24gb_rollouts.yaml")
    row = next(line for line in (CONFIGS / "README.md").read_text().splitlines() if line.startswith(f"| `{model}`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    said = [f"{found['train']:.0f} / {found['peak']:.0f} GB" for found in (whole, large, small)]
    assert [*cells[3:6], cells[6]] == [*said, f"{whole['disk']:.0f} GB"]


STEPS = ["--command", "test", "--data.test.path", "labels", "--trainer.accelerator"]


@pytest.mark.parametrize(
    ("benchmark", "reward", "stages"),
    [
        ("visualprocessbench", ["--model.reward_model", "mstar/tiny-idefics3"], {"MPRM": 1}),
        ("processbench", ["--model.reward.model", "{text}"], {"QwenMathPRM": 1}),
        ("processbench", ["--model.reward", "mstar.rewards.Implicit", "--model.reward.folder", "{text}",
                          "--model.reward.reference", "{text}"], {"Implicit": 2}),
    ],
)  # fmt: skip
def test_whatever_scores_a_benchmark_of_steps_is_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, benchmark: str, reward: list[str], stages: dict[str, int]
) -> None:
    from transformers import Qwen2Config

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100}
    Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2).save_pretrained(tmp_path)
    # Embeddings and head; queries and output, keys and values, biases, the perceptron and two norms a layer; a norm.
    text = 2 * 6400 + 2 * (2 * 4096 + 2 * 2048 + 128 + 3 * 6144 + 128) + 64
    config = ["--config", str(CONFIGS / f"benchmarks/{benchmark}.yaml"), *STEPS]
    given = [argument.format(text=tmp_path) for argument in reward]
    [(name, models)] = stages.items()
    for device, size in (("cpu", 4), ("gpu", 2)):
        found = account(capsys, tmp_path, *config, device, *given, "--gpu_memory_gb", "80")
        assert list(found["stages"]) == ["start", "score"]
        weights = found["stages"]["score"][name]
        assert found["stages"]["start"]["weights"] == weights
        if name != "MPRM":
            assert weights == models * text * size
