"""Sizes of a model, as its configuration tells them."""

from __future__ import annotations

import torch

from mstar.memory.shape import shape_of


def test_the_tower_of_qwen2_vl_is_as_wide_as_its_layers() -> None:
    """Its hidden_size is the width that the pictures come out with, of the 7B 3,584."""
    from transformers import Qwen2VLConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

    config = Qwen2VLConfig()
    config.vision_config.depth = 1
    with torch.device("meta"):
        tower = Qwen2VisionTransformerPretrainedModel(config.vision_config)
    vision = shape_of(config).vision
    assert vision is not None
    assert (vision.hidden, vision.inner) == tuple(tower.blocks[0].mlp.fc2.weight.shape)
    assert vision.hidden != config.vision_config.hidden_size
