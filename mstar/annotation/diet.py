"""A diet for step labels of any source: fewer responses, and labels that are more to be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isnan
from statistics import fmean

import numpy as np

from mstar.annotation.label_table import LabelTable
from mstar.annotation.public_labels import PublicStepLabels
from mstar.errors import DataError, require_least, require_share
from mstar.types import StepLabels


@dataclass(frozen=True)
class LabelDiet:
    """Which step labels an MPRM is trained on; in this order, each is off by default.

    Args:
        agree: Labels of the same responses by another policy (``annotate --policy OTHER --responses LABELS``). A step
            on which the two differ, whether any continuation is right, or that one of them does not label, is not
            labelled; a response that only one has is left out (Athena-PRM, arXiv 2506.09532: a weak and a strong
            completer).
        confidence: Prompts of which a smaller share of the continuations from their responses' first labelled steps is
            right are skipped: the policy is unsure of them, and their wrong steps are often right ones that it cannot
            finish (after SCAN, arXiv 2509.16548, whose self-confidence is the share of right responses to the prompt,
            of 128; it takes 0.75).
        keep: Share of the responses that is kept, those with the highest balanced-information score (BIS,
            arXiv 2602.04145): (p (1 - p) + ``smoothing``) R, with p the share of right steps and R the mean share of
            right continuations of these; 1 without any. BIS takes the share of each source: several at once are ranked
            together here. It trains with ``labels: hard``.
        smoothing: See ``keep``; what it leaves for responses whose steps are all right or all wrong. The authors take
            0.05 for a quarter of the responses, 0.2 for a tenth.
        soften: In a wrong response, so many labelled steps before the first wrong one get soft labels, the share of
            right continuations divided by the prompt's confidence, at most 1; those before them are right, and those
            from it on wrong (SCAN: errors are found too late rather than too early; it takes 2 steps, and leaves out
            what follows one). Every labelled step of a right response is right, as SCAN has it, where labels are
            shares of continuations and the last one is the answer's. None leaves the labels as they are.

    Raises:
        ConfigError: a setting is out of its range.
    """

    agree: str | PublicStepLabels | None = None
    confidence: float = 0.0
    keep: float = 1.0
    smoothing: float = 0.05
    soften: int | None = None

    def __post_init__(self) -> None:
        require_share("diet.confidence", self.confidence, "[0, 1)")
        require_share("diet.keep", self.keep, "(0, 1]")
        require_least("diet.", 0, smoothing=self.smoothing, soften=self.soften)


def apply_diet(labels: LabelTable, diet: LabelDiet, others: LabelTable | None = None) -> LabelTable:
    """The labels that a diet leaves, given those of ``diet.agree``; those of a prompt stand one after the other.

    Raises:
        DataError: none is left.
    """
    if others is not None:
        labels = LabelTable.held(_agreeing(labels, others))
    labels = labels.by_prompt()
    # Of all responses to a prompt: those that are kept of them are no fair sample.
    confidences = _confidences(labels)
    sure = [row for row, label in enumerate(labels) if confidences[label.prompt_id] >= diet.confidence]
    labels = labels.select(np.array(sure, dtype=np.int64))
    if diet.keep < 1 and labels:
        scores = np.array([information(label, diet.smoothing) for label in labels])
        ranked = np.argsort(-scores, kind="stable")[: max(1, int(len(labels) * diet.keep))]
        labels = labels.select(np.sort(ranked))
    if not labels:
        raise DataError("data.diet leaves no step labels: lower confidence, or give other labels for agree.")
    if diet.soften is None:
        return labels
    return LabelTable.held(_soften(label, confidences[label.prompt_id], diet.soften) for label in labels)


def information(label: StepLabels, smoothing: float) -> float:
    """The balanced-information score of a response's labels; see ``LabelDiet.keep``."""
    known = [soft for soft, total in zip(label.soft_labels, label.num_total, strict=True) if total]
    right = [soft for soft in known if soft > 0]
    share = len(right) / max(len(known), 1)
    return (share * (1 - share) + smoothing) * (fmean(right) if right else 1.0)


def _agreeing(labels: Iterable[StepLabels], others: Iterable[StepLabels]) -> Iterator[StepLabels]:
    second = {(other.prompt_id, other.response): other for other in others}
    for label in labels:
        if (other := second.get((label.prompt_id, label.response))) is not None:
            right = zip(label.hard_labels, other.hard_labels, strict=True)
            # A step that the other has no label for has no right continuation there either, which is no agreement.
            agree = [a == b and total > 0 for (a, b), total in zip(right, other.num_total, strict=True)]
            kept = tuple(total * same for total, same in zip(label.num_total, agree, strict=True))
            if any(kept):
                counts = (count * same for count, same in zip(label.num_correct, agree, strict=True))
                yield replace(label, num_correct=tuple(counts), num_total=kept)


def _confidences(labels: Iterable[StepLabels]) -> dict[str, float]:
    """How sure the policy is of every prompt, by its id."""
    first: dict[str, list[float]] = defaultdict(list)
    for label in labels:
        # Of the lines of a step, the last one has the label.
        first[label.prompt_id] += [share for share in label.soft_labels if not isnan(share)][:1]
    return {prompt_id: fmean(shares) if shares else 0.0 for prompt_id, shares in first.items()}


def _soften(label: StepLabels, confidence: float, tolerance: int) -> StepLabels:
    # Verdicts, one a step, are no continuations; and a last step that is not the answer says nothing of it.
    if label.correct and max(label.num_total) > 1 and 0 < label.num_correct[-1] == label.num_total[-1]:
        # A step of a right response from which no continuation is right shows what the policy cannot, not an error.
        ones = tuple(int(total > 0) for total in label.num_total)
        return replace(label, num_correct=ones, num_total=ones)
    known = [place for place, total in enumerate(label.num_total) if total]
    error = next((number for number, place in enumerate(known) if not label.num_correct[place]), None)
    if error is None:
        return label
    made = [(0, 0)] * len(label.num_total)
    for number, place in enumerate(known):
        if error - tolerance <= number < error:
            soft = label.soft_labels[place]
            share = Fraction(min(soft / confidence, 1.0) if confidence else 1.0).limit_denominator(1000)
            made[place] = (share.numerator, share.denominator)
        else:
            made[place] = (int(number < error), 1)
    right, totals = zip(*made, strict=True)
    return replace(label, num_correct=right, num_total=totals)
