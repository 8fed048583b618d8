"""What one iteration counts, adds up over shards and processes, and writes into its report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mstar.endpoint import Judged
from mstar.selection import pass_rate
from mstar.storage import PromptResponses
from mstar.types import Fate, ScoredResponse, VerdictStatus

_NONE: Final = "none right"
_ALL: Final = "all right"
# Groups of prompts by their pass rate: the name, and the largest rate in it; all others are right throughout.
_RATES: Final = ((_NONE, 0.0), ("up to 1/4", 0.25), ("up to 3/4", 0.75), ("above 3/4", 1 - 1e-9))
# Of what a rule could keep, right responses without copies.
_ELIGIBLE: Final = (Fate.KEPT, Fate.NOT_SELECTED)
# Categories that a report names; a column of free text may have thousands.
_CATEGORIES: Final = 50


@dataclass(slots=True)
class IterationReport:
    """Counts and times of one iteration; they add up over shards and processes.

    Attributes:
        counts: Of prompts (``prompts``, ``all_right`` and ``all_wrong`` of them, ``put_aside`` ones that could not be
            shown to the policy), of responses (the funnel's, ``tokens``, ``truncated`` and so on), of chains, and of
            ``examples`` that the policy is trained on (of ``rloop`` what earlier iterations kept, too). Further:
            ``new_tokens`` were generated now, not read from shards that were there; ``reused`` prompts' responses were
            drawn for another choice and read here, those of ``ahead`` by the weights that the iteration before drew
            with; ``voted`` prompts' answers were voted on, ``abstained`` of them got none, and of ``votes_known`` that
            got one the hidden answer is known.
        by_pass_rate: What came of prompts, by the share of right responses to them.
        alike: Those counts of as many responses to each prompt, by which iterations are compared: what further samples
            hard prompts got (``rollout.balance.extra_samples``) does not say what the policy is like.
        labelled: The same of the prompts that were not voted on. A vote's verdicts say how far a policy agrees with
            itself, not how often it is right.
        judged: What a judge was asked when the verdicts were made, and how it agrees with the rules; known of the whole
            iteration alone.
        seconds: Wall time of this process by stage: generate, grade, score.
    """

    iteration: int
    temperature: float
    counts: Counter[str] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)
    by_pass_rate: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_category: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    judged: Judged = Judged()  # noqa: RUF009 - frozen, so sharing it is safe
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "grade": 0.0, "score": 0.0})

    def count(self, group: PromptResponses, *, voted: bool = False, num_samples: int | None = None) -> None:
        """Adds one prompt's responses.

        Args:
            voted: Whether the prompt's answer is what they agreed on; a group that was read from a shard forgets it.
            num_samples: How many responses every prompt has; those after them are further ones. None for all.
        """
        tally = _tally(group.responses)
        first = [s for s in group.responses if num_samples is None or s.response.sample_index < num_samples]
        rate = pass_rate(first)
        name = next((name for name, most in _RATES if rate <= most), _ALL)
        alike = _tally(first)
        alike.update(all_right=int(name == _ALL), all_wrong=int(name == _NONE))
        self.counts.update(tally)
        self.alike.update(alike)
        for counts in (self.by_pass_rate[name], self.by_category[group.prompt.category]):
            counts.update({**alike, "kept": tally["kept"]})
        if not voted:
            self.labelled.update(alike)

    def merge(self, other: IterationReport) -> None:
        """Adds another process's counts; times are the longest of any process."""
        self.counts.update(other.counts)
        self.alike.update(other.alike)
        self.labelled.update(other.labelled)
        for own, others in ((self.by_pass_rate, other.by_pass_rate), (self.by_category, other.by_category)):
            for name, tally in others.items():
                own[name].update(tally)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = max(self.seconds[stage], seconds)

    def as_dict(self) -> dict[str, Any]:
        """The report's JSON form."""
        counts, alike = self.counts, self.alike
        # Without a choice, all that could be kept is.
        chances = counts["kept_chains_known"] if counts["chosen"] else 0
        ahead = {"prompts": counts["ahead"], "weights_of_iteration": self.iteration - 1}
        return {
            "iteration": self.iteration,
            "prompts": counts["prompts"],
            "put_aside": counts["put_aside"],
            "reused": counts["reused"],
            # Only where it is so.
            **({"drawn_ahead": ahead} if counts["ahead"] else {}),
            "temperature": self.temperature,
            "funnel": {name: counts[name] for name in ("generated", "parsed", "correct", "unique", "kept")},
            "grading_timeouts": counts["timeouts"],
            "tokens": counts["tokens"],
            "truncated_fraction": counts["truncated"] / max(counts["generated"], 1),
            "tokens_per_second": counts["new_tokens"] / self.seconds["generate"] if counts["new_tokens"] else None,
            "seconds": dict(self.seconds),
            "kept_chain_accuracy": _share(counts["kept_chains"], counts["kept_chains_known"]),
            "random_chain_accuracy": _share(1e-6 * counts["random_chains"], chances),
            "choice": {"prompts": counts["chosen"], "of": counts["selectable"]},
            "min_on_answer_step": _share(counts["worst_answers"], counts["scored"]),
            "pseudo_labels": self._votes(),
            # Only where these are not all responses.
            **({"labelled": self._labelled()} if counts["voted"] or counts["generated"] > alike["generated"] else {}),
            # Only where there is one.
            **({"judge": self.judged.as_dict()} if self.judged.asked else {}),
            "by_pass_rate": _shares(self.by_pass_rate, [*(name for name, _ in _RATES), _ALL]),
            "by_category": _shares(self.by_category, self._categories()),
            "right_chain_accuracy": _share(alike["right_chains"], alike["right_chains_known"]),
            "all_right_fraction": alike["all_right"] / max(counts["prompts"], 1),
            "all_wrong_fraction": alike["all_wrong"] / max(counts["prompts"], 1),
            "no_gradient": counts["no_gradient"],
            "response_length": alike["tokens"] / max(alike["generated"], 1),
            "entropy": _share(-1e-6 * alike["logprob"], alike["logprob_tokens"]),
            "examples": counts["examples"],
            "skipped": counts["examples"] == 0,
        }

    def _votes(self) -> dict[str, Any] | None:
        counts = self.counts
        if not counts["voted"]:
            return None
        known = counts["votes_known"]
        accuracy = _share(counts["votes_right"], known)
        return {"voted": counts["voted"], "abstained": counts["abstained"], "known": known, "accuracy": accuracy}

    def _labelled(self) -> dict[str, Any]:
        """What the report has of all, by the same names, of prompts without a vote and as many responses to each."""
        found = self.labelled
        return {
            "prompts": found["prompts"],
            "funnel": {name: found[name] for name in ("generated", "correct")},
            "right_chain_accuracy": _share(found["right_chains"], found["right_chains_known"]),
            "all_wrong_fraction": found["all_wrong"] / max(found["prompts"], 1),
        }

    def _categories(self) -> list[str]:
        """The categories with the most prompts; none where there is one only."""
        ranked = sorted(self.by_category, key=lambda name: (-self.by_category[name]["prompts"], name))
        return sorted(ranked[:_CATEGORIES]) if len(ranked) > 1 else []


def _tally(responses: Sequence[ScoredResponse]) -> Counter[str]:
    """What is counted of one prompt's responses.

    ``timeouts`` are formulas that ran out of computing time twice, so that they count as wrong. A prompt is
    ``selectable`` with a right response that could be kept, and ``chosen`` where the rule left some such response out.
    ``random_chains`` are to be expected right throughout among as many as were kept, chosen at random of all that could
    be. ``scored`` responses have the scores of two steps or more, and in ``worst_answers`` the lowest is that of the
    step with the answer alone. ``no_gradient`` is of methods that learn from all responses. ``random_chains`` and
    ``logprob`` are in millionths: a sum of integers depends on no order.
    """
    right = [s for s in responses if s.verdict.correct]
    kept = [s for s in responses if s.fate is Fate.KEPT]
    # Methods that learn from every sample keep wrong ones, too.
    fates = {s.fate for s in right}
    stepwise = [s.step_scores for s in responses if len(s.step_scores) > 1]
    known = [s.response for s in responses if math.isfinite(s.response.logprob)]
    chains = {
        name: [s.chain_correct for s in some if s.chain_correct is not None]
        for name, some in (("kept_chains", kept), ("right_chains", right))
    }
    eligible = [s.chain_correct for s in responses if s.fate in _ELIGIBLE and s.chain_correct is not None]
    return Counter(
        prompts=1,
        generated=len(responses),
        parsed=sum(s.verdict.predicted is not None for s in responses),
        timeouts=sum(s.verdict.status is VerdictStatus.TIMEOUT for s in responses),
        correct=len(right),
        whole=sum(s.response.finished for s in right),
        unique=len({s.response.text.strip() for s in right}),
        kept=len(kept),
        tokens=sum(s.response.num_tokens for s in responses),
        truncated=sum(not s.response.finished for s in responses),
        selectable=int(not fates.isdisjoint(_ELIGIBLE)),
        chosen=int(Fate.NOT_SELECTED in fates),
        random_chains=round(1e6 * len(chains["kept_chains"]) * sum(eligible) / max(len(eligible), 1)),
        no_gradient=sum(s.fate is Fate.NO_GRADIENT for s in responses),
        scored=len(stepwise),
        worst_answers=sum(scores[-1] < min(scores[:-1]) for scores in stepwise),
        logprob=sum(round(1e6 * response.logprob) for response in known),
        logprob_tokens=sum(response.num_tokens for response in known),
        **{name: sum(values) for name, values in chains.items()},
        **{f"{name}_known": len(values) for name, values in chains.items()},
    )


def _share(part: float, of: int) -> float | None:
    return part / of if of else None


def _shares(tallies: Mapping[str, Counter[str]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "prompts": tally["prompts"],
            # As prompts are told apart by it: what was cut off is not right, though it may be "correct" in the funnel.
            "accuracy": tally["whole"] / max(tally["generated"], 1),
            "kept": tally["kept"],
        }
        for name in names
        if (tally := tallies.get(name)) is not None
    }
