"""One iteration with an engine that writes what the test says."""

from __future__ import annotations

import random
import re
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import mstar.distributed
import mstar.iteration
from mstar.errors import ConfigError, DataError
from mstar.generation import Engine, Request, derive_seed
from mstar.grading import AnswerGrader, Grader
from mstar.iteration.iteration import IterationResult, Stages, run_iteration
from mstar.iteration.plan import IterationPlan, IterationPrompts
from mstar.iteration.report import IterationReport
from mstar.selection import Balance, Selector, Voting
from mstar.storage import RunDirectory, read_responses
from mstar.types import AnswerType, Example, Fate, Prompt, Response, Verdict, VerdictStatus


class Scripted(Engine):
    """Writes the given texts, one a sample; one that begins with ``...`` is cut off."""

    max_new_tokens = 8

    def __init__(self, texts: dict[str, list[str]]) -> None:
        self.texts = texts
        self.requests: list[Request] = []

    def start(self, policy: object, renderer: object) -> None: ...

    def update_weights(self, policy: object) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        self.requests += requests
        return [
            [
                Response(r.prompt.id, s.index, text, 3, not text.startswith("..."), s.temperature, -1.0)
                for s, text in ((s, self.texts[r.prompt.id][s.index]) for s in r.samples)
            ]
            for r in requests
        ]


def prompt(name: str, answer: str | None = "1", answer_type: AnswerType = AnswerType.INTEGER) -> Prompt:
    return Prompt(id=name, question="?", answer=answer, answer_type=answer_type, reference_responses=("Answer: 1",))


TEXTS = {
    "a": ["Answer: 1", "Answer: 1", "one\nAnswer: 1", "Answer: 2"],
    "b": ["nothing", "Answer: 2", "Answer: 3", "... Answer: 1"],
    "c": ["Answer: 4", "Answer: 1", "Answer: 1 ", "x\nAnswer: 1"],
}
PLAN = IterationPlan(iteration=1, seed=0, num_samples=4, temperature=0.9)
ALL = Selector("all")


def iterate(
    root: Path,
    plan: IterationPlan = PLAN,
    unlabelled: Sequence[Prompt] = (),
    selector: Selector = ALL,
    grader: Grader = AnswerGrader(),  # noqa: B008 - it has no state
) -> tuple[IterationResult, Scripted]:
    engine = Scripted(TEXTS | {p.id: ["Answer: 7", "Answer: 7", "Answer: 8", "nothing"] for p in unlabelled})
    stages = Stages(engine, grader, None, selector)
    prompts = [prompt("a"), prompt("b"), prompt("c")]
    return run_iteration(IterationPrompts(prompts, unlabelled, plan), stages, RunDirectory(root)), engine


def test_the_way_through_an_epochs_start_names_at_most_ten_files_that_are_there() -> None:
    named = re.findall(r"^    ([\w/]+\.py) ", mstar.iteration.__doc__ or "", re.MULTILINE)
    assert 0 < len(named) <= 10
    package = Path(mstar.__file__).parent
    assert [name for name in named if not (package / name).is_file()] == []


def test_fates_files_and_report(tmp_path: Path) -> None:
    result, _ = iterate(tmp_path)
    run = RunDirectory(tmp_path)
    rows = read_responses(run.responses(1, 0))
    assert [row.fate for row in rows] == [
        Fate.KEPT, Fate.DUPLICATE, Fate.KEPT, Fate.WRONG,
        Fate.NO_ANSWER, Fate.WRONG, Fate.WRONG, Fate.TRUNCATED,
        Fate.WRONG, Fate.KEPT, Fate.DUPLICATE, Fate.KEPT,
    ]  # fmt: skip
    expected = {("a", "Answer: 1"), ("a", "one\nAnswer: 1"), ("c", "Answer: 1"), ("c", "x\nAnswer: 1")}
    assert {(e.prompt_id, e.response) for e in result.examples} == expected
    assert [Example(**row) for row in pq.read_table(run.examples(1)).to_pylist()] == list(result.examples)
    report = result.report.as_dict()
    assert report["funnel"] == {"generated": 12, "parsed": 11, "correct": 7, "unique": 5, "kept": 4}
    assert report["prompts"] == 3
    assert report["tokens"] == 36
    assert report["truncated_fraction"] == 1 / 12
    assert report["temperature"] == 0.9
    assert report["kept_chain_accuracy"] == 2 / 4
    assert report["skipped"] is False
    assert (report["all_right_fraction"], report["all_wrong_fraction"]) == (0.0, 1 / 3)
    assert (report["response_length"], report["entropy"]) == (3.0, pytest.approx(1 / 3))
    assert [group.prompt.id for group in result.shown] == ["a", "b", "c"]


