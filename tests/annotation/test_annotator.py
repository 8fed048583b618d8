"""Step labels from a stub engine against hand-computed values; interruption, resumption, refusals."""

from __future__ import annotations

import dataclasses
import gc
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mstar.annotation import AnnotationSettings, annotate
from mstar.annotation.label_table import load_step_labels
from mstar.errors import ConfigError, DataError
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.prompts.images import FileImage, PixelLimits
from mstar.rendering import Renderer
from mstar.storage import read_step_labels
from mstar.types import Prompt, Response, StepLabels

RIGHT = "red = 1\nblue = 2\nAnswer: 3"
LUCKY = "red = 0\nblue = 3\nAnswer: 3"
WRONG = "red = 1\nblue = 9\nAnswer: 10"


class StubEngine(Engine):
    """Writes given samples, and continues a prefix with a right answer as often as it is told to.

    Args:
        samples: For a prompt id, its samples; a pair (text, False) was cut off.
        right: For a prefix, how many of its continuations are right.

    Attributes:
        fail_at: Number of the call to ``generate`` that fails, from 0.
        cut_off: Continuations of each prefix that are cut off, the first ones.
    """

    max_new_tokens = 40
    cut_off = 0

    def __init__(
        self,
        samples: dict[str, list[str | tuple[str, bool]]],
        right: dict[str, int] | None = None,
    ) -> None:
        self.samples, self.right = samples, right or {}
        self.fail_at: int | None = None
        self.calls: list[list[Request]] = []

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        raise AssertionError("annotate does not start engines")

    def update_weights(self, policy: nn.Module) -> None:
        raise AssertionError("annotate does not update weights")

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(list(requests))
        return [[self._write(request, i) for i in range(len(request.samples))] for request in requests]

    def _write(self, request: Request, number: int) -> Response:
        finished = True
        if request.prefix:
            finished = number >= self.cut_off
            good = number < self.right.get(request.prefix, 0)
            text = request.prefix + f"Answer: {request.prompt.answer if good else 'none'}"
        else:
            entry = self.samples[request.prompt.id][number]
            text, finished = (entry, True) if isinstance(entry, str) else entry
        sample = request.samples[number]
        return Response(
            request.prompt.id, sample.index, text, 10 if finished else 40, finished, sample.temperature, -float(number)
        )


def prompt(name: str, answer: str | None = "3") -> Prompt:
    return Prompt(name, "What is red plus blue?", answer=answer, reference_responses=(RIGHT,))


def settings(**changes: Any) -> AnnotationSettings:
    return AnnotationSettings(**{"num_samples": 4, "num_continuations": 4, "shard_size": 2, **changes})


def test_labels_of_a_mixed_prompt_by_hand(tmp_path: Path) -> None:
    engine = StubEngine(
        {"p": [RIGHT, WRONG, RIGHT, LUCKY]},
        {"red = 1\n": 3, "red = 1\nblue = 2\n": 4, "red = 1\nblue = 9\n": 1, "red = 0\n": 2, "red = 0\nblue = 3\n": 0},
    )
    made = annotate([prompt("p")], engine, AnswerGrader(), settings(temperature=0.7), tmp_path, progress=False)

    right, lucky, wrong = made.labels
    assert [right.response, lucky.response, wrong.response] == [RIGHT, LUCKY, WRONG]
    assert right.steps == ("red = 1\n", "blue = 2\n", "Answer: 3")
    assert (right.num_correct, right.num_total) == ((3, 4, 1), (4, 4, 1))
    assert right.soft_labels == (0.75, 1.0, 1.0)
    assert (lucky.num_correct, lucky.num_total) == ((2, 0, 1), (4, 4, 1))
    assert lucky.hard_labels == (True, False, True)
    assert (wrong.num_correct, wrong.num_total) == ((3, 1, 0), (4, 4, 1))
    assert [label.correct for label in made.labels] == [True, True, False]
    assert [label.chain_correct for label in made.labels] == [True, False, False]
    assert [label.logprob for label in made.labels] == [0.0, -3.0, -1.0]

    # "red = 1" begins two of the responses, and is continued once.
    sampled, continued = engine.calls
    assert [len(request.samples) for request in sampled] == [4]
    assert [request.prefix for request in continued] == [
        "red = 1\n", "red = 1\nblue = 2\n", "red = 0\n", "red = 0\nblue = 3\n", "red = 1\nblue = 9\n",
    ]  # fmt: skip
    samples = [sample for request in (*sampled, *continued) for sample in request.samples]
    assert len({sample.seed for sample in samples}) == len(samples) == 4 + 5 * 4
    assert {sample.temperature for sample in samples} == {0.7}
    assert (made.num_prefixes, made.num_steps, made.num_tokens) == (5, 9, 240)
    assert made.num_right == 2
    assert read_step_labels(tmp_path / "labels-00000.parquet") == list(made.labels)


