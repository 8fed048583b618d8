"""A yes or no that is given as a statement: the question's words, affirmed, denied or turned into their opposite."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.sentences.clauses import NEGATION, content_words

__all__ = ["restate"]

_ASKED: Final = re.compile(
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b(?!.* or )", re.IGNORECASE
)
_DENIAL: Final = re.compile(rf"{NEGATION.pattern}|\bno\b", re.IGNORECASE)
# "The highest is red" for "Is red the highest?"
_TURNED: Final = re.compile(r"^(.{1,100}?) (?:is|are|was|were) (.{1,100}?)$", re.IGNORECASE)
_OPPOSITES: Final = tuple(
    {word.rstrip("es") for word in words.split()}
    for words in (
        "greater larger bigger more higher taller longer", "smaller less fewer lower shorter",
        "maximum highest largest greatest most smoothest even", "minimum lowest smallest least roughest odd",
    )
)  # fmt: skip


def restate(question: str, clause: str) -> bool | None:
    """Whether a clause affirms (True) or denies (False) a question that begins with an auxiliary verb.

    The clause must have the question's words, in a comparison in the question's order, and may have others; a
    comparison may leave out what specifies its sides. One word may be turned into its opposite ("smaller" for
    "larger"). None if the clause says something else.
    """
    question = re.split(r"[.!\n]\s*", question.strip().partition("?")[0])[-1][:400]
    if not _ASKED.match(question):
        return None
    clause, denials = _DENIAL.subn("", clause)
    forms = (clause, _TURNED.sub(r"\2 \1", clause))
    turned = next(
        (turn for form in forms if (turn := _turned(content_words(question), content_words(form))) is not None), None
    )
    return None if turned is None or turned + denials > 1 else not (turned or denials)


def _turned(asked: list[str], said: list[str]) -> int | None:
    """How many words of a question are turned in a clause; None if the clause is another one."""
    short, long = sorted((asked, said), key=len)
    rest = iter(long)
    turned = [next((turn for other in rest if (turn := _turns(other, word)) is not None), None) for word in short]
    new = [word for word in said if len(word) > 1 and all(_turns(other, word) is None for other in asked)]
    if len(asked) < 2 or len(new) > 2:
        return None
    if len(said) < len(asked):
        # A shorter one must begin alike and compare something with something.
        compares = any(word in words for word in said[:-1] for words in _OPPOSITES)
        if 2 * len(said) <= len(asked) or not compares or _turns(said[0], asked[0]) is None:
            return None
    return None if None in turned else sum(map(bool, turned))


def _turns(asked: str, said: str) -> bool | None:
    """Whether a word is the opposite of the asked one; None if it is another word altogether."""
    if asked == said:
        return False
    sides = [index for word in (asked, said) for index, words in enumerate(_OPPOSITES) if word in words]
    return sides[0] != sides[1] if len(sides) == 2 and sides[0] // 2 == sides[1] // 2 else None
