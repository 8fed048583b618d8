"""One iteration of self-evolving training: generate, grade, score, select. No Lightning here.

Prompts are cut into shards of a fixed size, whatever the number of processes: a shard is generated as one unit, written
as one file, and done by one process. A shard that is already on disk is read instead of made again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mstar.distributed import gather_lists, is_main, rank, world_size
from mstar.errors import DataError
from mstar.evaluation.dynamics import add_process_rewards
from mstar.evaluation.greedy import grade_response
from mstar.generation import Engine, Request, derive_seed, plan_samples
from mstar.grading import Grader
from mstar.metrics import majority_answer, weighted_vote_answer
from mstar.rewards.process import ProcessReward
from mstar.selection import Selector
from mstar.storage import PromptResponses, RunDirectory, read_responses, write_examples, write_responses
from mstar.types import Example, Fate, Prompt, ScoredResponse, Verdict, VerdictStatus

__all__ = ["IterationPlan", "IterationReport", "IterationResult", "Stages", "iteration_indices", "run_iteration"]


def iteration_indices(num_prompts: int, interval: float, iteration: int, seed: int, stage: str = "order") -> list[int]:
    """Which prompts one iteration uses: the next ``interval`` of the shuffled prompts, reshuffled after every pass.

    Args:
        num_prompts: Prompts in all.
        interval: Fraction of them in one iteration, in (0, 1]; at least one prompt is used.
        iteration: The iteration's number, from 1.
        seed: The run's seed.
        stage: What the prompts are for; each stage has its own order.
    """
    count = max(1, round(num_prompts * interval))
    first = (iteration - 1) * count
    passes = range(first // num_prompts, (first + count - 1) // num_prompts + 1)
    order: list[int] = []
    for number in passes:
        generator = np.random.default_rng(derive_seed(seed, "prompts", stage, number))
        order += generator.permutation(num_prompts).tolist()
    offset = first - passes[0] * num_prompts
    # An iteration may hold the end of one pass and the beginning of the next: a prompt that is in both is used once.
    return list(dict.fromkeys(order[offset : offset + count]))


@dataclass(frozen=True, slots=True)
class Stages:
    """What an iteration is made of.

    Attributes:
        engine: Draws the responses.
        grader: Decides whether a final answer is right.
        reward: The MPRM; None if the selection does not need one.
        selector: Decides which right responses are kept.
    """

    engine: Engine
    grader: Grader
    reward: ProcessReward | None
    selector: Selector


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """What one iteration does.

    Attributes:
        iteration: Its number, from 1.
        seed: The run's seed.
        num_samples: Responses drawn for a prompt (M-STaR: K).
        temperature: Sampling temperature.
        answer_conditioned: Whether the policy is shown the gold answer while it samples (M-STaR: warm-up); prompts
            that are voted on have none to show.
        vote: Whether unlabelled prompts get the weighted vote as their answer; otherwise their own hidden one.
        shard_size: Prompts in a shard.
    """

    iteration: int
    seed: int
    num_samples: int
    temperature: float
    answer_conditioned: bool = False
    vote: bool = True
    shard_size: int = 256

    @property
    def stage(self) -> str:
        """The name of the iteration in seeds."""
        return f"rollout/{self.iteration}"


@dataclass(slots=True)
class IterationReport:
    """Counts and times of one iteration; they add up over shards and processes.

    Attributes:
        iteration: Its number.
        temperature: Sampling temperature.
        prompts: Prompts sampled.
        generated: Responses drawn.
        parsed: Responses in which an answer was found.
        correct: Responses with the right answer.
        unique: Distinct right responses.
        kept: Responses kept for training.
        kept_chains: Kept responses that are right throughout.
        chains_known: Kept responses of which that is known.
        tokens: Tokens of the responses.
        new_tokens: Those of them that were generated now, not read from shards that were there.
        truncated: Responses cut off by the length limit.
        seconds: Wall time of this process by stage: generate, grade, score.
    """

    iteration: int
    temperature: float
    prompts: int = 0
    generated: int = 0
    parsed: int = 0
    correct: int = 0
    unique: int = 0
    kept: int = 0
    kept_chains: int = 0
    chains_known: int = 0
    tokens: int = 0
    new_tokens: int = 0
    truncated: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "grade": 0.0, "score": 0.0})

    def count(self, group: PromptResponses) -> None:
        """Adds one prompt's responses."""
        responses = group.responses
        fates = Counter(s.fate for s in responses)
        self.prompts += 1
        self.generated += len(responses)
        self.parsed += sum(s.verdict.predicted is not None for s in responses)
        self.correct += sum(s.verdict.correct for s in responses)
        self.unique += len({s.response.text.strip() for s in responses if s.verdict.correct})
        self.kept += fates[Fate.KEPT]
        known = [s.chain_correct for s in responses if s.fate is Fate.KEPT and s.chain_correct is not None]
        self.kept_chains += sum(known)
        self.chains_known += len(known)
        self.tokens += sum(s.response.num_tokens for s in responses)
        self.truncated += sum(not s.response.finished for s in responses)

    def merge(self, other: IterationReport) -> None:
        """Adds another process's counts; times are the longest of any process."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = max(self.seconds[stage], seconds)

    def as_dict(self) -> dict[str, Any]:
        """The report's JSON form."""
        return {
            "iteration": self.iteration,
            "prompts": self.prompts,
            "temperature": self.temperature,
            "funnel": {n: getattr(self, n) for n in ("generated", "parsed", "correct", "unique", "kept")},
            "tokens": self.tokens,
            "truncated_fraction": self.truncated / max(self.generated, 1),
            "tokens_per_second": self.new_tokens / self.seconds["generate"] if self.new_tokens else None,
            "seconds": dict(self.seconds),
            "kept_chain_accuracy": self.kept_chains / self.chains_known if self.chains_known else None,
            "skipped": self.kept == 0,
        }


