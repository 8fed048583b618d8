"""The configurations for MathV360K run on a folder that is laid out exactly like the original."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import mstar
from mstar.__main__ import main
from mstar.prompts import TinyDice
from mstar.storage import RunDirectory, read_responses

pytestmark = pytest.mark.usefixtures("own_cache")

CONFIGS = Path(mstar.__file__).parent.parent / "configs"
HINT = "Hint: Please answer the question and provide the final answer at the end.\nQuestion: "
SOURCES = ("TabMWP", "VQA-AS", "VQA2.0", "GeoQA+", "DocVQA", "Super-CLEVR")
NUM_PROMPTS = 48


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """48 questions about dice that a policy can answer, and a bad row of every kind."""
    folder = tmp_path / "MathV360K"
    rows: list[dict[str, Any]] = []
    for number, prompt in enumerate(TinyDice("pool", NUM_PROMPTS)):
        image = f"{SOURCES[number % len(SOURCES)]}/images/{number}.png"
        path = folder / "data_images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        prompt.images[0].load().save(path)
        rows.append(_row(number, image, f"<image>\n{HINT}{prompt.question}", f"The answer is {prompt.answer}"))
    images = folder / "data_images" / "TabMWP" / "images"
    whole = (images / "0.png").read_bytes()
    (images / "half.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.png").touch()
    rows += [
        _row(100, "TabMWP/images/gone.png", "Q?", "1"),
        _row(101, "TabMWP/images/half.png", "Q?", "1"),
        _row(102, "TabMWP/images/empty.png", "Q?", "1"),
        _row(103, "../train_samples_all_tuning.json", "Q?", "1"),
        _row(104, "TabMWP/images/0.png", "", "1"),
        _row(105, "TabMWP/images/0.png", "Q?", ""),
        _row(106, "TabMWP/images/0.png", "Why?", "The answer is a"),
        _row(107, "TabMWP/images/0.png", "Why?", "The answer is b"),
        {"id": "identity_108", "image": "TabMWP/images/0.png"},
    ]
    (folder / "train_samples_all_tuning.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def _row(number: int, image: str, asked: str, said: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
    return {"id": f"identity_{number}", "image": image, "conversations": turns}


def overridden(config: Path, root: Path, tmp_path: Path, policy: Path, run: str, mprm: Path | None = None) -> Path:
    """The configuration with its paths set, and nothing else."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["model"]["init_args"]["model_name"] = str(policy)
    sources = yaml.safe_load((config.parent / settings["data"]["init_args"]["sources"]).read_text(encoding="utf-8"))
    sources["dataset"]["init_args"] |= {
        "root": str(root), "splits": str(tmp_path / "splits"), "quarantine": str(tmp_path / "bad.jsonl"),
    }  # fmt: skip
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(sources), encoding="utf-8")
    settings["data"]["init_args"]["sources"] = "data.yaml"
    if mprm is not None:
        settings["rollout"]["reward_model"] = str(mprm)
    settings["trainer"]["default_root_dir"] = str(tmp_path / run)
    path = tmp_path / f"{run}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


SMALL = ["--rollout.engine.max_new_tokens=26", "--data.num_workers=1"]


def test_an_iteration_of_the_paper_s_recipe(
    root: Path, tmp_path: Path, warm_policy: Path, warm_mprm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = overridden(CONFIGS / "evolve" / "mathv360k_continuous.yaml", root, tmp_path, warm_policy, "run", warm_mprm)
    flags = ["--trainer.max_epochs=1", "--rollout.num_samples=4", *SMALL]
    # The questions without the configuration's instruction are those that the policy was warmed up on.
    flags.append("--data.sources.dataset.instruction=")
    assert main(["fit", "--config", str(config), *flags]) == 0
    run = RunDirectory(tmp_path / "run")
    report = json.loads(run.report(1).read_text())
    assert report["prompts"] == NUM_PROMPTS // 2 // 4
    responses = [response for path in run.response_shards(1) for response in read_responses(path)]
    assert len(responses) == 4 * report["prompts"]
    lists = {path.stem: path.read_text().split() for path in (tmp_path / "splits").iterdir()}
    assert {name: len(ids) for name, ids in lists.items()} == {
        "labelled": 26, "unlabelled": 14, "test": 6, "validation": 6,
    }  # fmt: skip
    assert {response.response.prompt_id for response in responses} <= set(lists["labelled"])
    assert (tmp_path / "run" / "policy" / "model.safetensors").is_file()
    reasons = Counter(json.loads(line)["reason"] for line in (tmp_path / "bad.jsonl").read_text().splitlines())
    assert reasons == {
        "missing_image": 1, "broken_image": 1, "empty_image": 1, "image_outside_root": 1, "empty_question": 1,
        "no_answer": 1, "wrong_type": 1, "conflicting_answers": 1,
    }  # fmt: skip
    assert capsys.readouterr().err.count("7 of 57 rows are put aside") == 1


def test_the_warm_up(root: Path, tmp_path: Path, warm_policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = overridden(CONFIGS / "warmup" / "mathv360k_answer_conditioned.yaml", root, tmp_path, warm_policy, "warmup")
    # The tiny policy knows nothing of answers that it is shown: its responses do not end, so that none is kept.
    assert main(["fit", "--config", str(config), *SMALL]) == 1
    assert "responses were cut off at 26 tokens: raise rollout.engine.max_new_tokens" in capsys.readouterr().err
    report = json.loads(RunDirectory(tmp_path / "warmup").report(1).read_text())
    assert 22 <= report["prompts"] <= 26  # some of the 26 have a bad picture
    assert not (tmp_path / "warmup" / "policy").exists()
    assert main(["test", "--config", str(config), *SMALL]) == 0


def test_too_many_bad_rows_stop_the_run_before_it_begins(
    root: Path, tmp_path: Path, warm_policy: Path, warm_mprm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = overridden(CONFIGS / "evolve" / "mathv360k_continuous.yaml", root, tmp_path, warm_policy, "run", warm_mprm)
    assert main(["fit", "--config", str(config), "--data.sources.dataset.max_bad_share=0.05"]) == 1
    assert "MathV360K: 7 of 57 rows are bad (12.3%" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
