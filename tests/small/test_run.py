"""The whole experiment in miniature, on a language model with random weights: every stage from its shipped config."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from mstar.cli.shipped_configs import find_config
from mstar.errors import ConfigError, MissingExtraError
from mstar.small import run
from mstar.small.align import AlignSettings
from mstar.small.compare import write_comparison
from mstar.small.run import FURTHER, SHARED, SmallRun, run_small
from tests.prompts.digits_file import put_digits
from tests.small.language import tiny_language_model

_QUIET = "--trainer.enable_progress_bar=false"
TOY = {
    # Without adapters: random weights have to be moved far until some answers are right.
    "warmup": ["--model.lora=null", "--model.lr=6e-3", "--trainer.max_epochs=3", "--data.train.size=320", _QUIET],
    "annotate": [
        "--prompts.size=24",
        "--settings.unmixed_share=1",
        "--settings.num_samples=2",
        "--settings.num_continuations=1",
    ],
    "mprm": ["--data.prompts.size=24", "--trainer.max_epochs=1", _QUIET],
    "evolve": ["--data.train.size=96", "--rollout.num_samples=3", _QUIET],
    "seed_only": ["--data.train.size=32", _QUIET],
    "test": ["--data.test.size=12", _QUIET],
}
ARMS = ("mprm_top_1", "random", "seed_only")


def toy(folder: Path, **changes: object) -> SmallRun:
    settings: dict[str, object] = {
        "seed": 3,
        "numbers": "float32",
        "output": folder,
        "arms": ARMS,
        "align": AlignSettings(steps=20, batch_size=2, held_out=8),
        "language": tiny_language_model,
        "overrides": TOY,
    }
    return SmallRun(**settings | changes)  # type: ignore[arg-type]


def test_a_further_arm_is_run_where_it_is_asked_for_as_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(run, "_arm", lambda _, arm: done.append(arm))
    monkeypatch.setattr(run, "_test", lambda _, arm: done.append(f"test {arm}"))
    run_small(SmallRun(output=tmp_path, numbers="float32"), ["mixed"])
    assert done == ["mixed", "test mixed"]


@pytest.mark.timeout(900)
def test_all_stages_run_and_go_on_where_they_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # One after another, as `--stages` runs them; seed_only needs the steps of the first arm.
    with pytest.raises(ConfigError, match=r"the stage start, which makes .*, is not done"):
        run_small(toy(tmp_path), ["warmup"])
    run_small(toy(tmp_path), ["start", "warmup"])
    with pytest.raises(ConfigError, match="as many steps as mprm_top_1, which is not done"):
        run_small(toy(tmp_path), ["seed_only"])
    capsys.readouterr()
    tables: list[str] = []
    run_small(toy(tmp_path), tested=lambda: tables.append(write_comparison(tmp_path)))
    printed = capsys.readouterr().out
    assert printed.count("done before") == 3
    # The warm-up's test too: a table after each.
    assert len(tables) == 1 + len(ARMS)

    folder = tmp_path / "seed-3"
    stages = json.loads((folder / "stages.json").read_text())["stages"]
    assert list(stages) == [
        "start", "warmup", "test warmup", "annotate", "mprm", "mprm_top_1", "test mprm_top_1", "random", "test random",
        "seed_only", "test seed_only",
    ]  # fmt: skip
    assert stages["seed_only"]["result"]["steps"] == stages["mprm_top_1"]["result"]["steps"] > 0
    # The second arm reads the first samples that the first one drew.
    reports = [json.loads((folder / arm / "iterations/0001/report.json").read_text()) for arm in ARMS[:2]]
    assert [report["reused"] for report in reports] == [0, 48]
    AutoModelForImageTextToText.from_pretrained(folder / "mprm_top_1/policy")
    assert (folder / "mprm/mprm").is_dir()
    assert "mprm-best" in (folder / "mprm_top_1/config.yaml").read_text()

    found = json.loads((tmp_path / "table.json").read_text())
    assert list(found["arms"]) == ["warmup", *ARMS]
    assert {(row["first"], row["second"]) for row in found["differences"]} == {
        ("mprm_top_1", "random"), ("mprm_top_1", "seed_only"), ("mprm_top_1", "warmup"), ("seed_only", "warmup"),
    }  # fmt: skip
    assert found["ranking"]["3"]["prompts"] == 48
    lines = tables[-1].splitlines()
    assert lines[0] == "| arm | seed 3 | CPU-s |"
    assert "| arm | total | difference | more | tallest | range | count |" in lines


def test_no_stage_of_digits_is_left_with_charts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_digits(tmp_path / "cache", monkeypatch)
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr("mstar.small.run.command", lambda *arguments: commands.append(arguments))
    monkeypatch.setattr("mstar.small.run.count_steps", lambda folder: 26)
    monkeypatch.setattr("mstar.small.run._start", lambda _: None)
    run_small(toy(tmp_path, task="digits", arms=(*ARMS, *FURTHER)), [*SHARED, *ARMS, *FURTHER])
    assert len(commands) == 14
    for command in commands:
        named = [argument.partition("=")[0] for argument in command if argument.endswith("=mstar.prompts.Digits")]
        found = next(argument.removeprefix("--config=") for argument in command if argument.startswith("--config="))
        charts = re.findall(r"(\w+): \{class_path: mstar\.prompts\.Charts", find_config(found).read_text())
        assert [name.rpartition(".")[2].lstrip("-") for name in named] == charts != []
    mixed, more_seed = (command for command in commands if command[0] == "fit" and command[-1].endswith(FURTHER))
    assert "--rollout.selection=mixed" in mixed
    assert any(argument.endswith("mprm-best") for argument in mixed)
    # It scores in what everything is computed in, on GPUs too.
    assert "--rollout.reward_dtype=float32" in mixed
    # As many steps as the first arm's, on new rationales that are each seen once.
    assert {"--data.train.seed=1", "--data.train.size=416", "--trainer.max_steps=26"} < set(more_seed)


def test_digits_are_learned_from_in_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_digits(tmp_path / "cache", monkeypatch)
    less = ["--data.train.size=16", "--data.test.size=4", "--trainer.max_epochs=1", "--model.lora=null", _QUIET]
    overrides = {"warmup": less, "test": less[1:2]}
    run_small(toy(tmp_path, task="digits", overrides=overrides), ["start", "warmup"])
    assert (tmp_path / "digits/seed-3/warmup/policy/config.json").exists()
    lines = write_comparison(tmp_path / "digits").splitlines()
    assert "| arm | total | difference | more | largest | range | even |" in lines


def test_another_model_in_16_bits_takes_the_same_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr("mstar.small.run.command", lambda *arguments: commands.append(arguments))
    monkeypatch.setattr("mstar.small.run.count_steps", lambda folder: 26)
    changed = toy(tmp_path, model="HuggingFaceTB/SmolVLM-256M-Instruct", numbers="bfloat16", overrides={})
    run_small(changed)
    assert [command[0] for command in commands] == ["fit", "predict", "annotate", "fit"] + ["fit", "predict"] * 3
    assert "--model.model_name=HuggingFaceTB/SmolVLM-256M-Instruct" in commands[0]
    for command in commands:
        wanted = ["--dtype=bfloat16"]
        if command[0] != "annotate":
            wanted = ["--trainer.precision=bf16-mixed", "--model.dtype=bfloat16"]
        assert set(wanted) <= set(command)
    assert "--trainer.max_steps=26" in commands[-2]
    # Its stages are not gone on with by another model's.
    with pytest.raises(ConfigError, match=r"stages in .*SmolVLM.*\(now not set\).*choose another output folder"):
        run_small(toy(tmp_path))


def test_seeds_of_other_numbers_are_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(run, "_start", lambda _: done.append("start"))
    run_small(toy(tmp_path), ["start"])
    with pytest.raises(ConfigError, match=r"seed-3' and '.*seed-4' cannot be in one table: numbers float32 \(now bflo"):
        run_small(toy(tmp_path, seed=4, numbers="bfloat16"), ["start"])
    assert done == ["start"]
    # What was refused has begun nothing.
    run_small(toy(tmp_path, seed=4), ["start"])
    assert done == ["start", "start"]


def test_a_stage_that_was_stopped_is_not_built_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_start", lambda _: None)

    def stop(*_: str) -> None:
        (tmp_path / "seed-3/warmup/policy").mkdir(parents=True)
        (tmp_path / "seed-3/warmup/policy/config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("mstar.small.run.command", stop)
    with pytest.raises(KeyboardInterrupt):
        run_small(toy(tmp_path), ["start", "warmup"])
    with pytest.raises(ConfigError, match=r"the stage warmup, which makes .*, is not done"):
        run_small(toy(tmp_path), ["annotate"])


def test_the_file_of_weights_is_not_downloaded_where_nothing_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("subprocess.run")
    monkeypatch.setattr("mstar.small.weights.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs the package 'gguf'"):
        run_small(toy(tmp_path, language=None), ["start"])


@pytest.mark.parametrize(
    ("has", "numbers"), [("avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("avx2", "float32")]
)
def test_numbers_are_the_machines_and_then_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: str, numbers: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {has: True})
    run_small(toy(tmp_path, numbers=None), [])
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    run_small(toy(tmp_path, numbers=None), [])
    assert json.loads((tmp_path / "seed-3/manifest.json").read_text()) == {"model": None, "numbers": numbers}