_COUNTS = (
    "prompts", "generated", "parsed", "correct", "unique", "kept", "kept_chains", "chains_known", "tokens",
    "new_tokens", "truncated",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IterationResult:
    """What an iteration hands on.

    Attributes:
        examples: What the policy is trained on, in training order; the same on every process.
        report: Counts and times over all processes.
        shown: The first few prompts with their responses, for the dashboards.
    """

    examples: tuple[Example, ...]
    report: IterationReport
    shown: tuple[PromptResponses, ...]


def run_iteration(
    prompts: Sequence[Prompt],
    unlabelled: Sequence[Prompt],
    plan: IterationPlan,
    stages: Stages,
    run: RunDirectory,
    *,
    num_shown: int = 4,
) -> IterationResult:
    """Runs one iteration: every prompt's responses are drawn, graded, scored and selected, shard by shard.

    Args:
        prompts: Labelled prompts of this iteration.
        unlabelled: Prompts whose answers training must not see; with ``plan.vote`` they are removed at once, and the
            vote's answer takes their place.
        plan: What to do.
        stages: What to do it with.
        run: Where shards and examples are written.
        num_shown: How many prompts are kept in memory for the dashboards.

    Raises:
        DataError: two prompts have the same id.
    """
    report = IterationReport(plan.iteration, plan.temperature)
    examples: list[Example] = []
    shown: list[PromptResponses] = []
    hidden = {prompt.id for prompt in unlabelled} if plan.vote else set()
    everything = [*prompts, *(replace(prompt, answer=None) if plan.vote else prompt for prompt in unlabelled)]
    _check_unique(everything)
    for number, start in enumerate(range(0, len(everything), plan.shard_size)):
        if number % world_size() != rank():
            continue
        shard = everything[start : start + plan.shard_size]
        path = run.responses(plan.iteration, number)
        if path.exists():
            groups = _regroup(shard, read_responses(path))
        else:
            groups = _make_shard(shard, hidden, plan, stages, report.seconds)
            write_responses(path, groups)
            report.new_tokens += sum(s.response.num_tokens for group in groups for s in group.responses)
        for group in groups:
            report.count(group)
            examples += [Example(group.prompt.id, s.response.text) for s in group.responses if s.fate is Fate.KEPT]
        shown += groups[: num_shown - len(shown)]
    total = IterationReport(plan.iteration, plan.temperature)
    for part in gather_lists([report]):
        total.merge(part)
    # Sorted before the shuffle: the order must not depend on how many processes there were.
    ordered = sorted(gather_lists(examples), key=lambda e: (e.prompt_id, e.response))
    random.Random(derive_seed(plan.seed, "order", plan.iteration)).shuffle(ordered)
    if is_main():
        write_examples(run.examples(plan.iteration), ordered)
    return IterationResult(tuple(ordered), total, tuple(shown))


def _make_shard(
    shard: Sequence[Prompt], hidden: set[str], plan: IterationPlan, stages: Stages, seconds: dict[str, float]
) -> list[PromptResponses]:
    with _timed(seconds, "generate"):
        requests = [
            Request(
                prompt,
                plan_samples(plan.seed, plan.stage, prompt.id, plan.num_samples, plan.temperature),
                show_answer=plan.answer_conditioned and prompt.id not in hidden,
            )
            for prompt in shard
        ]
        written = stages.engine.generate(requests)
    with _timed(seconds, "grade"):
        groups = [
            PromptResponses(prompt, tuple(grade_response(prompt, r, stages.grader) for r in responses))
            for prompt, responses in zip(shard, written, strict=True)
        ]
    voting = any(prompt.id in hidden for prompt in shard)
    if stages.reward is not None and (stages.selector.needs_reward_model or voting):
        with _timed(seconds, "score"):
            groups = add_process_rewards(groups, stages.reward, only_correct=not voting)
    with _timed(seconds, "grade"):
        if voting:
            groups = [_pseudo_label(g) if g.prompt.id in hidden else g for g in groups]
        return [PromptResponses(g.prompt, stages.selector.select(g.responses, stage=plan.stage)) for g in groups]


def _pseudo_label(group: PromptResponses) -> PromptResponses:
    """Takes the (weighted) vote of the responses for the answer (M-STaR: prompt variation, argmax of summed R_p)."""
    scored = group.responses
    weighted = all(s.process_reward is not None for s in scored)
    answer = weighted_vote_answer(scored) if weighted else majority_answer(scored)

    def judge(s: ScoredResponse) -> ScoredResponse:
        predicted = s.verdict.predicted
        status = VerdictStatus.NO_ANSWER if predicted is None else VerdictStatus.GRADED
        return replace(s, verdict=Verdict(predicted is not None and predicted == answer, predicted, status))

    return PromptResponses(replace(group.prompt, answer=answer), tuple(judge(s) for s in scored))


def _check_unique(prompts: Sequence[Prompt]) -> None:
    for prompt_id, number in Counter(prompt.id for prompt in prompts).items():
        if number > 1:
            raise DataError(
                f"{number} prompts have the id '{prompt_id}': within data.train and data.unlabelled together every "
                "prompt needs an id of its own."
            )


def _regroup(shard: Sequence[Prompt], rows: Sequence[ScoredResponse]) -> list[PromptResponses]:
    by_prompt: dict[str, list[ScoredResponse]] = {prompt.id: [] for prompt in shard}
    for row in rows:
        by_prompt[row.response.prompt_id].append(row)
    return [PromptResponses(prompt, tuple(by_prompt[prompt.id])) for prompt in shard]


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - began
