"""Steps judged by a model by address: alone, in consensus, and never by an answer that cannot be read."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstar.annotation import AnnotationSettings, annotate
from mstar.dashboards.report import write_report
from mstar.endpoint import Traffic
from mstar.errors import ConfigError, EndpointError
from mstar.generation import OpenAIEngine
from mstar.grading import AnswerGrader
from mstar.judges import StepJudge
from mstar.judges.steps import Agreement
from mstar.prompts import TinyDice
from mstar.types import Prompt, StepLabels

if TYPE_CHECKING:
    from tests.stub_server import StubServer

PROMPT = Prompt("p", "How many?", answer="3")
RESPONSE = StepLabels(
    "p",
    "one\ntwo\nAnswer: 3",
    ("one\n", "two\n", "Answer: 3"),
    num_correct=(2, 0, 1),
    num_total=(4, 4, 1),
    correct=True,
)


def judge(stub: StubServer, **arguments: Any) -> StepJudge:
    return StepJudge(stub.address, "judge", traffic=Traffic(retries=0), **arguments)


@pytest.mark.parametrize(
    ("reply", "consensus", "alone"),
    [
        # Right, wrong, right by Monte-Carlo and by the answer.
        ("FIRST WRONG STEP: 2", [(2, 4), (0, 4), (0, 0)], [(1, 1), (0, 1), (1, 1)]),
        ("All fine.\n**FIRST WRONG STEP:** NONE", [(2, 4), (0, 0), (1, 1)], [(1, 1), (1, 1), (1, 1)]),
        (
            "Is it\nFIRST WRONG STEP: 2\n?</think>FIRST WRONG STEP: 1",
            [(0, 0), (0, 4), (0, 0)],
            [(0, 1), (0, 1), (1, 1)],
        ),
        ("FIRST WRONG STEP: 1", [(0, 0), (0, 4), (0, 0)], [(0, 1), (0, 1), (1, 1)]),
        ("It is step 2, or 3.", [(0, 0), (0, 0), (1, 1)], [(0, 0), (0, 0), (1, 1)]),
        ("FIRST WRONG STEP: 4", [(0, 0), (0, 0), (1, 1)], [(0, 0), (0, 0), (1, 1)]),
        ("FIRST WRONG STEP: 1\nFIRST WRONG STEP: 2", [(0, 0), (0, 0), (1, 1)], [(0, 0), (0, 0), (1, 1)]),
    ],
)
def test_labels_are_kept_where_both_agree_or_are_the_judges(
    reply: str, consensus: Any, alone: Any, stub: StubServer, tmp_path: Path
) -> None:
    stub.write = lambda body: reply
    for use, expected in (("consensus", consensus), ("alone", alone)):
        [label], _ = judge(stub, use=use).apply([RESPONSE], {"p": PROMPT}, tmp_path)
        assert list(zip(label.num_correct, label.num_total, strict=True)) == expected
        assert (label.steps, label.correct) == (RESPONSE.steps, True)
    # The second one knew the answer.
    [body] = stub.asked
    text = body["messages"][-1]["content"][-1]["text"]
    assert "its correct answer is 3" in text
    assert "Step 1: one\nStep 2: two\nStep 3: Answer: 3" in text


def test_the_last_of_many_shards_says_what_all_of_them_cost(
    stub: StubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    asked = StepJudge(stub.address, "judge", traffic=Traffic(retries=0, input_price=1e6))
    for number in range(2):
        asked.apply([replace(RESPONSE, steps=(f"{number}", "b", "c"))], {"p": PROMPT}, tmp_path)
    assert "judge judge so far: 2 answers" in caplog.text
    assert caplog.text.strip().endswith("which cost 20.00")


def test_agreement_is_counted(stub: StubServer, tmp_path: Path) -> None:
    replies = iter(["FIRST WRONG STEP: 2", "NONE", "FIRST WRONG STEP: NONE"])
    stub.write = lambda body: next(replies)
    other = [StepLabels("p", f"{n}\nAnswer: 3", (f"{n}\n", "Answer: 3"), (1, 1), (2, 1), True) for n in range(2)]
    one_by_one = StepJudge(stub.address, "judge", traffic=Traffic(concurrency=1))
    _, found = one_by_one.apply([RESPONSE, *other], {"p": PROMPT}, tmp_path)
    assert found == Agreement(responses=3, unreadable=1, steps=3, equal_steps=3, equal_answers=1)
    assert found.describe() == (
        "the judge's answers on 2 of 3 responses could be read; it finds no wrong step where the answer is right, or "
        "one where it is wrong, in 50.0%; on 3 steps with Monte-Carlo labels it agrees in 100.0%"
    )


def test_an_annotation_by_a_judge_alone_draws_no_continuations_and_says_how_it_agrees(
    stub: StubServer, tmp_path: Path
) -> None:
    def write(body: dict[str, Any]) -> str:
        if body["model"] == "judge":
            return "FIRST WRONG STEP: 1"
        return f"a = {body['seed'] % 3}\nb = 2\nAnswer: {body['seed'] % 4}"

    stub.write = write
    prompts = list(TinyDice("annotation", 4))
    engine = OpenAIEngine(stub.address, "teacher", progress=False)
    settings = AnnotationSettings(num_samples=4, shard_size=2, unmixed_share=1.0)

    def run(output: Path, use: Any) -> Any:
        engine.work_in(output)
        return annotate(
            prompts, engine, AnswerGrader(), settings, output, judge=judge(stub, use=use), progress=False
        )  # fmt: skip

    made = run(tmp_path / "alone", "alone")
    assert all(body["messages"][-1]["role"] == "user" for body in stub.asked)
    for label in made.labels:
        assert label.num_correct == (0, 0, int(label.correct))
        assert label.num_total == (1, 1, 1)
    agreement = Agreement.read(tmp_path / "alone")
    assert agreement is not None
    assert (agreement.responses, agreement.steps) == (len(made.labels), 0)
    assert "By a judge: the judge's answers on" in html.unescape(write_report(tmp_path / "alone", None).read_text())
    with pytest.raises(ConfigError, match="judge"):
        run(tmp_path / "alone", "consensus")
    run(tmp_path / "consensus", "consensus")
    assert any(body["messages"][-1]["role"] == "assistant" for body in stub.asked)
    write_report(tmp_path / "consensus", None)


def test_a_judge_that_does_not_answer_labels_nothing(stub: StubServer, tmp_path: Path) -> None:
    stub.down = True
    with pytest.raises(EndpointError):
        judge(stub).apply([RESPONSE], {"p": PROMPT}, tmp_path)


def test_the_judge_knows_every_right_answer(stub: StubServer, tmp_path: Path) -> None:
    judge(stub).apply([RESPONSE], {"p": replace(PROMPT, answers=("three",))}, tmp_path)
    assert "its correct answer is 3 or three." in stub.asked[0]["messages"][-1]["content"][-1]["text"]
