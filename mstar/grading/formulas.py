"""Formulas: which texts are ones, and whether two of them are equal, which math-verify decides in another process.

That process is asked over a pipe: slow or greedy input costs it, never the caller. No clock takes part: a comparison
has a limit of computing time, so a busy machine makes it late and never different.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from typing import Final

from mstar.grading.plain_text import SUBSCRIPT, clean_latex
from mstar.grading.units import canonical_unit

# Most computing time of a comparison. Real ones take milliseconds, so between them and the limit there is room for what
# a full cache or a shared core costs.
WORKER_SECONDS: Final = 1.0
_MAX_LENGTH: Final = 500
_MAX_NESTING: Final = 12
# A command, a product such as 3x, a relation, an operator between two terms, a tuple or an interval, a factorial.
_SIGN: Final = re.compile(
    r"\\[a-zA-Z{]+|(?<!\w)\d+\s?(?:[a-zα-ψ]|[a-dx-z]{2})(?!\w|\.\w)|[=^√π∞≤≥<>]|(?<=[\w)}°])\s*[-+*/]\s*(?=[\w(\\{])|[\[({]\s*-?[\w.\\]+\s*,|(?<=\d)!"
)
# Calculations with digits alone, such as 2019-20, are spans and numbers, and no formulas.
_MORE_THAN_DIGITS: Final = re.compile(r"[a-zA-Zα-ω√∞!^]|[\[({]\s*-?[\w.]+\s*,")
_PROSE: Final = re.compile(
    r"(?<![\\a-zA-Z])(?!(?:arc)?(?:sin|cos|tan|sec|csc|cot)|ln|log|exp|sqrt|and|or\b|cm|mm|km|inf|[pbvBV]?matrix|cases|array"
    r"|(?:abc|xyz|(?i:[b-df-hj-np-tv-xz]){3,4})(?![a-zA-Z]))[a-zA-Z]{3,}"  # mgh is a product
)
# Powers of powers, long exponents and factorials of more than two digits grow beyond any memory when they are parsed.
_BOMB: Final = re.compile(
    r"(?:\^|\*\*)[^-+=,;\sa-zA-Z]{0,40}?(?:\^|\*\*)|(?:\^|\*\*)\s*[({]*-?\d{4,}|\d{30,}|\d{3,}\s*\)?\s*!|!\s*\)?\s*!|\)\s*!"
)
# Letters without such a sign are variables.
_UNIT_BEHIND: Final = re.compile(
    r"(?<=.)(?:(?:[\s/~]|\\[ ,])*\\(?:text|mbox|math(?:rm|bf))\s*\{([^{}]*)\}(?:\s*\^\s*\{?-?\d\}?)?)+\s*\Z"
    r"|(?<=[\s\d})])(?:[ckm]m|kg)(?:\^\{?[23]\}?)?\s*\Z"
)
_RELATION: Final = re.compile(r"\s*([<>≤≥]|\\[lg]eq?(?:slant)?\b)\s*")
# "x ∈ (1, 2)", "{x | 1 < x < 2}", "{x ∈ R: 1 < x < 2}"
_MEMBER: Final = re.compile(
    r"\s*(?:\{\s*[a-zA-Z]\s*(?:(?:\\in|∈)\s*R\s*)?[|:](?P<of>.*)\}|[a-zA-Z]\s*(?:\\in\b|∈)(?P<set>.*))"
)
# What a vector is written with, "3\hat{i}" or "3\mathbf{i}"
_VECTOR: Final = re.compile(r"\\(?:hat|vec|mathbf|boldsymbol)(?![a-zA-Z])")
_CONSTANT: Final = re.compile(r"\+\s*c\s*$")
_ASSIGNED: Final = re.compile(r"([a-zA-Z])\s*=\s*")
_UNION: Final = re.compile(r"(?<=[)\]])\s*U\s*(?=[(\[])")
_BARE_ROOT: Final = re.compile(r"√\(([^()]*)\)|√(\w+)")
_BARE_FUNCTION: Final = re.compile(
    r"(\\(?:operatorname|mathrm|text)\s?\{)?(?<![\\a-zA-Z])((?:arc)?(?:sin|cos|tan|sec|csc|cot)|l[ng]|log|exp|pi)"
    r"(?(1)\}|(?=[a-zA-Z]?(?![a-zA-Z])))"
)
_LATEX: Final = {
    "π": r"\pi ", "×": r"\times ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "°": r"^\circ ", "**": "^",
    "θ": r"\theta ", r"\langle": "(", r"\rangle": ")", r"\lg": r"\log_{10} ",
}  # fmt: skip


class GradingTimeoutError(Exception):
    """math-verify was stopped twice: too slow, or too much memory."""


def is_formula(text: str) -> bool:
    """Whether a text has more of a formula than a number, and is small enough to be parsed."""
    return bool(_SIGN.search(text) and _MORE_THAN_DIGITS.search(text)) and _is_readable(text)


def are_equal(gold: str, answer: str) -> bool:
    """Whether an answer, a formula or a number, equals a formula.

    Raises:
        GradingTimeoutError: math-verify did not come to an end.
        RuntimeError: its process ended twice.
    """
    gold, answer = _of_set(gold), _of_set(answer)
    if same_spelling(gold) == same_spelling(answer):
        return True
    if not _is_readable(answer) or not any(char.isalnum() for char in answer):
        return False
    # Of a ratio's parts math-verify forgets the order.
    if ":" in gold and gold.count(":") == answer.count(":"):
        return all(map(are_equal, gold.split(":"), answer.split(":")))
    if bool(_RELATION.search(answer)) != bool(_RELATION.search(gold)):
        gold, answer = as_interval(gold), as_interval(answer)
    # Several values by name have an order, which math-verify does not know.
    names = _ASSIGNED.findall(gold)
    if len(names) == len({*names}) > 1 and "=" not in answer:
        gold, answer = f"({_ASSIGNED.sub('', gold)})", f"({answer.strip('$(){}[] .')})"
    if "≠" in (given := clean_latex(answer)) and "≠" not in clean_latex(gold):
        gold, answer = given.replace("≠", r"\ne "), gold  # math-verify takes an interval for such a gold answer alone
    outcome = _ask(_as_latex(gold), _as_latex(answer))
    if outcome == "stopped":
        raise GradingTimeoutError
    return outcome == "equal"


def same_spelling(text: str) -> str:
    """One spelling for formulas that differ in blanks, brackets around single signs, and LaTeX's own spellings."""
    return SUBSCRIPT.sub(r"\1", "".join(clean_latex(text).split())).strip("$.").replace("**", "^").replace("->", "→")