def test_an_engine_that_returns_no_tokens_is_refused_where_they_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Scripted does not return the tokens of its responses"):
        iterate(tmp_path, replace(PLAN, keep_tokens=True))


def test_the_number_of_shards_changes_nothing(tmp_path: Path) -> None:
    one, _ = iterate(tmp_path / "one")
    three, _ = iterate(tmp_path / "three", replace(PLAN, shard_size=1))
    assert [path.name for path in RunDirectory(tmp_path / "three").response_shards(1)] == [
        f"responses-0000{i}.parquet" for i in range(3)
    ]
    assert list(three.examples) == list(one.examples)
    assert three.report.as_dict()["funnel"] == one.report.as_dict()["funnel"]


def test_shards_that_exist_are_read_instead_of_made(tmp_path: Path) -> None:
    plan = replace(PLAN, shard_size=1)
    first, _ = iterate(tmp_path, plan)
    RunDirectory(tmp_path).responses(1, 1).unlink()
    again, engine = iterate(tmp_path, plan)
    assert [request.prompt.id for request in engine.requests] == ["b"]
    assert list(again.examples) == list(first.examples)
    assert again.report.counts["tokens"] == 36
    assert again.report.counts["new_tokens"] == 12
    third, engine = iterate(tmp_path, plan)
    assert engine.requests == []
    assert third.report.as_dict()["tokens_per_second"] is None
    assert third.shown == first.shown


def test_a_process_does_its_own_shards_and_needs_to_see_those_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(TEXTS)
    stages = Stages(engine, AnswerGrader(), None, ALL)
    monkeypatch.setattr(mstar.distributed, "world_size", lambda: 2)
    for number, missing in ((1, "responses-00000"), (0, None)):
        monkeypatch.setattr(mstar.distributed, "rank", lambda number=number: number)
        prompts = IterationPrompts([prompt("a"), prompt("b"), prompt("c")], [], replace(PLAN, shard_size=1))
        if missing is not None:
            with pytest.raises(DataError, match=rf"process 1 of 2 does not see '.*{missing}.parquet'.* share"):
                run_iteration(prompts, stages, RunDirectory(tmp_path))
            assert [request.prompt.id for request in engine.requests] == ["b"]
        else:
            result = run_iteration(prompts, stages, RunDirectory(tmp_path))
            assert [request.prompt.id for request in engine.requests] == ["b", "a", "c"]
            assert len(result.examples) == 4


class Counted(Sequence[Prompt]):
    """Prompts that are built when they are asked for, and counts how many there are at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.alive: weakref.WeakSet[Held] = weakref.WeakSet()
        self.most = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if index >= self.size:
            raise IndexError(index)
        image = Held(f"{index}")
        self.alive.add(image)
        self.most = max(self.most, len(self.alive))
        return Prompt(f"p{index:03d}", "?", (image,), "1")


class Held:
    """A picture that can be referred to weakly."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def load(self) -> Image.Image:
        return Image.new("RGB", (2, 2))


def test_one_shard_of_prompts_is_in_memory_at_a_time(tmp_path: Path) -> None:
    prompts = Counted(60)
    engine = Scripted({f"p{i:03d}": TEXTS["a"] for i in range(60)})
    stages = Stages(engine, AnswerGrader(), None, ALL)
    engine.generate = forget_requests(engine)  # type: ignore[method-assign]
    plan = replace(PLAN, shard_size=5)
    result = run_iteration(IterationPrompts(prompts, (), plan), stages, RunDirectory(tmp_path))
    assert result.report.counts["prompts"] == 60
    # This shard, the one before it while its names are bound again, and what is shown.
    assert prompts.most <= 5 + 5 + 4


def forget_requests(engine: Scripted) -> Any:
    generate = engine.generate

    def wrapped(requests: Sequence[Request]) -> list[list[Response]]:
        written = generate(requests)
        engine.requests.clear()
        return written

    return wrapped


