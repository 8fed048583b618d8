"""What a prompt source holds: kinds of answers, gold answers that cannot be graded, pictures, lengths, bad rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from mstar.types import AnswerType

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


@dataclass(frozen=True, slots=True)
class Survey:
    """What the prompts of a source are.

    Attributes:
        ungradeable: Prompts whose gold answer cannot be graded.
        ungradeable_example: Id and gold answer of the first of them.
        without_options: Multiple-choice prompts whose options are not known.
        long_answers: Prompts whose gold answer is rather a text than an answer.
        stated_answers: Prompts without a gold answer whose rationale states one.
        bare_rationales: Prompts whose rationale is an answer in its tag or box, and nothing else.
        lengths: Tokens of some of the prompts, where a model was named.
    """

    prompts: int
    answer_types: Mapping[str, int]
    pictures: Mapping[int, int]
    answers: int
    rationales: int
    ungradeable: int
    ungradeable_example: tuple[str, str] | None
    without_options: int
    long_answers: int
    stated_answers: int
    bare_rationales: int
    lengths: Lengths | None


def spread(size: int, count: int) -> list[int]:
    """At most ``count`` numbers below ``size``, evenly spread."""
    count = min(size, count)
    return [place * size // count for place in range(count)]


def survey_prompts(source: PromptSource, renderer: Renderer | None, num_counted: int) -> Survey:
    """Goes through a source once.

    Args:
        renderer: How the model reads prompts; None counts no tokens.
        num_counted: Prompts whose tokens are counted, evenly spread; their pictures are decoded.
    """
    grader = AnswerGrader()
    types: Counter[str] = Counter()
    pictures: Counter[int] = Counter()
    answers = rationales = ungradeable = without_options = long_answers = stated = bare = 0
    example = None
    for prompt in source:
        types[prompt.answer_type.value] += 1
        pictures[len(prompt.images)] += 1
        said = prompt.rationale or ""
        rationales += bool(said)
        bare += said.startswith(_OPENED) and len(said) - len(find_committed(said)) <= _WRAPPED
        if prompt.answer is None:
            stated += find_committed(said) != said
            continue
        answers += 1
        without_options += prompt.answer_type in _CHOSEN and not prompt.choices
        long_answers += len(prompt.answer) > _LONG
        if not grader.is_gradeable(prompt):
            ungradeable += 1
            example = example or (prompt.id, prompt.answer)
    lengths = None if renderer is None else _count_lengths(source, renderer, num_counted)
    found = (answers, rationales, ungradeable, example, without_options, long_answers, stated, bare)
    return Survey(len(source), types, pictures, *found, lengths)


def summarise(key: str, source: PromptSource) -> Iterator[str]:
    """The source that a key of the configuration names, in up to five lines; of its prompts it looks at some alone."""
    facts, looked_at = source.facts(), [source[index] for index in spread(len(source), _LOOKED_AT)]
    rows = "" if facts is None else f" from {counted(facts.rows, 'row')}"
    yield f"{key}: {counted(len(source), 'prompt')} of {source.title}{rows}"
    if facts is not None and facts.columns:
        yield f"  columns: {', '.join(f'{choice.role} = {choice.column}' for choice in facts.columns)}"
    if facts is not None:
        types, pictures = facts.answer_types, facts.pictures
    else:
        types = Counter(prompt.answer_type.value for prompt in looked_at)
        pictures = Counter(len(prompt.images) for prompt in looked_at)
    share = f" ({len(looked_at):,} looked at)" if facts is None and len(looked_at) < len(source) else ""
    golds, grader = [prompt for prompt in looked_at if prompt.answer is not None], AnswerGrader()
    if golds:
        gradeable = sum(map(grader.is_gradeable, golds))
        yield f"  answers{share}: {join_counts(types)}; gradeable {gradeable:,} of {len(golds):,} looked at"
    else:
        yield "  answers: none, or hidden"
    yield f"  pictures{share}: {join_counts(_with(pictures))}"
    if facts is not None:
        reasons = join_counts({reason.value: number for reason, number in facts.bad.items()})
        bad = f"{sum(facts.bad.values()):,} of {counted(facts.rows, 'row')} ({reasons})" if facts.bad else "no row"
        yield f"  put aside: {bad}"


def _with(pictures: Mapping[int, int]) -> dict[str, int]:
    return {f"with {number or 'none'}": count for number, count in sorted(pictures.items())}


def _count_lengths(source: PromptSource, renderer: Renderer, count: int) -> Lengths:
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


def describe_survey(survey: Survey, facts: SourceFacts | None) -> Iterator[tuple[str, str]]:
    """What the prompts are, as names and texts."""
    yield "prompts", f"{survey.prompts:,}" + (f", {survey.rationales:,} with a rationale" if survey.rationales else "")
    yield "answers", join_counts(survey.answer_types) if survey.answers else "none, or hidden"
    if survey.stated_answers:
        where = "name their column in fields.answer, too (of chats, conversations.1.value or the like)"
        yield "", f"{survey.stated_answers:,} rationales state one: {where}"
    if survey.bare_rationales:
        where = "for a warm-up, name another column in fields.rationale"
        yield "", f"{survey.bare_rationales:,} rationales are an answer and nothing else: {where}"
    if survey.answers:
        yield "gradeable", f"{survey.answers - survey.ungradeable:,} of {counted(survey.answers, 'gold answer')}"
    if survey.ungradeable_example is not None:
        prompt_id, answer = survey.ungradeable_example
        yield "", f"not: {answer[:200]!r} of prompt '{prompt_id}', to which no response is ever right"
    if survey.long_answers:
        yield "", f"{survey.long_answers:,} are longer than {_LONG} characters: are they answers?"
    if survey.without_options:
        chosen = sum(survey.answer_types.get(kind.value, 0) for kind in _CHOSEN)
        where = "they stand in the picture, or in a column that is not read"
        yield "options", f"{survey.without_options:,} of {chosen:,} questions that have some come without: {where}"
    yield "pictures", join_counts(_with(survey.pictures))
    if survey.lengths is not None:
        yield from _describe_lengths(survey.lengths, facts)


def _describe_lengths(lengths: Lengths, facts: SourceFacts | None) -> Iterator[tuple[str, str]]:
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