def test_both_sides_are_limited(tmp_path: Path) -> None:
    wrong = [f"red = {i}\nAnswer: 0" for i in range(4)]
    right = [f"blue = {i}\nAnswer: 3" for i in range(4)]
    engine = StubEngine({"p": [*wrong, *right]})
    made = annotate([prompt("p")], engine, AnswerGrader(), settings(num_samples=8, max_per_side=2), tmp_path)
    assert [label.response for label in made.labels] == [*right[:2], *wrong[:2]]


def test_a_cut_off_response_is_wrong_even_if_it_names_the_answer(tmp_path: Path) -> None:
    cut = "red = 1\nAnswer: 3"
    engine = StubEngine({"p": [RIGHT, (cut, False), RIGHT, RIGHT]})
    right, wrong = annotate([prompt("p")], engine, AnswerGrader(), settings(), tmp_path).labels
    assert right.response == RIGHT
    assert (wrong.response, wrong.correct, wrong.num_correct[-1]) == (cut, False, 0)
    assert not wrong.finished


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 40), (0.25, None)])
def test_of_unmixed_prompts_a_share_gives_one_response(tmp_path: Path, share: float, expected: int | None) -> None:
    prompts = [prompt(f"p{i}") for i in range(40)]
    samples: dict[str, list[str | tuple[str, bool]]] = {p.id: [RIGHT, RIGHT, LUCKY, RIGHT] for p in prompts}
    mixed = prompt("mixed")
    samples["mixed"] = [RIGHT, WRONG, RIGHT, WRONG]
    chosen = settings(unmixed_share=share, shard_size=64)
    made = annotate([*prompts, mixed], StubEngine(samples), AnswerGrader(), chosen, tmp_path)
    unmixed = [label for label in made.labels if label.prompt_id != "mixed"]
    assert len({label.prompt_id for label in unmixed}) == len(unmixed)
    assert len(made.labels) - len(unmixed) == 2
    if expected is None:
        assert 3 <= len(unmixed) <= 18
    else:
        assert len(unmixed) == expected


def test_an_interrupted_annotation_goes_on_at_the_first_missing_shard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [prompt(f"p{i}") for i in range(5)]
    samples: dict[str, list[str | tuple[str, bool]]] = {p.id: [RIGHT, WRONG, LUCKY, WRONG] for p in prompts}
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    expected = annotate(prompts, StubEngine(samples), AnswerGrader(), settings(), whole)
    assert sorted(p.name for p in whole.iterdir()) == [
        "labels-00000.parquet", "labels-00001.parquet", "labels-00002.parquet", "manifest.json",
    ]  # fmt: skip

    # The continuations of the second shard are the fourth call: it leaves nothing of its shard behind.
    failing = StubEngine(samples)
    failing.fail_at = 3
    with pytest.raises(KeyboardInterrupt):
        annotate(prompts, failing, AnswerGrader(), settings(), halved)
    assert sorted(p.name for p in halved.iterdir()) == ["labels-00000.parquet", "manifest.json"]
    engine = StubEngine(samples)
    capsys.readouterr()
    resumed = annotate(prompts, engine, AnswerGrader(), settings(), halved)
    # The bar begins with what is there.
    bar = re.findall(r"(\d+)/(\d+)", capsys.readouterr().err)
    assert (bar[0], bar[-1]) == (("2", "5"), ("5", "5"))
    assert {request.prompt.id for call in engine.calls for request in call} == {"p2", "p3", "p4"}
    assert resumed.labels == expected.labels
    assert resumed.num_tokens < expected.num_tokens
    for path in whole.iterdir():
        assert (halved / path.name).read_bytes() == path.read_bytes()

    done = StubEngine(samples)
    counted = annotate(prompts, done, AnswerGrader(), settings(), halved)
    assert counted == dataclasses.replace(expected, paths=counted.paths, num_tokens=0)
    assert done.calls == []


