"""Final answers judged by a model by address: when it is asked, how it is read, and how it agrees with the rules."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mstar.__main__ import main
from mstar.endpoint import Traffic
from mstar.errors import ConfigError, EndpointError
from mstar.grading import AnswerGrader
from mstar.judges import JudgeGrader
from mstar.provenance import describe
from mstar.types import AnswerType, Prompt, Turn, Verdict, VerdictStatus

if TYPE_CHECKING:
    from tests.stub_server import StubServer

WORDS = Prompt("w", "What is on the table?", answer="a glass of water")
NUMBER = Prompt("n", "How many?", answer="4", answer_type=AnswerType.INTEGER)


@pytest.fixture
def grader(stub: StubServer, tmp_path: Path) -> JudgeGrader:
    return JudgeGrader(stub.address, "judge", cache=str(tmp_path), check=0.0, traffic=Traffic(retries=0))


def says(stub: StubServer, text: str) -> None:
    stub.write = lambda body: text


def test_the_judge_decides_free_text_and_the_rules_what_they_can(stub: StubServer, grader: JudgeGrader) -> None:
    says(stub, "ANSWER: a tumbler with water\nVERDICT: CORRECT")
    assert grader.grade(NUMBER, "Answer: 5").correct is False
    assert grader.grade(NUMBER, "Answer: 4").correct is True
    assert grader.grade(WORDS, "Answer: a glass of water").correct is True
    assert stub.asked == []
    judged = grader.grade(WORDS, "Answer: a tumbler with water")
    assert (judged.predicted, judged.correct) == ("glass of water", True)
    # It votes for what it says, not for the reference answer that the judge was shown.
    assert judged.vote == "tumbler with water"
    [body] = stub.asked
    text = body["messages"][0]["content"]
    assert all(part in text for part in (WORDS.question, "a glass of water", "Answer: a tumbler with water"))
    assert body["temperature"] == 0
    # All that was said before the question.
    grader.grade(replace(WORDS, id="chat", turns=(Turn("user", "What is red?"), Turn("assistant", "It."))), "A cup")
    asked = f"user: What is red?\n\nassistant: It.\n\nuser: {WORDS.question}\n[End of question]"
    assert asked in stub.asked[-1]["messages"][0]["content"]
    # No answer that the rules can find.
    says(stub, "ANSWER: four\nVERDICT: CORRECT")
    assert grader.grade(NUMBER, "I count them one by one and get to four of them, I'd say, or so").correct is True


def test_a_wrong_answer_and_none_at_all(stub: StubServer, grader: JudgeGrader) -> None:
    says(stub, "<think>VERDICT: CORRECT</think>\n**ANSWER:** A Plate\n**VERDICT:** INCORRECT")
    assert (grader.grade(WORDS, "A plate, I think").correct, grader.grade(WORDS, "A plate, I think").predicted) == (
        False,
        "plate",
    )
    for number, closing in enumerate(("</think>", "</mm:think>", "[/THINK]", "<channel|>")):
        says(stub, f"So it may be\nVERDICT: CORRECT\nor not.{closing}\nANSWER: a cup\nVERDICT: INCORRECT")
        assert grader.grade(WORDS, f"A mug, I think {number}").predicted == "cup", closing
    says(stub, "ANSWER: NONE\nVERDICT: NONE")
    assert grader.grade(WORDS, "I cannot tell.").status is VerdictStatus.NO_ANSWER


@pytest.mark.parametrize(
    "reply",
    [
        "I think it is correct.",
        "VERDICT: CORRECT",
        "ANSWER: a mug\nVERDICT: CORRECT\nVERDICT: INCORRECT",
        "ANSWER: NONE\nVERDICT: CORRECT",
        "ANSWER: a glass of water\nVERDICT: INCORRECT",
        "\n",
    ],
)
def test_a_reply_that_cannot_be_read_leaves_the_verdict_of_the_rules(
    reply: str, stub: StubServer, grader: JudgeGrader
) -> None:
    says(stub, reply)
    assert grader.grade(WORDS, "Answer: a mug") == grader.rules.grade(WORDS, "Answer: a mug")
    assert grader.judged().unreadable == 1


def test_a_judge_that_cannot_be_asked_is_one_sentence(
    stub: StubServer, grader: JudgeGrader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.faults = [(400, {}, {"message": "max_tokens is not supported"})]
    with pytest.raises(ConfigError, match=r"does not judge \(HTTP 400: max_tokens is not supported\).*omit"):
        grader.grade(WORDS, "Answer: a mug")
    says(stub, "ANSWER: a mug\nVERDICT: CORRECT")
    slim = JudgeGrader(stub.address, "judge", cache=str(tmp_path), check=0.0, omit=["max_tokens", "temperature"])
    assert slim.grade(WORDS, "Answer: a mug").correct
    assert not {"max_tokens", "temperature"} & set(stub.asked[-1])
    keyed = JudgeGrader(stub.address, "judge", "MSTAR_NOT_SET", str(tmp_path))
    with pytest.raises(ConfigError, match="MSTAR_NOT_SET"):
        keyed.is_gradeable(WORDS)
    assert describe(keyed) == describe(JudgeGrader("http://elsewhere", "judge", cache="x"))


def test_an_outage_is_no_verdict(stub: StubServer, grader: JudgeGrader) -> None:
    stub.down = True
    with pytest.raises(EndpointError):
        grader.grade(WORDS, "Answer: a mug")


def test_nothing_is_asked_twice_and_many_are_asked_together(stub: StubServer, tmp_path: Path) -> None:
    says(stub, "ANSWER: x\nVERDICT: CORRECT")
    responses = [(WORDS, f"Answer: mug {number}") for number in range(8)]
    for _ in range(2):
        grader = JudgeGrader(stub.address, "judge", cache=str(tmp_path), check=0.0)
        grader.prepare(responses * 2)
        assert all(grader.grade(*response).correct for response in responses)
    assert len(stub.asked) == 8
    # Rows of a file have names of their own, and often the same in them.
    grader.prepare([(replace(WORDS, id=str(number)), "Answer: a cup") for number in range(4)])
    assert "(1 answers (8 more were known already)" in grader.judged().describe()
    assert not grader.is_gradeable(Prompt("p", "?"))
    assert grader.is_gradeable(WORDS)
    with pytest.raises(ConfigError, match=r"grader\.check"):
        JudgeGrader(stub.address, "judge", check=2.0)


class CountedRules(AnswerGrader):
    def __init__(self) -> None:
        super().__init__()
        self.graded: list[tuple[str, str]] = []

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        self.graded.append((prompt.answer or "", response))
        return super().grade(prompt, response)


def test_the_rules_grade_a_response_once_and_another_prompt_of_its_name_for_itself(
    stub: StubServer, tmp_path: Path
) -> None:
    says(stub, "ANSWER: a mug\nVERDICT: INCORRECT")
    rules = CountedRules()
    grader = JudgeGrader(stub.address, "judge", cache=str(tmp_path), check=0.0, rules=rules)
    responses = [(NUMBER, "Answer: 4"), (WORDS, "Answer: a mug"), (NUMBER, "Answer: 4")]
    grader.prepare(responses)
    assert [grader.grade(*response).correct for response in responses] == [True, False, True]
    assert rules.graded == [("4", "Answer: 4"), ("a glass of water", "Answer: a mug")]
    assert not grader.grade(replace(NUMBER, answer="5"), "Answer: 4").correct


def test_grade_shows_how_judge_and_rules_agree(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(body: dict[str, Any]) -> str:
        number = re.findall(r"Answer: (\d+)\n", body["messages"][0]["content"])[0]
        if number == "3":
            return "no idea"
        return f"ANSWER: {number}\nVERDICT: {'CORRECT' if number in '47' else 'INCORRECT'}"

    stub.write = judge
    rows = [{"response": f"Answer: {n}", "answer": "4", "answer_type": "integer"} for n in (4, 5, 6, 7, 3)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--grader", "mstar.judges.JudgeGrader", "--grader.address", stub.address, "--grader.model", "judge"]
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    more = ["--grader.check", "1", "--grader.cache", str(tmp_path)]
    assert main(["grade", *files, *flags, *more]) == 0
    said = capsys.readouterr().out
    assert (
        "judge judge (5 answers (0 more were known already), 50 tokens in and 18 out): asked 5 times, 1 answers" in said
    )
    assert "unreadable; on 4 that the rules decide it agrees in 75.0%" in said
    assert "1 right by the judge alone, 0 right by the rules alone" in said
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    # It was compared, and not used.
    assert [row["correct"] for row in written] == [True, False, False, False, False]
    assert main(["grade", *files, *flags, *more, "--grader.use", "always"]) == 0
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["correct"] for row in written] == [True, False, False, True, False]
    assert len(stub.asked) == 5


def test_words_of_several_right_answers_are_judged_too(stub: StubServer, grader: JudgeGrader) -> None:
    says(stub, "ANSWER: a tumbler with water\nVERDICT: CORRECT")
    prompt = replace(WORDS, answers=("a cup of water",))
    assert grader.grade(prompt, "Answer: a tumbler with water").correct
    assert "a glass of water\nor: a cup of water" in str(stub.asked[0]["messages"][0]["content"])


def test_what_the_judge_decides_is_no_part_of_the_sample_that_it_is_compared_on(
    stub: StubServer, tmp_path: Path
) -> None:
    """It finds every number wrong, and one of the words right: a sample of the numbers beside all of the words."""
    stub.write = lambda body: (
        "ANSWER: mug 3\nVERDICT: CORRECT"
        if "mug 3" in body["messages"][0]["content"]
        else "ANSWER: 99\nVERDICT: INCORRECT"
    )
    grader = JudgeGrader(stub.address, "judge", cache=str(tmp_path), check=0.2)
    numbers = [(replace(NUMBER, id=str(place)), "Answer: 4") for place in range(40)]
    responses = [*numbers, *((WORDS, f"Answer: mug {number}") for number in range(5))]
    grader.prepare(responses)
    for prompt, text in responses:
        grader.grade(prompt, text)
    found = grader.judged()
    assert 0 < found.both < 20
    assert (found.agreement, found.rules_alone, found.judge_alone) == (0.0, found.both, 0)
    assert (found.words, found.words_right) == (5, 1)
    assert found.asked == found.both + 5
    assert "it calls 1 right of 5 of words that the rules take for wrong; on" in found.describe()
    # Where it decides everything, everything is compared.
    always = JudgeGrader(stub.address, "judge", cache=str(tmp_path), use="always")
    always.prepare(responses)
    for prompt, text in responses:
        always.grade(prompt, text)
    assert (always.judged().both, always.judged().words) == (45, 0)
    assert always.judged().agreement == 4 / 45
