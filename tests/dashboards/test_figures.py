from __future__ import annotations

import warnings

import numpy as np

from mstar.dashboards.figures import pixels, sweep_figure


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


def test_names_with_dollars_are_not_mathtext() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = pixels(sweep_figure({1.0: {"$\\frac{$": 0.5}}, 1.0, "$\\frac{$"))
    assert image.dtype == np.uint8
    assert image.shape == (400, 700, 3)
