"""Which options a sentence names, by a label or by their texts, and which of them it denies."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from mstar.grading.clauses import answering_clauses, coordinated, shared_words, speaks_of_second
from mstar.grading.normalisation import normalise, to_american
from mstar.grading.options import Options, tighten
from mstar.grading.quantities import Quantity
from mstar.grading.reader import REFUSED
from mstar.grading.sentences import without_explanation
from mstar.grading.statements import state_quantity

__all__ = ["DENIAL", "DENIED_AFTER", "LABEL", "LONE_LETTER", "Mentions", "letter_of"]

LABEL: Final = re.compile(
    r"\((?P<bracketed>[A-Za-z])\)|\b(?i:option|choice|answer|letter)s?\s*:?\s*(?P<named>[A-Z]|[b-h](?=[\s,.;:]|$))\b(?!')"
    r"|[选選][项項]?\s*(?P<chosen>[A-Z])(?![A-Za-z])|(?<![A-Za-z])(?P<item>[A-Z])\s*[选選]?[项項]"
)
# "Options A, B and D", "option A or B".
_MORE_LABELS: Final = re.compile(
    r"(?:\s*(?:,\s*(?:and|or)?|\b(?:and|or)\b|[&/])\s*(?:(?i:option|choice|letter)\s+)?([A-HJ-Z])(?![\w'’(]))"
)
_PLURAL: Final = re.compile(r"(?:option|choice|answer|letter)s\b", re.IGNORECASE)
_FINAL_LETTER: Final = re.compile(
    r"(?:'s|\b(?i:is|be|it|think|label(?:l?ed)?|with|likely|probably|maybe|perhaps|possibly|or|also|est|es|ist|are|leaves|choose|select|"
    r"pick|so|hence|thus|therefore)|[:=>]|选|是|为)(?:\s+[a-z]+ly)?\s*([A-Z])\W*$"
)
_DENIED: Final = re.compile(
    r"(?:\bnot|n't|不|\bneither|\bnor|\brather than|\binstead of|\bexcept|\bexcluding|"
    r"\bcompared (?:to|with)|\bfollowed by|\b(?:just |well )?ahead of|\bthan (?:that of|in|for)|"
    r"\b(?:rul(?:e|es|ed|ing) out|eliminat(?:e|es|ed|ing)|exclude[sd]?|discard(?:s|ed)?|reject(?:s|ed)?)|"
    r"不是|排除|不能选|不应选|不选|不可能是)\s*"
    r"(?:(?!(?:but|only|just|because)\b)[\w.°%$]+\s+){0,3}\W{0,3}$",
    re.IGNORECASE,
)
DENIED_AFTER: Final = re.compile(
    r"\s*(?:(?:(?!\b(?:and|but|while|so)\b)[^.,;]){0,40}?"
    r"\b(?:is|are|was|would be|seems|can be|must be)\s+(?:not|incorrect|wrong|false|also wrong|eliminated|"
    r"ruled out|excluded|rejected|impossible|(?:far |much )?too)\b"
    r"|\s*(?:fails|would require)\b|\s*(?:错误|不对|不符合|不正确)"
    r"|[^.,;]{0,20}?\b(?:isn't|cannot|can't)\b)",
    re.IGNORECASE,
)
DENIAL: Final = re.compile(
    r"\b(?:not|neither|never|no longer|stops?|wrong|incorrect|cannot|isn't|false)\b", re.IGNORECASE
)
_LINK: Final = re.compile(r"[\s,]*(?:or|nor|and)?\s*(?:the\s+)?")
_OF_OPTIONS: Final = re.compile(r" of the (?:options|choices|answers|above)\b", re.IGNORECASE)
_DOUBLED: Final = re.compile(r"(?:\bor\b|/|\band\b)\s*$")
_CONCLUDED: Final = re.compile(r"(?:[,:]|\b(?:so|is|hence|thus|therefore))\s*$")
# The value of a calculation with numbers.
_RESULT: Final = re.compile(r"\d\D{0,12}[-+*/×]\s*[^=]{1,30}=\s*([^=]+)$")
_BOUND: Final = re.compile(
    r"(?:\b(?:more|less|fewer|greater|larger|smaller|higher|lower) than|[<>≤≥≠]|\d\s?[a-z]\s*="
    r"|\b[a-z]\s*[-+*/]\s*(?:[\w.]+\s*=)?)\s*$"
)
_COMPARISON: Final = re.compile(r"\b(\w+er|more|less)\b[^.;]{0,60}?\bthan\b", re.IGNORECASE)
_DEGREE: Final = re.compile(r"(?<=\w{3})(?:i?er|i?est)$")
_WORD: Final = re.compile(r"\w+")
# "I would guess A or C."
_EITHER: Final = re.compile(r"\b([A-Z])(?:,\s*(?:[A-Z],\s*)*|\s+)or\s+([A-Z])\W*$")
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth")
_ORDINAL: Final = re.compile(
    rf"\bthe ({'|'.join(_ORDINALS)}|last) (?:option|choice|answer)\b"
    rf"|\bis the ({'|'.join(_ORDINALS)}|last)(?: one)?\W*$",
    re.IGNORECASE,
)
# What may be called by a letter, where letters in another order are the options' texts: "point A".
_THING: Final = re.compile(
    r"\b(?:point|line|angle|figure|shape|graph|curve|circle|object|node|vertex|label(?:l?ed)?|region|container|sample|bar)"
    r"\s+([A-Z])\b",
    re.IGNORECASE,
)
_POINT: Final = re.compile(r"\b(?:point|midpoint|vertex|foot|center|centre|corner|intersection)\b", re.IGNORECASE)
LONE_LETTER: Final = re.compile(r"(?<![\w'])[B-HJ-Z](?![\w'])")
# Words that occur in any sentence: they name an option only where a sentence begins or ends with them.
_COMMON: Final = frozenset({"yes", "no", "true", "false", "none", "an"})
_SPACE: Final = re.compile(r"\s+")


# An option, and where it is named.
Mention = tuple[int, int, int]


class Mentions:
    """Reads sentences that do not begin with an option's letter.

    Args:
        options: The question's options.
        question: The question, which tells the statement that answers it from others.
    """

    def __init__(self, options: Options, question: str) -> None:
        self._options = options
        self._question = question

    def read(self, text: str) -> str | None:
        """The only option that a sentence names; first without its explanation, then with it."""
        if speaks_of_second(text, self._question):
            return REFUSED
        either = _EITHER.search(text)
        if either is not None and None not in (pair := [self._options.index(letter) for letter in either.groups()]):
            return self._options.letter(pair[0] or 0) if pair[0] == pair[1] else REFUSED
        for candidate in dict.fromkeys((without_explanation(text), text)):
            named = self.find(candidate)
            final = None if self._names_point(candidate) else _FINAL_LETTER.search(candidate)
            index = self._options.index(final[1]) if final is not None else None
            if final is not None and index is not None and not _is_denied(candidate, *final.span(1)):
                named.add(index)
            if len(named) > 1:
                # Of several, the one that the sentence comes to: "as A is 108°, B is 180° - 108° = 72°".
                parts = [*answering_clauses(candidate)[:-1], *_RESULT.findall(candidate)]
                parts += [*self._read_comparison(candidate), *candidate.split(" but ")[1:]]
                asked = self._read_asked(candidate)
                named = next((found for part in parts if len(found := self.find(part)) == 1), asked or named)
            if named:
                several = len(named) > 1 or self._states_another(candidate, min(named))
                return REFUSED if several else self._options.letter(named.pop())
        for clause in answering_clauses(text):
            stated = without_explanation(clause)
            index = self._options.match_stems(stated)
            index = self._options.match_part(stated) if index is None else index
            if index is not None and not (DENIAL.search(stated) or _OF_OPTIONS.search(stated)):
                return self._options.letter(index)
        return None

    def _names_point(self, text: str) -> bool:
        """Whether a letter may be a point's: "the midpoint of AB is D"."""
        return self._options.numeric and _POINT.search(text) is not None

    def _read_comparison(self, text: str) -> list[str]:
        """Of "A is warmer than B" what precedes "than", where the question asks for what is warmer or the warmest."""
        comparison = _COMPARISON.search(text)
        asked = {_DEGREE.sub("", word) for word in _WORD.findall(self._question.casefold())}
        known = comparison is not None and _DEGREE.sub("", comparison[1].casefold()) in asked
        return [text[: comparison.end(1)]] if comparison is not None and known else []

    def _read_asked(self, text: str) -> set[int]:
        """What that one of several coordinated clauses names which repeats most words of the question."""
        parts = sorted((shared_words(part, self._question), part) for part in coordinated(text))
        if len(parts) < 2 or parts[-1][0] == parts[-2][0]:
            return set()
        named = self.find(parts[-1][1])
        return named if len(named) == 1 else set()

    def _states_another(self, text: str, named: int) -> bool:
        """Whether the number that a text comes to is none of the options, nor an approximation of the named one."""
        numeric = self._options.numeric and not self._options.are_years
        found = state_quantity(text, self._question) if numeric else None
        if not isinstance(found, Quantity) or self._options.match_number(found) is not None:
            return False
        return not self._options.is_about(named, found)

    def find(self, text: str) -> set[int]:
        """The options that a text names without denying them."""
        folded = tighten(to_american(_SPACE.sub(" ", normalise(text).casefold())))
        labels = text
        spans: list[Mention] = []
        for index, start, end in self._options.find_texts(folded):
            if len(folded) == len(text):
                # Letters inside an option's text are no labels.
                labels = labels[:start] + " " * (end - start) + labels[end:]
            if folded[start:end] in _COMMON and not _stands_out(folded, start, end):
                continue
            if _OF_OPTIONS.match(folded, end):
                continue
            spans.append((index, start, end))
        named = _find_affirmed(folded, spans)
        spans = []
        for label in LABEL.finditer(labels):
            written = letter_of(label)
            labelled = self._options.index(written) if written.isupper() or label["named"] else None
            if labelled is not None:
                spans.append((labelled, *label.span()))
                spans += self._find_more(labels, label)
        named |= _find_affirmed(labels, spans)
        if self._options.are_letters:
            lone = ((self._options.index(letter[0]), *letter.span()) for letter in LONE_LETTER.finditer(text))
            named |= _find_affirmed(text, [(index, start, end) for index, start, end in lone if index is not None])
        if self._options.names_letters and not self._options.are_letters:
            things = (
                (self._options.match_text(match[1].casefold()), *match.span(1)) for match in _THING.finditer(text)
            )
            named |= _find_affirmed(text, [(index, start, end) for index, start, end in things if index is not None])
        if not named and len(ordinals := _ORDINAL.findall(text)) == 1:
            ordinal = "".join(ordinals[0]).casefold()
            place = len(self._options) - 1 if ordinal == "last" else _ORDINALS.index(ordinal)
            named |= {self._options.first(place)} if place < len(self._options) else set()
        if not named and (same := self._options.match_literals(text)) is not None:
            named.add(same)
        if not named and self._options.numeric:
            found = state_quantity(text, self._question)
            value = None if found is None or isinstance(found, str) else self._options.match_number(found)
            named |= set() if value is None else {value}
        return named

    def _find_more(self, text: str, label: re.Match[str]) -> list[Mention]:
        """The options whose bare letters are joined to a label; by commas alone only to a plural."""
        found: list[Mention] = []
        end, joined = label.end(), _PLURAL.match(label[0]) is not None
        while label["named"] and (more := _MORE_LABELS.match(text, end)) is not None:
            joined = joined or not more[0].lstrip().startswith(", ")
            if (index := self._options.index(more[1])) is not None:
                found.append((index, *more.span(1)))
            end = more.end()
        return found if joined else []


