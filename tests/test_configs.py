"""Every YAML file in configs/ is accepted by the parser that it is for, and says what it is meant to say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.__main__ import main

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
PARSED = [name for name in FILES if not name.startswith(("cloud/", "data/"))]
MODELS = ("minicpm_llama3_v_2_5", "phi_3_5_vision", "internvl2_2b", "qwen2_5_vl_7b", "smolvlm_256m")
STAGES = ("warmup", "annotate", "mprm", "evolve")
# What the files of a folder are laid on.
BASES = {
    "warmup": "warmup/mathv360k_answer_conditioned.yaml",
    "annotate": "annotate/paper.yaml",
    "mprm": "mprm/paper.yaml",
    "evolve": "evolve/mathv360k_continuous.yaml",
    "ablations": "tiny/evolve.yaml",
    "overlays": "tiny/evolve.yaml",
    "cards": "tiny/evolve.yaml",
}

Parse = Callable[..., dict[str, Any]]


def layers_of(name: str) -> list[str]:
    """The file, after those that it is laid on."""
    given = yaml.safe_load((CONFIGS / name).read_text())
    complete = {"policy", "settings"} <= set(given) or "class_path" in given.get("model", {})
    return [name] if complete else [BASES[name.split("/")[0]], name]


@pytest.fixture(scope="module")
def parsed_before() -> dict[tuple[str, ...], dict[str, Any]]:
    """What this module's tests have parsed; parsing takes half a second, and several look at the same."""
    return {}


@pytest.fixture
def parse(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    parsed_before: dict[tuple[str, ...], dict[str, Any]],
) -> Parse:
    """Parses configurations laid on one another, found by name from an empty folder, as the command does."""
    monkeypatch.chdir(tmp_path)

    def parsed(*names: str) -> dict[str, Any]:
        if names in parsed_before:
            return parsed_before[names]
        first = yaml.safe_load((CONFIGS / names[0]).read_text())
        command = "annotate" if "policy" in first and "output" in first else "fit"
        configs = [argument for name in names for argument in ("--config", name)]
        with pytest.raises(SystemExit) as end:
            main([command, *configs, "--print_config"])
        captured = capsys.readouterr()
        assert end.value.code == 0, captured.err
        result: dict[str, Any] = yaml.load(captured.out, yaml.CSafeLoader)
        return parsed_before.setdefault(names, result)

    return parsed


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of nested mappings, with their paths."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, tree


def find(tree: Any, path: tuple[str, ...]) -> Any:
    """The value at a path; ``init_args``, which may be left out, is looked into."""
    for key in path:
        tree = (
            tree["init_args"][key] if isinstance(tree, dict) and key not in tree and "init_args" in tree else tree[key]
        )
    return tree


def test_there_are_configs() -> None:
    expected = {f"{stage}/{model}.yaml" for stage in STAGES for model in MODELS}
    assert {"tiny/warmup.yaml", "tiny/evolve.yaml"} | expected <= set(FILES)


@pytest.mark.parametrize("name", PARSED)
def test_a_config_is_accepted_and_its_values_arrive(name: str, parse: Parse) -> None:
    parsed = parse(*layers_of(name))
    given = yaml.safe_load((CONFIGS / name).read_text())
    for path, value in leaves(given):
        if path[-1] == "sources":
            # A file of their own, whose path is relative to this one's.
            for within, part in leaves(yaml.safe_load((CONFIGS / name).parent.joinpath(value).read_text())):
                assert find(parsed, (*path, *within)) == part, path
        elif not isinstance(value, list):
            assert find(parsed, path) == value, path


@pytest.mark.parametrize("name", [name for name in PARSED if layers_of(name) != [name]])
def test_what_is_laid_on_another_file_merges_no_lists(name: str) -> None:
    # Lists are merged by position, so that what they change depends on what is there; one of its length is replaced.
    below, given = (yaml.safe_load((CONFIGS / layer).read_text()) for layer in layers_of(name))
    there = dict(leaves(below))
    lists = {path: value for path, value in leaves(given) if isinstance(value, list) and path in there}
    assert not [path for path, value in lists.items() if len(value) != len(there[path])]


