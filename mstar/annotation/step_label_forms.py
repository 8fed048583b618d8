"""The forms in which step labels are published, read row by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from mstar.prompts.chats import read_turns
from mstar.prompts.field_map import IMAGES
from mstar.prompts.field_values import pick, read_images, read_text
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.question_text import is_empty, mark_pictures

_QUESTIONS: Final = ("question_orig", "question", "query", "problem", "prompt", "instruction")
_STEPS: Final = ("steps", "completions", "solution_steps")
_LABELS: Final = ("labels", "step_labels", "label", "hard_labels", "soft_labels", "scores", "process_correctness")
_RESPONSES: Final = ("response", "solution", "completion", "output")
_STEP_TEXTS: Final = ("step", "text", "content")
_STEP_LABELS: Final = ("label", "score", "correct", "correctness", "rating")
# Of labels that are 1, 0 or -1, as those under these names are (VisualProcessBench, PRM800K), 0 is neither.
_SIGNED: Final = ("process_correctness", "rating")
# Math-Shepherd ends every step with this mark; the label has + or - in its place.
_MARK: Final = "ки"
_FIRST_STEP: Final = re.compile(r"step 1:", re.IGNORECASE)
_SOLUTION: Final = re.compile(r"#+\s*Solution Process:[^\S\n]*\n?")
_STEP_ONE: Final = re.compile(r"^(?:#+\s*|\*\*)?step 1\b", re.IGNORECASE | re.MULTILINE)
_ASKED: Final = re.compile(r"\A((?:<image>|\s)*)Question:")
_PROCESS: Final = "\nProcess:"
_PRM_STEP: Final = "<prm>"


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A response with labelled steps, as a public row has it.

    Attributes:
        question: The question, with a mark where a picture stands, unless all stand before it.
        steps: The steps, each of one line or several, with some visible text.
        labels: For every step, how many continuations were right, and how many there were; (0 or 1, 1) for a verdict,
            (0, 0) for a step that is not labelled.
    """

    question: str
    images: tuple[str | bytes, ...]
    steps: tuple[str, ...]
    labels: tuple[tuple[int, int], ...]


def find_form(values: Mapping[str, Any]) -> str | None:
    """The form of a row by its columns, or None if it is none that is known."""
    if "steps_with_score" in values:
        return "visualprm_raw"
    if isinstance(values.get("input"), str) and isinstance(values.get("label"), str):
        return "math_shepherd"
    if "conversations" in values:
        answered = _first_value(values["conversations"], "gpt")
        return "visualprm" if isinstance(answered, str) and answered.strip() in ("+", "-") else "mm_prm"
    if "completions" in values and "labels" in values:
        return "stepwise"
    has_steps = any(name in values for name in (*_STEPS, *_RESPONSES))
    return "steps" if has_steps and any(name in values for name in _QUESTIONS) else None


def read_labelled_row(values: Mapping[str, Any]) -> LabelledRow:
    """Reads a row.

    Raises:
        RowError: it is of no known form, has no steps or no labelled one, or not one label a step.
    """
    form = find_form(values)
    if form is None:
        raise RowError(Reason.WRONG_TYPE, f"the columns {list(values)} are those of no known form of step labels")
    question, steps, labels = _READERS[form](values)
    if len(steps) != len(labels):
        raise RowError(Reason.BAD_STEPS, f"there are {len(steps)} steps and {len(labels)} labels")
    if -1 in labels:
        labels = [_signed(label) for label in labels]
    # A step without any text is no step.
    kept = [(text, read_label(label)) for step, label in zip(steps, labels, strict=True) if (text := step.strip())]
    if is_empty(question):
        raise RowError(Reason.EMPTY_QUESTION, "the question is empty")
    if not kept:
        raise RowError(Reason.BAD_STEPS, "there are no steps")
    if not any(total for _, (_, total) in kept):
        raise RowError(Reason.BAD_STEPS, "no step is labelled")
    images = next((found for name in IMAGES if (found := read_images(values, (name,)))), [])
    [question], order = mark_pictures([question], len(images))
    shown = tuple(images[place] for place in order)
    return LabelledRow(question, shown, tuple(text for text, _ in kept), tuple(label for _, label in kept))


def read_label(label: Any) -> tuple[int, int]:
    """A step's label as (right continuations, continuations).

    It is a truth value, ``+`` or ``-``, 1, 0 or -1, a share of right continuations, or their number and that of all,
    which are both 0 where the step is not labelled.

    Raises:
        RowError: it is anything else.
    """
    match label:
        case (int(), int()):
            right, total = label
            if 0 <= right <= total:
                return right, total
        case bool():
            return int(label), 1
        case "+" | "-":
            return int(label == "+"), 1
        case int() | float() if 0 <= label <= 1:
            share = Fraction(label).limit_denominator(1000)
            return share.numerator, share.denominator
        case -1:
            return 0, 1
    raise RowError(Reason.BAD_STEPS, f"{label!r} is no label of a step: it is not true or false, + or -, nor in [0, 1]")


def _signed(label: Any) -> Any:
    """A label of 1, 0 and -1, of which 0 is neither right nor wrong."""
    return (0, 0) if label == 0 and not isinstance(label, bool) else label


_Parts = tuple[str, Sequence[str], Sequence[Any]]


