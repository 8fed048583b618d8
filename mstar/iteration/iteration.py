"""One iteration of self-evolving training: generate, grade, score, select. No Lightning here.

Prompts are cut into shards of a fixed size, whatever the number of processes: a shard is generated as one unit, written
as one file, and done by one process. A shard that is already on disk is read instead of made again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mstar.distributed import by_leader, from_main, gather_lists, is_main, leads_group, require_shared, takes_part
from mstar.generation import Engine, derive_seed, draw_responses
from mstar.grading import Grader, grade_all, grade_response
from mstar.iteration.plan import IterationPlan, IterationPrompts
from mstar.iteration.report import IterationReport
from mstar.iteration.shards import Earlier, keep_judged, read_earlier, read_judged, read_shard, sift_shard
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.quarantine import PutAside, count_reasons
from mstar.rewards import Reward, add_process_rewards, aggregate
from mstar.selection import Advantages, Selector
from mstar.storage import (
    ExampleFile,
    PromptResponses,
    RunDirectory,
    order_examples,
    read_or_put_aside,
    write_responses,
)
from mstar.storage.responses import CREDIT, TOKENS, VOTED, WEIGHT
from mstar.types import Example, Prompt, Response, ScoredResponse

# Prompts that are kept in memory for the dashboards.
_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Stages:
    """What an iteration is made of.

    Attributes:
        reward: Scores the right responses, loaded; None if there is none.
        selector: Decides which right responses are kept, or what every response is worth.
        check: Tells prompts that can be shown to the policy from those that are put aside.
    """

    engine: Engine
    grader: Grader
    reward: Reward | None
    selector: Selector | Advantages
    check: PromptCheck = field(default_factory=PromptCheck)


@dataclass(frozen=True, slots=True)
class IterationResult:
    """What an iteration hands on.

    Attributes:
        examples: What the policy is trained on, in training order, read from the file when it is asked for; the same
            on every process.
        shown: The first few prompts with their responses, for the dashboards.
    """

    examples: Sequence[Example]
    report: IterationReport
    shown: tuple[PromptResponses, ...]


def run_iteration(
    prompts: IterationPrompts,
    stages: Stages,
    run: RunDirectory,
    earlier: Mapping[int, Earlier] = MappingProxyType({}),
    before: Path | None = None,
) -> IterationResult:
    """Runs one iteration: every prompt's responses are drawn, graded, scored and selected, shard by shard.

    One shard is in memory at a time, and the examples come from their file, so the memory that an iteration takes does
    not depend on how many prompts it has. Several processes must share the file system that the run is on.

    Args:
        prompts: Each has an id of its own.
        earlier: Shards with the same responses that were made for another choice, by the number of the shard here; the
            same on every process.
        before: Examples of an earlier iteration that are trained on again, beside what is kept now.

    Raises:
        DataError: too many prompts cannot be shown to the policy, or the processes do not share the run's folder.
    """
    plan, group_size = prompts.plan, stages.engine.group_size
    leader = leads_group(group_size)
    work = _Shards(plan, stages, IterationReport(plan.iteration, plan.temperature))
    report = work.report
    shown: list[PromptResponses] = []
    paths = [run.responses(plan.iteration, number) for number in range(prompts.num_shards)]
    own = [number for number in range(prompts.num_shards) if takes_part(number, group_size)]
    num_own = sum(prompts.shard_length(number) for number in own)
    with stages.engine.counting(round(num_own * plan.num_samples * (1 + plan.balance.extra_samples))) as bar:
        for number in own:
            shard, hidden = prompts.shard(number)
            groups = read_or_put_aside(paths[number], partial(read_shard, shard, plan.counts))
            usable: list[Prompt] | None = None
            if groups is None:
                put_aside = run.quarantine(plan.iteration, number)
                there, before_it = earlier.get(number), stages.grader.judged()
                drawn = None if there is None else read_earlier(shard, plan.counts, there, put_aside)
                if there is not None and drawn is not None:
                    graded = by_leader(partial(work.take_over, drawn, hidden, there), group_size)
                else:
                    usable = sift_shard(shard, stages.check, put_aside, len(prompts))
                    bar.skip((len(shard) - len(usable)) * plan.num_samples)
                    graded = work.draw(usable, hidden)
                groups = work.choose(graded, hidden)
                if leader:
                    judged = stages.grader.judged() - before_it
                    keep_judged(judged, run.judged(plan.iteration, number), there if drawn is not None else None)
                    write_responses(paths[number], groups, always=work.columns())
            if usable is None:
                bar.skip(len(shard) * plan.num_samples)
            report.counts["ahead"] += len(groups) * (number in plan.ahead)
            for group in groups:
                report.count(group, voted=group.prompt.id in hidden, num_samples=plan.num_samples)
            if leader:
                work.count_votes([(hidden[group.prompt.id], group) for group in groups if group.prompt.id in hidden])
            shown += groups[: _SHOWN - len(shown)]
    total = IterationReport(plan.iteration, plan.temperature)
    for part in gather_lists([report] if leader else []):
        total.merge(part)
    examples = run.examples(plan.iteration)
    if is_main():
        require_shared(paths)
        reasons = count_reasons(run.quarantines(plan.iteration))
        total.counts["put_aside"] = reasons.total()
        total.judged = read_judged(run, plan.iteration, len(paths))
        PutAside("prompts", reasons, len(prompts), run.iteration(plan.iteration)).announce()
        order_examples(paths, examples, derive_seed(plan.seed, "order", plan.iteration), before)
    total.counts["put_aside"], total.judged = from_main((total.counts["put_aside"], total.judged))
    require_shared([examples])
    learned = ExampleFile(examples)
    total.counts["examples"] = len(learned)
    return IterationResult(learned, total, tuple(shown))


@dataclass(frozen=True, slots=True)
class _Shards:
    """What is done with the prompts of one shard; ``hidden`` are the ids of those whose answers it does not show."""

    plan: IterationPlan
    stages: Stages
    report: IterationReport

    def columns(self) -> list[str]:
        """What every shard of every iteration has a column of because one of them may need it."""
        plan = self.plan
        weighs = (plan.vote and plan.voting.weight is not None) or plan.balance.repeat_hard is not None
        credit = CREDIT if isinstance(self.stages.selector, Advantages) else WEIGHT if weighs else None
        parts = (TOKENS if plan.keep_tokens else None, credit, VOTED if plan.vote else None)
        return [name for part in parts if part is not None for name in part.names]

    def draw(self, shard: Sequence[Prompt], hidden: Collection[str]) -> list[PromptResponses]:
        """Draws and grades responses to every prompt, and then further ones to hard prompts."""
        plan = self.plan
        groups = self._draw_samples(shard, [range(plan.num_samples)] * len(shard), hidden)
        # Of what is voted on it is not known how many are right.
        open_groups = [group for group in groups if group.prompt.id not in hidden]
        given = plan.balance.share_out([group.responses for group in open_groups], plan.num_samples)
        hard = [
            (group.prompt, range(plan.num_samples, plan.num_samples + number))
            for group, number in zip(open_groups, given, strict=True)
            if number
        ]
        if not hard:
            return groups
        further = self._draw_samples([prompt for prompt, _ in hard], [places for _, places in hard], hidden)
        more = {group.prompt.id: group.responses for group in further}
        return [replace(group, responses=(*group.responses, *more.get(group.prompt.id, ()))) for group in groups]

    def _draw_samples(
        self, prompts: Sequence[Prompt], places: Sequence[range], hidden: Collection[str]
    ) -> list[PromptResponses]:
        """Draws and grades the samples with these numbers of each prompt."""
        with self._timed("generate"):
            written = draw_responses(self.stages.engine, self.plan.requests(prompts, places, hidden))
        self.report.counts["new_tokens"] += sum(response.num_tokens for responses in written for response in responses)
        with self._timed("grade"):
            grade = partial(_grade, prompts, written, self.stages.grader)
            graded = by_leader(grade, self.stages.engine.group_size)
        return [PromptResponses(p, tuple(responses)) for p, responses in zip(prompts, graded, strict=True)]

    def take_over(
        self, groups: Sequence[PromptResponses], hidden: Collection[str], earlier: Earlier
    ) -> list[PromptResponses]:
        """Responses that are there, with the verdicts and scores that hold still."""
        grader, reward = self.stages.grader, self.stages.reward

        def holds(prompt: Prompt) -> bool:
            # What was voted on has the vote's verdicts.
            return earlier.verdicts and prompt.id not in hidden

        def take(scored: ScoredResponse, graded: ScoredResponse | None) -> ScoredResponse:
            scored = replace(scored, weight=1.0, advantage=None)
            if not self.plan.keep_tokens:
                scored = replace(scored, response=replace(scored.response, tokens=(), logprobs=()))
            kept = scored
            if graded is not None:
                kept = replace(scored, verdict=graded.verdict, chain_correct=graded.chain_correct)
            if reward is None or not earlier.scores or kept.process_reward is None:
                return replace(kept, step_scores=(), process_reward=None)
            return replace(kept, process_reward=aggregate(kept.step_scores, reward.aggregation))

        self.report.counts["reused"] += 0 if earlier.ahead else len(groups)
        with self._timed("grade"):
            unjudged = [group for group in groups if not holds(group.prompt)]
            rows = _grade([g.prompt for g in unjudged], [[s.response for s in g.responses] for g in unjudged], grader)
            fresh = {group.prompt.id: row for group, row in zip(unjudged, rows, strict=True)}
            return [
                PromptResponses(g.prompt, tuple(map(take, g.responses, fresh.get(g.prompt.id, repeat(None)))))
                for g in groups
            ]

    def choose(self, groups: Sequence[PromptResponses], hidden: Collection[str]) -> list[PromptResponses]:
        """Scores the graded responses, as far as they are not scored, and selects of them."""
        plan, selector, reward = self.plan, self.stages.selector, self.stages.reward
        voting = any(group.prompt.id in hidden for group in groups)
        if reward is not None and (selector.needs_reward or voting):
            everything = voting or selector.scores_wrong
            wanted = [
                s for g in groups for s in g.responses if everything or (s.verdict.correct and s.response.finished)
            ]
            # All or none: a shard is the unit that is reproduced exactly.
            if any(s.process_reward is None for s in wanted):
                with self._timed("score"):
                    groups = add_process_rewards(groups, reward, only_correct=not everything)
        with self._timed("grade"):
            chosen = []
            for group in groups:
                voted = group.prompt.id in hidden
                group = plan.voting.label(group) if voted else group
                selected = selector.select(group.responses, stage=plan.stage)
                # How hard a prompt is, a vote on it does not say.
                chosen.append(replace(group, responses=selected if voted else plan.balance.repeat(selected)))
            return chosen

    def count_votes(self, voted: Sequence[tuple[Prompt, PromptResponses]]) -> None:
        """Counts pseudo answers, and those that are right where the hidden answer is known: for the report alone."""
        counts, grader = self.report.counts, self.stages.grader
        agreed = [(truth, next((s.response for s in g.responses if s.verdict.correct), None)) for truth, g in voted]
        known = [(truth, answer) for truth, answer in agreed if answer is not None and truth.answer is not None]
        counts["voted"] += len(voted)
        counts["abstained"] += sum(answer is None for _, answer in agreed)
        counts["votes_known"] += len(known)
        with self._timed("grade"):
            grader.prepare([(truth, answer.text) for truth, answer in known])
            counts["votes_right"] += sum(grade_response(*pair, grader).verdict.correct for pair in known)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.report.seconds[stage] += time.perf_counter() - began


def _grade(
    prompts: Sequence[Prompt], drawn: Sequence[Sequence[Response]], grader: Grader
) -> list[list[ScoredResponse]]:
    """``grade_all``; of what was cut off, which is never kept, no judge is asked: the rules alone are."""
    rules = getattr(grader, "rules", None)
    if not isinstance(rules, Grader):
        return grade_all(prompts, drawn, grader)
    whole = grade_all(prompts, [[r for r in row if r.finished] for row in drawn], grader)
    cut_off = grade_all(prompts, [[r for r in row if not r.finished] for row in drawn], rules)
    found = zip(drawn, map(iter, whole), map(iter, cut_off), strict=True)
    return [[next(right if r.finished else cut) for r in row] for row, right, cut in found]
