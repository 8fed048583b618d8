"""What a class cannot take as None is refused by its whole key; everything else passes."""

from __future__ import annotations

from typing import Any

import pytest
from jsonargparse import Namespace

from mstar.cli.null_values import refuse_null
from mstar.errors import ConfigError


def config(**data: Any) -> Any:
    records = Namespace(class_path="mstar.prompts.RecordPrompts", init_args=Namespace(path="a.json", **data))
    module = Namespace(class_path="mstar.datamodules.PolicyDataModule", init_args=Namespace(train=records))
    return Namespace(subcommand="fit", fit=Namespace(data=module, ckpt_path=None))


def test_a_group_that_is_null_is_named() -> None:
    refuse_null(config(size=None, fields=None, image_root=None))
    with pytest.raises(ConfigError, match=r"^data\.train\.pixels is null, which it cannot be: leave it out"):
        refuse_null(config(pixels=None))


@pytest.mark.parametrize(
    ("class_path", "name"),
    [
        ("mstar.modules.PolicyModule", "optimizer"),
        ("mstar.rewards.published.VisualPRM", "batch_size"),
        ("mstar.callbacks.RewardModelRefresh", "annotation"),
    ],
)
def test_factories_and_settings_in_lists_are_looked_at(class_path: str, name: str) -> None:
    part = Namespace(class_path=class_path, init_args=Namespace(**{name: None}))
    with pytest.raises(ConfigError, match=rf"^trainer\.callbacks\.1\.{name} is null"):
        refuse_null(Namespace(trainer=Namespace(callbacks=[None, part])))


def test_a_class_that_cannot_be_asked_is_left_alone() -> None:
    refuse_null(Namespace(x=Namespace(class_path="no.such.Thing", init_args=Namespace(a=None))))
