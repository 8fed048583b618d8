"""An export that would fail is found at the start of a fit; settings that Transformers would not save are mended."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from mstar.callbacks import ExportCallback
from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import check_export, save_model
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.6, "top_p": 0.9}, {"top_k": 20}, {"do_sample": False, "top_p": 0.8}]
)
def test_sampling_settings_of_hub_models_are_saved_again(split_folder: Path, tmp_path: Path, settings: Any) -> None:
    """Without mending, Transformers raises when the trained model is saved, after the whole fit."""
    model = load_model(str(split_folder))
    renderer = load_renderer(str(split_folder), model)
    save_model(model, renderer, tmp_path / "hub")
    path = tmp_path / "hub" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings), encoding="utf-8")
    again = load_model(str(tmp_path / "hub"))
    check_export(again, renderer)
    save_model(again, renderer, tmp_path / "exported")
    saved = json.loads((tmp_path / "exported" / "generation_config.json").read_text())
    assert saved["do_sample"] is True
    assert {name: saved[name] for name in settings if name != "do_sample"}.items() <= settings.items()


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_says_whether_its_head_is_tied(tied: bool, split_folder: Path, tmp_path: Path) -> None:
    model: Any = load_model(str(split_folder))
    renderer = load_renderer(str(split_folder), model)
    model.config.tie_word_embeddings, model.config.text_config.tie_word_embeddings = tied, not tied
    save_model(model, renderer, tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["tie_word_embeddings"] is saved["text_config"]["tie_word_embeddings"] is tied


def test_settings_that_can_be_saved_stay_as_they_are(split_folder: Path) -> None:
    assert load_model(str(split_folder)).generation_config.do_sample is not True


def test_a_processor_that_cannot_be_saved_ends_the_fit_before_it_begins(tmp_path: Path) -> None:
    module = PolicyModule("mstar/tiny-idefics3", lr=1e-3)
    renderer = copy.deepcopy(module.renderer)
    renderer.processor.image_processor.size = {"longest_edge": object()}
    module._renderer = renderer
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[ExportCallback()],
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"the processor of Idefics3.* cannot be saved, so that the fit could not export"
    ):
        trainer.fit(module, datamodule=PolicyDataModule(TinyDice("seed", 4), batch_size=4))
    assert trainer.global_step == 0
