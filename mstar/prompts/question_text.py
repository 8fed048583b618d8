"""The text of questions and answers, as data sets of the MathVista family write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mstar.prompts.quarantine import Reason, RowError
from mstar.types import PICTURE, AnswerType

__all__ = [
    "QuestionText",
    "find_choices",
    "infer_answer_type",
    "is_empty",
    "mark_pictures",
    "name_pictures",
    "names_letters",
    "parse_answer",
    "parse_choices",
    "parse_question",
    "remove_placeholders",
    "render_choices",
    "without_letters",
]

# <image>, <IMAGE>, <image1>, <image 1>, <|image_1|>, <|image_pad|> (Qwen), <image_placeholder> and the like.
_NAME: Final = r"image(?:[_ -]?pad|[_ -]?placeholder)?(?:[_ -]?(?P<number>[0-9]{1,2}))?"
_PLACEHOLDER: Final = re.compile(
    rf"(?:<\|vision_start\|>)?(?:<\|(?:{_NAME})\|>|<(?:{_NAME.replace('number', 'n')})>)(?:<\|vision_end\|>)?",
    re.IGNORECASE,
)
_LEADING: Final = re.compile(rf"(?:\s*{PICTURE})+\s*")
_HINT: Final = re.compile(r"\s*Hint:[^\n]*(?:\n|\Z)", re.IGNORECASE)
_QUESTION: Final = re.compile(r"\s*Question:[^\S\n]*", re.IGNORECASE)
_CHOICES: Final = re.compile(r"(?:\A|\n)[^\S\n]*(?:Choices|Options):[^\S\n]*\n?", re.IGNORECASE)
_ANSWER: Final = re.compile(r"\b(?:the answer is\b[^\S\n]*:?|answer[^\S\n]*:)[^\S\n]*", re.IGNORECASE)
_LETTER: Final = re.compile(r"\(?([A-Za-z])(?:\)|[.:](?=\s|\Z)|(?=\Z))\s*(.*)", re.DOTALL)
_LETTERS: Final = re.compile(r"\(?[A-J]\)?(?:(?:\s*[,;&]\s*|\s+(?:and|AND)\s+|\s+)\(?[A-J]\)?)*")
_INTEGER: Final = re.compile(r"[+\-\u2212]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})")
_FLOAT: Final = re.compile(r"[+\-\u2212]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})?\.[0-9]{1,18}")
# A letter that an option begins with.
_LETTERED: Final = re.compile(r"\(?([A-J])[).:、\uff0e\uff1a]\s*(.+)", re.DOTALL)
_ALPHABET: Final = "ABCDEFGHIJ"
# How options are marked in a question, at the beginning of a line or behind other text, and how many make a list. A
# mark without a blank after it (MathVerse's A:40°, A.-2 in Chinese questions) may stand in a formula: it takes three.
_OPTION_FORMS: Final = (
    (r"(?:\A|[\s:])\({letter}\)[^\S\n]*", 2),
    (r"(?:\A|\n)[^\S\n]*{letter}[.):][^\S\n]+", 2),
    (r"(?:\A|[\s;]){letter}[.):]\s+", 2),
    (r"(?:\A|[\s;]){letter}[.):、\uff0e\uff1a]\s*", 3),
)


@dataclass(frozen=True, slots=True)
class QuestionText:
    """A question taken apart.

    Attributes:
        question: The question, without hint, image placeholder, ``Question:`` and choices.
        choices: The options' texts, in order; empty for an open question.
    """

    question: str
    choices: tuple[str, ...] = ()


def remove_placeholders(text: str) -> str:
    """The text without ``<image>``, which stands where a picture goes; the pictures are placed by the renderer."""
    return " ".join(part for part in map(str.strip, text.split(PICTURE)) if part)


def mark_pictures(texts: Sequence[str], count: int, first: int = 0) -> tuple[list[str], list[int]]:
    """Texts with ``PICTURE`` where their placeholders stand, and which picture each of them is.

    Placeholders that stand before all text say nothing, because pictures are put there anyway: they are left out.

    Args:
        texts: The turns of a chat, or a question alone.
        count: How many pictures there are.
        first: Which of the texts is the user's first.

    Returns:
        The texts, and the pictures in their order, from 0. A number in a placeholder is the picture's.

    Raises:
        RowError: the placeholders are not as many as the pictures, or number one that is not there.
    """
    found = [match for text in texts for match in _PLACEHOLDER.finditer(text)]
    if not found:
        return [text.strip() for text in texts], list(range(count))
    numbers = [match["number"] or match["n"] for match in found]
    numbered = all(numbers)
    start = 0 if numbered and "0" in numbers else 1
    order = [int(number) - start for number in numbers if number] if numbered else list(range(len(found)))
    # Numbered ones may name a picture twice.
    if set(order) != set(range(count)) or (not numbered and len(found) != count):
        names = ", ".join(dict.fromkeys(match[0] for match in found[:5]))
        raise RowError(
            Reason.PICTURE_COUNT,
            f"the text has {len(found)} placeholders of pictures ({names}), and the row has {count or 'no'} pictures",
        )
    marked = [_PLACEHOLDER.sub(PICTURE, text).strip() for text in texts]
    leading = _LEADING.match(marked[first])
    if leading and leading[0].count(PICTURE) == len(found):
        marked[first] = marked[first][leading.end() :]
    return marked, order


def is_empty(text: str) -> bool:
    """Whether there is nothing but placeholders in a text."""
    return not _PLACEHOLDER.sub("", text).strip()


def name_pictures(text: str) -> str:
    """The text with its placeholders as words: ``<image1>`` is ``image 1``, and one without a number is nothing."""
    return _PLACEHOLDER.sub(lambda match: f"image {number}" if (number := match["number"] or match["n"]) else "", text)


def parse_question(text: str) -> QuestionText:
    r"""Takes a question of the MathVista family apart; the hint, ``<image>`` and the choices may each be missing.

    Args:
        text: For instance ``<image>\nHint: ...\nQuestion: ...\nChoices:\n(A) ...\n(B) ...``.
    """
    text = remove_placeholders(text)
    if match := _HINT.match(text):
        text = text[match.end() :]
    if match := _QUESTION.match(text):
        text = text[match.end() :]
    for match in reversed(list(_CHOICES.finditer(text))):
        choices = parse_choices(text[match.end() :])
        if choices:
            return QuestionText(text[: match.start()].strip(), choices)
    return QuestionText(text.strip())


def parse_choices(text: str) -> tuple[str, ...]:
    """The options' texts of ``(A) ... (B) ...``, on lines of their own or on one line; empty if it is no such list.

    The letters must be in order from A, and at least two; another letter in brackets belongs to the option's text.
    """
    lined = _split_at_letters(text, r"(?:\A|\n)[^\S\n]*\({letter}\)[^\S\n]*")
    return lined or _split_at_letters(text, r"(?:\A|\s)\({letter}\)\s*")


def _split_at_letters(text: str, pattern: str) -> tuple[str, ...]:
    spans: list[tuple[int, int]] = []
    for number in range(26):
        found = re.compile(pattern.format(letter=chr(ord("A") + number))).search(text, spans[-1][1] if spans else 0)
        if found is None or (not spans and text[: found.start()].strip()):
            break
        spans.append(found.span())
    if len(spans) < 2:
        return ()
    ends = [start for start, _ in spans[1:]] + [len(text)]
    return tuple(text[start:end].strip() for (_, start), end in zip(spans, ends, strict=True))


def find_choices(question: str, answer: str | None) -> tuple[str, ...]:
    """The options' texts that a question names itself, as ``(A) x``, ``A. x``, ``A) x``, ``A: x``; empty if none.

    Args:
        question: The question with all that stands in it.
        answer: The gold answer. Where it is neither a letter nor the text of an option, the list is no list of options.
    """
    lists = [
        found
        for pattern, least in _OPTION_FORMS
        for start in re.finditer(pattern.format(letter="A"), question)
        if len(found := _split_at_letters(question[start.start() :], pattern)) >= least
    ]
    # The longest: an option may itself name (A) and (B). Of equals the last, which is nearest to the end.
    found = max(reversed(lists), key=len, default=())
    if not any("\n" in text for text in found[:-1]):
        # What follows on a line of its own is no part of the last option.
        found = (*found[:-1], *(text.partition("\n")[0] for text in found[-1:]))
    options = tuple(text.rstrip(" ,;") for text in found)
    letters = [chr(ord("A") + number) for number in range(len(options))]
    named = _named_letters(answer or "")
    fits = not answer or answer in options or (named and named <= {*letters})
    return options if any(options) and fits else ()


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters that they begin with themselves, as AQuA-RAT has them: ``A)21``, ``B)24``."""
    found = [_LETTERED.fullmatch(option) for option in options]
    letters = "".join(match[1] for match in found if match)
    if len(options) > 1 and letters == _ALPHABET[: len(options)]:
        return tuple(match[2] for match in found if match)
    return tuple(options)


