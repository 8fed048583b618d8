"""A question, its options and its gold answer: what the text of a row says of them.

Every reader raises ``RowError`` where the row holds what it cannot read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mstar.errors import counted
from mstar.grading.choices import ChoiceReader
from mstar.grading.commitment import find_committed
from mstar.grading.formulas import GradingTimeoutError
from mstar.prompts.field_values import TEXTS, is_nothing, parse, parse_texts, pick, read_text, read_texts
from mstar.prompts.quarantine import Reason, RowError
from mstar.types import PICTURE, AnswerType

# <image>, <IMAGE>, <image1>, <image 1>, <|image_1|>, <|image_pad|> (Qwen), <image_placeholder> and the like; and
# OlympiadBench's <img_3362>, which names a file.
_NAME: Final = r"image(?:[_ -]?pad|[_ -]?placeholder)?(?:[_ -]?(?P<number>[0-9]{1,2}))?"
_PLACEHOLDER: Final = re.compile(
    r"(?:<\|vision_start\|>)?"
    rf"(?:<\|(?:{_NAME})\|>|<(?:{_NAME.replace('number', 'n')}|img_[0-9]+)>)"
    r"(?:<\|vision_end\|>)?",
    re.IGNORECASE,
)
_LEADING: Final = re.compile(rf"(?:\s*{PICTURE})+\s*")
_LETTER: Final = re.compile(r"\(?([A-Za-z])(?:\)|[.:](?=\s|\Z)|(?=\Z))\s*(.*)", re.DOTALL)
_LETTERS: Final = re.compile(r"\(?[A-J]\)?(?:(?:\s*[,;&]\s*|\s+(?:and|AND)\s+|\s+)\(?[A-J]\)?)*")
# Several letters, as in Chinese examinations: BD.
_RUN: Final = re.compile(r"[A-J]{2,}")
_INTEGER: Final = re.compile(r"[+\-\u2212]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})")
_FLOAT: Final = re.compile(r"[+\-\u2212]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})?\.[0-9]{1,18}")
# A letter that an option begins with.
_LETTERED: Final = re.compile(r"\(?([A-J])[).:、\uff0e\uff1a]\s*(.+)", re.DOTALL)
# "Is Blue the minimum?", "According to the map, are there ...?"
_ASKS_WHETHER: Final = re.compile(
    r"(?:\A|[.,:>?]\s*)(?:is|are|was|were|do|does|did|has|have|can|could|will|would)\b", re.IGNORECASE
)
VERDICTS: Final = {"0": "no", "1": "yes"}
# Annotators of a question of VQA, and how many of them make an answer right.
_ANNOTATORS: Final = 10
_AGREED: Final = 3
_LABELS: Final = ("label", "key", "letter", "option", "id")
_ALPHABET: Final = "ABCDEFGHIJ"
_FULL_WIDTH: Final = str.maketrans({0xFF08: "(", 0xFF09: ")"} | {0xFF21 + n: char for n, char in enumerate(_ALPHABET)})
# How options are marked in a question, at the beginning of a line or behind other text, and how many make a list. A
# mark inside a line and without a blank after it (A.-2 in Chinese questions) may stand in a formula: it takes three.
_BLANKS: Final = r"(?:\s|~|\\[ :;,!])*"
_FONT: Final = r"\\(?:text|math)(?:bf|rm|it)?\s*\{{\s*"
_DOLLAR: Final = re.compile(r"(?<!\\)\$")
_TYPESET_END: Final = re.compile(r"(?:\s|~|\\q?quad(?![A-Za-z])|\\[ :;,!])+\Z")
# NuminaMath's: $\textbf{(A)}\ 26 \qquad\textbf{(B)}\ 27$, $(\mathrm {A}) \ 26$, \text{(A) none}.
_TYPESET: Final = rf"\$?(?:\({_FONT}{{letter}}\s*\}}}}\)|{_FONT}\({{letter}}\){_BLANKS}\}}}}?){_BLANKS}"
_OPTION_FORMS: Final = (
    (r"(?:\A|[\s:])\({letter}\)[^\S\n]*", 2),
    (r"(?:\A|\n)[^\S\n]*{letter}[.):][^\S\n]*", 2),
    (r"(?:\A|[\s;]){letter}[.):]\s+", 2),
    (r"(?:\A|[\s;]){letter}[.):、\uff0e\uff1a]\s*", 3),
    (_TYPESET, 3),
)


def remove_placeholders(text: str) -> str:
    """The text without ``<image>``, which stands where a picture goes; the pictures are placed by the renderer."""
    return " ".join(part for part in map(str.strip, text.split(PICTURE)) if part)


def mark_pictures(texts: Sequence[str], count: int, first: int = 0) -> tuple[list[str], list[int]]:
    """Texts with ``PICTURE`` where their placeholders stand, and which picture each of them is.

    Placeholders that stand before all text say nothing, because pictures are put there anyway: they are left out.

    Args:
        texts: The turns of a chat, or a question alone.

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
            f"the text has {counted(len(found), 'placeholder')} of pictures ({names}), and the row has "
            + (counted(count, "picture") if count else "no picture"),
        )
    marked = [_PLACEHOLDER.sub(PICTURE, text).strip() for text in texts]
    leading = _LEADING.match(marked[first])
    if leading and leading[0].count(PICTURE) == len(found):
        marked[first] = marked[first][leading.end() :]
    return marked, order


