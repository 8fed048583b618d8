"""The card of an exported model: each fact from the run's files, and none that is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from mstar.export.card import CardFacts, find_run, place, write_card, write_data_card
from mstar.modules.backbone_checkpoint import write_provenance

CONFIG = """
model:
  class_path: mstar.modules.PolicyModule
  init_args: {model_name: x, lr: 1.0e-06, freeze: null}
data:
  class_path: mstar.datamodules.PolicyDataModule
  init_args:
    train:
      class_path: mstar.prompts.Shuffled
      init_args:
        source: {class_path: mstar.prompts.RecordPrompts, init_args: {path: /home/me/data/train.parquet, token: SECRET}}
    validation: {class_path: mstar.prompts.RecordPrompts, init_args: {path: "https://me:SECRET@host/val.jsonl?key=SECRET"}}
rollout:
  class_path: mstar.callbacks.RolloutCallback
  init_args: {method: continuous, selection: top_k, top_k: 2, threshold: 0.5, reward_model: /home/me/runs/mprm,
    address: "http://me:SECRET@h"}
"""


def make_run(root: Path) -> Path:
    run = root / "run"
    for iteration, dynamics in enumerate([{"greedy_accuracy": 0.25, "pass_at_k": 0.5, "k": 16},
                                          {"greedy_accuracy": 0.375, "greedy_chain_accuracy": 0.2, "k": 16}, None,
                                          {"greedy_accuracy": 0.987}]):  # fmt: skip
        folder = run / f"iterations/{iteration:04d}"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({} if dynamics is None else {"dynamics": dynamics}))
    # What another plan made, put aside.
    shutil.copytree(run / "iterations/0003", run / "iterations/0001.old-1")
    (run / "config.yaml").write_text(CONFIG)
    return run


def facts(**changes: Any) -> CardFacts:
    known: dict[str, Any] = {
        "name": "me/dice", "kind": "policy", "trained_from": "org/base", "run": None, "iterations": None,
        "within": False, "command": "mstar export --checkpoint last.ckpt",
    }  # fmt: skip
    return CardFacts(**(known | changes))


def metadata(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_the_card_says_what_the_run_says(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "checkpoints").mkdir()
    assert find_run(run / "checkpoints/last.ckpt") == run
    text = write_card(facts(run=run, iterations=2, within=True))
    assert metadata(text) == {
        "base_model": "org/base", "library_name": "transformers", "pipeline_tag": "image-text-to-text",
        "tags": ["mstar", "self-evolving-training"],
    }  # fmt: skip
    assert ModelCard(text).data.base_model == "org/base"
    for line in (
        "- Epochs (iterations): 2, and a part of the next",
        "- `rollout.selection`: top_k",
        "- `rollout.reward_model`: `mprm`",
        "- `model.lr`: 1e-06",
        "- train: RecordPrompts, path `train.parquet`",
        "- validation: RecordPrompts, path `https://host/val.jsonl`",
        "| iteration | greedy accuracy | greedy chain accuracy | pass@16 |",
        "| 0 | 0.250 |  | 0.500 |",
        "| 1 | 0.375 | 0.200 |  |",
        'from_pretrained("me/dice")',
        "mstar export --checkpoint last.ckpt",
        "Not stated: add `license`",
    ):
        assert line in text
    # Neither what is measured after the checkpoint, nor what is nobody's business, nor what is not set.
    assert not [word for word in ("0.987", "SECRET", "/home/me", "freeze", "Chosen") if word in text]
    chosen = write_card(facts(run=run, iterations=2, best_by="dynamics/greedy_accuracy"))
    assert "- Chosen: the best epoch by `dynamics/greedy_accuracy` on the run's validation data" in chosen


def test_settings_that_the_method_has_no_use_for_are_left_out_and_classes_are_named(tmp_path: Path) -> None:
    adaptive = {"initial": 1.0, "every": 2, "top_k_candidates": [1, 2], "criterion": "balance", "unset": None}
    named = {"class_path": "mstar.temperature.AdaptiveTemperature", "init_args": adaptive}
    own = {"class_path": "lab.Cooling", "init_args": {"token": "SECRET"}}
    rules = {"selection": "top_k", "top_k": 2, "threshold": 0.5}
    for rollout, lines in (
        (rules | {"temperature": named}, [
            "- `rollout.selection`: top_k", "- `rollout.top_k`: 2", "- `rollout.temperature`: AdaptiveTemperature "
            "(initial 1.0, every 2, top_k_candidates [1, 2], criterion balance)",
        ]),
        (rules | {"selection": "threshold", "temperature": own}, [
            "- `rollout.selection`: threshold", "- `rollout.threshold`: 0.5", "- `rollout.temperature`: Cooling",
        ]),
        (rules | {"selection": "all"}, ["- `rollout.selection`: all"]),
        (rules | {"method": "nft"}, ["- `rollout.method`: nft"]),
    ):  # fmt: skip
        (tmp_path / "config.yaml").write_text(json.dumps({"rollout": {"init_args": rollout}}))
        assert [line for line in write_card(facts(run=tmp_path)).splitlines() if "`rollout." in line] == lines


def test_an_implicit_reward_model_is_no_policy_that_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    trained = "model: {class_path: mstar.modules.ImplicitRewardModule, init_args: {lr: 1.0e-06, beta: 0.1}}\n"
    (run / "config.yaml").write_text(trained)
    text = write_card(facts(run=run, iterations=1))
    assert "pipeline_tag" not in metadata(text)
    assert "process-reward-model" in metadata(text)["tags"]
    assert "process reward model of the implicit kind" in text
    assert "beta=0.1)" in text
    assert not [word for word in ("trained to reason", "greedy accuracy") if word in text]


def test_an_mprm_s_card_says_what_its_epochs_reached(tmp_path: Path) -> None:
    reached = {epoch: {"val/loss": 1 / epoch, "mprm/auc_within": 0.5 + epoch / 10} for epoch in (1, 2, 3)}
    (tmp_path / "validation.json").write_text(json.dumps(reached))
    (tmp_path / "config.yaml").write_text("model: {class_path: mstar.modules.MPRMModule, init_args: {lr: 0.1}}\n")
    text = write_card(facts(kind="mprm", run=tmp_path, iterations=2))
    assert (
        "On the run's validation data, after each epoch.\n\n| epoch | val/loss | mprm/auc_within |\n"
        "| --- | ---: | ---: |\n| 1 | 1.000 | 0.600 |\n| 2 | 0.500 | 0.700 |\n"
    ) in text
    assert "0.800" not in text


def test_a_model_with_code_of_its_own_is_loaded_with_it() -> None:
    text = write_card(facts(auto_class="AutoModelForCausalLM"))
    assert "import AutoModelForCausalLM, AutoProcessor" in text
    assert 'AutoModelForCausalLM.from_pretrained("me/dice", trust_remote_code=True)' in text
    assert "ImageTextToText" not in text


def test_what_is_not_known_is_left_out() -> None:
    text = write_card(facts(kind="mprm"))
    assert "pipeline_tag" not in metadata(text)
    assert metadata(text)["library_name"] == "mstar"
    assert not [word for word in ("## Method", "## Data", "## Measured", "Epochs", "None") if word in text]


def test_the_base_model_and_its_licence_are_found_through_the_models_between(tmp_path: Path) -> None:
    base, warm = tmp_path / "base", tmp_path / "warm"
    for folder in (base, warm):
        folder.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    (warm / "provenance.json").write_text(json.dumps({"trained_from": str(base)}))
    text = write_card(facts(trained_from=str(warm), kind="adapter"))
    assert metadata(text)["license"] == "apache-2.0"
    assert "Not stated" not in text
    assert "- Base model: the folder `base`, which is not on the hub" in text
    assert (
        "- Trained from: the folder `warm`, which is not on the hub, which was trained from the folder `base`" in text
    )
    # A folder of this machine is no name on the hub.
    assert "base_model" not in metadata(text)
    (warm / "provenance.json").write_text(json.dumps({"trained_from": "org/base"}))
    assert metadata(write_card(facts(trained_from=str(warm))))["base_model"] == "org/base"


def test_the_licence_of_data_is_told_where_its_own_card_names_one(tmp_path: Path) -> None:
    data, run = tmp_path / "charts", make_run(tmp_path)
    (data / "pictures").mkdir(parents=True)
    (data / "README.md").write_bytes(b"---\r\nlicense:\r\n- cc-by-4.0\r\n- mit\r\n---\r\n# Charts\r\n")
    source = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": f"{data}/train.jsonl"}}
    for value in (source, source | {"init_args": {"path": [str(data)]}}):
        (run / "config.yaml").write_text(json.dumps({"data": {"train": value}}))
        assert ", licence `cc-by-4.0, mit` by its own card" in write_card(facts(run=run))
    for text in ("# Charts\n", "---\nlicense: [\n---\n", "---\n- a list\n---\n", "---\npretty_name: Charts\n---\n"):
        (data / "README.md").write_text(text)
        assert "licence `" not in write_card(facts(run=run))
    source["init_args"]["path"] = "gone--data/train.jsonl"  # which looks like an id of the hub and is none
    (run / "config.yaml").write_text(json.dumps({"data": {"train": source}}))
    assert "licence `" not in write_card(facts(run=run))


def test_the_licence_of_data_from_the_hub_is_that_of_the_card_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    stored, run = tmp_path / "hub/datasets--org--charts", make_run(tmp_path)
    (stored / "refs").mkdir(parents=True)
    (stored / "refs/main").write_text("abc")
    (stored / "snapshots/abc").mkdir(parents=True)
    (stored / "snapshots/abc/README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    source = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": "org/charts"}}
    (run / "config.yaml").write_text(json.dumps({"data": {"train": source}}))
    assert "path `org/charts`, licence `cc-by-4.0` by its own card" in write_card(facts(run=run))


def test_a_relative_path_is_no_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where it was trained, and not where another model is trained on it."""
    base, elsewhere = tmp_path / "models/base", tmp_path / "elsewhere"
    for folder in (base, tmp_path / "runs/warm", elsewhere):
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    write_provenance(tmp_path / "runs/warm", "policy", "models/base", "abc")
    text = write_card(facts(trained_from="models/base"))
    assert "base_model" not in metadata(text)
    assert "- Base model: the folder `base`, which is not on the hub" in text
    monkeypatch.chdir(elsewhere)
    text = write_card(facts(trained_from=str(tmp_path / "runs/warm")))
    assert "base_model" not in metadata(text)
    assert "trained from the folder `base`" in text
    write_provenance(tmp_path / "runs/warm", "policy", "org/base", "abc")
    assert metadata(write_card(facts(trained_from="../runs/warm")))["base_model"] == "org/base"


