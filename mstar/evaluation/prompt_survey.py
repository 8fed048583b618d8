"""What a prompt source holds: kinds of answers, gold answers that cannot be graded, pictures, lengths, bad rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_high
from typing import TYPE_CHECKING, Final

from mstar.end_tokens import without_end_tokens
from mstar.errors import counted
from mstar.grading import AnswerGrader
from mstar.grading.commitment import find_committed
from mstar.prompts.base import PromptSource
from mstar.prompts.facts import SourceFacts, explain_bad_row, first_of_each, join_counts
from mstar.prompts.prompt_check import PromptCheck, describe
from mstar.prompts.quarantine import BadRow, RowError
from mstar.types import AnswerType, Prompt

if TYPE_CHECKING:
    from mstar.rendering import Renderer

_CHOSEN: Final = (AnswerType.MULTI_CHOICE, AnswerType.MULTI_SELECT)
# Characters above which a gold answer is likely a solution or a description.
_LONG: Final = 200
# Prompts that a summary looks at.
_LOOKED_AT: Final = 200
# How a rationale begins that is an answer alone, as in R1-V's data, and how much longer than the answer it is at most.
_OPENED: Final = ("<answer>", r"\boxed{")
_WRAPPED: Final = len("<answer>  </answer>")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of some prompts, and what cannot be shown to the model.

    Attributes:
        prompts: Tokens of each prompt, those of its pictures included.
        rationales: Tokens of each rationale, with its end token.
    """

    prompts: tuple[int, ...]
    rationales: tuple[int, ...]
    unusable: tuple[BadRow, ...]


@dataclass(slots=True)
class Survey:
    """What some prompts are.

    Attributes:
        counts: Of ``prompts``: with gold ``answers``, those ``gradeable`` and those ``long`` (rather a text than an
            answer); with ``rationales``, those ``stating`` an answer where there is no gold one and those ``bare`` (an
            answer in its tag or box, and nothing else); and those ``without_options`` of multiple choice.
        ungradeable: Id and gold answer of the first that cannot be graded.
    """

    counts: Counter[str] = field(default_factory=Counter)
    answer_types: Counter[str] = field(default_factory=Counter)
    pictures: Counter[int] = field(default_factory=Counter)
    ungradeable: tuple[str, str] | None = None