def has_placeholder(text: str) -> bool:
    """Whether a text says where a picture stands."""
    return _PLACEHOLDER.search(text) is not None


def is_empty(text: str) -> bool:
    """Whether there is nothing but placeholders in a text."""
    return not _PLACEHOLDER.sub("", text).strip()


def name_pictures(text: str) -> str:
    """The text with its placeholders as words: ``<image1>`` is ``image 1``, and one without a number is nothing."""
    return _PLACEHOLDER.sub(lambda match: f"image {number}" if (number := match["number"] or match["n"]) else "", text)


def parse_choices(text: str) -> tuple[str, ...]:
    """The options' texts of ``(A) ... (B) ...``, on lines of their own or on one line; empty if it is no such list.

    The letters must be in order from A, and at least two; another letter in brackets belongs to the option's text.
    """
    lined = _split_at_letters(text, r"(?:\A|\n)[^\S\n]*\({letter}\)[^\S\n]*")
    return lined or _split_at_letters(text, r"(?:\A|\s)\({letter}\)\s*")


def _split_at_letters(text: str, pattern: str) -> tuple[str, ...]:
    spans: list[tuple[int, int]] = []
    plain = text.translate(_FULL_WIDTH)
    for number in range(26):
        found = re.compile(pattern.format(letter=chr(ord("A") + number))).search(plain, spans[-1][1] if spans else 0)
        if found is None or (not spans and text[: found.start()].strip()):
            break
        spans.append(found.span())
    if len(spans) < 2:
        return ()
    ends = [start for start, _ in spans[1:]] + [len(text)]
    return tuple(text[start:end].strip() for (_, start), end in zip(spans, ends, strict=True))


def find_choices(question: str, answer: str | None) -> tuple[str, ...]:
    """The options' texts that a question names itself, as ``(A) x``, ``A. x``, ``A) x``, ``A: x``; empty if none.

    Where the gold answer is neither a letter nor the text of an option, the list is no list of options.
    """
    lists = [
        tuple(map(_untypeset, found)) if pattern is _TYPESET else found
        for pattern, least in _OPTION_FORMS
        for start in re.finditer(pattern.format(letter="A"), question.translate(_FULL_WIDTH))
        if len(found := _split_at_letters(question[start.start() :], pattern)) >= least
    ]
    # The longest: an option may itself name (A) and (B). Of equals the last, which is nearest to the end.
    found = max(reversed(lists), key=len, default=())
    if not any("\n" in text for text in found[:-1]):
        # What follows on a line of its own is no part of the last option.
        found = (*found[:-1], *(text.partition("\n")[0] for text in found[-1:]))
    options = tuple(text.rstrip(" ,;") for text in found)
    letters = [chr(ord("A") + number) for number in range(len(options))]
    named = _named_letters((answer or "").translate(_FULL_WIDTH))
    fits = not answer or answer in options or (named and named <= {*letters}) or _is_option(answer, options)
    return options if any(options) and fits else ()


