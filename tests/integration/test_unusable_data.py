"""What breaks only when it is used (a picture that cannot be decoded, a prompt that is too long) stops no run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from mstar.__main__ import main
from mstar.annotation.label_table import load_step_labels
from mstar.models.backbone import load_renderer
from mstar.prompts import TinyDice
from mstar.storage import RunDirectory, read_responses

pytestmark = pytest.mark.usefixtures("own_cache")

BROKEN = 3


def write(folder: Path, split: str, size: int) -> dict[str, Any]:
    """A JSONL file of questions about dice, of which one picture is no picture; it is not looked at when it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, prompt in enumerate(TinyDice(split, size)):  # type: ignore[arg-type]
        name = f"{split}-{number}.png"
        prompt.images[0].load().save(folder / name)
        if number == BROKEN:
            (folder / name).write_bytes((folder / name).read_bytes()[:60])
        row = {"id": prompt.id, "question": prompt.question, "answer": prompt.answer, "image": name}
        lines.append(json.dumps(row | ({"rationale": prompt.rationale} if prompt.rationale else {})) + "\n")
    path = folder / f"{split}.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    settings = {"path": str(path), "check_images": "none"}
    return {"class_path": "mstar.prompts.RecordPrompts", "init_args": settings}


def put_aside(path: Path) -> list[tuple[Any, str, str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["row"], row["reason"], row["content"]["id"]) for row in rows]


def sampled(run: RunDirectory, iteration: int) -> set[str]:
    shards = run.response_shards(iteration)
    return {response.response.prompt_id for path in shards for response in read_responses(path)}