@pytest.mark.parametrize("model", MODELS)
def test_the_papers_settings(model: str, parse: Parse) -> None:
    runs = f"runs/{model}"
    warmup, mprm, evolve = (parse(BASES[stage], f"{stage}/{model}.yaml") for stage in ("warmup", "mprm", "evolve"))
    annotate = parse(BASES["annotate"], f"annotate/{model}.yaml")
    remote = model in {"minicpm_llama3_v_2_5", "phi_3_5_vision"}
    for config in (warmup, mprm, evolve):
        trainer, module, data = config["trainer"], config["model"]["init_args"], config["data"]["init_args"]
        assert (module["lr"], module["lr_scheduler"]) == (1e-6, None)
        assert data["batch_size"] * trainer["accumulate_grad_batches"] * int(trainer["devices"]) == 128
        assert module["trust_remote_code"] is remote
        # Nobody but the user knows which code was read.
        assert module["revision"] is None
    rollout = evolve["rollout"]["init_args"]
    assert (rollout["num_samples"], rollout["interval"], rollout["selection"], rollout["top_k"]) == (
        16,
        0.25,
        "top_k",
        2,
    )
    temperature = rollout["temperature"]["init_args"]
    assert (temperature["every"], temperature["minimum"], temperature["maximum"], temperature["step"]) == (
        2,
        0.3,
        1.6,
        0.1,
    )
    assert temperature["margin"] == 0.0
    assert evolve["trainer"]["max_steps"] == 10000
    # They can be reached if half of the labelled questions are solved.
    most = evolve["trainer"]["max_epochs"] * rollout["interval"] * 180_000 * rollout["top_k"] / 128
    assert most >= 2 * evolve["trainer"]["max_steps"]
    assert warmup["rollout"]["init_args"]["answer_conditioned"] is True
    # Every stage begins where another ends.
    assert warmup["trainer"]["default_root_dir"] == f"{runs}/warmup"
    for config in (mprm, evolve):
        assert config["model"]["init_args"]["model_name"] == f"{runs}/warmup/policy"
    assert annotate["policy"] == f"{runs}/warmup/policy"
    assert annotate["trust_remote_code"] is remote
    assert mprm["data"]["init_args"]["labels"] == annotate["output"] == f"{runs}/annotate"
    assert rollout["reward_model"] == f"{mprm['trainer']['default_root_dir']}/mprm" == f"{runs}/mprm/mprm"
    # The labels' prompts are those of the annotation, rendered alike in every stage.
    for config in (warmup, mprm, evolve):
        assert config["data"]["init_args"]["sources"] == annotate["sources"]
    assert annotate["sources"]["warmup"]["size"] == 100000
    # An engine is given more than one GPU writes at the same time.
    settings = annotate["settings"]
    assert settings["shard_size"] * settings["num_samples"] >= 1024
    for config in (warmup, evolve):
        assert config["data"]["init_args"]["eval_batch_size"] == 256


@pytest.mark.parametrize("stage", ["warmup", "mprm", "evolve"])
def test_overlays_go_together_on_policy_and_mprm(stage: str, parse: Parse) -> None:
    overlays = ["overlays/lora.yaml", "overlays/qlora.yaml", "overlays/adamw_8bit.yaml", "overlays/multi_node.yaml"]
    config = parse(BASES[stage], f"{stage}/qwen2_5_vl_7b.yaml", *overlays)
    module = config["model"]["init_args"]
    lora = {"rank": 64, "alpha": 64, "dropout": 0.0, "target": "language", "quantization": "nf4", "modules_to_save": []}
    assert module["lora"] == lora
    assert (module["lr"], module["dtype"]) == (1e-5, "bfloat16")
    assert module["optimizer"]["class_path"] == "bitsandbytes.optim.PagedAdamW8bit"
    assert module["optimizer"]["init_args"]["weight_decay"] == 0.0
    trainer, batch = config["trainer"], config["data"]["init_args"]["batch_size"]
    assert batch * trainer["accumulate_grad_batches"] * trainer["devices"] * trainer["num_nodes"] == 128