def _read_math_shepherd(values: Mapping[str, Any]) -> _Parts:
    text, marked = str(values.get("input") or ""), str(values.get("label") or "")
    # The mark has two characters, and + or - has one.
    ends = [match.start() - number for number, match in enumerate(re.finditer(_MARK, text))]
    if not ends or any(end >= len(marked) or marked[end] not in "+-" for end in ends):
        raise RowError(Reason.BAD_STEPS, "the label does not have + or - at the ends of the input's steps")
    first, *others = text.split(_MARK)[:-1]
    if match := _FIRST_STEP.search(first):
        question, step = first[: match.start()], first[match.start() :]
    else:
        question, asked, step = first.partition("?")
        question += asked
    if not step.strip() or any(_FIRST_STEP.search(other) for other in others):
        raise RowError(Reason.BAD_STEPS, "it cannot be told where the question ends and the first step begins")
    return question, [step, *others], [marked[end] for end in ends]


def _read_mm_prm(values: Mapping[str, Any]) -> _Parts:
    asked, labels = (_first_value(values.get("conversations"), speaker) for speaker in ("human", "gpt"))
    if not isinstance(asked, str) or _PROCESS not in asked or not isinstance(labels, list):
        raise RowError(Reason.BAD_STEPS, "the turns are not 'Question: ... Process: ...' and a list of labels")
    question, _, process = asked.partition(_PROCESS)
    steps = process.split(_PRM_STEP) if _PRM_STEP in process else process.splitlines()
    return _ASKED.sub(r"\1", question), [step for step in steps if step.strip()], labels


def _read_stepwise(values: Mapping[str, Any]) -> _Parts:
    prompt = values.get("prompt")
    if isinstance(prompt, list):
        prompt = next((text for speaker, text in read_turns(prompt) if speaker == "user"), "")
    return read_text(prompt, "prompt"), _texts(values.get("completions")), _list(values.get("labels"), "labels")


def _read_visualprm_raw(values: Mapping[str, Any]) -> _Parts:
    steps, labels = [], []
    for step in _list(values.get("steps_with_score"), "steps_with_score"):
        if not isinstance(step, Mapping) or not isinstance(step.get("step"), str):
            raise RowError(Reason.BAD_STEPS, "an element of 'steps_with_score' has no text 'step'")
        steps.append(step["step"])
        counts = (step.get("num_mc_correct"), step.get("num_mc_total"))
        labels.append(counts if all(isinstance(count, int) for count in counts) else step.get("score"))
    return _question(values), steps, labels


def _read_visualprm(values: Mapping[str, Any]) -> _Parts:
    turns = [turn for turn in read_turns(values.get("conversations")) if turn[0] in ("human", "gpt")]
    steps = [text for speaker, text in turns if speaker == "human"]
    labels = [text for speaker, text in turns if speaker == "gpt"]
    if not steps:
        raise RowError(Reason.BAD_STEPS, "there are no steps")
    question, first = _split_first_turn(steps[0])
    return re.sub(r"#+\s*Question:", "", question, count=1), [first, *steps[1:]], labels


def _split_first_turn(text: str) -> tuple[str, str]:
    """The question and the first step: parted by VisualPRM's heading, by "Step 1", or by the last line break."""
    for mark, kept in ((_SOLUTION, False), (_STEP_ONE, True)):
        if match := mark.search(text):
            return text[: match.start()], text[match.start() if kept else match.end() :]
    question, _, step = text.rstrip().rpartition("\n")
    if is_empty(question):
        raise RowError(Reason.BAD_STEPS, "the first turn has no line break between question and first step")
    return question, step


def _read_steps(values: Mapping[str, Any]) -> _Parts:
    found, labels = pick(values, _STEPS), _pick_label(values, _LABELS)
    if found is None:
        response = next((values[name] for name in _RESPONSES if isinstance(values.get(name), str)), "")
        found = [line for line in response.splitlines() if line.strip()]
    if isinstance(found, list) and all(isinstance(step, Mapping) for step in found) and labels is None:
        labels = [_pick_label(step, _STEP_LABELS) for step in found]
    return _question(values), _texts(found), _list(labels, "labels")


def _pick_label(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first label, or list of labels, of these names that is there; None if none is."""
    name = next((name for name in names if values.get(name) is not None), None)
    label = None if name is None else values[name]
    if name not in _SIGNED:
        return label
    return [_signed(one) for one in label] if isinstance(label, list) else _signed(label)


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], _Parts]]] = {
    "math_shepherd": _read_math_shepherd,
    "mm_prm": _read_mm_prm,
    "stepwise": _read_stepwise,
    "visualprm_raw": _read_visualprm_raw,
    "visualprm": _read_visualprm,
    "steps": _read_steps,
}


def _first_value(turns: Any, speaker: str) -> Any:
    """What is first said by a speaker; it need not be text."""
    if not isinstance(turns, list):
        return None
    return next(
        (turn.get("value") for turn in turns if isinstance(turn, Mapping) and turn.get("from") == speaker), None
    )


def _question(values: Mapping[str, Any]) -> str:
    return next((read_text(values[name], name) for name in _QUESTIONS if values.get(name)), "")


def _texts(value: Any) -> list[str]:
    steps = [pick(step, _STEP_TEXTS) if isinstance(step, Mapping) else step for step in _list(value, "steps")]
    if not all(isinstance(step, str) for step in steps):
        raise RowError(Reason.BAD_STEPS, "a step is not text")
    return steps


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(Reason.BAD_STEPS, f"the {what} are a {type(value).__name__}, not a list")
    return value