def test_shards_of_another_annotation_are_taken_where_they_depend_on_the_same(tmp_path: Path) -> None:
    prompts = [prompt("p0"), prompt("p1"), prompt("p2")]
    samples: dict[str, list[str | tuple[str, bool]]] = {p.id: [RIGHT, WRONG, LUCKY, WRONG] for p in prompts}
    whole, again, other = (tmp_path / name for name in ("whole", "again", "other"))
    expected = annotate(prompts, StubEngine(samples), AnswerGrader(), settings(), whole, policy="aaaa").labels
    # Of one that was stopped, what is there is taken.
    (whole / "labels-00001.parquet").unlink()
    engine = StubEngine(samples)
    earlier = [tmp_path / "nothing", whole]
    taken = annotate(prompts, engine, AnswerGrader(), settings(), again, policy="aaaa", earlier=earlier)
    assert {request.prompt.id for call in engine.calls for request in call} == {"p2"}
    assert taken.labels == expected
    for path in whole.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
    engine = StubEngine(samples)
    annotate(prompts, engine, AnswerGrader(), settings(), other, policy="bbbb", earlier=earlier)
    assert {request.prompt.id for call in engine.calls for request in call} == {"p0", "p1", "p2"}


class Looking(StubEngine):
    """Counts the labels that are in the memory whenever it is asked."""

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        gc.collect()
        self.held = [*getattr(self, "held", ()), sum(type(thing) is StepLabels for thing in gc.get_objects())]
        return super().generate(requests)


@pytest.mark.parametrize("again", [False, True])
def test_one_shard_is_in_the_memory_at_a_time(tmp_path: Path, again: bool) -> None:
    prompts = [prompt(f"p{i}") for i in range(8)]
    samples: dict[str, list[str | tuple[str, bool]]] = {p.id: [RIGHT, WRONG, LUCKY, WRONG] for p in prompts}
    first = annotate(prompts, StubEngine(samples), AnswerGrader(), settings(shard_size=1), tmp_path / "first")
    given = load_step_labels(tmp_path / "first") if again else None
    engine = Looking(samples)
    made = annotate(
        prompts, engine, AnswerGrader(), settings(shard_size=1), tmp_path / "made", responses=given, progress=False
    )
    assert made.num_responses == first.num_responses == 24
    assert max(engine.held) - engine.held[0] <= 3


def test_a_folder_of_another_annotation_is_refused_with_the_difference(tmp_path: Path) -> None:
    samples: dict[str, list[str | tuple[str, bool]]] = {"p": [RIGHT, WRONG, RIGHT, WRONG]}
    engine = StubEngine(samples)
    annotate([prompt("p")], engine, AnswerGrader(), settings(), tmp_path, policy="aaaa")
    # Without ``continuing: ahead`` it has no effect.
    annotate([prompt("p")], engine, AnswerGrader(), settings(lead=2), tmp_path, policy="aaaa")
    with pytest.raises(ConfigError, match=r"num_continuations 4 \(now 2\)"):
        annotate([prompt("p")], engine, AnswerGrader(), settings(num_continuations=2), tmp_path, policy="aaaa")
    with pytest.raises(ConfigError, match=r"policy aaaa \(now bbbb\)"):
        annotate([prompt("p")], engine, AnswerGrader(), settings(), tmp_path, policy="bbbb")
    with pytest.raises(ConfigError, match=r"prompts .* \(now "):
        annotate([prompt("q")], engine, AnswerGrader(), settings(), tmp_path, policy="aaaa")
    with pytest.raises(ConfigError, match=r"grader\.class .*AnswerGrader \(now .*MathVistaGrader\)"):
        annotate([prompt("p")], engine, MathVistaGrader(), settings(), tmp_path, policy="aaaa")
    changes = ({"answer": "4"}, {"question": "?"}, {"precision": 2}, {"images": (FileImage("a", "b", PixelLimits(9)),)})
    for change in changes:
        other = dataclasses.replace(prompt("p"), **change)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"made with prompts \w+ \(now \w+\): choose another output folder"):
            annotate([other], engine, AnswerGrader(), settings(), tmp_path, policy="aaaa")
    longer = StubEngine(samples)
    longer.max_new_tokens = 41
    with pytest.raises(ConfigError, match=r"made with max_new_tokens 40 \(now 41\)"):
        annotate([prompt("p")], longer, AnswerGrader(), settings(), tmp_path, policy="aaaa")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        annotate([prompt("p")], engine, AnswerGrader(), settings(), tmp_path, policy="aaaa")


def test_responses_in_one_step_fail_loudly_and_leave_no_shard(tmp_path: Path) -> None:
    engine = StubEngine({"p": ["The sum is three. Answer: 3", "It is 4. Answer: 4"] * 2})
    with pytest.raises(DataError, match=r"none of the first 2 responses has more than one step.*Answer: 3"):
        annotate([prompt("p")], engine, AnswerGrader(), settings(), tmp_path)
    assert list(tmp_path.glob("*.parquet")) == []