def as_interval(text: str) -> str:
    r"""Interval that an inequality, ``{x | x > 3}`` or ``x \in (a, b)`` is, of several their union; or the text."""
    found, text = [], _of_set(text)
    for part in re.split(r"\bor\b|或", clean_latex(text)):
        sides = _RELATION.split(part.strip())
        if {*sides[1::2]} <= {*">≥"}:
            sides = [side.replace(">", "<").replace("≥", "≤") for side in reversed(sides)]
        if len(sides) == 3:
            sides = ["-∞", "<", *sides] if sides[0].isalpha() else [*sides, "<", "∞"]
        if len(sides) != 5 or not sides[2].isalpha() or re.search("[a-zA-Z]", sides[0] + sides[4]):
            return text
        found.append(f"{'[('[sides[1] == '<']}{sides[0]},{sides[4]}{'])'[sides[3] == '<']}")
    return r"\cup ".join(found)


def _of_set(text: str) -> str:
    member = _MEMBER.fullmatch(clean_latex(text))
    return text if member is None else member["of"] or member["set"]


def _is_readable(text: str) -> bool:
    if not text or len(text) > _MAX_LENGTH or _PROSE.search(text) or _BOMB.search(text):
        return False
    # An interval may open with one bracket and close with another.
    depths = [0, *accumulate((char in "([{") - (char in ")]}") for char in text)]
    return max(depths) <= _MAX_NESTING and depths[-1] == 0


def _as_latex(text: str) -> str:
    text = _BARE_ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text.replace("$", " ").strip(" .。"))
    text = _BARE_FUNCTION.sub(r"\\\2 ", _UNION.sub(r"\\cup ", _VECTOR.sub(" ", text)))
    unit = _UNIT_BEHIND.search(text)
    if unit is not None and (unit[1] is None or canonical_unit(unit[1]) or "{ " in unit[0] or "~" in unit[0]):
        text = text[: unit.start()]
    text = _CONSTANT.sub("+ C", text)
    for spelling, latex in _LATEX.items():
        text = text.replace(spelling, latex)
    return text


class _Worker:
    """One worker process; it is started by the first question, and again after it was lost."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a forked process, whose parent has the worker, and may have had another thread hold the lock."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, answer: str) -> str:
        """What comes of two formulas: equal, different or stopped; may be called from any thread."""
        with self._lock:
            # What ran out or was lost is tried once more, with room for a bad moment.
            for seconds in (WORKER_SECONDS, 2 * WORKER_SECONDS):
                reply = self._exchange(json.dumps([gold, answer, seconds]))
                if reply in ("equal", "different"):
                    break
        if not reply:
            raise RuntimeError("The math-verify worker ended; run 'python -m mstar.grading.math_worker' to see why.")
        return reply

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:  # closes the pipes and waits
                process.kill()

    def _exchange(self, question: str) -> str:
        """The worker's line, empty if it is gone."""
        self._process = process = self._process or subprocess.Popen(
            [sys.executable, "-m", "mstar.grading.math_worker"],
            bufsize=0,  # what a broken pipe did not take is not written again when it is closed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they were asked for
        reply = ""
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(question.encode() + b"\n")
                reply = process.stdout.readline().decode().strip()
        finally:
            # Gone, or left alone by Ctrl-C in a notebook: its answer would be taken for the next one's.
            if not reply:
                self.stop()
        return reply


_WORKER: Final = _Worker()
_ask: Final = lru_cache(maxsize=4096)(_WORKER.ask)
atexit.register(_WORKER.stop)
os.register_at_fork(after_in_child=_WORKER.forget)
