"""Right chains with a wrong value: what is changed, what is not, and what it is labelled."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.annotation.contrast import ContrastSettings, make_contrasts
from mstar.errors import ConfigError
from mstar.steps import split_steps
from mstar.types import StepLabels

RIGHT = "red = 3\nblue = 5\n3 + 5 = 8\nAnswer: 8"


def label(response: str, correct: bool = True, prompt_id: str = "p", **changes: Any) -> StepLabels:
    steps = split_steps(response)
    values = {"num_correct": (2,) * len(steps), "num_total": (4,) * len(steps), **changes}
    return StepLabels(prompt_id, response, steps, correct=correct, **values)


def made(*labels: StepLabels, seed: int = 0, **settings: Any) -> list[StepLabels]:
    return list(make_contrasts(labels, ContrastSettings(**settings), seed))


def test_a_sibling_s_reading_takes_the_value_s_place() -> None:
    sibling = label("blue = 4\nred = 3\n4 + 3 = 7\nAnswer: 7", correct=False)
    [contrast] = made(label(RIGHT), sibling, change="sibling", follow="left")
    assert contrast.response == "red = 3\nblue = 4\n3 + 5 = 8\nAnswer: 8"
    assert contrast.steps == split_steps(contrast.response)
    # Before it the labels stay; from it on everything is wrong.
    assert contrast.soft_labels == (0.5, 0.0, 0.0, 0.0)
    assert contrast.correct

    [contrast] = made(label(RIGHT), sibling, change="sibling", follow="consistent")
    assert contrast.response == "red = 3\nblue = 4\n3 + 4 = 8\nAnswer: 8"
    assert contrast.soft_labels == (0.5, 0.0, 0.0, 0.0)


def test_a_changed_answer_is_no_right_answer() -> None:
    chain = label("The bar is 5.\nAnswer: 5")
    [contrast] = made(chain, change="value")
    assert contrast.response == contrast.response.replace("5", contrast.response[-1])
    assert not contrast.correct
    assert made(chain, change="value", follow="left")[0].response.endswith("Answer: 5")


def test_what_a_believed_chain_states_is_never_called_wrong() -> None:
    rival = label("red = 4\nblue = 4\n4 + 4 = 8\nAnswer: 8")
    assert made(label(RIGHT), rival, change="sibling") == []
    for seed in range(30):
        for contrast in made(label(RIGHT), rival, seed=seed, change="value"):
            assert not {"red = 3\n", "red = 4\n", "blue = 5\n", "blue = 4\n"} & {
                contrast.steps[contrast.soft_labels.index(0.0)]
            }


def test_what_a_right_chain_states_is_not_wrong_where_a_line_of_it_has_no_label() -> None:
    rival = label("We choose.\nblue = 4\n4 + 4 = 8\nAnswer: 8", num_correct=(0, 1, 1, 1), num_total=(0, 1, 1, 1))
    assert made(label(RIGHT), rival, change="sibling") == []
    wrong = label("We choose.\nblue = 4\n4 + 4 = 8\nAnswer: 8", num_correct=(0, 0, 1, 1), num_total=(0, 1, 1, 1))
    assert [contrast.steps[1] for contrast in made(label(RIGHT), wrong, change="sibling")] == ["blue = 4\n"]


@pytest.mark.parametrize(
    "chain",
    [
        label(RIGHT, correct=False),
        label(RIGHT, num_correct=(0, 1, 1, 1), num_total=(0, 1, 1, 1)),
        label(RIGHT, num_correct=(2, 2, 0, 2)),
        label("The bar is red.\nAnswer: 5"),
        label("Answer: 5"),
    ],
)
def test_chains_that_no_contrast_is_made_of(chain: StepLabels) -> None:
    assert made(chain) == []


def test_contrasts_follow_from_the_seed_and_the_prompt_alone() -> None:
    chains = [label(RIGHT.replace("8", str(n)), prompt_id=f"p{n}") for n in range(40)]
    whole = made(*chains, share=0.5)
    assert 10 < len(whole) < 30
    assert whole == [contrast for chain in chains for contrast in made(chain, share=0.5)]
    assert whole != made(*chains, share=0.5, seed=1)


def test_the_contrasts_of_a_chain_are_different() -> None:
    contrasts = made(label(RIGHT), each=8)
    assert len({contrast.response for contrast in contrasts}) == len(contrasts) > 4
    assert RIGHT not in {contrast.response for contrast in contrasts}


def test_more_can_be_asked_of_a_believed_chain() -> None:
    twin = label("blue = 5\nred = 3\n3 + 5 = 8\nAnswer: 7", correct=False)
    assert made(label(RIGHT), min_label=0.5)
    assert made(label(RIGHT), min_label=0.6) == []
    assert made(label(RIGHT), twin, support=1)
    assert made(label(RIGHT), twin, support=2) == []
    for other in (RIGHT.replace("red = 3", "red = 2"), RIGHT.replace("3 + 5 = 8", "5 + 3 = 8")):
        assert made(label(RIGHT), label(other, correct=False), support=1) == []


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.5}, {"each": 0}, {"min_label": 1.5}, {"support": -1}])
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="contrast"):
        ContrastSettings(**settings)
