"""The words that announce an answer, in English and Chinese, and the boxes and tags that hold one."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.latex import find_boxed
from mstar.grading.sentences import SENTENCE_END

__all__ = ["find_commitments"]

_IS: Final = (
    r"(?:[\"']?\s*[:=]|\s+(?:is|are|was|were|would be|should be|must be|will be|is therefore|is thus|comes to)\b)"
)
_ANNOUNCEMENTS: Final = (
    rf"\banswers?(?:\s+(?:to|for|of|in|choice|option|letter|here|would|that)\b[^.\n:=]{{0,100}}?)?"
    rf"\s?(?:\([^()\n]{{1,20}}\))?{_IS}:?",
    r"\b(?:correct|right|best|final|appropriate|my)\s+"
    r"(?:answer|option|choice|letter|response|result|value|selection)"
    rf"(?:\s+(?:letter|choice|option|value))?(?:\s+(?:to|for|of|in)\b[^.\n:=]{{0,100}}?)?{_IS}:?",
    rf"\boption\s+letter{_IS}:?",
    r"\b(?:I|we|I'll|I'd|I would|one should|you should)\s+(?:choose|select|pick|go with|opt for)\b",
    r"\b(?:change|revise|correct) my (?:answer|choice|response) to\b",
    r"(?:正确)?(?:答案|选项)\s*(?:应该是|应为|应选|就是|是|为|选|:)\s*:?",
    r"(?:故|应|所以|因此|可)选择?\s*:?",
    r"(?<!\w)选择?\s*:?\s*(?=\(?[A-Z]\b)",
    r"(?:^|\n)[ \t]{0,8}(?:#{4}\s|#{2,3}\s(?=\S{1,40}\s*$))",
    r"<answer>|<conclusion>",
    r"(?<![A-Z] )[→⇒]\s*(?=[*\s]{0,4}\(?[A-Z]\)?[*\s.]{0,4}(?:$|\n))",
    r"(?:^|\n)\W{0,8}(?:final |correct )?answer\s*-\s+|\bans\.?\s*[:=]",
    # A heading, with the answer on the next line; and "Answer B" alone on a line.
    r"(?:^|\n)\W{0,8}(?:final\s+|correct\s+|short\s+)?answer\W{0,8}(?=\n)",
    r"(?:^|\n)\W{0,4}(?:final )?answer\s+(?=\(?[A-Z]\)?\W{0,8}(?:$|\n))",
)
_MARKER: Final = re.compile("|".join(_ANNOUNCEMENTS), re.IGNORECASE)
_AFTER_MARKER: Final = re.compile(
    r"[\s:>*_#=]*"
    r"(?:(?:as follows|most likely|likely|probably|clearly|definitely|simply|indeed|therefore|thus)\b:?\s*)?",
    re.IGNORECASE,
)
_NEGATED_BEFORE: Final = re.compile(
    r"\b(?:not(?:\s+true)?|false|if|whether|unless|suppose|assuming|wrong|incorrect)\s+(?:that\s+)?(?:the\s+|my\s+)?\W*$",
    re.IGNORECASE,
)
# "If it were a right triangle, the answer would be 5."
_SUPPOSED: Final = re.compile(r"\b(?:if|had)\b[^.!?\n]{0,120}$", re.IGNORECASE)
# "A common answer is 24."
_OTHERS: Final = re.compile(r"\ban? (?:common|tempting|typical|popular|frequent|naive)\s+$", re.IGNORECASE)
_SUPERSEDED: Final = re.compile(
    r"\b(?:initial|first|original|previous|earlier)\s+(?:answer|choice|guess)\b", re.IGNORECASE
)
# A member of a JSON object.
_JSON_VALUE: Final = re.compile(r"(?<=\":)\s?(?:\"(?P<text>[^\"\n]{0,500})\"|(?P<bare>[-\d.]{1,40}))\s{0,9}[,}]")
_TAG_END: Final = re.compile(r"</(?:answer|conclusion)>", re.IGNORECASE)
# Two boxes side by side are one answer with two parts, or a hedge.
_BETWEEN_BOXES: Final = re.compile(r"[\s,;$]*(?:\\text\s*\{)?\s*(?:and|or|和|或)?\s*\}?[\s$]*")
_MAX_SPAN: Final = 600


def find_commitments(text: str) -> list[tuple[int, int]]:
    """Start and end of every span that the text presents as its answer, in order."""
    spans: list[tuple[int, int]] = []
    for marker in _MARKER.finditer(text):
        if _SUPERSEDED.search(text, max(0, marker.start() - 30), marker.end()):
            continue
        if "would" in marker[0] and _SUPPOSED.search(text, max(0, marker.start() - 120), marker.start()):
            continue
        if _OTHERS.search(text, max(0, marker.start() - 30), marker.start()):
            continue
        if _NEGATED_BEFORE.search(text, max(0, marker.start() - 30), marker.start()):
            # An empty span commits to nothing.
            spans.append((marker.end(), marker.end()))
            continue
        start = _AFTER_MARKER.match(text, marker.end()).end()  # type: ignore[union-attr]  # it matches the empty text
        if value := _JSON_VALUE.match(text, marker.end()):
            spans.append(value.span("text") if value["text"] is not None else value.span("bare"))
            continue
        # "Answer:" at the end of a line is answered on the next one, "The answer is" is cut off.
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        # A little beyond the longest span, which looks ahead; further would be quadratic in a text full of markers.
        sentence = SENTENCE_END.search(text, start, min(end, start + _MAX_SPAN + 8))
        end = min(end if sentence is None else sentence.start(), start + _MAX_SPAN)
        closing = _TAG_END.search(text, start, end)
        spans.append((start, closing.start() if closing else end))
    boxes = find_boxed(text)
    joined: list[tuple[int, int]] = []
    for start, end, _ in boxes:
        if joined and _BETWEEN_BOXES.fullmatch(text, joined[-1][1], start):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    for start, end in joined:
        if not any(s <= start < e for s, e in spans):
            spans.append((start, end))
    return sorted(spans)
