"""TRL trains on what was exported for it; where it is not installed (the extra ``bench``), this is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import load_dataset

from mstar.__main__ import main
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.prompts import TinyDice
from mstar.storage import PromptResponses, RunDirectory, write_responses
from mstar.types import Fate

from .conftest import scored  # type: ignore[import-not-found]

trl = pytest.importorskip("trl", reason="needs the extra 'bench'")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def test_a_step_on_what_was_exported(exported: Path, tmp_path: Path, kind: str, name: str) -> None:
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