def test_a_place_tells_no_more_than_others_may_know() -> None:
    assert [place(value) for value in ("/a/b/c", "~/x", "data/x", "org/name")] == ["c", "x", "data/x", "org/name"]


def test_a_data_card_says_how_its_rows_were_made_and_what_the_policy_reached(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "annotate").mkdir()
    settings = {"num_samples": 4, "temperature": 0.7, "seed": 3}
    (run / "annotate/config.yaml").write_text(json.dumps({"policy": "org/base", "settings": settings}))
    text = write_data_card("me/dice", "trl", {"sft.parquet": 2}, run, "mstar export-data")
    lines = text.split("## Method\n\n")[1].split("\n\n## ")[0].splitlines()
    assert lines == [
        "- `settings.num_samples`: 4 (annotate/config.yaml)",
        "- `settings.temperature`: 0.7 (annotate/config.yaml)",
        "- `rollout.method`: continuous (config.yaml)",
        "- `rollout.selection`: top_k (config.yaml)",
        "- `rollout.top_k`: 2 (config.yaml)",
        "- `rollout.reward_model`: `mprm` (config.yaml)",
    ]
    assert "| iteration | greedy accuracy | greedy chain accuracy | pass@16 |" in text
    assert "| 3 | 0.987 |  |  |" in text
    assert "SECRET" not in text


def test_a_data_card_names_the_data_set_behind_the_parts(tmp_path: Path) -> None:
    sources = {
        "dataset": {"class_path": "mstar.prompts.MathV360K", "init_args": {"root": "/home/me/MathV360K"}},
        "train": {"split": "labelled"},
    }
    other = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": "more.parquet"}}
    rollout = {"num_samples": 1, "refresh_reward_model": {"iterations": [2], "prompts": other}}
    configs = {
        "config.yaml": {"rollout": rollout, "data": {"init_args": {"train": None, "sources": sources}}},
        "annotate/config.yaml": {"policy": "org/base", "prompts": None, "sources": sources},
    }
    for name, config in configs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(config))
    lines = write_data_card("me/dice", "trl", {"sft.parquet": 2}, tmp_path, "mstar export-data").splitlines()
    assert [line for line in lines if ".yaml): " in line] == [
        "- sources (annotate/config.yaml): MathV360K, root `MathV360K`",
        "- sources (config.yaml): MathV360K, root `MathV360K`",
        "- refresh_reward_model.prompts (config.yaml): RecordPrompts, path `more.parquet`",
    ]
