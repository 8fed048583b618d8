"""TRL's form, by its columns; and where TRL is installed (the extra ``bench``), it trains on what was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from datasets import load_dataset

from mstar.__main__ import main
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.prompts import RecordPrompts, TinyDice
from mstar.storage import PromptResponses, RunDirectory, write_responses
from mstar.types import Fate

from ..conftest import WRONG, encode, outcomes, scored  # type: ignore[import-not-found]
from .conftest import export, parquet  # type: ignore[import-not-found]


def test_trl(run: Path) -> None:
    folder = export(run, "trl")
    sft = parquet(folder / "sft.parquet")
    file, chat, *_, text = sft
    assert [row["prompt_id"] for row in sft] == ["file", "chat", "chat", "chat", "text"]
    image, part = {"type": "image", "text": None}, lambda text: {"type": "text", "text": text}
    assert file["prompt"] == [{"role": "user", "content": [image, part("Which colour?")]}]
    assert file["completion"] == [{"role": "assistant", "content": [part("It is\nAnswer: red")]}]
    assert [message["content"] for message in chat["prompt"]] == [
        [part("Be brief.")], [part("Look: "), image, part(" what is it?")],
        [part("A room.")], [part("How many chairs?")],
    ]  # fmt: skip
    assert chat["images"][0].convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    assert text["images"] == []
    # A JPEG stays as it is.
    from datasets import Image

    [raw] = sft.cast_column("images", [Image(decode=False)])[0]["images"]
    assert raw["bytes"] == encode("red", "JPEG")
    pair = parquet(folder / "preference.parquet")[0]
    assert (pair["chosen"], pair["rejected"][0]["content"]) == (file["completion"], [part(WRONG[0])])
    steps = parquet(folder / "stepwise.parquet")
    assert [(row["prompt"], row["completions"], row["labels"]) for row in steps] == [
        ("Which colour?", ["It is", "Answer: red"], [True, True]),
        ("Be brief.\nLook: <image> what is it?\nA room.\nHow many chairs?", ["two"], [False]),
    ]


def test_a_run_of_text_has_no_column_of_pictures(run: Path) -> None:
    """TRL asks a model for its processor wherever there is one."""
    own = yaml.safe_load((run / "evolve/config.yaml").read_text())["data"]["init_args"]["train"]["init_args"]
    prompt = RecordPrompts(**own)[2]
    write_responses(RunDirectory(run / "evolve").responses(3, 0), [outcomes(prompt, ["2"])])
    folder = export(run, "trl", "--iteration", "3")
    assert "images" not in pq.read_schema(folder / "sft.parquet").names
    # Templates of models of text make nothing of parts, or an error.
    [row] = parquet(folder / "sft.parquet")
    assert row["prompt"][-1] == {"role": "user", "content": prompt.question}
    assert row["completion"] == [{"role": "assistant", "content": "2"}]
    assert not (folder / "stepwise.parquet").exists()


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl", reason="needs the extra 'bench'")


@pytest.fixture(scope="module")
def exported(trl: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prompts of the embedded task, each with a right and a wrong response."""
    root = tmp_path_factory.mktemp("trl")
    groups = []
    for prompt in list(TinyDice("pool", 2)):
        right = prompt.reference_responses[0]
        made = (scored(prompt, 0, right, Fate.KEPT), scored(prompt, 1, "Answer: 99", Fate.WRONG))
        groups.append(PromptResponses(prompt, made))
    write_responses(RunDirectory(root / "run").responses(1, 0), groups)
    train = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "pool", "size": 2}}
    config = {"rollout": {"num_samples": 2}, "data": {"init_args": {"train": train}}}
    (root / "run/config.yaml").write_text(yaml.safe_dump(config))
    assert main(["export-data", "--run", str(root / "run"), "--to", "trl", "--output", str(root / "out")]) == 0
    return root / "out"


@pytest.mark.parametrize(("kind", "name"), [("SFT", "sft"), ("DPO", "preference")])
def test_a_step_on_what_was_exported(trl: Any, exported: Path, tmp_path: Path, kind: str, name: str) -> None:
    data = load_dataset(
        "parquet", data_files=str(exported / f"{name}.parquet"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    # DPO loads its reference from where the model came from.
    load_model(EMBEDDED_MODEL).save_pretrained(tmp_path / "model")
    model: Any = load_model(str(tmp_path / "model"))
    before = model.lm_head.weight.detach().clone()
    options: dict[str, Any] = {"max_length": None, "max_steps": 1, "per_device_train_batch_size": 2}
    options |= {"learning_rate": 1e-3, "warmup_steps": 0, "report_to": [], "save_strategy": "no"}
    settings = getattr(trl, f"{kind}Config")(
        str(tmp_path / "out"), use_cpu=True, bf16=False, logging_steps=1, **options
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model=model,
        args=settings,
        train_dataset=data,
        processing_class=load_renderer(EMBEDDED_MODEL, model).processor,
    )
    trainer.train()
    loss = trainer.state.log_history[0]["loss"]
    assert 0 < loss < 20
    assert not torch.equal(before, trainer.model.lm_head.weight)
