from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mstar.dashboards.figures import pick_responses, pixels, sample_figure, sweep_figure
from mstar.errors import DataError
from mstar.storage import PromptResponses
from mstar.types import Fate


def _texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_sweep_marks_the_chosen_temperature_and_sorts_the_candidates() -> None:
    figure = sweep_figure(
        {1.0: {"reward_pass@2": 0.5, "accuracy": 0.3}, 0.3: {"reward_pass@2": 0.4}}, 0.3, "reward_pass@2"
    )
    reward, accuracy, chosen = figure.axes[0].get_lines()
    assert list(reward.get_xdata()) == [0.3, 1.0]
    assert list(reward.get_ydata()) == [0.4, 0.5]
    assert np.isnan(accuracy.get_ydata()[0])
    assert list(chosen.get_xdata()) == [0.3, 0.3]
    assert reward.get_linewidth() > accuracy.get_linewidth()
    with pytest.raises(ValueError, match="at least one candidate"):
        sweep_figure({}, 0.3, "reward_pass@2")


def test_names_and_texts_with_dollars_are_not_mathtext(make_group: Any, hostile: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(sweep_figure({1.0: {"$\\frac{$": 0.5}}, 1.0, "$\\frac{$")).shape == (400, 700, 3)
        group = make_group(0, hostile, "中文 $x^$ 9")
        image = pixels(sample_figure(group, max_responses=9))
    assert image.dtype == np.uint8
    assert image.shape[1] == 1100
    texts = "\n".join(_texts(sample_figure(group, max_responses=9)))
    assert "$\\frac{1$" in texts
    assert "\\u0000" in texts
    assert "\\u202egnp.exe" in texts
    assert "\x00" not in texts
    assert "\u202e" not in texts


def test_sample_shows_question_verdicts_scores_and_fate(make_group: Any) -> None:
    group = make_group(0)
    texts = _texts(sample_figure(group))
    assert texts[0] == group.prompt.question
    assert texts[1] == f"gold answer: {group.prompt.answer}"
    assert "✓ right · kept · process reward 0.10" in texts
    assert "\N{MULTIPLICATION X} wrong · process reward 0.10" in texts
    assert "0.10  " + group.prompt.reference_responses[0].split("\n")[0] in texts
    assert texts[-1] == "(2 of 3 responses shown)"


def test_small_pictures_are_enlarged_without_blur(make_group: Any) -> None:
    (picture,) = sample_figure(make_group(0)).axes[0].get_images()
    assert picture.get_interpolation() == "nearest"
    assert picture.get_array().shape == (32, 32, 3)


def test_an_unreadable_picture_does_not_stop_the_sample(make_group: Any) -> None:
    class Missing:
        uri = "gone.png"

        def load(self) -> Image.Image:
            raise DataError("gone.png does not exist.")

    group = make_group(0)
    group = PromptResponses(dataclasses.replace(group.prompt, images=(Missing(),)), group.responses)
    figure = sample_figure(group)
    assert figure.axes[0].texts[0].get_text() == "picture not shown: gone.png does\nnot exist."


def test_picked_responses_are_distinct_and_include_kept_and_wrong_ones(make_group: Any) -> None:
    group = make_group(0, "Answer: 1", "Answer: 2")
    picked = pick_responses(group, 3)
    assert [s.fate for s in picked] == [Fate.KEPT, Fate.WRONG, Fate.WRONG]
    assert [s.response.sample_index for s in picked] == [0, 2, 3]
    assert len(pick_responses(group, 9)) == 4