def test_the_order_of_the_examples_is_that_of_the_sorted_and_shuffled_list(tmp_path: Path) -> None:
    texts = {
        f"p{i % 7}{i}\u00e9": [f"{i}\nAnswer: 1", "Answer: 1", "\U0001f600 Answer: 1", "\uffff Answer: 1"]
        for i in range(9)
    }
    for size in (1, 4, 9):
        stages = Stages(Scripted(texts), AnswerGrader(), None, ALL)
        run = RunDirectory(tmp_path / str(size))
        prompts = IterationPrompts([prompt(name) for name in texts], (), replace(PLAN, shard_size=size))
        result = run_iteration(prompts, stages, run)
        expected = sorted((name, text) for name, row in texts.items() for text in row)
        random.Random(derive_seed(0, "order", 1)).shuffle(expected)
        assert [(e.prompt_id, e.response) for e in result.examples] == expected


def test_every_sample_has_its_own_seed_that_depends_on_the_iteration(tmp_path: Path) -> None:
    seeds = []
    for iteration in (1, 2):
        _, engine = iterate(tmp_path, replace(PLAN, iteration=iteration))
        seeds += [sample.seed for request in engine.requests for sample in request.samples]
        assert {sample.temperature for request in engine.requests for sample in request.samples} == {0.9}
    assert len(set(seeds)) == 2 * 3 * 4


def test_the_vote_takes_the_place_of_the_hidden_answer(tmp_path: Path) -> None:
    hidden = prompt("u", "0.125", AnswerType.FLOAT)
    result, engine = iterate(tmp_path, replace(PLAN, answer_conditioned=True), [hidden])
    assert [(r.prompt.answer, r.show_answer) for r in engine.requests] == [("1", True)] * 3 + [(None, False)]
    rows = read_responses(RunDirectory(tmp_path).responses(1, 0))[12:]
    # The gold answer's three decimals must not show either.
    assert [row.verdict.predicted for row in rows] == ["7", "7", "8", None]
    assert [row.fate for row in rows] == [Fate.KEPT, Fate.DUPLICATE, Fate.WRONG, Fate.NO_ANSWER]
    assert [row.verdict.status for row in rows] == [VerdictStatus.GRADED] * 3 + [VerdictStatus.NO_ANSWER]
    assert Example("u", "Answer: 7") in result.examples
    assert result.shown[3].prompt.answer == "7"
    # The report alone knows what was hidden.
    assert result.report.as_dict()["pseudo_labels"] == {"voted": 1, "abstained": 0, "known": 1, "accuracy": 0.0}


def test_a_judge_is_asked_of_all_votes_of_a_shard_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grader, together = AnswerGrader(), list[list[tuple[str, str]]]()
    monkeypatch.setattr(grader, "prepare", lambda pairs: together.append([(p.id, text) for p, text in pairs]))
    iterate(tmp_path, PLAN, [prompt("u", "7"), prompt("v", None), prompt("w", "8")], grader=grader)
    assert together[-1] == [("u", "Answer: 7"), ("w", "Answer: 7")]


