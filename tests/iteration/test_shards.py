"""Whose an iteration's folder is, and which shards are used again for another choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from mstar.endpoint import Judged, Traffic
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader, Grader
from mstar.iteration.iteration import IterationResult, Stages, run_iteration
from mstar.iteration.plan import IterationPlan, IterationPrompts
from mstar.iteration.shards import Earlier, claim_iteration, find_earlier, iteration_facts, warn_of_other_reward
from mstar.judges import JudgeGrader
from mstar.prompts import TinyDice
from mstar.provenance import describe
from mstar.rewards import Reward
from mstar.selection import Selector
from mstar.storage import RunDirectory, read_json, write_json
from mstar.types import Prompt, Response

if TYPE_CHECKING:
    from tests.stub_server import StubServer

FACTS = iteration_facts(
    {"policy": "abc"}, verdicts={"grader": "one"}, scores=None, selection={"rule": "all"}, prompts=("aa", "bb")
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "runs" / "own")
    claim_iteration(made, 1, FACTS)
    (made.iteration(1) / "responses-00000.parquet").write_text("first")
    return made


def folders(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in (run.root / "iterations").iterdir())


def test_the_facts_are_written_and_keep_the_shards(run: RunDirectory) -> None:
    assert read_json(run.plan(1)) == FACTS
    claim_iteration(run, 1, FACTS)
    assert folders(run) == ["0001"]
    assert run.responses(1, 0).read_text() == "first"


def test_other_facts_move_the_folder_aside_and_say_why(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        claim_iteration(run, 1, FACTS | {"selection": {"rule": number}})
    assert folders(run) == ["0001", "0001.old-1", "0001.old-2"]
    assert (run.root / "iterations/0001.old-1/responses-00000.parquet").read_text() == "first"
    assert not run.responses(1, 0).exists()
    assert run.iterations == [1]
    assert "made with selection.rule all (now 1)" in capsys.readouterr().err


@pytest.mark.parametrize("plan", [None, '{"plan": "IterationPlan(...)", "policy": "abc"}'])
def test_a_folder_of_unknown_facts_is_moved_aside(run: RunDirectory, plan: str | None) -> None:
    """Without any, or with those of an earlier version."""
    run.plan(1).unlink()
    if plan is not None:
        run.plan(1).write_text(plan)
    claim_iteration(run, 1, FACTS)
    assert folders(run) == ["0001", "0001.old-1"]
    assert find_earlier(run, 1, FACTS) == {}


def test_later_iterations_belong_to_an_earlier_run(run: RunDirectory) -> None:
    claim_iteration(run, 2, FACTS)
    claim_iteration(run, 3, FACTS)
    claim_iteration(run, 2, FACTS)
    assert folders(run) == ["0001", "0002", "0003.old-1"]


def test_shards_are_found_by_what_each_stage_depends_on(run: RunDirectory) -> None:
    path = Path("iterations/0001.old-1/responses-00000.parquet")
    other = FACTS | {"selection": {"rule": "random"}, "prompts": ["zz", "aa"]}
    claim_iteration(run, 1, other)
    # Its first shard is the second one here; the other has no file.
    assert find_earlier(run, 1, other) == {1: Earlier(run.root / path, verdicts=True, scores=False)}
    regraded = other | {"verdicts": {"grader": "two"}}
    assert find_earlier(run, 1, regraded) == {1: Earlier(run.root / path, verdicts=False, scores=False)}
    assert find_earlier(run, 1, other | {"policy": "def"}) == {}
    # Another run finds it where it is told to look, at any of three depths.
    elsewhere = RunDirectory(run.root.parent / "elsewhere")
    for depth in (run.root, run.root.parent, run.root.parent.parent):
        assert find_earlier(elsewhere, 1, other, depth)[1].path == run.root / path
    assert find_earlier(elsewhere, 1, other) == {}


class Counting(Engine):
    """Writes a right and a wrong response, and counts the prompts that it was asked about."""

    max_new_tokens = 8

    def __init__(self) -> None:
        self.asked = 0

    def start(self, policy: object, renderer: object) -> None: ...

    def update_weights(self, policy: object) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        self.asked += len(requests)
        texts = ("so\nAnswer: {}", "Answer: {}", "Answer: 77")
        return [
            [
                Response(r.prompt.id, s.index, texts[s.index].format(r.prompt.answer), 3, True, 1.0, -1.0)
                for s in r.samples
            ]
            for r in requests
        ]


class Scores(Reward):
    """Scores by length, and counts the responses that it was given."""

    def __init__(self) -> None:
        self.scored = 0

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        self.scored += sum(len(responses) for _, responses in groups)
        return [[(1 / len(r.text),) for r in responses] for _, responses in groups]


def test_another_choice_uses_responses_verdicts_and_scores_again(tmp_path: Path) -> None:
    plan = IterationPlan(iteration=1, seed=0, num_samples=3, temperature=1.0, shard_size=2)
    prompts = IterationPrompts(list(TinyDice("pool", 5)), (), plan)
    run = RunDirectory(tmp_path / "run")

    def iterate(
        where: RunDirectory, selector: Selector, grader: Grader, found: Mapping[int, Earlier] | None = None
    ) -> tuple[IterationResult, int, int]:
        engine, reward = Counting(), Scores()
        facts = iteration_facts(
            describe(plan),
            verdicts=describe(grader),
            scores={"reward": 1} if selector.needs_reward else None,
            selection=describe(selector),
            prompts=[prompts.fingerprint(number) for number in range(3)],
        )
        if found is None:
            claim_iteration(where, 1, facts)
            found = find_earlier(where, 1, facts)
        stages = Stages(engine, grader, reward, selector)
        return run_iteration(prompts, stages, where, found), engine.asked, reward.scored

    assert iterate(run, Selector("top_k"), AnswerGrader())[1:] == (5, 10)
    for selector, grader, scored in (
        (Selector("top_k", top_k=1), AnswerGrader(), 0),
        (Selector("random"), AnswerGrader(), 0),
        (Selector("top_k", top_k=1), AnswerGrader(sentences=True), 10),
        (Selector("threshold"), AnswerGrader(), 0),
    ):
        result, *work = iterate(run, selector, grader)
        assert work == [0, scored]
        assert result.report.as_dict()["reused"] == 5
        # The same files as without anything to use again.
        fresh = RunDirectory(tmp_path / f"fresh-{len(list(tmp_path.iterdir()))}")
        assert iterate(fresh, selector, grader, {})[1] == 5
        for path in run.response_shards(1):
            assert pq.read_table(path).equals(pq.read_table(fresh.iteration(1) / path.name))
        assert run.examples(1).read_bytes() == fresh.examples(1).read_bytes()


def test_what_a_judge_was_asked_stays_with_the_shards(stub: StubServer, tmp_path: Path) -> None:
    """However often the iteration was interrupted, and with the choice of other responses."""
    stub.write = lambda body: "ANSWER: 77\nVERDICT: INCORRECT"
    plan, run = IterationPlan(iteration=1, seed=0, num_samples=3, temperature=1.0, shard_size=2), RunDirectory(tmp_path)
    prompts = IterationPrompts(list(TinyDice("pool", 5)), (), plan)

    def iterate(selector: Selector) -> Judged:
        # A new process, and a price of which everything is kept in the folder of answers.
        grader = JudgeGrader(
            stub.address, "judge", cache=str(tmp_path / "answers"), check=1.0, traffic=Traffic(input_price=1e6)
        )
        facts = iteration_facts(
            describe(plan), verdicts=describe(grader), scores=None, selection=describe(selector), prompts="abc"
        )
        claim_iteration(run, 1, facts)
        stages = Stages(Counting(), grader, None, selector)
        report = run_iteration(prompts, stages, run, find_earlier(run, 1, facts)).report
        assert report.as_dict()["judge"]["agreement"] == 3 / 13
        return report.judged

    whole = iterate(Selector("all"))
    # Of three responses to a prompt two are right, by the rules alone; to two prompts the rules find no answer in 77.
    assert (whole.asked, whole.both, whole.equal, whole.rules_alone) == (15, 13, 3, 10)
    # 10 tokens a question, each asked once.
    assert (whole.requests, whole.known, whole.cost) == (15, 0, 150.0)
    run.responses(1, 2).unlink()
    again = iterate(Selector("all"))
    assert (again.asked, again.equal, again.requests, again.known) == (15, 3, 12, 3)
    assert iterate(Selector("random")) == again


def test_a_reward_model_that_was_trained_again_between_two_starts_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory(tmp_path)
    write_json(run.plan(1), {"scores": {"weights": "a"}})
    write_json(run.plan(2), {"scores": None})
    for iteration, weights, told in ((1, "b", 0), (2, "a", 0), (2, "b", 1), (3, "b", 0), (4, "b", 0)):
        caplog.clear()
        warn_of_other_reward(run, iteration, {"scores": {"weights": weights}})
        assert len(caplog.records) == told
