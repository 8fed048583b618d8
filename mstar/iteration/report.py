"""What one iteration counts, adds up over shards and processes, and writes into its report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from mstar.endpoint import Judged
from mstar.selection import pass_rate
from mstar.storage import PromptResponses
from mstar.types import Fate, VerdictStatus

_NONE: Final = "none right"
_ALL: Final = "all right"
# Groups of prompts by their pass rate: the name, and the largest rate in it; all others are right throughout.
_RATES: Final = ((_NONE, 0.0), ("up to 1/4", 0.25), ("up to 3/4", 0.75), ("above 3/4", 1 - 1e-9))
# Categories that a report names; a column of free text may have thousands.
_CATEGORIES: Final = 50


@dataclass(slots=True)
class IterationReport:
    """Counts and times of one iteration; they add up over shards and processes.

    Attributes:
        put_aside: Prompts that could not be shown to the policy.
        parsed: Responses in which an answer was found.
        timeouts: Responses whose formula ran out of computing time twice, so that they count as wrong.
        unique: Distinct right responses.
        kept_chains: Kept responses that are right throughout.
        new_tokens: Those of ``tokens`` that were generated now, not read from shards that were there.
        reused: Prompts whose responses were drawn for another choice, and read here.
        ahead: Prompts whose responses were drawn ahead, by the weights that the iteration before drew with.
        answered: Prompts with a right response that could be kept.
        chosen: Those of them of which the rule left some such response out.
        scored: Responses with the scores of at least two steps.
        worst_answers: Those of them whose lowest score is that of the step with the answer alone.
        voted: Prompts whose answer was voted on.
        abstained: Those of them to which the votes gave none.
        votes_known: Those to which they gave one, and the hidden answer is known.
        by_pass_rate: What came of prompts, by the share of right responses to them.
        right_chains: Responses with the right answer that are right throughout.
        no_gradient: Responses that a method that learns from all of them has nothing to learn from.
        logprob: Sum of the responses' log-probabilities, in millionths: a sum of integers depends on no order.
        logprob_tokens: Tokens of the responses of which it is known.
        labelled: Of the prompts that were not voted on: those, those with a right answer (``answered``), and their
            responses. A vote's verdicts say how far a policy agrees with itself, not how often it is right.
        judged: What a judge was asked when the verdicts were made, and how it agrees with the rules; known of the whole
            iteration alone, on the main process.
        examples: What the policy is trained on; of ``rloop`` what earlier iterations kept, too.
        seconds: Wall time of this process by stage: generate, grade, score.
    """

    iteration: int
    temperature: float
    prompts: int = 0
    put_aside: int = 0
    generated: int = 0
    parsed: int = 0
    timeouts: int = 0
    correct: int = 0
    unique: int = 0
    kept: int = 0
    kept_chains: int = 0
    chains_known: int = 0
    tokens: int = 0
    new_tokens: int = 0
    reused: int = 0
    ahead: int = 0
    truncated: int = 0
    answered: int = 0
    chosen: int = 0
    scored: int = 0
    worst_answers: int = 0
    voted: int = 0
    abstained: int = 0
    votes_known: int = 0
    votes_right: int = 0
    by_pass_rate: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_category: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    right_chains: int = 0
    right_chains_known: int = 0
    no_gradient: int = 0
    logprob: int = 0
    logprob_tokens: int = 0
    labelled: Counter[str] = field(default_factory=Counter)
    judged: Judged = Judged()  # noqa: RUF009 - frozen, so sharing it is safe
    examples: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "grade": 0.0, "score": 0.0})

    def count(self, group: PromptResponses, *, voted: bool = False) -> None:
        """Adds one prompt's responses.

        Args:
            voted: Whether the prompt's answer is what they agreed on; a group that was read from a shard forgets it.
        """
        responses = group.responses
        fates = Counter(s.fate for s in responses)
        correct = sum(s.verdict.correct for s in responses)
        tally = {"prompts": 1, "generated": len(responses), "correct": correct, "kept": fates[Fate.KEPT]}
        rate = pass_rate(responses)
        name = next((name for name, most in _RATES if rate <= most), _ALL)
        self.by_pass_rate[name].update(tally)
        self.by_category[group.prompt.category].update(tally)
        self.prompts += 1
        self.generated += len(responses)
        self.parsed += sum(s.verdict.predicted is not None for s in responses)
        self.timeouts += sum(s.verdict.status is VerdictStatus.TIMEOUT for s in responses)
        self.correct += correct
        self.unique += len({s.response.text.strip() for s in responses if s.verdict.correct})
        self.kept += fates[Fate.KEPT]
        known = [s.chain_correct for s in responses if s.fate is Fate.KEPT and s.chain_correct is not None]
        self.kept_chains += sum(known)
        self.chains_known += len(known)
        self.tokens += sum(s.response.num_tokens for s in responses)
        self.truncated += sum(not s.response.finished for s in responses)
        # Methods that learn from every sample keep wrong ones, too.
        right = Counter(s.fate for s in responses if s.verdict.correct)
        self.answered += right[Fate.KEPT] + right[Fate.NOT_SELECTED] > 0
        self.chosen += right[Fate.NOT_SELECTED] > 0
        self.no_gradient += fates[Fate.NO_GRADIENT]
        stepwise = [s.step_scores for s in responses if len(s.step_scores) > 1]
        self.scored += len(stepwise)
        self.worst_answers += sum(scores[-1] < min(scores[:-1]) for scores in stepwise)
        known = [s.chain_correct for s in responses if s.verdict.correct and s.chain_correct is not None]
        self.right_chains += sum(known)
        self.right_chains_known += len(known)
        if not voted:
            self.labelled.update(
                prompts=1, answered=correct > 0, generated=len(responses), correct=correct,
                right_chains=sum(known), right_chains_known=len(known),
            )  # fmt: skip
        known_logprobs = [s.response for s in responses if math.isfinite(s.response.logprob)]
        self.logprob += sum(round(1e6 * response.logprob) for response in known_logprobs)
        self.logprob_tokens += sum(response.num_tokens for response in known_logprobs)

    def merge(self, other: IterationReport) -> None:
        """Adds another process's counts; times are the longest of any process."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.labelled.update(other.labelled)
        for own, others in ((self.by_pass_rate, other.by_pass_rate), (self.by_category, other.by_category)):
            for name, tally in others.items():
                own[name].update(tally)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = max(self.seconds[stage], seconds)

    def as_dict(self) -> dict[str, Any]:
        """The report's JSON form."""
        return {
            "iteration": self.iteration,
            "prompts": self.prompts,
            "put_aside": self.put_aside,
            "reused": self.reused,
            # Only where it is so.
            **(
                {"drawn_ahead": {"prompts": self.ahead, "weights_of_iteration": self.iteration - 1}}
                if self.ahead
                else {}
            ),
            "temperature": self.temperature,
            "funnel": {n: getattr(self, n) for n in ("generated", "parsed", "correct", "unique", "kept")},
            "grading_timeouts": self.timeouts,
            "tokens": self.tokens,
            "truncated_fraction": self.truncated / max(self.generated, 1),
            "tokens_per_second": self.new_tokens / self.seconds["generate"] if self.new_tokens else None,
            "seconds": dict(self.seconds),
            "kept_chain_accuracy": self.kept_chains / self.chains_known if self.chains_known else None,
            "choice": {"prompts": self.chosen, "of": self.answered},
            "min_on_answer_step": self.worst_answers / self.scored if self.scored else None,
            "pseudo_labels": self._votes(),
            # Only where there is one.
            **({"labelled": self._labelled()} if self.voted else {}),
            **({"judge": self.judged.as_dict()} if self.judged.asked else {}),
            "by_pass_rate": _shares(self.by_pass_rate, [*(name for name, _ in _RATES), _ALL]),
            "by_category": _shares(self.by_category, self._categories()),
            "right_chain_accuracy": self.right_chains / self.right_chains_known if self.right_chains_known else None,
            "all_right_fraction": self.by_pass_rate.get(_ALL, Counter())["prompts"] / max(self.prompts, 1),
            "all_wrong_fraction": self.by_pass_rate.get(_NONE, Counter())["prompts"] / max(self.prompts, 1),
            "no_gradient": self.no_gradient,
            "response_length": self.tokens / max(self.generated, 1),
            "entropy": -1e-6 * self.logprob / self.logprob_tokens if self.logprob_tokens else None,
            "examples": self.examples,
            "skipped": self.examples == 0,
        }

    def _votes(self) -> dict[str, Any] | None:
        if not self.voted:
            return None
        accuracy = self.votes_right / self.votes_known if self.votes_known else None
        return {"voted": self.voted, "abstained": self.abstained, "known": self.votes_known, "accuracy": accuracy}

    def _labelled(self) -> dict[str, Any]:
        """What the report has of all prompts, by the same names, of those that were not voted on."""
        found = self.labelled
        known = found["right_chains_known"]
        return {
            "prompts": found["prompts"],
            "funnel": {name: found[name] for name in ("generated", "correct")},
            "right_chain_accuracy": found["right_chains"] / known if known else None,
            "all_wrong_fraction": 1 - found["answered"] / max(found["prompts"], 1),
        }

    def _categories(self) -> list[str]:
        """The categories with the most prompts; none where there is one only."""
        ranked = sorted(self.by_category, key=lambda name: (-self.by_category[name]["prompts"], name))
        return sorted(ranked[:_CATEGORIES]) if len(ranked) > 1 else []


def _shares(tallies: Mapping[str, Counter[str]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "prompts": tally["prompts"],
            "accuracy": tally["correct"] / max(tally["generated"], 1),
            "kept": tally["kept"],
        }
        for name in names
        if (tally := tallies.get(name)) is not None
    }


_COUNTS = tuple(found.name for found in fields(IterationReport) if found.default == 0 and found.name != "examples")
