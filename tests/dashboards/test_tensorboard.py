from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.text.text_plugin import text_array_to_html
from torch.utils.tensorboard import SummaryWriter

from mstar.dashboards.tensorboard import CHARTS, first_picture, log_layout, log_samples
from mstar.errors import DataError
from mstar.storage import PromptResponses
from mstar.types import Turn

CONTRACT = {
    "dynamics/greedy_accuracy", "dynamics/pass@16", "dynamics/pass@16_gap", "dynamics/reward_pass@2",
    "dynamics/temperature", "funnel/generated", "funnel/parsed", "funnel/correct", "funnel/unique", "funnel/kept",
    "rollout/tokens", "rollout/truncated_fraction", "rollout/tokens_per_second", "time/generate", "time/grade",
    "time/score", "time/train", "mprm/auc", "mprm/best_of_n", "mprm/majority", "mprm/weighted_vote", "train/loss",
    "train/lr",
}  # fmt: skip
# What docs/dashboard.md tells to look at beside them.
FURTHER = {
    "mprm/auc_within", "mprm/likelihood_auc_within", "rollout/choice_fraction", "rollout/entropy",
    "rollout/response_length", "time/dynamics", "time/refresh", "time/sweep", "train/clipped_fraction", "train/kl",
    "train/ratio", "val/loss",
}  # fmt: skip


def _read(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    return events.Reload()


def test_layout_opens_on_the_dynamics_and_each_chart_draws_its_own_tags(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log_layout(writer)
    events = _read(tmp_path)
    (tensor,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == [
        "Dynamics", "Funnel", "Rollout", "MPRM", "Training", "Time",
    ]  # fmt: skip
    for category in layout.category:
        for chart in category.chart:
            # TensorBoard draws every tag that one of the chart's expressions matches at its beginning.
            drawn = {
                tag for tag in CONTRACT | FURTHER for expression in chart.multiline.tag if re.match(expression, tag)
            }
            assert drawn == {tag.replace("@K", "@16") for tag in CHARTS[category.title][chart.title]}
    assert {
        tag.replace("@K", "@16") for named in CHARTS.values() for tags in named.values() for tag in tags
    } == CONTRACT | FURTHER


def test_runs_of_every_k_share_their_charts(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log_layout(writer)
    (tensor,) = _read(tmp_path).Tensors("custom_scalars__config__")
    chart = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0]).category[0].chart[0]
    for tag in ("dynamics/pass@4", "dynamics/pass@16"):
        assert any(re.match(expression, tag) for expression in chart.multiline.tag)


def with_picture(group: PromptResponses, picture: Image.Image | None) -> PromptResponses:
    """The same, with another picture or one that cannot be read."""

    class Picture:
        uri = "picture.png"

        def load(self) -> Image.Image:
            if picture is None:
                raise DataError("picture.png does not exist.")
            return picture

    return dataclasses.replace(group, prompt=dataclasses.replace(group.prompt, images=(Picture(),)))


def test_samples_are_pictures_of_the_prompts_and_texts_at_the_step(tmp_path: Path, make_group: Any) -> None:
    first, *others = (make_group(i) for i in range(3))
    chat = dataclasses.replace(first.prompt, turns=(Turn("assistant", "Hello."),))
    with SummaryWriter(str(tmp_path)) as writer:
        log_samples(writer, [dataclasses.replace(first, prompt=chat), *others], step=7, max_prompts=2)
    events = _read(tmp_path)
    assert events.Tags()["images"] == ["samples/0", "samples/1"]
    (image,) = events.Images("samples/1")
    assert image.step == 7
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        own = make_group(1).prompt.images[0].load()
        assert (np.asarray(picture) == np.asarray(own)).all()
    (text,) = events.Tensors("samples/0/text_summary")
    markdown = text.tensor_proto.string_val[0].decode()
    assert "**right · kept**" in markdown
    assert "**Question**\n\n    assistant: Hello.\n    \n    user: " in markdown
    assert f"    0.10  {make_group(0).prompt.reference_responses[0].splitlines()[0]}" in markdown


def test_large_pictures_are_made_smaller_and_none_is_shown_where_none_can_be_read(
    tmp_path: Path, make_group: Any
) -> None:
    group = make_group(0)
    large = first_picture(with_picture(group, Image.new("L", (500, 1000), 9)))
    assert large is not None
    assert large.shape == (512, 256, 3)
    assert (large == 9).all()
    without = dataclasses.replace(group, prompt=dataclasses.replace(group.prompt, images=()))
    with SummaryWriter(str(tmp_path)) as writer:
        log_samples(writer, [with_picture(group, None), without], step=1)
    tags = _read(tmp_path).Tags()
    assert tags["images"] == []
    assert tags["tensors"] == ["samples/0/text_summary", "samples/1/text_summary"]


@pytest.mark.parametrize("scored", [True, False])
def test_a_response_cannot_add_markup_to_the_text_page(
    tmp_path: Path, make_group: Any, hostile: str, scored: bool
) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log_samples(writer, [make_group(0, hostile, scored=scored)], step=0)
    (text,) = _read(tmp_path).Tensors("samples/0/text_summary")
    html = text_array_to_html(np.array(text.tensor_proto.string_val[0]), enable_markdown=True)
    assert "alert(1)" in html
    assert not re.search(r"<(script|img|h1|a)\b", html)
    assert "\\u202egnp.exe" in html