def test_nothing_to_label_fails_loudly(tmp_path: Path) -> None:
    engine = StubEngine({"p": ["", " ", "\n", ""]})
    with pytest.raises(DataError, match="none of the 1 prompts gave a response to label"):
        annotate([prompt("p")], engine, AnswerGrader(), settings(unmixed_share=1.0), tmp_path)


@pytest.mark.parametrize(
    ("answer", "samples", "cause"),
    [
        (
            "3",
            [(RIGHT, False), (WRONG, False), (LUCKY, False), (WRONG, True)],
            "3 of 4 responses were cut off at 40",
        ),
        ("3", [WRONG] * 4, "no response and no continuation has the right answer"),
    ],
)
def test_labels_of_which_none_is_right_are_an_error_with_its_cause(
    tmp_path: Path, answer: str, samples: list[str | tuple[str, bool]], cause: str
) -> None:
    with pytest.raises(DataError, match=rf"none of the \d labelled responses is right: {cause}"):
        annotate(
            [prompt("p", answer)], StubEngine({"p": samples}), AnswerGrader(), settings(unmixed_share=1.0), tmp_path
        )


@pytest.mark.parametrize("cut_off", [0, 1])
def test_continuations_that_were_cut_off_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut_off: int
) -> None:
    engine = StubEngine({"p": [RIGHT, WRONG] * 2}, {"red = 1\n": 4})
    engine.cut_off = cut_off
    with caplog.at_level("INFO"):
        made = annotate([prompt("p")], engine, AnswerGrader(), settings(), tmp_path)
    assert made.labels[0].num_correct[0] == 4 - cut_off
    told = [(record.levelname, record.message) for record in caplog.records if "continuations" in record.message]
    what = "of 12 continuations were cut off (max_new_tokens is 40) and count as wrong"
    assert told == [("WARNING", f"3 {what}") if cut_off else ("INFO", f"0 {what}")]


def test_continuations_that_were_cut_off_are_why_nothing_is_right(tmp_path: Path) -> None:
    engine = StubEngine({"p": [WRONG] * 4}, {"red = 1\n": 4})
    engine.cut_off = 4
    with pytest.raises(DataError, match="8 of 8 continuations were cut off at 40 tokens: raise max_new_tokens"):
        annotate([prompt("p")], engine, AnswerGrader(), settings(unmixed_share=1.0), tmp_path / "a")


def test_prompts_that_cannot_be_annotated_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'hidden' \(row 0\) has no answer"):
        annotate([prompt("hidden", None)], StubEngine({}), AnswerGrader(), settings(), tmp_path)
    with pytest.raises(DataError, match="prompts has no prompts"):
        annotate([], StubEngine({}), AnswerGrader(), settings(), tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_samples", 0), ("num_continuations", 0), ("temperature", 0.0), ("unmixed_share", 1.5), ("shard_size", 0)],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        settings(**{name: value})


def test_the_responses_of_other_labels_are_labelled_again(tmp_path: Path) -> None:
    prompts = [prompt("p"), prompt("q")]
    first = annotate(prompts, StubEngine({"p": [RIGHT, WRONG], "q": [RIGHT, RIGHT]}), AnswerGrader(),
                     settings(num_samples=2, unmixed_share=0.0), tmp_path / "first")  # fmt: skip
    # It samples nothing, and may disagree on every step but the last.
    engine = StubEngine({}, {"red = 1\n": 2, "red = 1\nblue = 9\n": 4})
    again = annotate(
        prompts, engine, AnswerGrader(), settings(), tmp_path / "again", responses=first.labels, progress=False
    )
    assert [label.response for label in again.labels] == [label.response for label in first.labels] == [RIGHT, WRONG]
    assert [label.num_correct for label in again.labels] == [(2, 0, 1), (2, 4, 0)]
    assert [label.logprob for label in again.labels] == [None, None]
    with pytest.raises(ConfigError, match="responses"):
        annotate(prompts, engine, AnswerGrader(), settings(), tmp_path / "again", responses=first.labels[:1])


def test_nothing_is_labelled_where_no_answer_can_be_right(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = StubEngine({"p": [RIGHT, WRONG, RIGHT, WRONG], "bad": [RIGHT] * 4})
    made = annotate([prompt("p"), prompt("bad", "")], engine, AnswerGrader(), settings(unmixed_share=1.0), tmp_path)
    assert {label.prompt_id for label in made.labels} == {"p"}
    assert "1 of 2 gold answers cannot be graded" in caplog.text
    with pytest.raises(DataError, match="2 of 3 gold answers cannot be graded"):
        annotate([prompt("p"), prompt("b", ""), prompt("c", "")], engine, AnswerGrader(), settings(), tmp_path / "o")
