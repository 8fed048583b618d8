"""One file of sources for all stages: warm-up, annotation, MPRM, self-evolving training and test."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from mstar.__main__ import main
from mstar.prompts import TinyDice
from mstar.storage import RunDirectory, read_responses

SOURCES = {
    "dataset": {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "pool", "size": 8}},
    "warmup": {"split": "seed", "size": 12},
    "annotation": {"split": "annotation", "size": 12},
    "train": {"start": 2},
    "validation": {"split": "validation", "size": 4},
    "test": {"split": "test", "size": 5},
}
POLICY_DATA = ["--data=mstar.datamodules.PolicyDataModule", "--data.batch_size=4"]


def test_every_stage_takes_its_part_of_one_file(tmp_path: Path, warm_policy: Path, warm_mprm: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump(SOURCES))
    # A class's options follow it.
    sources = f"--data.sources={path}"

    def trained(run: str, module: str, *flags: str) -> list[str]:
        return [
            "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path / run}", "--trainer.logger=false",
            f"--model=mstar.modules.{module}", f"--model.model_name={warm_policy}", *flags,
        ]  # fmt: skip

    policy = [*POLICY_DATA, sources]
    assert (
        main(["fit", *trained("warmup", "PolicyModule", *policy, "--data.stage=warmup", "--trainer.max_steps=1")]) == 0
    )

    labels = tmp_path / "labels"
    annotate = ["annotate", f"--policy={warm_policy}", f"--sources={path}", f"--output={labels}"]
    annotate += ["--engine=TransformersEngine", "--engine.max_new_tokens=26", "--settings.unmixed_share=1"]
    assert main([*annotate, "--settings.num_samples=3", "--settings.num_continuations=2"]) == 0
    labelled = {row["prompt_id"] for file in labels.glob("*.parquet") for row in pq.read_table(file).to_pylist()}
    assert labelled
    assert labelled <= {prompt.id for prompt in TinyDice("annotation", 12)}
    step_data = [
        "--data=mstar.datamodules.StepLabelDataModule",
        f"--data.labels={labels}",
        sources,
        "--trainer.max_steps=1",
    ]
    assert main(["fit", *trained("mprm", "MPRMModule", *step_data)]) == 0

    rollout = ["--rollout.num_samples=2", "--rollout.interval=1", f"--rollout.reward_model={warm_mprm}"]
    rollout += ["--rollout.engine=TransformersEngine", "--rollout.engine.max_new_tokens=26", "--trainer.max_epochs=1"]
    assert main(["fit", *trained("evolve", "PolicyModule", *policy, *rollout)]) == 0
    run = RunDirectory(tmp_path / "evolve")
    asked = {row.response.prompt_id for shard in run.response_shards(1) for row in read_responses(shard)}
    assert asked == {prompt.id for prompt in list(TinyDice("pool", 8))[2:]}

    assert main(["test", *trained("test", "PolicyModule", *policy, "--data.sources.test.size=3")]) == 0
    # What a run saves of its configuration says what was in the file.
    saved = yaml.safe_load((tmp_path / "evolve/config.yaml").read_text())["data"]["init_args"]["sources"]
    assert saved["dataset"]["init_args"]["size"] == 8
    assert saved["train"]["start"] == 2


def test_other_sources_keep_nothing_of_those_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = SOURCES["dataset"]
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"dataset": dataset, "train": {"size": 3}}))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"dataset": dataset, "train": {"start": 1}}))
    (tmp_path / "config.yaml").write_text("sources: theirs.yaml\npart: train\n")
    command = ["prompts", f"--config={tmp_path / 'config.yaml'}"]
    for more, number in ([], 3), ([f"--sources={tmp_path / 'mine.yaml'}"], 7):
        assert main([*command, *more]) == 0
        assert f"prompts    {number}\n" in capsys.readouterr().out
