"""math-verify in its own process: right, bounded in time and memory, and usable from threads."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import MagicMock

import pytest

from mstar.grading import AnswerGrader, formulas, math_worker
from mstar.grading.formulas import is_formula
from mstar.judges import JudgeGrader
from mstar.provenance import describe
from mstar.types import Prompt, Verdict, VerdictStatus

ask = formulas._WORKER.ask


def test_equal_and_different_formulas() -> None:
    assert ask("x+1", "1+x") == "equal"
    assert ask("x+1", "x+2") == "different"
    assert ask("x+1", "{{{") == "different"


@pytest.mark.parametrize("bomb", ["(10^{10^{10}})!", "9^{9^{9^{9}}}", "(x+1)^{5000}"])
def test_a_bomb_is_stopped_and_the_next_question_answered(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "WORKER_SECONDS", 0.3)
    assert ask("x+1", bomb) != "equal"
    assert ask("2x", "x+x") == "equal"


def test_a_system_without_a_limit_of_memory_compares_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        if kind == resource.RLIMIT_AS:
            raise ValueError("current limit exceeds maximum limit")

    # As on macOS. The comparison itself is not what is tested here.
    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(math_worker, "_compare", lambda gold, answer: gold == answer)
    for answer, code in (("x+1", math_worker._EQUAL), ("x+2", math_worker._DIFFERENT)):
        child = os.fork()
        if child == 0:
            math_worker._serve("x+1", answer, 5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code


def test_a_comparison_that_sees_little_of_the_processor_is_not_stopped() -> None:
    ask("x", "x")
    worker = formulas._WORKER._process
    assert worker is not None
    ended = threading.Event()

    def starve() -> None:
        while not ended.wait(0.01):
            os.kill(worker.pid, signal.SIGSTOP)
            time.sleep(0.09)
            os.kill(worker.pid, signal.SIGCONT)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        pairs = [("a^2-b^2", "(a-b)(a+b)"), (r"\sec^2(y)", r"\tan^2(y)+1"), ("x^2+2x+1", "(x+1)^2")]
        assert [ask(*pair) for pair in pairs] == ["equal"] * 3
    finally:
        ended.set()
        thread.join()


def test_a_comparison_that_ran_out_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ask("x", "x")
    limits = []

    def exchange(question: str) -> str:
        limits.append(json.loads(question)[2])
        return "stopped" if len(limits) == 1 else "equal"

    monkeypatch.setattr(formulas._WORKER, "_exchange", exchange)
    assert ask("x+y", "y+x") == "equal"
    assert limits == [formulas.WORKER_SECONDS, 2 * formulas.WORKER_SECONDS]


def test_threads_share_the_worker() -> None:
    pairs = [(f"x+{i}", f"{i}+x") for i in range(1, 9)] + [(f"x+{i}", f"{i + 1}+x") for i in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda pair: ask(*pair), pairs))
    assert outcomes == ["equal"] * 8 + ["different"] * 8


def test_an_answer_that_an_interruption_left_unread_is_not_taken_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask("x", "x")
    worker = formulas._WORKER._process
    assert worker is not None
    interrupted, stdout, pressed = MagicMock(wraps=worker, stdin=worker.stdin), worker.stdout, [KeyboardInterrupt]
    assert stdout is not None

    def readline() -> bytes:
        if pressed:
            raise pressed.pop()
        return stdout.readline()

    interrupted.stdout.readline = readline
    monkeypatch.setattr(formulas._WORKER, "_process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("x+1", "1+x")
    assert ask("x+1", "x+2") == "different"


def test_a_stopped_comparison_is_told_apart_from_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstar.grading.formulas._ask", lambda gold, answer: "stopped")
    grader = AnswerGrader()
    known = describe(grader)
    verdict = grader.grade(Prompt("p", "q", answer="y^7+1"), r"\boxed{1+y^{7}}")
    assert verdict == Verdict(False, None, VerdictStatus.TIMEOUT)
    said = ["1 comparison of formulas ran out of computing time twice: counted as wrong"]
    assert grader.judged().notes() == said
    judge = JudgeGrader("http://localhost", "judge", rules=grader)
    assert judge.judged().notes() == [f"{said[0]}, unless the judge decided"]
    assert describe(grader) == known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x+1", True),
        (r"\frac{a}{b}", True),
        ("(1, 2)", True),
        ("9^9^9^9 + x", False),
        ("9**9**9**x", False),
        ("x^{123456}", False),
        ("1000! + x", False),
        ("x!!", False),
        ("((((((((((((((x))))))))))))))+1", False),
        ("x+" * 300 + "1", False),
        ("866-680-0146", False),
        ("a red-brown wall", False),
        ("plain words", False),
    ],
)
def test_only_small_formulas_reach_the_worker(text: str, expected: bool) -> None:
    assert is_formula(text) is expected


def test_long_inputs_of_every_shape_are_graded_at_once() -> None:
    grader = AnswerGrader()
    pieces = [
        "{",
        "}",
        "9",
        "9^",
        "\\boxed{",
        "\\frac{",
        "$",
        "(",
        "**",
        "answer is ",
        "Answer:",
        "1,",
        "A. ",
        "(A) ",
        "½",
        "\n",
        "-",
        " \n",
        "*\n",
        "so {",
        "no, wait ",
        "答案是",
        "not A or ",
        ". ",
    ]
    for answer in ("5", "x+1"):
        for text in [piece * (1_000_000 // len(piece)) for piece in pieces] + [
            f"The answer is {piece * 6_000}z" for piece in pieces
        ]:
            # Processor time: on a shared machine the clock on the wall says little.
            start = time.process_time()
            assert not grader.grade(Prompt("p", "q", answer=answer), text).correct
            assert time.process_time() - start < 2