def test_a_missing_package_is_named_with_the_extra_that_installs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder(PathFinder):
        """Finds all but one package; what Python raises then does not come from here."""

        @classmethod
        def find_spec(cls, name: str, *arguments: Any) -> Any:
            return None if name == "bitsandbytes" else super().find_spec(name, *arguments)

    monkeypatch.setattr(sys, "meta_path", [Finder if finder is PathFinder else finder for finder in sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    overlay = str(CONFIGS / "overlays/adamw_8bit.yaml")
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(CONFIGS / "tiny/evolve.yaml"), "--config", overlay, "--print_config"])
    assert "Install it with pip install 'mstar[qlora]'." in capsys.readouterr().err


def test_the_cloud_recipes_name_files_that_are_there() -> None:
    sky = yaml.safe_load((CONFIGS / "cloud/skypilot.yaml").read_text())
    assert {"resources", "setup", "run", "envs", "file_mounts", "num_nodes"} <= set(sky)
    assert not [path for path, value in leaves(sky) if isinstance(value, list)]
    for script in (sky["setup"], sky["run"], (CONFIGS / "cloud/slurm.sh").read_text()):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)  # noqa: S607
    # What stands later wins, so that no file may stand behind the user's flags.
    assert '"$@" --config' not in (CONFIGS / "cloud/slurm.sh").read_text()
    # What the script refers to is declared, or set by SkyPilot.
    used = set(re.findall(r"\$([A-Z][A-Z_]+)", sky["run"] + sky["setup"]))
    assert {name for name in used if not name.startswith("SKYPILOT_")} <= set(sky["envs"])
    for text in (CONFIGS / "cloud").iterdir():
        for name in re.findall(r"configs/[\w/]+\.(?:yaml|sh)", text.read_text()):
            assert (CONFIGS.parent / name).is_file(), name
    extras = re.search(r"'\.\[(.*)\]'", sky["setup"])
    assert extras is not None
    project = (CONFIGS.parent / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in project for extra in extras[1].split(","))


def test_the_image_is_made_of_the_lock_and_of_files_that_are_there() -> None:
    root = CONFIGS.parent
    image, ignored = ((root / name).read_text() for name in ("Dockerfile", ".dockerignore"))
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", image, flags=re.MULTILINE) for name in line.split()]
    assert {f"!{name}" for name in copied} == set(re.findall(r"^!.*$", ignored, flags=re.MULTILINE))
    assert [name for name in copied if not (root / name).exists()] == []
    extras = re.search(r"pip install -c constraints.txt '\.\[(.*)\]'", image)
    assert extras is not None
    assert all(f"\n{extra} = [" in (root / "pyproject.toml").read_text() for extra in extras[1].split(","))
    container = json.loads((root / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make install"


@pytest.mark.parametrize("name", ["mathvista", "m3cot", "mmstar", "mmstar_r", "mmbench", "mmbench_r", "ai2d"])
def test_a_benchmark_of_the_paper_asks_as_the_policy_was_trained(name: str) -> None:
    trained = yaml.safe_load((CONFIGS / "data/mathv360k.yaml").read_text())["dataset"]["init_args"]
    test = yaml.safe_load((CONFIGS / f"benchmarks/{name}.yaml").read_text())["data"]["init_args"]["test"]["init_args"]
    assert (test["instruction"], test["pixels"]) == (trained["instruction"], trained["pixels"])


@pytest.mark.parametrize(
    ("preempted", "status", "requeued"),
    [("2026-12-01T10:16:54", 143, True), ("None", 143, False), ("2026-12-01T10:16:54", 1, False)],
)
def test_a_job_that_slurm_preempted_is_put_back(tmp_path: Path, preempted: str, status: int, requeued: bool) -> None:
    told = tmp_path / "told"
    for name, does in (
        ("srun", f"exit {status}"),
        ("scontrol", f'echo "$@" >> {told}; echo "JobState=RUNNING PreemptTime={preempted}"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"}
    done = subprocess.run(["bash", str(CONFIGS / "cloud/slurm.sh")], env=environment, check=False)  # noqa: S607
    assert done.returncode == status
    assert ("requeue 7" in (told.read_text() if told.exists() else "")) is requeued
