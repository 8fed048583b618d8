"""Which answer a sentence names: what stands behind its verb, or the only option or number in it."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.base import AnswerReader
from mstar.grading.commitment import NEGATION
from mstar.grading.sentences.clauses import DOUBT, content_words, count_shared_words, restate, without_reason
from mstar.types import AnswerType, Prompt

_VERB: Final = re.compile(
    r"(?i)(?:[=≈]|:(?=\s)|\b(?:is|are|was|were|be|equals|totals|becomes|measures|gives?|get|yields?|says|reads)\b|是|(?<!行)为|等于)\s*"
    r"(?:(?:about|approximately|around|roughly|exactly|only|equal to|therefore|a total of|located|in|at|on|the)\s+)*"
)
# "(C) No, ..." of two options has a letter of no option.
_OPENING: Final = re.compile(r"(?:\(?[C-J][).:])?\W*(yes|no|true|false)\b(?=\s*(?:[,.:;!]|$))", re.IGNORECASE)
# Neither an article nor a letter that is spoken of is an option, and "5 or" goes on.
_NO_ANSWER: Final = re.compile(r"an?|no|[\"'][A-Za-z][\"']|.*\b(?:or|and|to|plus|minus|times)")
_LABEL: Final = re.compile(
    r"(?<=\w )\(([A-J])\)|^\(([A-J])\)(?= (?:is|are|would|has)\b|\W*$)|^([A-J])(?= (?:is|are|would|has)\b)"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+(?:is\s+)?\(?([A-J])(?=[\s.,;)]|$)|选项?\s*([A-J])"
)
# "(A) 0.30%", where that is no text of A, says two things.
_LABELLED: Final = re.compile(r"\W{0,3}([A-J])(?:\s?[.:)]|\s-)\s*\S", re.IGNORECASE)
_NUMBER: Final = re.compile(
    r"(?ai)(?<![\w.,^_{\\/-])[-−]?\$?\d[\d,]*(?:\.\d+)?%?(?![\w^{(]|[.,]\d)"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten)\b"
)
# What joins a number to another one, so that neither is the answer.
_JOINED: Final = re.compile(
    r"\s*(?:(?:or|and|to(?! [a-z])|plus|minus|times|out of|divided|multiplied)\b|[-+*/×÷^=<>–~:]|\\pm)", re.IGNORECASE
)
_BOUND: Final = re.compile(
    r"(?i)(?:\b(?:than|least|most|to|over|under|above|below|between|from|by|until|step|figure|line|option|part|twice|half"
    r"|the|these|those|all|(?:out|half|third|quarter|one|each|some|any|rows?|groups?|sets?|\d|%) of)"
    r")\s*\$?$"
)
_LINKED: Final = re.compile(r"(?:\b(?:and|or)|[-+*/×÷^=<>–(]|\\pm)\s*\$?$", re.IGNORECASE)
_HOW_MANY: Final = re.compile(r"\b(?:how (?:many|much)|number of)\b", re.IGNORECASE)
# "Solution A has a higher concentration than solution B", where the higher one is asked for.
_COMPARISON: Final = re.compile(r"\b(\w+er|more|less)\b.*?\bthan\b.*", re.IGNORECASE)
# A question, and a sentence that breaks off.
_BROKEN: Final = re.compile(r"(?:[?,:=+*/-]|\b(?:the|an?|of|is|are|to|and|or|by|which|from|with)|[{(\[][^})\]]*)[ *]*$")
_LETTERS: Final = re.compile(r"[^\W\d_]{2}")
_CLOSED: Final = frozenset(("yes", "no", "true", "false"))
_MAX_WORDS: Final = 8


class Named:
    """What sentences name, for one prompt and the reader of its answers."""

    def __init__(self, prompt: Prompt, reader: AnswerReader) -> None:
        self._question = prompt.question
        self._choices = prompt.choices
        # A text may be any number, so that only a question for one makes a number in a sentence an answer.
        self._is_number = prompt.answer_type is not AnswerType.TEXT or _HOW_MANY.search(prompt.question) is not None
        self._asked = {match[0] for match in _NUMBER.finditer(prompt.question)}
        words = [option for option in prompt.choices if _LETTERS.search(option) and "\\" not in option]
        self._options = [(_joined(option), option) for option in words if option.casefold() not in _CLOSED]
        self._read = reader.read

    def open(self, sentence: str) -> str | None:
        """The answer that a sentence is, or the yes or no that it begins with."""
        # A reader of texts takes any short sentence for an answer.
        bare = bool(self._choices) or _VERB.search(sentence) is None
        if bare and (whole := self._read(sentence)) is not None:
            return whole
        opening = _OPENING.match(sentence)
        return None if opening is None else self._read(opening[1])

    def state(self, sentence: str) -> str | None:
        """The answer that a sentence states; None if it states none, or several."""
        # A condition in other words: "If the algae die" of "Imagine that algae are prevented from growing".
        known = ["if"] if count_shared_words(sentence, self._question) > 1 else []
        if _BROKEN.search(sentence) or self._adds(DOUBT, sentence, *known):
            return None
        label = _LABELLED.match(sentence) if self._choices else None
        if label is not None and self._read(label[1]) is not None:
            return None
        stated = without_reason(sentence)
        if (said := restate(self._question, stated)) is not None:
            return self._read("yes" if said else "no")
        if self._adds(NEGATION, stated):
            return None
        return self._name_behind_verb(stated) or self._name_option(stated) or self._name_number(stated)

    def _adds(self, pattern: re.Pattern[str], sentence: str, *known: str) -> bool:
        """Whether a sentence has words of doubt, or that deny, which neither the question nor an option has."""
        texts = (sentence, " ".join((self._question, *self._choices, *known)))
        said, asked = ({word.casefold() for word in pattern.findall(text)} for text in texts)
        return not said <= asked

    def _name_behind_verb(self, clause: str) -> str | None:
        """What stands behind the last verb that has an answer behind it: the longest beginning that is one."""
        for verb in reversed(list(_VERB.finditer(clause))):
            words = clause[verb.end() :].strip(" .*").split()
            # "There are three objects left: two cubes and a ball."
            shortest = len(words) if verb[0].startswith(":") else 1
            for count in range(min(len(words), _MAX_WORDS), shortest - 1, -1):
                text = " ".join(words[:count]).strip(" .:*")
                if not _NO_ANSWER.fullmatch(text) and (name := self._read(text)) is not None:
                    return None if _JOINED.match(" ".join(words[count:])) else name
        return None

    def _name_option(self, clause: str) -> str | None:
        """The only option that a clause names, by its letter or its words."""
        labels = {next(filter(None, match.groups())) for match in _LABEL.finditer(clause)} if self._choices else set()
        if labels:
            return self._read(labels.pop()) if len(labels) == 1 else None
        comparison = _COMPARISON.search(clause)
        if comparison is not None and comparison[1].casefold() in self._question.casefold():
            clause = clause[: comparison.start()]
        said = _joined(clause)
        found = [(own, option) for own, option in self._options if own in said]
        # "All of the above" names no option "above".
        names = [option for own, option in found if not any(own != other and own in other for other, _ in found)]
        return self._read(names[0]) if len(names) == 1 else None

    def _name_number(self, clause: str) -> str | None:
        """The only number of a clause that the question does not have and that is no bound."""
        numbers = list(_NUMBER.finditer(clause))
        found = [own for own in numbers if own[0] not in self._asked and not _BOUND.search(clause, 0, own.start())]
        if not self._is_number or len({match[0] for match in found}) != 1:
            return None
        joined = any(_LINKED.search(clause, 0, number.start()) for number in numbers)
        return None if joined or _JOINED.match(clause, found[-1].end()) else self._read(found[-1][0])


def _joined(text: str) -> str:
    """A text's words, so that a run of them is a part of it."""
    return f" {' '.join(content_words(text))} "