def letter_of(match: re.Match[str]) -> str:
    """The letter in whichever group took part."""
    return str(match[match.lastgroup or 0])


def _find_affirmed(text: str, mentions: list[Mention]) -> set[int]:
    """The options of those mentions that are not denied; "not A or B" and "A, B and D are wrong" deny all of theirs."""
    denied = [_is_denied(text, start, end) for _, start, end in mentions]
    linked = [_LINK.fullmatch(text, one[2], other[1]) is not None for one, other in pairwise(mentions)]
    for i, link in enumerate(linked):
        denied[i + 1] = denied[i + 1] or (link and denied[i])
    after = [DENIED_AFTER.match(text, end) is not None for _, _, end in mentions]
    for i, link in reversed(list(enumerate(linked))):
        after[i] = after[i] or (link and denied[i + 1] and after[i + 1])
        denied[i] = denied[i] or after[i]
    return {option for (option, _, _), is_denied in zip(mentions, denied, strict=True) if not is_denied}


def _is_denied(text: str, start: int, end: int) -> bool:
    if text[start].isdigit() and _BOUND.search(text, 0, start):
        return True
    return bool(_DENIED.search(text, max(0, start - 40), start) or DENIED_AFTER.match(text, end))


def _stands_out(text: str, start: int, end: int) -> bool:
    """Whether a common word opens the text, concludes it, or is offered beside another."""
    if start == 0 or _DOUBLED.search(text, 0, start):
        return True
    return bool(_CONCLUDED.search(text, 0, start)) and not text[end:].strip(" .")