class Judging(AnswerGrader):
    """A judge that goes by the rules, and notes what it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = AnswerGrader()
        self.asked: list[str] = []

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        self.asked.append(response)
        return super().grade(prompt, response)


def test_no_judge_is_asked_of_what_was_cut_off(tmp_path: Path) -> None:
    grader = Judging()
    iterate(tmp_path / "judged", grader=grader)
    iterate(tmp_path / "ruled")
    judged, ruled = (
        [row.verdict for row in read_responses(RunDirectory(tmp_path / name).responses(1, 0))]
        for name in ("judged", "ruled")
    )
    assert judged == ruled
    assert set(grader.asked) == {text for texts in TEXTS.values() for text in texts} - {"... Answer: 1"}


def test_votes_that_are_split_give_no_answer(tmp_path: Path) -> None:
    plan = replace(PLAN, voting=Voting(min_share=0.7))
    result, _ = iterate(tmp_path, plan, [prompt("u", "7"), prompt("v", None)])
    assert not [e for e in result.examples if e.prompt_id in ("u", "v")]
    found = result.report.as_dict()["pseudo_labels"]
    assert found == {"voted": 2, "abstained": 2, "known": 0, "accuracy": None}


def test_soft_votes_and_hard_prompts_weigh_what_is_learned_of_them(tmp_path: Path) -> None:
    plan = replace(PLAN, voting=Voting(weight="share"), balance=Balance(hard=0.75, easy=1.0, repeat_hard=2))
    result, _ = iterate(tmp_path, plan, [prompt("u", "7")])
    # Of the three votes on u two agree, which does not say that it is hard.
    assert {e.prompt_id: e.weight for e in result.examples} == {"a": 2.0, "c": 2.0, "u": 2 / 3}


def test_hard_prompts_get_further_samples_once(tmp_path: Path) -> None:
    more = {"b": [*TEXTS["b"], "Answer: 1", "Answer: 5", "Answer: 1"]}
    plan = replace(PLAN, balance=Balance(extra_samples=0.25))
    engine = Scripted(TEXTS | more)
    stages = Stages(engine, AnswerGrader(), None, ALL)
    prompts = IterationPrompts([prompt("a"), prompt("b"), prompt("c")], [], plan)
    first = run_iteration(prompts, stages, RunDirectory(tmp_path))
    assert [(r.prompt.id, [s.index for s in r.samples]) for r in engine.requests[3:]] == [("b", [4, 5, 6])]
    assert len({s.seed for r in engine.requests for s in r.samples}) == 15
    assert [e.response for e in first.examples if e.prompt_id == "b"] == ["Answer: 1"]
    again = run_iteration(prompts, stages, RunDirectory(tmp_path))
    assert len(engine.requests) == 4
    assert list(again.examples) == list(first.examples)


def test_the_report_tells_easy_prompts_from_hard_ones_and_categories_apart(tmp_path: Path) -> None:
    prompts = [replace(prompt(name), category=kind) for name, kind in (("a", "sum"), ("b", "sum"), ("c", "count"))]
    stages = Stages(Scripted(TEXTS), AnswerGrader(), None, ALL)
    report = run_iteration(IterationPrompts(prompts, [], PLAN), stages, RunDirectory(tmp_path)).report.as_dict()
    assert report["by_pass_rate"] == {
        "none right": {"prompts": 1, "accuracy": 0.0, "kept": 0},
        "up to 3/4": {"prompts": 2, "accuracy": 0.75, "kept": 4},
    }
    assert report["by_category"] == {
        "count": {"prompts": 1, "accuracy": 0.75, "kept": 2},
        "sum": {"prompts": 2, "accuracy": 0.375, "kept": 2},
    }


def test_without_a_vote_unlabelled_prompts_have_their_own_answer(tmp_path: Path) -> None:
    plan = replace(PLAN, vote=False, answer_conditioned=True)
    result, engine = iterate(tmp_path, plan, [prompt("u", "8")])
    assert (engine.requests[3].prompt.answer, engine.requests[3].show_answer) == ("8", True)
    assert [e.response for e in result.examples if e.prompt_id == "u"] == ["Answer: 8"]


def test_reports_of_processes_add_up(tmp_path: Path) -> None:
    result, _ = iterate(tmp_path)
    one = replace(result.report, seconds={"generate": 2.0, "grade": 1.0, "score": 0.0})
    total = IterationReport(1, 0.9)
    total.merge(one)
    total.merge(replace(one, seconds={"generate": 1.0, "grade": 3.0, "score": 0.0}))
    found = total.as_dict()
    assert found["funnel"] == {"generated": 24, "parsed": 22, "correct": 14, "unique": 10, "kept": 8}
    assert found["seconds"] == {"generate": 2.0, "grade": 3.0, "score": 0.0}
    assert found["tokens_per_second"] == 72 / 2.0


def test_an_iteration_that_keeps_nothing(tmp_path: Path) -> None:
    engine = Scripted({"a": ["nothing"] * 4})
    stages = Stages(engine, AnswerGrader(), None, ALL)
    result = run_iteration(IterationPrompts([prompt("a")], [], PLAN), stages, RunDirectory(tmp_path))
    assert list(result.examples) == []
    assert result.report.as_dict()["skipped"] is True
    assert pq.read_table(RunDirectory(tmp_path).examples(1)).num_rows == 0