def _untypeset(option: str) -> str:
    """An option without LaTeX's blanks behind it, and without the end of the formula or font around all options."""
    option = option.strip()
    if len(_DOLLAR.findall(option)) % 2:
        # The letter may be a formula of its own: $\textbf{(A) }$ 90 degrees.
        begins = option[:2] in ("$ ", "$\n") or not option.endswith("$")
        option = option.removeprefix("$") if begins else option.removesuffix("$")
    option = _TYPESET_END.sub("", option).lstrip()
    return option.removesuffix("}").rstrip() if option.count("}") > option.count("{") else option


def _is_option(answer: str, options: tuple[str, ...]) -> bool:
    r"""Whether an answer is an option in another spelling, as ``$20^\circ$`` is 20°, and ``\text{A}`` the first."""
    try:
        return len(options) > 1 and ChoiceReader(answer, options).gold is not None
    except GradingTimeoutError:
        return False


def read_choices(value: Any, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options' texts, and their labels where they have some of their own.

    Args:
        value: A list of texts; an object of them by label; a list of ``{label, text}``; lists of both; or text that is
            any of these, or ``(A) x (B) y``, or one a line.
    """
    value = parse(value)
    if isinstance(value, str):
        value = find_choices(value, None) or [line for line in value.splitlines() if line.strip()]
        if len(value) == 1:
            raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds '{value[0][:80]}', which is no list")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        # A row of MMMU-Pro (validation_Accounting_29).
        value = value[0]
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        value = dict(zip(value.get("label") or range(len(value["text"])), value["text"], strict=False))
    if isinstance(value, Mapping):
        pairs = [(label, text) for label, text in value.items() if not is_nothing(text)]
    elif isinstance(value, list | tuple):
        while value and is_nothing(value[-1]):
            value = value[:-1]
        pairs = [_read_option(item) for item in value]
    elif value is None:
        pairs = []
    else:
        raise RowError(Reason.WRONG_TYPE, f"the column '{column}' holds a {type(value).__name__}, not a list")
    texts = without_letters([read_text(text, column) for _, text in pairs])
    labels = tuple(str(label) for label, _ in pairs if label is not None)
    return texts, labels if len(labels) == len(texts) else ()


def _read_option(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, Mapping):
        return None, item
    if len(item) == 1:
        return next(iter(item.items()))
    text = next((name for name in TEXTS if item.get(name) is not None), "")
    return pick({name: value for name, value in item.items() if name != text}, _LABELS), item.get(text)


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters that they begin with themselves, as AQuA-RAT has them: ``A)21``, ``B)24``."""
    found = [_LETTERED.fullmatch(option.translate(_FULL_WIDTH)) for option in options]
    letters = "".join(match[1] for match in found if match)
    if len(options) > 1 and letters == _ALPHABET[: len(options)]:
        return tuple(option[match.start(2) :] for option, match in zip(options, found, strict=True) if match)
    return tuple(options)


def _named_letters(answer: str) -> set[str]:
    if _LETTERS.fullmatch(answer.upper()):
        return set(re.findall(r"\b[A-J]\b", answer.upper()))
    if _RUN.fullmatch(answer) and [*answer] == sorted({*answer}):
        return {*answer}
    named = split_letter(answer)
    return {named[0]} if named else set()


def split_letter(answer: str) -> tuple[str, str] | None:
    """The letter that an answer begins with, such as ``(b) 12 cm``, and what follows; None if it begins with none."""
    named = _LETTER.fullmatch(answer)
    return (named[1].upper(), named[2].strip()) if named else None


def render_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices below it, as the policy reads it; MathVista's form."""
    lines = [f"({chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices)]
    return "\n".join([question, "Choices:", *lines]) if lines else question


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


def read_gold(value: Any, column: str, kind: Any, choices: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """The gold answers of a cell, and the solution where the cell holds one that ends with the answer.

    Args:
        value: The answer or a list of all that are right, which may be written as text; or a solution with the answer
            in a box or behind a marker (GSM8K: ``#### 72``, MATH: a box).
    """
    listed = kind in (AnswerType.LIST, AnswerType.SET, AnswerType.BOX)
    if not choices and not listed:
        value = parse_texts(value)
    gold = read_texts(value, column)
    if isinstance(value, list) and gold and listed:
        return (f"[{', '.join(gold)}]",), None
    if choices and len(gold) > 1:
        # Several options, and not one in several spellings.
        return (", ".join(gold),), None
    if len(gold) != 1 or gold[0] in choices or not (committed := find_committed(gold[0])):
        return gold, None
    return (committed,), gold[0] if "\n" in gold[0] and committed != gold[0] else None


def settle_votes(answers: tuple[str, ...]) -> tuple[str, ...]:
    """Of ten annotators' answers those that three gave, the most frequent first; if none is, the most frequent alone.

    So it is in VQAv2, OK-VQA, TextVQA and VizWiz. Ten answers that all differ, or any other number, are left as they
    are: they are answers that are all right.
    """
    counts = Counter(answer.casefold() for answer in answers).most_common()
    if len(answers) != _ANNOTATORS or len(set(answers)) == _ANNOTATORS:
        return answers
    first = {answer.casefold(): answer for answer in reversed(answers)}
    agreed = [answer for answer, count in counts if count >= _AGREED] or [counts[0][0]]
    return tuple(first[answer] for answer in agreed)


def find_numbering(rows: Iterable[tuple[tuple[str, ...], int, bool]]) -> str | None:
    """Whether all answers are numbers of options, from 0 (``index0``) or from 1 (``index1``); None if they are not.

    A row is its gold answers, the number of its options, and whether an answer is the text of one.
    """
    numbers, texts = [], 0
    for answers, size, is_text in rows:
        if len(answers) > 1 or not answers[0].isdecimal():
            return None
        texts += is_text
        numbers.append((int(answers[0]), size))
    # Options that are numbers may hold the number of another by chance, as in MMLU.
    if not numbers or 2 * texts > len(numbers):
        return None
    first, last = min(number for number, _ in numbers), max(number - size for number, size in numbers)
    # One of the two ends must be seen to tell them apart.
    return {(True, True): "index0", (False, False): "index1"}.get((first == 0, last < 0)) if last <= 0 else None


def are_verdicts(rows: Iterable[tuple[str, str]]) -> bool:
    """Whether 1 and 0 are yes and no, as in FigureQA and HallusionBench.

    All answers are one of the two, both are there, and most questions ask for yes or no. A row is question and answer.
    """
    asked, golds = [], set()
    for question, gold in rows:
        if gold not in VERDICTS:
            return False
        golds.add(gold)
        asked.append(_ASKS_WHETHER.search(question) is not None)
    return len(golds) == len(VERDICTS) and 2 * sum(asked) > len(asked)


def answer_type_of(value: Any, answer: str | None, choices: tuple[str, ...]) -> AnswerType:
    """How an answer is compared: as the row says, where that fits, else by its own form."""
    known = isinstance(value, str) and value in set(AnswerType)
    # MathVista says "text" of the answers of multiple-choice questions too.
    fits = value != "text" if choices else value != "multi_choice"
    if known and fits:
        return AnswerType(value)
    # Letters without options (A, or A and C): the options are in the picture.
    lettered = answer is not None and _LETTERS.fullmatch(answer)
    return AnswerType.MULTI_CHOICE if lettered else infer_answer_type(answer, choices)
