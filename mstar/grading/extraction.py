"""Where a response commits to an answer: the last marker, else its only, first or last sentence.

Nothing is guessed: a part that names several answers, retracts one or breaks off yields none.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Final

from mstar.grading.follow_on import relevant_part
from mstar.grading.latex import find_boxed
from mstar.grading.normalisation import normalise, strip_markup

__all__ = ["REFUSED", "AnswerReader", "find_answer"]

# A reading that names several answers, or denies one: no other part of the response may be read in its place.
REFUSED: Final = ""

_IS: Final = r"(?:\s*[:=]|\s+(?:is|are|was|were|would be|should be|must be|will be|is therefore|is thus|comes to)\b)"
_MARKER: Final = re.compile(
    rf"\banswers?(?:\s+(?:to|for|of|in|choice|option|letter|here|would|that)\b[^.\n:=]{{0,100}}?)?\s?(?:\([^()\n]{{1,20}}\))?{_IS}:?"
    rf"|\b(?:correct|right|best|final|appropriate|my)\s+(?:answer|option|choice|letter|response|result|value|selection)"
    rf"(?:\s+(?:letter|choice|option|value))?{_IS}:?"
    rf"|\boption\s+letter{_IS}:?"
    r"|\b(?:I|we|I'll|I'd|I would|one should|you should)\s+(?:choose|select|pick|go with|opt for)\b"
    r"|(?:正确)?(?:答案|选项)\s*(?:应该是|应为|应选|就是|是|为|选|:)\s*:?|(?:故|应|所以|因此|可)选择?\s*:?|(?<!\w)选择?\s*:?\s*(?=\(?[A-Z]\b)"
    r"|(?:^|\n)\s*#{4}\s|<answer>|<conclusion>"
    r"|(?:^|\n)\W*(?:final\s+|correct\s+|short\s+)?answer\W*(?=\n)|(?:^|\n)\W{0,4}(?:final )?answer\s+(?=\(?[A-Z]\)?\W*(?:$|\n))",
    re.IGNORECASE,
)
_AFTER_MARKER: Final = re.compile(r"[\s:>*_#=]*(?:as follows:?\s*)?")
_NEGATED: Final = re.compile(
    r"\s*(?:\b(?:not|cannot|can't|neither|unclear|unknown|unable|isn't|impossible|wrong|incorrect)\b|不是|无法)", re.IGNORECASE
)
_NEGATED_BEFORE: Final = re.compile(r"\b(?:not|if|whether|unless|suppose|assuming|wrong|incorrect)\s+(?:that\s+)?(?:the\s+|my\s+)?\W*$", re.IGNORECASE)
_IS_ANSWER: Final = re.compile(
    r"(?<!not )\b(?:is|are|be|as|would be|must be)\s+(?:the\s+|therefore\s+the\s+)?(?:correct|right|final|best|only correct)?\s*"
    r"(?:(?:answer|option|choice)\b|(?<=correct)|(?<=right))",
    re.IGNORECASE,
)
_HEDGE_AFTER: Final = re.compile(
    r"\b(?:could|might|may|can)\s+(?:also|instead|equally)?\s*be\b|\balternatively\b|\bor\s+(?:maybe|perhaps|possibly|it)\b"
    r"|\b(?:perhaps|maybe|possibly)\s+(?:it|the)\b|\bnot\s+(?:entirely\s+|completely\s+)?(?:sure|certain|confident)\b",
    re.IGNORECASE,
)
_RETRACTED: Final = re.compile(
    r"\b(?:that|this|which|it|my answer)(?:'s| is| was)\s+(?:wrong|incorrect|not right|not correct|a mistake|not the)\b"
    r"|\bscratch that\b|\bI (?:made|have made) (?:a mistake|an error)\b|\b(?:ignore|disregard) (?:that|this|my)\b|\bcorrection\b",
    re.IGNORECASE,
)
_REVISED: Final = re.compile(r"\b(?:wait|actually|on second thought|no,|sorry|correction|hold on|hmm)\b", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"(?:(?<=[.!?])(?<!\b[A-Za-z]\.)(?<!\b(?:vs|sq|cu|Dr|Mr|St|No)\.)(?<!\bapprox\.)(?<!\bMrs\.)\s+)|(?<=[。!?])|\n+")
_CLOSING: Final = re.compile(r"\W*(?:I hope|hope this|let me know|please let|feel free|thank|is there anything|if you have)", re.IGNORECASE)
_CONCLUSION: Final = re.compile(
    r"\W*(?:so|therefore|thus|hence|consequently|accordingly|in (?:total|conclusion|summary|all)|altogether|finally|overall|"
    r"this means|that means|to sum up|∴|因此|所以|故|综上)(?!\w*ly\b)|\b(?:therefore|thus|hence|altogether|in total)\b|[∴]",
    re.IGNORECASE,
)
_UNFINISHED: Final = re.compile(
    r"(?:[,:;+*/=<({\\-]|\b(?:the|a|an|of|is|are|was|be|by|and|or|to|with|from|than|that|which|then|if|as|at|in|on|for|we|"
    r"because|since|so|therefore|times|plus|minus))\s*$",
    re.IGNORECASE,
)
_ENDED: Final = re.compile(r"[.!?。)\]}$\"'*°%]\s*$")
_MAX_SPAN: Final = 600
_MAX_SENTENCES: Final = 40


class AnswerReader(ABC):
    """Reads answers to one prompt: the part of the rules that depends on the type of its answer.

    Attributes:
        gold: The normalised gold answer; None if it cannot be graded.
    """

    gold: str | None

    @abstractmethod
    def read(self, span: str) -> str | None:
        """The normalised answer that a sentence or line names.

        Returns:
            The answer; ``REFUSED`` if the span names several or denies one; None if there is none in it.
        """

    @abstractmethod
    def read_alone(self, span: str) -> str | None:
        """The same for a span that must be nothing but an answer."""

    def is_listing(self, lines: list[str]) -> bool:
        """Whether the lines list the options rather than choose one."""
        return False


def find_answer(response: str, question: str, reader: AnswerReader) -> str | None:
    """The normalised answer that a response commits to last.

    Args:
        response: The response's text.
        question: The question's text, to tell a repetition from an invented question; may be empty.
        reader: Reads the prompt's type of answer.

    Returns:
        What the reader read, or None if the response commits to nothing.
    """
    text, rest = relevant_part(normalise(response), question)
    found = _find(strip_markup(text), reader)
    if found is None and rest:
        found = _find(strip_markup(rest), reader)
    return found or None


def _find(text: str, reader: AnswerReader) -> str | None:
    text = text.strip()
    if not text:
        return None
    # A text that is an answer as a whole may contain the words of a marker.
    if len(text) <= 200 and (whole := reader.read_alone(text)) is not None:
        return whole
    for start, end in reversed(_commitments(text)):
        span = text[start:end]
        found = _read_marked(span, text[end:], reader)
        if found == REFUSED:
            return REFUSED
        rest = text[end:]
        if found is None:
            if not span.strip():
                return REFUSED
            continue
        return _revise(found, rest, reader)
    return _read_unmarked(text, reader)


def _commitments(text: str) -> list[tuple[int, int]]:
    """Start and end of every span that the text presents as its answer, in order."""
    spans: list[tuple[int, int]] = []
    for marker in _MARKER.finditer(text):
        if _NEGATED_BEFORE.search(text, max(0, marker.start() - 20), marker.start()):
            continue
        start = _AFTER_MARKER.match(text, marker.end()).end()  # type: ignore[union-attr]  # it matches the empty text
        # "Answer:" at the end of a line is answered on the next one, "The answer is" is cut off.
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        sentence = _SENTENCE_END.search(text, start, end)
        end = min(end if sentence is None else sentence.start(), start + _MAX_SPAN)
        closing = re.search(r"</(?:answer|conclusion)>", text[start:end], re.IGNORECASE)
        spans.append((start, start + closing.start() if closing else end))
    boxes = find_boxed(text)
    joined: list[tuple[int, int]] = []
    for start, end, _ in boxes:
        # Two boxes side by side are one answer with two parts, or a hedge.
        if joined and re.fullmatch(r"[\s,;$]*(?:and|or|和|或)?[\s$]*", text[joined[-1][1] : start]):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    for start, end in joined:
        if not any(s <= start < e for s, e in spans):
            spans.append((start, end))
    return sorted(spans)


def _read_marked(span: str, rest: str, reader: AnswerReader) -> str | None:
    boxes = find_boxed(span)
    if boxes:
        inner = [content for _, _, content in boxes]
        last = reader.read(inner[-1].strip()) if inner[-1].strip() else REFUSED
        if len(inner) > 1 and any(reader.read(content) != last for content in inner[:-1]):
            return reader.read(" and ".join(inner))
        return last
    if _NEGATED.match(span):
        but = re.search(r"\b(?:but|rather)\b\W*(?:is\s+)?", span)
        return reader.read(span[but.end() :]) if but is not None else REFUSED
    if reader.is_listing([span, *rest.lstrip("\n").split("\n", 2)[:2]]):
        return REFUSED
    return reader.read(span)


def _revise(found: str, rest: str, reader: AnswerReader) -> str:
    """Takes back or replaces an answer that the text behind it hedges, retracts or corrects."""
    rest = rest[:2000]
    if not rest.strip(" .\n$)*"):
        return found
    if _RETRACTED.search(rest) or _REVISED.search(rest):
        later = _read_unmarked(rest.strip(), reader)
        if later:
            return later
        return REFUSED if _RETRACTED.search(rest) else found
    hedge = _HEDGE_AFTER.search(rest)
    if hedge is not None:
        other = reader.read(rest[hedge.start() :].partition("\n")[0])
        if other is not None and other != found:
            return REFUSED
    return found


def _read_unmarked(text: str, reader: AnswerReader) -> str | None:
    sentences = [s for s in (part.strip() for part in _SENTENCE_END.split(text)) if s]
    while len(sentences) > 1 and _CLOSING.match(sentences[-1]):
        sentences.pop()
    if not sentences or len(sentences) == 1:
        return _read_sentence(sentences[0], reader) if sentences and len(sentences[0]) <= 1500 else None
    if reader.is_listing(sentences):
        return REFUSED
    for sentence in reversed(sentences):
        # "(B) is the correct answer" commits wherever it stands.
        if _IS_ANSWER.search(sentence) and len(sentence) <= _MAX_SPAN:
            found = reader.read(sentence)
            if found is not None:
                return found
    last = sentences[-1]
    concluding = _CONCLUSION.match(last) is not None or _CONCLUSION.search(last) is not None
    first = reader.read_alone(sentences[0])
    if first and not _REVISED.search(text):
        later = _read_sentence(last, reader) if concluding else None
        return REFUSED if later and later != first else first
    if (concluding or len(sentences) <= 3) and len(last) <= _MAX_SPAN:
        found = _read_sentence(last, reader)
        if found is not None:
            return found
    if first or len(sentences) > _MAX_SENTENCES or (not _ENDED.search(text) and _UNFINISHED.search(text)):
        return None
    # One and the same answer all over a text without a conclusion.
    named = {reader.read(sentence) for sentence in sentences} - {None}
    return named.pop() if len(named) == 1 else None


def _read_sentence(sentence: str, reader: AnswerReader) -> str | None:
    if _UNFINISHED.search(sentence):
        return None
    found = reader.read(sentence)
    return found
