"""When votes give an unlabelled prompt an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mstar.errors import ConfigError
from mstar.grading import AnswerGrader
from mstar.selection import Voting
from mstar.storage import PromptResponses
from mstar.types import AnswerIs, AnswerType, Prompt, Response, ScoredResponse, Verdict, VerdictStatus


def responses(*answers: str | None, rewards: tuple[float, ...] = ()) -> list[ScoredResponse]:
    return [
        ScoredResponse(
            Response("p", index, f"#{index}", 5, True, 1.0, -1.0),
            Verdict(False, answer, VerdictStatus.GRADED),
            process_reward=rewards[index] if rewards else None,
        )
        for index, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("voting", "answers", "rewards", "answer"),
    [
        (Voting(), ("8", "7", "7"), (), "7"),
        (Voting(), ("8", "7", "7"), (0.9, 0.2, 0.2), "8"),
        (Voting(), ("8", "7", "7", "8"), (), "8"),
        (Voting(ties=False), ("8", "7", "7", "8"), (), None),
        (Voting(ties=False), ("8", "7", "7"), (), "7"),
        (Voting(min_share=0.6), ("7", "7", "8", None), (), "7"),
        (Voting(min_share=0.7), ("7", "7", "8", None), (), None),
        (Voting(min_share=0.28), ("7",) * 7 + tuple("abcdef" * 3), (), "7"),
        (Voting(min_share=0.5), ("7", "8"), (0.0, 0.0), "7"),
        (Voting(min_share=0.5), ("7", "8", "9"), (0.0, 0.0, 0.0), None),
        (Voting(), (None, None), (), None),
    ],
    ids=[
        "most",
        "by reward",
        "tie: the earliest",
        "tie: none",
        "no tie",
        "share",
        "below the share",
        "just the share",
        "no reward",
        "no reward, below",
        "no answer",
    ],
)
def test_the_answer(
    voting: Voting, answers: tuple[str | None, ...], rewards: tuple[float, ...], answer: str | None
) -> None:
    found = voting.label(PromptResponses(Prompt("p", "?"), tuple(responses(*answers, rewards=rewards))))
    assert found.prompt.answer == answer
    assert [s.verdict.correct for s in found.responses] == [answer is not None and given == answer for given in answers]


def test_what_was_cut_off_has_no_vote() -> None:
    whole = responses("7", "7", "8", "8", "8", rewards=(0.5,) * 5)
    cut = [replace(s, response=replace(s.response, finished=s.verdict.predicted == "7")) for s in whole]
    found = Voting().label(PromptResponses(Prompt("p", "?"), tuple(cut)))
    assert found.prompt.answer == "7"
    assert Voting().label(PromptResponses(Prompt("p", "?"), tuple(whole))).prompt.answer == "8"
    none = [replace(s, response=replace(s.response, finished=False)) for s in whole]
    assert Voting().label(PromptResponses(Prompt("p", "?"), tuple(none))).prompt.answer is None


def test_a_share_is_one() -> None:
    with pytest.raises(ConfigError, match=r"min_share is 1\.5"):
        Voting(min_share=1.5)


@pytest.mark.parametrize(
    ("rewards", "weight"),
    [((), 0.75), ((0.5, 0.5, 0.5, 1.0), 0.8), ((0.0,) * 4, 0.5)],
    ids=["by number", "by reward", "no vote counts"],
)
def test_soft_votes_weigh_by_the_share_of_the_answer(rewards: tuple[float, ...], weight: float) -> None:
    group = PromptResponses(Prompt("p", "?"), tuple(responses("7", "7", "8", "7", rewards=rewards)))
    assert [s.weight for s in Voting().label(group).responses] == [1.0] * 4
    assert [s.weight for s in Voting(weight="share").label(group).responses] == pytest.approx([weight] * 4)


def test_the_voted_answer_is_a_letter_whatever_the_hidden_one_is() -> None:
    asked = Prompt(
        "p", "Which?", choices=("red", "blue"), answer_is=AnswerIs.INDEX0, answer_type=AnswerType.MULTI_CHOICE
    )
    voted = Voting().label(PromptResponses(asked, tuple(responses("B", "B", "A"))))
    assert voted.voted
    assert AnswerGrader().grade(voted.prompt, "Answer: (B)").correct