def spread(size: int, count: int) -> list[int]:
    """At most ``count`` numbers below ``size``, evenly spread."""
    count = min(size, count)
    return [place * size // count for place in range(count)]


def survey_prompts(prompts: Iterable[Prompt]) -> Survey:
    """Goes through prompts once; no picture is opened."""
    grader, found = AnswerGrader(), Survey()
    for prompt in prompts:
        found.answer_types[prompt.answer_type.value] += 1
        found.pictures[len(prompt.images)] += 1
        said, answer = prompt.rationale or "", prompt.answer
        gradeable = answer is not None and grader.is_gradeable(prompt)
        if answer is not None and not gradeable:
            found.ungradeable = found.ungradeable or (prompt.id, answer)
        found.counts.update(
            prompts=1,
            answers=answer is not None,
            gradeable=gradeable,
            long=len(answer or "") > _LONG,
            without_options=answer is not None and prompt.answer_type in _CHOSEN and not prompt.choices,
            rationales=bool(said),
            stating=answer is None and find_committed(said) != said,
            bare=said.startswith(_OPENED) and len(said) - len(find_committed(said)) <= _WRAPPED,
        )
    return found


def summarise(key: str, source: PromptSource) -> Iterator[str]:
    """The source that a key of the configuration names, in up to five lines; of its prompts it looks at some alone."""
    facts, found = source.facts(), survey_prompts(source[index] for index in spread(len(source), _LOOKED_AT))
    rows = "" if facts is None else f" from {counted(facts.rows, 'row')}"
    yield f"{key}: {counted(len(source), 'prompt')} of {source.title}{rows}"
    if facts is not None and facts.columns:
        yield f"  columns: {', '.join(f'{choice.role} = {choice.column}' for choice in facts.columns)}"
    types, pictures = (found.answer_types, found.pictures) if facts is None else (facts.answer_types, facts.pictures)
    looked_at, answers, gradeable = (found.counts[name] for name in ("prompts", "answers", "gradeable"))
    share = f" ({looked_at:,} looked at)" if facts is None and looked_at < len(source) else ""
    if answers:
        yield f"  answers{share}: {join_counts(types)}; gradeable {gradeable:,} of {answers:,} looked at"
    else:
        yield "  answers: none, or hidden"
    yield f"  pictures{share}: {join_counts(_with(pictures))}"
    if facts is not None:
        reasons = join_counts({reason.value: number for reason, number in facts.bad.items()})
        bad = f"{sum(facts.bad.values()):,} of {counted(facts.rows, 'row')} ({reasons})" if facts.bad else "no row"
        yield f"  put aside: {bad}"


def _with(pictures: Mapping[int, int]) -> dict[str, int]:
    return {f"with {number or 'none'}": count for number, count in sorted(pictures.items())}


def count_lengths(source: PromptSource, renderer: Renderer, count: int) -> Lengths:
    """Counts the tokens of some prompts, evenly spread, as a model reads them; their pictures are decoded."""
    check = PromptCheck(renderer)
    prompts, rationales, unusable = [], [], []
    for index in spread(len(source), count):
        prompt = source[index]
        try:
            prompts.append(renderer.count_tokens(check.open(prompt)))
        except RowError as error:
            unusable.append(describe(prompt, error))
            continue
        if prompt.rationale:
            rationales.append(renderer.count_response_tokens(without_end_tokens(prompt.rationale, renderer.end_texts)))
    return Lengths(tuple(prompts), tuple(rationales), tuple(unusable))


def describe_facts(facts: SourceFacts) -> Iterator[tuple[str, str]]:
    """What is known without a look at the prompts, as names and texts; a name is empty where it is the one above."""
    for place, choice in enumerate(facts.columns):
        yield "" if place else "columns", f"{choice.role} = {choice.column} ({choice.why})"
    if facts.unread:
        yield "not read", ", ".join(facts.unread)
    for role, (number, first, detail) in facts.ignored.items():
        yield "", f"{role}: {counted(number, 'value')} not read, the first in row {first}: {detail}"
    yield "rows", f"{facts.rows:,}" + (f", of which {facts.repeated:,} repeat another one" if facts.repeated else "")
    bad = sum(facts.bad.values())
    yield (
        "put aside",
        f"{bad:,} of {counted(facts.rows, 'row')} (counted from 0); see {facts.quarantine}" if bad else "no row",
    )
    for row in facts.examples:
        yield "", f"{facts.bad[row.reason]:,} {row.reason.value}, first {explain_bad_row(row, facts.columns)}"


def describe_survey(survey: Survey) -> Iterator[tuple[str, str]]:
    """What the prompts are, as names and texts."""
    counts = survey.counts
    yield (
        "prompts",
        f"{counts['prompts']:,}" + (f", {counts['rationales']:,} with a rationale" if counts["rationales"] else ""),
    )
    yield "answers", join_counts(survey.answer_types) if counts["answers"] else "none, or hidden"
    if counts["stating"]:
        where = "name their column in fields.answer, too (of chats, conversations.1.value or the like)"
        yield "", f"{counts['stating']:,} rationales state one: {where}"
    if counts["bare"]:
        where = "for a warm-up, name another column in fields.rationale"
        yield "", f"{counts['bare']:,} rationales are an answer and nothing else: {where}"
    if counts["answers"]:
        yield "gradeable", f"{counts['gradeable']:,} of {counted(counts['answers'], 'gold answer')}"
    if survey.ungradeable is not None:
        prompt_id, answer = survey.ungradeable
        yield "", f"not: {answer[:200]!r} of prompt '{prompt_id}', to which no response is ever right"
    if counts["long"]:
        yield "", f"{counts['long']:,} are longer than {_LONG} characters: are they answers?"
    if counts["without_options"]:
        chosen = sum(survey.answer_types[kind.value] for kind in _CHOSEN)
        where = "they stand in the picture, or in a column that is not read"
        yield "options", f"{counts['without_options']:,} of {chosen:,} questions that have some come without: {where}"
    yield "pictures", join_counts(_with(survey.pictures))


def describe_lengths(lengths: Lengths, facts: SourceFacts | None) -> Iterator[tuple[str, str]]:
    """What the prompts are for a model, as names and texts."""
    yield "tokens", f"prompts {_range(lengths.prompts)}"
    if lengths.rationales:
        yield "", f"rationales {_range(lengths.rationales)}"
    for row in first_of_each(lengths.unusable):
        number = sum(other.reason is row.reason for other in lengths.unusable)
        said = explain_bad_row(row, facts.columns if facts else ())
        yield "", f"{number:,} cannot be shown: {row.reason.value}, first {said}"


def _range(values: Sequence[int]) -> str:
    if not values:
        return "(none could be counted)"
    return f"{min(values):,} to {max(values):,}, median {median_high(values):,} (of {len(values):,} counted)"