def _named_letters(answer: str) -> set[str]:
    if _LETTERS.fullmatch(answer.upper()):
        return set(re.findall(r"\b[A-J]\b", answer.upper()))
    named = _LETTER.fullmatch(answer)
    return {named[1].upper()} if named else set()


def names_letters(answer: str | None) -> bool:
    """Whether an answer is an option's letter from A to J, or several (``A, C``)."""
    return answer is not None and _LETTERS.fullmatch(answer) is not None


def render_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices below it, as the policy reads it; MathVista's form."""
    lines = [f"({chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices)]
    return "\n".join([question, "Choices:", *lines]) if lines else question


def parse_answer(text: str, choices: Sequence[str] = ()) -> str:
    """The gold answer of a response: what follows the last "The answer is" (or "Answer:"), else the whole text.

    Args:
        text: The response.
        choices: The question's options; an answer that names one by its letter becomes that letter.
    """
    answer = text.strip()
    for marker in _ANSWER.finditer(text):
        answer = text[marker.end() :].strip()
    if choices and answer not in choices and (named := _LETTER.fullmatch(answer)):
        letter, rest = named[1].upper(), named[2].strip()
        number = ord(letter) - ord("A")
        if number < len(choices) and (not rest or _fold(rest) == _fold(choices[number])):
            return letter
    return answer


def infer_answer_type(answer: str | None, choices: Sequence[str] = ()) -> AnswerType:
    """How an answer is compared, where the data does not say it: by choice, as a number, or as text.

    Only what is a number and nothing else counts as one: ``866-680-0146``, ``$38.51`` and ``10^4`` are text.
    """
    if choices:
        return AnswerType.MULTI_CHOICE
    if answer is None:
        return AnswerType.TEXT
    if _INTEGER.fullmatch(answer.strip()):
        return AnswerType.INTEGER
    return AnswerType.FLOAT if _FLOAT.fullmatch(answer.strip()) else AnswerType.TEXT


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")