def test_rollouts_and_validation_go_on(evolve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = evolve.settings(interval=1.0, shard_size=5)
    settings["data"]["init_args"] |= {
        "train": write(tmp_path / "data", "pool", 16), "validation": write(tmp_path / "data", "validation", 8),
        "num_workers": 1,
    }  # fmt: skip
    assert main(["fit", "--config", str(evolve.write(settings)), "--trainer.max_epochs", "1"]) == 0
    run = RunDirectory(evolve.folder / "run")
    [path] = run.quarantines(1)
    assert put_aside(path) == [(None, "broken_image", f"pool-0-{BROKEN}")]
    report = json.loads(run.report(1).read_text())
    assert (report["prompts"], report["put_aside"]) == (15, 1)
    assert sampled(run, 1) == {f"pool-0-{n}" for n in range(16) if n != BROKEN}
    assert put_aside(run.root / "quarantine/validation.jsonl") == [(BROKEN, "broken_image", f"validation-0-{BROKEN}")]
    said = capsys.readouterr().err
    assert "prompts: 1 of 16 rows are put aside (1 broken_image)" in said
    assert "data.validation: 1 of 8 rows are put aside (1 broken_image)" in said
    settings["trainer"]["default_root_dir"] = str(tmp_path / "again")
    flags = ["--data.max_bad_share", "0.01", "--trainer.max_epochs", "1", "--rollout.dynamics", "false"]
    assert main(["fit", "--config", str(evolve.write(settings, "again")), *flags]) == 1
    assert "which is more than data.max_bad_share 0.01. One: The image" in capsys.readouterr().err


def test_long_prompts_are_not_sampled(evolve: Any, tiny: Any) -> None:
    counts = {prompt.id: tiny.renderer.count_tokens(prompt) for prompt in TinyDice("pool", 32)}
    limit = max(counts.values()) - 1
    longer = {prompt_id for prompt_id, count in counts.items() if count > limit}
    assert 0 < len(longer) < 32
    flags = [f"--data.max_prompt_tokens={limit}", "--data.max_bad_share=1", "--trainer.max_epochs=1"]
    run = RunDirectory(evolve(*flags, interval=1.0, dynamics=False))
    assert sampled(run, 1) == set(counts) - longer
    [path] = run.quarantines(1)
    assert sorted(put_aside(path)) == sorted((None, "too_long", prompt_id) for prompt_id in longer)


def test_supervised_training_and_tests_go_on(
    evolve: Any, tmp_path: Path, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = evolve.settings()
    del settings["rollout"]
    whole = {
        prompt.id: tiny.renderer.count_tokens(prompt) + tiny.renderer.count_response_tokens(prompt.rationale or "")
        for prompt in TinyDice("seed", 16)
    }
    limit = max(whole.values()) - 1
    longest = {prompt_id for prompt_id, count in whole.items() if count > limit}
    settings["data"]["init_args"] |= {
        "train": write(tmp_path / "data", "seed", 16), "test": write(tmp_path / "data", "test", 8),
        "max_example_tokens": limit, "num_workers": 2, "max_bad_share": 0.5,
    }  # fmt: skip
    del settings["data"]["init_args"]["validation"]
    config = str(evolve.write(settings))
    assert main(["fit", "--config", config]) == 0
    run = evolve.folder / "run"
    rows = put_aside(run / "quarantine/train.jsonl")
    assert {(reason, prompt_id) for _, reason, prompt_id in rows} == {
        ("broken_image", f"seed-0-{BROKEN}"), *(("too_long", prompt_id) for prompt_id in longest - {f"seed-0-{BROKEN}"})
    }  # fmt: skip
    # Two epochs and two processes: each row stands there once, or twice if both found it at the same moment.
    assert f"data.train: {len({row for row, *_ in rows})} of 16 rows are put aside" in capsys.readouterr().err
    assert (run / "policy").is_dir()
    assert main(["test", "--config", config]) == 0
    assert put_aside(run / "quarantine/test.jsonl") == [(BROKEN, "broken_image", f"test-0-{BROKEN}")]
    assert "data.test: 1 of 8 rows are put aside" in capsys.readouterr().err


def test_annotation_goes_on(tmp_path: Path, warm_policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write(tmp_path / "data", "annotation", 12)
    flags = ["--engine.max_new_tokens", "26", "--engine.progress", "false", "--settings.num_samples", "4"]
    config = tmp_path / "annotate.yaml"
    settings = {
        "policy": str(warm_policy), "prompts": prompts, "output": str(tmp_path / "labels"),
        "engine": {"class_path": "mstar.generation.TransformersEngine"},
        "settings": {"num_continuations": 1, "unmixed_share": 1.0, "shard_size": 5},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(settings))
    assert main(["annotate", "--config", str(config), *flags]) == 0
    [path] = (tmp_path / "labels").glob("quarantine-*.jsonl")
    assert put_aside(path) == [(BROKEN, "broken_image", f"annotation-0-{BROKEN}")]
    labelled = {label.prompt_id for label in load_step_labels(tmp_path / "labels")}
    assert labelled == {f"annotation-0-{n}" for n in range(12) if n != BROKEN}
    said = capsys.readouterr().err
    assert "prompts: 1 of 12 rows are put aside (1 broken_image)" in said
    assert re.search(r"^prompts: 12 prompts of .* from 12 rows\n  columns: question = question", said, re.MULTILINE)


def test_an_mprm_learns_from_the_labels_that_can_be_used(
    tmp_path: Path, warm_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(24):
        Image.new("RGB", (32, 32), (number * 10, 0, 0)).save(tmp_path / f"images/{number // 2}.png")
        steps = ["red = 1", "blue = 2", "Answer: 3" + " and more" * (number == 20) * 40]
        rows.append(
            {
                "image": f"{number // 2}.png",
                "question": f"What is {number // 2}?",
                "steps": steps,
                "labels": [1, 1, number % 2],
            }
        )
    path = tmp_path / "images" / f"{BROKEN}.png"
    path.write_bytes(path.read_bytes()[:60])
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Path(__file__).parents[2] / "configs/mprm/public_labels.yaml"
    flags = [
        f"--model.model_name={warm_policy}", f"--data.labels.path={tmp_path / 'labels.jsonl'}",
        f"--data.labels.image_root={tmp_path / 'images'}", "--data.labels.check_images=none",
        f"--trainer.default_root_dir={tmp_path / 'run'}", "--data.validation_share=0", "--data.num_workers=1",
        "--data.max_example_tokens=60", "--trainer.max_epochs=2", "--data.batch_size=2", "--data.max_bad_share=0.2",
    ]  # fmt: skip
    assert main(["fit", "--config", str(config), *flags]) == 0
    found = [json.loads(line) for line in (tmp_path / "run/quarantine/labels.jsonl").read_text().splitlines()]
    assert {(row["row"], row["reason"]) for row in found} == {
        (6, "broken_image"),
        (7, "broken_image"),
        (20, "too_long"),
    }
    assert "data.labels: 3 of 24 rows are put aside (2 broken_image, 1 too_long)" in capsys.readouterr().err
    assert (tmp_path / "run/mprm").is_dir()


def test_an_example_that_is_too_long_is_left_out_of_a_self_evolving_run(evolve: Any) -> None:
    """Lightning's first loader holds one placeholder; the share of bad rows is that of the examples that follow it."""
    run = evolve("--trainer.max_epochs", "1", name="all", selection="all", dynamics=False)
    rows = pq.read_table(run / "iterations/0001/examples.parquet").to_pylist()
    renderer = load_renderer(str(evolve.policy))
    prompts = {prompt.id: prompt for prompt in TinyDice("pool", 32)}
    counts = [
        renderer.count_tokens(prompts[row["prompt_id"]]) + renderer.count_response_tokens(row["response"])
        for row in rows
    ]
    limit = max(counts) - 1
    share, length = "--data.max_bad_share=0.9", f"--data.max_example_tokens={limit}"
    short = evolve("--trainer.max_epochs", "1", share, length, name="short", selection="all", dynamics=False)
    aside = (short / "quarantine/train-0001.jsonl").read_text().splitlines()
    assert 0 < len(aside) == sum(count > limit for count in counts) < len(counts)
