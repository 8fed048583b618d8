"""The shapes of real models that estimates and measurements are made with: they have the sizes that are published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHAPES = Path(__file__).parents[1] / "benchmarks" / "shapes"
# Billions of parameters, as published; a shape that stands in for a model with code of its own may lack 1 %.
PUBLISHED = {
    "smolvlm_256m": (0.256485, 1e-5),
    "internvl3_2b": (2.088957, 1e-5),
    "qwen2_5_vl_3b": (3.754623, 1e-5),
    "phi_3_5_vision": (4.146621, 0.01),
    "internvl3_8b": (7.944374, 1e-5),
    "qwen2_5_vl_7b": (8.292167, 1e-5),
    "minicpm_llama3_v_2_5": (8.537093, 0.01),
    "qwen3_vl_8b": (8.767124, 1e-5),
}


def test_every_shape_has_a_published_size() -> None:
    assert {path.parent.name for path in SHAPES.glob("*/config.json")} == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_shape_has_as_many_parameters_as_the_model(name: str) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(SHAPES / name)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    billions, tolerance = PUBLISHED[name]
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e9 == pytest.approx(billions, rel=tolerance)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_shape_is_named_with_its_model(name: str) -> None:
    row = next(line for line in (SHAPES / "README.md").read_text().splitlines() if line.startswith(f"| `{name}`"))
    assert float(row.split("|")[3].split()[0]) == pytest.approx(PUBLISHED[name][0], abs=0.001)
