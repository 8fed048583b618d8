"""The dynamics by hand, from a scripted engine and scripted rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest
from torch import nn

from mstar.evaluation.dynamics import Dynamics, Sweep, measure_dynamics, sweep
from mstar.generation import Engine, Request, plan_samples
from mstar.generation.base import GREEDY
from mstar.grading import AnswerGrader, grade_response
from mstar.rendering import Renderer
from mstar.rewards import Reward, add_process_rewards
from mstar.storage import PromptResponses
from mstar.types import Prompt, Response
from tests.grading.told import Told

RIGHT, LUCKY, WRONG = "1 + 2 = 3\nAnswer: 3", "1 + 2 = 5\nAnswer: 3", "1 + 2 = 4\nAnswer: 4"
A = Prompt("a", "1 + 2?", answer="3", reference_responses=(RIGHT,))
B = Prompt("b", "1 + 2?", answer="3", reference_responses=(RIGHT,))
# For every prompt the greedy response, then the samples.
TEXTS = {"a": [WRONG, WRONG, RIGHT, WRONG, LUCKY], "b": [RIGHT, WRONG, WRONG, WRONG, WRONG]}
STEPS = {RIGHT: (0.9, 0.8), LUCKY: (0.3, 0.9), WRONG: (0.6, 0.5)}
LOGPROBS = {RIGHT: -2.0, LUCKY: -1.0, WRONG: -3.0}


class Scripted(Engine):
    """Sample number i of a prompt is its i-th text; records the requests."""

    max_new_tokens = 8

    def __init__(self, texts: dict[str, list[str]]) -> None:
        self.texts = texts
        self.requests: list[Request] = []
        self.bars: list[str] = []

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        raise AssertionError("the caller starts engines")

    def update_weights(self, policy: nn.Module) -> None:
        raise AssertionError("the caller updates weights")

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        self.requests += requests
        with self.counting(0) as bar:
            self.bars.append(bar.name)
        return [
            [
                Response(r.prompt.id, s.index, text, 9, True, s.temperature, LOGPROBS.get(text, -1.0))
                for s in r.samples
                for text in [self.texts[r.prompt.id][s.index]]
            ]
            for r in requests
        ]


class Continuous(Scripted):
    """One that batches as there is room."""

    continuous = True


class ScriptedReward(Reward):
    """Scores from a table; records what it was asked to score."""

    def __init__(self, steps: Mapping[str, tuple[float, ...]] = STEPS) -> None:
        self.steps = steps
        self.asked: list[tuple[str, list[str]]] = []

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        self.asked += [(prompt.id, [r.text for r in responses]) for prompt, responses in groups]
        return [[self.steps[r.text] for r in responses] for _, responses in groups]


def measure(
    reward: Any, texts: dict[str, list[str]] = TEXTS, prompts: Sequence[Prompt] = (A, B), **settings: int
) -> tuple[Dynamics, Scripted]:
    engine = Scripted(texts)
    dynamics = measure_dynamics(
        engine, prompts, AnswerGrader(), reward, num_samples=4, temperature=0.9, seed=5, stage="val/2", **settings
    )
    return dynamics, engine


def test_without_a_reward_model() -> None:
    dynamics, engine = measure(None)
    assert dynamics == Dynamics(
        prompts=2,
        greedy_accuracy=0.5,
        greedy_chain_accuracy=0.5,
        mean_accuracy=0.25,
        pass_at_k=0.5,
        k=4,
        pass_at_k_gap=0.0,
        majority=0.0,
        reward_pass_at_k=None,
        reward_k=2,
        reward=None,
    )
    # Greedy and samples in one request, so that each prompt is encoded once; seeded by stage and prompt.
    assert [request.samples for request in engine.requests] == [
        (GREEDY, *plan_samples(5, "val/2", prompt.id, 4, 0.9, first_index=1)) for prompt in (A, B)
    ]


def test_with_a_reward_model() -> None:
    reward = ScriptedReward()
    dynamics, _ = measure(reward)
    # Greedy responses are not scored.
    assert reward.asked == [("a", TEXTS["a"][1:]), ("b", TEXTS["b"][1:])]
    # Ranked by the lowest step: RIGHT 0.8, WRONG 0.5, LUCKY 0.3.
    assert dynamics.reward_pass_at_k == 0.5
    quality = dynamics.reward
    assert quality is not None
    assert quality.best_of_n == 0.5
    assert quality.majority == 0.0
    # Prompt a: answer 3 has 0.8 + 0.3, answer 4 has 0.5 + 0.5.
    assert quality.weighted_vote == 0.5
    # Distinct responses: a RIGHT, LUCKY, WRONG; b WRONG. Only RIGHT is good.
    assert quality.auc == 1.0
    assert (quality.auc_within, quality.compared) == (1.0, 1)
    assert (quality.auc_within_correct, quality.compared_correct) == (1.0, 1)
    # The likelihood puts LUCKY above RIGHT: half of the pairs of prompt a, and none of those with the right answer.
    assert quality.likelihood_auc_within == 0.5
    assert quality.likelihood_auc_within_correct == 0.0
    assert asdict(dynamics)["reward"]["best_of_n"] == 0.5
    # One prompt says nothing of how sure a difference is.
    assert quality.likelihood_lead is quality.likelihood_lead_error is None


def test_the_reward_s_choice_is_as_large_as_asked() -> None:
    # Ranked by the lowest step: 4 (0.7), 5 (0.6), 3 (0.5).
    said = [f"1 + 2 = {number}\nAnswer: {number}" for number in (3, 3, 4, 5, 5)]
    reward: Any = ScriptedReward(dict(zip(said, [(0.5,), (0.5,), (0.7,), (0.6,), (0.6,)], strict=True)))
    found = [measure(reward, {"a": said}, [A], reward_k=k)[0] for k in (1, 2, 3)]
    assert [dynamics.reward_k for dynamics in found] == [1, 2, 3]
    assert [dynamics.reward_pass_at_k for dynamics in found] == [0.0, 0.0, 1.0]


def scored(prompt: Prompt, *texts: str, finished: bool = True) -> PromptResponses:
    return PromptResponses(
        prompt,
        tuple(
            grade_response(prompt, Response(prompt.id, i, text, 9, finished, 1.0, LOGPROBS[text]), AnswerGrader())
            for i, text in enumerate(texts)
        ),
    )


def test_only_responses_that_can_be_kept_are_scored() -> None:
    reward: Any = ScriptedReward()
    groups = [scored(A, WRONG, RIGHT, LUCKY), scored(B, WRONG), scored(A, RIGHT, finished=False)]
    rated = add_process_rewards(groups, reward, only_correct=True)
    assert reward.asked == [("a", [RIGHT, LUCKY]), ("b", []), ("a", [])]
    assert [[s.process_reward for s in group.responses] for group in rated] == [[None, 0.8, 0.3], [None], [None]]
    assert rated[0].responses[2].step_scores == STEPS[LUCKY]
    assert [group.prompt for group in rated] == [A, B, A]
    assert [s.response for s in rated[0].responses] == [s.response for s in groups[0].responses]


def test_the_sweep_measures_every_temperature_on_its_own_samples() -> None:
    texts = {"a": [WRONG, WRONG, RIGHT, LUCKY], "b": [RIGHT, WRONG, WRONG, WRONG]}
    engine, reward = Scripted(texts), ScriptedReward()
    found = sweep(
        engine,
        [A, B],
        AnswerGrader(),
        reward,
        candidates=[0.5, 1.3],
        num_samples=2,
        k=1,
        seed=5,
        stage="sweep/1",
    )
    assert found.scores == {
        0.5: {"reward_pass@1": 0.5, "balance@1": 0.5, "pass@2": 0.5, "accuracy": 0.25},
        1.3: {"reward_pass@1": 0.5, "balance@1": 0.5, "pass@2": 0.5, "accuracy": 0.5},
    }
    assert found.values[1.3]["accuracy"] == (1.0, 0.0)
    # One request a prompt holds the samples of all temperatures.
    assert [len(engine.requests), len(reward.asked)] == [2, 2]
    samples = engine.requests[0].samples
    assert [(s.index, s.temperature) for s in samples] == [(0, 0.5), (1, 0.5), (2, 1.3), (3, 1.3)]
    assert len({s.seed for s in samples}) == 4


def test_every_top_k_is_measured_on_the_same_samples_against_one_number_aimed_at() -> None:
    engine, reward = Scripted({"a": [RIGHT, LUCKY, WRONG]}), ScriptedReward()
    found = sweep(
        engine, [A], AnswerGrader(), reward, candidates=[1.0], num_samples=3, k=2, seed=5, stage="sweep/1",
        top_k=[1, 2, 3],
    )  # fmt: skip
    assert len(engine.requests[0].samples) == 3
    # The reward ranks the wrong one before the lucky one: 1 right of 1, 1 of 2, 2 of 3, where 2 are aimed at.
    balances = [found.scores[1.0][f"balance@2_top_{number}"] for number in (1, 2, 3)]
    assert balances == pytest.approx([1 / 2 * 1, 1 / 2 * 1 / 2, 1 * 2 / 3])
    assert found.scores[1.0]["balance@2"] == balances[1]
    assert found.errors({1: "balance@2_top_1"}, (0.5, 1)) == {}
    assert found.errors({1: "balance@2_top_1"}, (1.0, 2)) == {}


def test_errors_of_pairs_are_of_differences_from_the_current_one() -> None:
    low, high = (0.0, 1.0, 0.0, 1.0), (1.0, 1.0, 0.0, 1.0)
    found = Sweep({0.5: {"x": low, "y": low}, 1.0: {"x": high, "y": low}})
    assert found.errors({1: "x", 2: "y"}, (1.0, 1)) == {
        (0.5, 1): 0.25, (0.5, 2): 0.25, (1.0, 1): 0.0, (1.0, 2): 0.25
    }  # fmt: skip


def test_a_sweep_says_how_sure_its_lead_over_the_current_temperature_is() -> None:
    found = Sweep({0.5: {"x": (0.0, 1.0, 0.0, 1.0)}, 1.0: {"x": (1.0, 1.0, 0.0, 1.0)}, 1.5: {"x": (0.0,) * 4}})
    # The differences from 1.0 are (-1, 0, 0, 0), none, and (-1, -1, 0, -1): standard deviations of 0.5.
    assert found.errors({2: "x"}, (1.0, 2)) == {(0.5, 2): 0.25, (1.0, 2): 0.0, (1.5, 2): 0.25}
    assert found.errors({2: "x"}, (0.7, 2)) == {}
    told = found.report({2: "x"}, (0.5, 2), (1.0, 2))
    assert (told["current"], told["chosen"], told["metric"]) == (0.5, 1.0, "x")
    assert (told["lead"], told["standard_error"]) == (0.25, 0.25)
    # It stays where it is, and says by how much it could have been better.
    assert found.report({2: "x"}, (0.5, 2), (0.5, 2))["lead"] == 0.25
    assert found.report({2: "x"}, (1.0, 2), (1.0, 2))["lead"] == 0.0
    unknown = found.report({2: "x"}, (0.7, 2), (1.0, 2))
    assert (unknown["lead"], unknown["standard_error"]) == (None, None)
    # A controller of one's own may choose what was not tried.
    assert found.report({2: "x"}, (0.5, 2), (0.8, 3))["lead"] is None
    # One prompt says nothing of the error.
    alone = Sweep({0.5: {"x": (0.0,)}, 1.0: {"x": (1.0,)}}).report({2: "x"}, (0.5, 2), (1.0, 2))
    assert (alone["lead"], alone["standard_error"]) == (1.0, None)


def test_a_grader_that_asks_a_model_asks_about_all_responses_together() -> None:
    grader, engine = Told(), Scripted(TEXTS)
    measure_dynamics(engine, [A, B], grader, None, num_samples=4, temperature=0.9, seed=5, stage="val/2")
    sweep(engine, [A, B], grader, ScriptedReward(), candidates=[0.5, 1.3], num_samples=2, k=1, seed=5, stage="s")
    assert grader.told == [10, 8]
    # The progress bars say what is drawn for.
    assert engine.bars == ["dynamics", "sweep"]


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no group"):
        measure_dynamics(Scripted({}), [], AnswerGrader(), None, num_samples=1, temperature=1.0, seed=0, stage="x")


@pytest.mark.parametrize(
    ("kind", "processes", "dynamics", "swept"),
    [
        # The recipe: 250 prompts, 14 temperatures. How they are divided up does not depend on the number of processes.
        (Scripted, 1, [16] * 15 + [10], [4] * 62 + [2]),
        (Scripted, 32, [16], [4, 4]),
        (Continuous, 1, [63, 63, 63, 61], [63, 63, 63, 61]),
        (Continuous, 3, [42, 42], [42, 42]),
        (Continuous, 32, [8], [8]),
    ],
)
def test_all_processes_have_validation_prompts(
    kind: type[Scripted], processes: int, dynamics: list[int], swept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt(str(number), "1 + 2?", answer="3") for number in range(250)]
    engine = kind({prompt.id: [WRONG] * 15 for prompt in prompts})
    for module in ("mstar.distributed", "mstar.evaluation.dynamics"):
        monkeypatch.setattr(f"{module}.world_size", lambda: processes)
    # As if the others had nothing to say.
    sizes: list[int] = []
    monkeypatch.setattr(
        "mstar.distributed.gather_lists", lambda done: sizes.extend(len(part) for _, part in done) or done
    )
    measure_dynamics(engine, prompts, AnswerGrader(), None, num_samples=2, temperature=1.0, seed=5, stage="d")
    assert sizes == dynamics
    sizes.clear()
    temperatures = [round(0.3 + i / 10, 1) for i in range(14)]
    options: dict[str, Any] = {"num_samples": 1, "k": 1, "seed": 5, "stage": "s"}
    sweep(engine, prompts, AnswerGrader(), ScriptedReward(), candidates=temperatures, **options)
    assert sizes == swept
