"""Which number a sentence states."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

from mstar.grading.arithmetic import evaluate_alternative, find_total, is_rounded_again
from mstar.grading.clauses import added_clause, answering_clauses, coordinated, shared_words, without_premise
from mstar.grading.number_words import NUMBER_WORD
from mstar.grading.quantities import NUMBER, Quantity, parse_quantity
from mstar.grading.reader import REFUSED
from mstar.grading.sentences import EXPLANATION

__all__ = ["asked_values", "find_quantities", "state_quantity"]

_NUMBER: Final = re.compile(NUMBER, re.IGNORECASE)
_WORDS: Final = re.compile(NUMBER_WORD, re.IGNORECASE)
_EQUALS: Final = re.compile(
    r"[=≈]|(?<!\d)\s*:\s|\b(?:is|are|was|were|be|est|es|ist|"
    r"equals?|(?<!or )equal to|becomes|reach(?:es|ed)(?= -)|gives?|yields?|makes?|measures|comes to|"
    r"total(?:s|ing)?|answer|"
    r"(?:dropped|fell|rose|grew|increased|decreased) to)\b"
    r"(?:\s+(?:about|approximately|approx\.?|around|roughly|exactly|equal to|only|simply|therefore|thus|a total of))*"
    r"\s*:?|→|⇒|是|为|等于|共有|共|剩下|剩余|剩",
    re.IGNORECASE,
)
_STATES: Final = re.compile(
    r"\b(?:there (?:are|is|were|will be)|has|have|had|costs?|spends?|needs?|gets?|got|pays?|takes?|makes?|see|left|"
    r"only|sold|scored|weighs?)\s+",
    re.IGNORECASE,
)
_JOINED: Final = re.compile(
    rf"\s*(?:,?\s*\b(?:or|and|to|through|vs\.?|plus|minus|times|divided by|multiplied by)\b|[-~,/&±+*×^:]+|\*\*)\s*"
    rf"(?:\b(?:maybe|perhaps|even|is|are|be)\b\s*)?(?:[a-z]\s*=\s*)?(?:{NUMBER}|{NUMBER_WORD}|\()|\s+(?=\d)|\s*(?:[<>≤≥≠]|!=)"
    rf"|;\s*{NUMBER}\W*$|\)?\s+(?:(?:is|are|was)\s+(?:wrong|incorrect|not|too|impossible|rejected)|does not satisfy|"
    r"must be rejected|cannot be)\b",
    re.IGNORECASE,
)
# "2x = 75" and "x + 3 = 8" are still to be solved.
_EQUATION: Final = re.compile(
    r"(?:\d\s?|(?<![\w^=])\d*[xyznt]\s*[-+*/]\s*\w*|[\w.]\s*[-+]\s*\d*)[xyznt]\s*$|(?<![\w^=])\d*[xyznt]\s*[-+*/]\s*[\d.]+\s*$"
)
_ANOTHER: Final = re.compile(rf"\band\s+(?:{NUMBER}|{NUMBER_WORD})", re.IGNORECASE)
_MORE_THINGS: Final = re.compile(
    rf"\s*[A-Za-z]+\s*(?:,\s*and|,|and)\s+(?:{NUMBER}|{NUMBER_WORD})\s+[A-Za-z]", re.IGNORECASE
)
# What makes a number a part of another one: "24 + x", "4 rows of 6".
_OPERATION: Final = re.compile(
    r"\s*(?:squared|cubed|factorial)\b|\s*[-+*/^]\s*[a-z]\b(?!['.])|\s+(?!out\b)[a-z]+\s+of\s+\d",
    re.IGNORECASE,
)
_OUT_OF: Final = re.compile(r"\W*(?:out of|of)\b[^,]{1,60},\s*", re.IGNORECASE)
_GLUED: Final = re.compile(r"[A-Za-z√π(\\^*/:_{]|[.,]\d")
_BOUND: Final = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower) than|at least|at most|up to|between|from|under|"
    r"over|above|below|exceed(?:ing|ed|s)?|not|isn't|twice|double|triple|half of|log|ln|sin|cos|tan)|[<>≤≥≠]|!=)\s*$",
    re.IGNORECASE,
)
_INNER: Final = re.compile(
    r"[a-z_]\(\W*$|(?<![a-z])[a-z]\s*[-+*/]\s*$|[\w^*/{√\\]\s*$(?<![a-z]\s)(?<![a-z])", re.IGNORECASE
)
_LABEL: Final = re.compile(
    r"(?:\b(?:angle|image|option|sample|group|circle|triangle|object|step|figure|fig\.?|question|equation|eq\.?|table|line|row|column|part|method|page|chapter)|∠)\s*\(?$",
    re.IGNORECASE,
)
_OR: Final = re.compile(r"\b(?:or|either|maybe|versus|vs)\b|或", re.IGNORECASE)
_NO_THINGS: Final = re.compile(
    r"\W*(?:so,? )?(?:(?:there (?:are|is|were) )?no|none of(?: the| these| them| his| her)?)\s+(?=[a-z]{2})"
    r"|\W*(?:so,? )?(?:there (?:are|is|were) (?:none|nothing)\b|(?:nothing|none) (?:is|are|was|were|left|remains?)\b)"
    r"|[\w\s]{1,40}\b(?:has|have|had) no\s+(?=[a-z]{2})",
    re.IGNORECASE,
)
# "No" and one of these is no count.
_NO_ANSWER: Final = re.compile(
    r"(?:(?:\w+\s+)?(?:answers?|information|data|solutions?|way|limit|values?)|images?|pictures?|figures?|idea|doubt|need|"
    r"clear|enough|such|possible|context|further|more|less|fewer|specific|questions?|correct|options?|choices?|above|one|"
    r"it|that|this|the|there|they|real)\b",
    re.IGNORECASE,
)
_NOUN: Final = re.compile(r"\d\s+[A-Za-z]{3}|[a-z]\s+[A-Za-z]{3,}$", re.IGNORECASE)
# What is to be done with a number is no answer.
_TASK: Final = re.compile(r"\b(?:subtract|remove|add|multiply|divide|take away)\b[\w\s]{0,20}$", re.IGNORECASE)
# A list of several numbers: "1) 4, 2) 6".
_ENUMERATED: Final = re.compile(r"(?<![\w(.])1\)\s.{1,200}?(?<![\w(.])2\)\s")
# What is calculated from several numbers is none of them.
_CALCULATED: Final = re.compile(r"\b(?:difference|gap|sum|ratio)\b", re.IGNORECASE)
_CONTRAST: Final = re.compile(r"\W*(?:while|whereas)\b", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n")
_LEAD: Final = re.compile(
    r"^(?:about|approximately|approx\.?|around|roughly|exactly|only|just|nearly|the number|a total of|equal to|"
    r"an?(?=\s+\d)|x\s*=)\s+",
    re.IGNORECASE,
)
_LEADING_BOUND: Final = re.compile(r"(?:not|between|more than|less than|at least|at most|from|over)\b", re.IGNORECASE)
_CLOSED_FORM: Final = re.compile(r"[\d.√π()*^/×+\- ]+")
_DEFINITE: Final = re.compile(r"\b(?:for|of|all|among|by) (?:the|these|those)\s+$", re.IGNORECASE)
# "28 would be the area for r = 3, but it is 4, so the area is 50."
_HYPOTHETICAL: Final = re.compile(r"^.*\bwould (?:be|have been)\b.*?,\s*but\s+", re.IGNORECASE)
_MEANING: Final = re.compile(r", which (?:means|implies)\b", re.IGNORECASE)
_COUNTED: Final = re.compile(rf"\b({NUMBER_WORD}|\d+) (?!and\b)((?:[a-z]+ )?[a-z]{{3,}})", re.IGNORECASE)
_HOW_MANY: Final = re.compile(r"\b(?:how many|number of)\b", re.IGNORECASE)
_OTHER_WORDS: Final = re.compile(
    rf",\s*(?:i\.e\.|that is),?\s+(?=\$?\d|{NUMBER_WORD})(?=\S+(?:\s+\S+){{0,3}}$)", re.IGNORECASE
)
# The same in another unit: "12.5 m/s (45 km/h)".
_BRACKETED: Final = re.compile(
    r"(?<=[a-z°%\d])\s*\((?:about |approximately |or |[≈=]\s*)?[\d.,]+\s*[a-z°/%^²³ ]+\)", re.IGNORECASE
)
_REMARK: Final = re.compile(r"(?<=\w)\s*\((?:that is|i\.e\.)[^()]*\)", re.IGNORECASE)
# "Without the hole the area would be 50."
_SUPPOSED: Final = re.compile(
    r"\b(?:[Ii]f|[Ww]ithout)\b[^,]*\bwere\b.*\bwould be\b"
    r"|\b[Ww]ithout\b.*\bwould be\b|\bwould be\b.*\bif (?:it|they|the \w+) w(?:as|ere)\b"
)
_MAX_SENTENCE: Final = 500


def find_quantities(text: str) -> list[tuple[int, int, Quantity]]:
    """Start, end and value of every number in running text, numerals of headings such as ``Step 2`` left out."""
    found = []
    for match in _NUMBER.finditer(text):
        before, after = text[: match.start()], text[match.end() : match.end() + 2]
        if _LABEL.search(before, max(0, len(before) - 12)) or re.match(r"[A-Za-z_√π^]|[:/]\d", after):
            unit = parse_quantity(text[match.start() :].split(" ")[0]) if after[:1].isalpha() else None
            if unit is None:
                continue
        value = parse_quantity(match[0])
        if value is not None:
            found.append((match.start(), match.end(), value))
    return found


def state_quantity(text: str, question: str = "") -> Quantity | str | None:
    """The quantity that a text states, ``REFUSED`` if it states several, None without any.

    Args:
        text: A sentence.
        question: The question; of several statements, the one that repeats more of its words counts.
    """
    whole = parse_quantity(text)
    if whole is not None:
        return whole
    text = _SENTENCE.split(text, maxsplit=1)[0]
    if len(text) > _MAX_SENTENCE:
        return None
    text = without_premise(_HYPOTHETICAL.sub("", text), question)
    if _SUPPOSED.search(text) and not _SUPPOSED.search(question):
        return REFUSED
    text = _REMARK.sub("", _BRACKETED.sub("", text))
    explanation = EXPLANATION.search(text, 1)
    if explanation and _CONTRAST.match(explanation[0]) and _CALCULATED.search(question):
        explanation = None
    stated = text[: explanation.start()] if explanation else text
    found = None
    clauses = [*answering_clauses(stated.rstrip(" ,;")), text]
    if (other_words := _OTHER_WORDS.search(text)) is not None:
        clauses.insert(0, text[other_words.end() :])
    if _MEANING.search(stated) and isinstance(_state_asked(stated, question), Quantity):
        clauses.insert(0, stated)
    for clause in dict.fromkeys(clauses):
        found = _state_asked(clause, question)
        if found is not None:
            break
    if added := added_clause(text):
        other = _state(added)
        if not isinstance(found, Quantity) or _is_converted(found, other):
            return other or found
    return found


def _is_converted(found: Quantity, other: Quantity | str | None) -> bool:
    """Whether the second is given in another unit: "450 g, which is 4.5 kg"."""
    return isinstance(other, Quantity) and bool(found.unit and other.unit) and found.unit != other.unit


def _state_asked(clause: str, question: str) -> Quantity | str | None:
    """What a clause states, or of several coordinated ones that one which the question asks for."""
    parts = [part for part in coordinated(clause) if _EQUALS.search(part) or find_quantities(part)]
    if len(parts) > 1:
        found_in = [(part, _state(part)) for part in parts if not isinstance(_leading(part), Quantity)]
        stated = [(shared_words(part, question), found) for part, found in found_in if isinstance(found, Quantity)]
        if len({found.value for _, found in stated}) > 1:
            if calculated := _CALCULATED.search(question):
                named = [f for p, f in found_in if calculated[0].casefold() in p.casefold() and isinstance(f, Quantity)]
                return named[0] if len({found.value for found in named}) == 1 else REFUSED
            most = max(shared for shared, _ in stated)
            asked = [found for shared, found in stated if shared == most]
            return asked[0] if len(asked) == 1 else REFUSED
    found = _state(clause, question)
    if isinstance(found, Quantity) or not question:
        return found
    return (_pick_asked(clause, question) if found == REFUSED else None) or _pick_counted(clause, question) or found


def _pick_counted(clause: str, question: str) -> Quantity | None:
    """Of "two cats and three dogs" the number of what the question counts."""
    counted = _COUNTED.findall(clause)
    asked = [number for number, noun in counted if shared_words(noun, question) and not _is_asked(number, question)]
    return parse_quantity(asked[0]) if len(counted) > 1 and len(asked) == 1 and _HOW_MANY.search(question) else None


def _pick_asked(clause: str, question: str) -> Quantity | None:
    """Of "2 dogs lying on the floor and 1 dog standing" the number of what the question asks for."""
    parts = sorted((shared_words(part, question), part) for part in re.split(r",?\s+and\s+", clause))
    clear = all(_NOUN.search(part) or part.count(" ") > 3 for _, part in parts)
    if len(parts) < 2 or not clear or parts[-1][0] < parts[-2][0] + 2:
        return None
    return _quantity(_state(parts[-1][1]))


def _state(stated: str, question: str = "") -> Quantity | str | None:
    """The same for one clause without its explanation."""
    if _OUT_OF.match(stated):
        stated = _OUT_OF.sub("", stated, count=1)
    whole = parse_quantity(stated)
    if whole is not None:
        return whole
    if (
        (nothing := _NO_THINGS.match(stated))
        and not _NO_ANSWER.match(stated, nothing.end())
        and (not question or shared_words(stated, question))
    ):
        return Quantity(Fraction(0))
    numbers = find_quantities(stated)
    if _ENUMERATED.search(stated):
        return REFUSED
    if _OR.search(stated) and len(numbers) > 1:
        same = len({value.value for _, _, value in numbers}) == 1
        return numbers[0][2] if same or is_rounded_again(stated, numbers) else evaluate_alternative(stated) or REFUSED
    found = _state_one(stated, numbers, question) or find_total(stated)
    # Numbers of the question alone state nothing.
    return found or (None if all(_is_asked(stated[start:end], question) for start, end, _ in numbers) else REFUSED)


def _is_asked(number: str, question: str) -> bool:
    value = parse_quantity(number.strip())
    return value is not None and value.value in asked_values(question)


@lru_cache(maxsize=1024)
def asked_values(question: str) -> frozenset[Fraction]:
    """The numbers that a question has."""
    return frozenset(value.value for _, _, value in find_quantities(question[:2000]))


def _state_one(stated: str, numbers: list[tuple[int, int, Quantity]], question: str) -> Quantity | None:
    leading = _leading(stated)
    if numbers and stated[:4].casefold() == "one ":
        leading = None  # one notebook costs $2.75
    if leading is not None and not re.search(r"[=≈]", stated) and not (leading == REFUSED and _EQUALS.search(stated)):
        return _quantity(leading)
    for sign in reversed(list(_EQUALS.finditer(stated))):
        if sign[0] == "=" and _EQUATION.search(stated, 0, sign.start()):
            return None
        found = _leading(stated[sign.end() :])
        if found is not None and sign[0].strip() == ":" and _WORDS.search(stated, sign.end() + 12):
            # "There are twenty-two seats: twelve in front and ten behind."
            total = _state(stated[: sign.start()])
            found = total if isinstance(total, Quantity) else found
        if found is not None:
            return None if sign[0][0].isalpha() and _ANOTHER.search(stated, sign.end()) else _quantity(found)
    if leading is not None:
        return _quantity(leading)
    readings = [(sign, _leading(stated[sign.end() :])) for sign in _STATES.finditer(stated)]
    claims = [(sign, found) for sign, found in readings if found is not None]
    if len(claims) == 1:
        sign, claim = claims[0]
        return None if _ANOTHER.search(stated, sign.end()) else _quantity(claim)
    # "over 4 for 6 years", where the question says "over 4".
    others = [
        (s, e, v) for s, e, v in numbers if not (_BOUND.search(stated, 0, s) and _is_asked(stated[s:e], question))
    ]
    numbers = others or numbers
    if len({value.value for _, _, value in numbers}) == 1:
        start, end, _ = numbers[-1]
        unclear = any(pattern.search(stated, 0, start) for pattern in (_BOUND, _INNER, _TASK))
        # "for the 847 observers", where the question speaks of 847.
        known = _DEFINITE.search(stated, 0, start) is not None and _is_asked(stated[start:end], question)
        return None if unclear or known else _quantity(_leading(stated[start:]))
    words = [] if numbers else [w for w in _WORDS.finditer(stated) if w[0].casefold() != "one"]
    return _quantity(_leading(stated[words[0].start() :])) if len(words) == 1 else None


def _quantity(found: Quantity | str | None) -> Quantity | None:
    return found if isinstance(found, Quantity) else None


def _leading(text: str) -> Quantity | str | None:
    """The quantity that a text begins with; ``REFUSED`` if another one is joined to it."""
    text = text.strip()
    if text.startswith("(") and (formula := parse_quantity(text)) is not None:
        return formula
    text = text.lstrip("~≈:(\"'[ ")
    text = _LEAD.sub("", text, count=1)
    match = _NUMBER.match(text) or _WORDS.match(text)
    if match is None:
        if text[:1] in "√π-" and (end := re.search(r"[\s,;.](?!\d)|$", text)):
            return parse_quantity(text[: end.start()])
        return REFUSED if _LEADING_BOUND.match(text) and _NUMBER.search(text) else None
    rest = text[match.end() :]
    if match.re is _WORDS and re.match(r"\s+(?:of|is|are|has)\b", rest) and match[0].casefold() == "one":
        return None
    if _MORE_THINGS.match(rest) or _OPERATION.match(rest):
        return REFUSED
    if _JOINED.match(rest):
        closed = _CLOSED_FORM.match(text)
        return (parse_quantity(closed[0]) if closed and re.search("[√π^]", closed[0]) else None) or REFUSED
    words = re.split(r"(?<=\S)(?=[\s,;()])", rest, maxsplit=3)
    for count in range(min(3, len(words)), -1, -1):
        found = parse_quantity(match[0] + "".join(words[:count]))
        if found is not None:
            if count == 0 and _GLUED.match(rest):
                closed = _CLOSED_FORM.match(text) if rest[0] in "√π" else None
                formula = None if closed is None else parse_quantity(closed[0].rstrip(". "))
                return formula or (found if rest[0] == "(" else REFUSED)
            return found
    return None
