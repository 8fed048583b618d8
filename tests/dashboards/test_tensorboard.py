from __future__ import annotations

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

from mstar.dashboards.tensorboard import dashboard_charts, log_layout, log_samples

CONTRACT = {
    "dynamics/greedy_accuracy", "dynamics/pass@16", "dynamics/pass@16_gap", "dynamics/reward_pass@2",
    "dynamics/temperature", "funnel/generated", "funnel/parsed", "funnel/correct", "funnel/unique", "funnel/kept",
    "rollout/tokens", "rollout/truncated_fraction", "rollout/tokens_per_second", "time/generate", "time/grade",
    "time/score", "time/train", "mprm/auc", "mprm/best_of_n", "mprm/majority", "mprm/weighted_vote", "train/loss",
    "train/lr",
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
    charts = dashboard_charts()
    for category in layout.category:
        for chart in category.chart:
            # TensorBoard draws every tag that one of the chart's expressions matches at its beginning.
            drawn = {tag for tag in CONTRACT for expression in chart.multiline.tag if re.match(expression, tag)}
            assert drawn == {tag.replace("@K", "@16") for tag in charts[category.title][chart.title]}
    assert {
        tag.replace("@K", "@16") for named in charts.values() for tags in named.values() for tag in tags
    } == CONTRACT


def test_runs_of_every_k_share_their_charts(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log_layout(writer)
    (tensor,) = _read(tmp_path).Tensors("custom_scalars__config__")
    chart = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0]).category[0].chart[0]
    for tag in ("dynamics/pass@4", "dynamics/pass@16"):
        assert any(re.match(expression, tag) for expression in chart.multiline.tag)


def test_samples_are_images_and_texts_at_the_step(tmp_path: Path, make_group: Any) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log_samples(writer, [make_group(i) for i in range(3)], step=7, max_prompts=2)
    events = _read(tmp_path)
    assert events.Tags()["images"] == ["samples/0", "samples/1"]
    (image,) = events.Images("samples/1")
    assert image.step == 7
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert picture.width == 1100
    (text,) = events.Tensors("samples/0/text_summary")
    markdown = text.tensor_proto.string_val[0].decode()
    assert "**right · kept**" in markdown
    assert f"    0.10  {make_group(0).prompt.reference_responses[0].splitlines()[0]}" in markdown


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
