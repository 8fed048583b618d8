"""Where a response commits to an answer: the last marker, else its only, first or last sentence.

Nothing is guessed: a part that names several answers, retracts one or breaks off yields none.
"""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.clauses import shared_words
from mstar.grading.follow_on import MAX_RESPONSE, relevant_part
from mstar.grading.latex import find_boxed
from mstar.grading.markers import find_commitments
from mstar.grading.normalisation import normalise, strip_markup
from mstar.grading.reader import REFUSED, AnswerReader
from mstar.grading.sentences import (
    CONCLUSION,
    ENDED,
    HEDGE_AFTER,
    IS_ANSWER,
    NEGATED,
    OPEN,
    RETRACTED,
    REVISED,
    REVISION,
    SENTENCE_END,
    UNFINISHED,
    split_sentences,
)

__all__ = ["find_answer"]

_BUT: Final = re.compile(r"\b(?:but|rather)\b\W*(?:is\s+)?")
# Long runs of blanks say nothing, and cost every pattern that looks beyond them.
_BLANK: Final = re.compile(r"\s{3,}")
# A list of the options with one ticked and others crossed out.
_TICK: Final = re.compile("[✅✔☑]")
_CROSS: Final = re.compile("[❌❎✗✘✖]")
# "Taken together: (C)."
_LABEL_END: Final = re.compile(r":\s*\(?[A-Z]\)?\W*$")
# The last row of a Markdown table with two columns.
_LAST_ROW: Final = re.compile(r"\|[ :-]+\|[ :-]+\|\s*\n\|[^|\n]+\|([^|\n]+)\|\s*$")
_UNRESOLVED: Final = re.compile(
    r"\b(?:can't|cannot|unable to) (?:determine|tell|decide|say) (?:which|what|whether)\b"
    r"|\bif you (?:could |can )?(?:describe|provide|tell|give|share)\b"
    r"|\b(?:doesn't|does not) (?:say|tell|show) (?:which|what|whether)\b|\bmore information is (?:needed|required)\b",
    re.IGNORECASE,
)
# The last line of a calculation.
_ASSIGNED: Final = re.compile(r"[^=≈]{1,30}[=≈]\s*[^=≈]+$")
_REASON: Final = re.compile(r"\b(?:because|since|due to|as (?:it|they|this|that))\b", re.IGNORECASE)
# What others may think is nobody's answer.
_OTHERS: Final = re.compile(
    r"\b(?:many|some|students|people|(?:one|you) (?:might|may|could)|tempting|common|if|were)\b", re.IGNORECASE
)
_ASIDE: Final = re.compile(r"(?:note that|the)\b[^=]*$", re.IGNORECASE)
_CHECKED: Final = re.compile(r"\blet me (?:double-?check|re-?check|verify|check)\b", re.IGNORECASE)
_CORRECTED: Final = re.compile(r"\b(?:should be|in fact|instead)\b", re.IGNORECASE)
_TAKEN_UP: Final = 3
_MAX_SPAN: Final = 600
_MAX_SENTENCES: Final = 40
_MAX_SPANS: Final = 20


def find_answer(response: str, question: str, reader: AnswerReader) -> str | None:
    """The normalised answer that a response commits to last.

    Args:
        response: The response's text.
        question: The question's text, to tell a repetition from an invented question, and which sentence takes it up;
            may be empty.
        reader: Reads the prompt's type of answer.

    Returns:
        What the reader read, or None if the response commits to nothing.
    """
    text = _BLANK.sub(lambda run: "\n\n" if "\n" in run[0] else " ", normalise(response[-MAX_RESPONSE:]))
    text, rest = relevant_part(text, question)
    found = _find(strip_markup(text), question, reader)
    if found is None and rest:
        found = _find(strip_markup(rest), question, reader)
    return found or None


def _find(text: str, question: str, reader: AnswerReader) -> str | None:
    text = text.strip()
    if not text:
        return None
    # A text that is an answer as a whole may contain the words of a marker.
    if len(text) <= 200 and (whole := reader.read_alone(text)) is not None:
        return whole
    spans = find_commitments(text)
    for start, end in reversed(spans[-_MAX_SPANS:]):
        span = text[start:end]
        # The words of a marker may belong to the answer that an earlier marker announces.
        outer = [text[s:e] for s, e in spans[-_MAX_SPANS:] if e == end and s < start]
        found = next(filter(None, map(reader.read_alone, outer)), None) or _read_marked(span, text[end:], reader)
        if found == REFUSED:
            return REFUSED
        rest = text[end:]
        if found is None:
            if not span.strip():
                return _repeated(text, spans[:-1], reader) if end == len(text) else REFUSED
            continue
        return _revise(found, rest, reader)
    ticked = [line for line in text.splitlines() if _TICK.search(line)]
    if len(ticked) == 1 and _CROSS.search(text):
        return reader.read(_TICK.sub("", ticked[0]).strip())
    if (row := _LAST_ROW.search(text)) is not None and (cell := reader.read_alone(row[1].strip())) is not None:
        return cell
    return _read_unmarked(text, question, reader)


def _repeated(text: str, spans: list[tuple[int, int]], reader: AnswerReader) -> str:
    """The answer that a text gave again and again before it broke off."""
    named = [_read_marked(text[start:end], text[end:], reader) for start, end in spans[-_MAX_SPANS:]]
    return named[0] or REFUSED if len(named) > 1 and len(set(named)) == 1 else REFUSED


def _read_marked(span: str, rest: str, reader: AnswerReader) -> str | None:
    boxes = find_boxed(span)
    if boxes:
        inner = [_unwrap(content) for _, _, content in boxes]
        last = reader.read(inner[-1].strip()) if inner[-1].strip() else REFUSED
        if len(inner) > 1 and any(reader.read(content) != last for content in inner[:-1]):
            return reader.read(" and ".join(inner))
        return last
    if NEGATED.match(span):
        # "Cannot be determined" may be an option.
        alone = reader.read_alone(span)
        if alone is not None:
            return alone
        but = _BUT.search(span)
        return reader.read(span[but.end() :]) if but is not None else REFUSED
    if reader.is_listing([span, *rest.lstrip("\n").split("\n", 2)[:2]]):
        return REFUSED
    retracted = RETRACTED.search(span)
    if retracted is not None and retracted.start() > 0:
        return _revise(REFUSED, span[retracted.start() :], reader)
    return _read_revised(span, reader)


def _read_revised(span: str, reader: AnswerReader) -> str | None:
    """What a span names after it changed its mind."""
    parts = REVISION.split(span)
    later = reader.read(parts[-1]) if len(parts) > 1 else None
    return reader.read(span) if later is None else later


def _unwrap(content: str) -> str:
    """The content of a box that is itself nothing but a box."""
    for _ in range(5):
        boxes = find_boxed(content)
        if len(boxes) != 1 or content[: boxes[0][0]].strip(" $") or content[boxes[0][1] :].strip(" $"):
            break
        content = boxes[0][2]
    return content


def _revise(found: str, rest: str, reader: AnswerReader) -> str:
    """Takes back or replaces an answer that the text behind it hedges, retracts or corrects."""
    rest = rest[:2000]
    if not rest.strip(" .\n$)*"):
        return found
    if RETRACTED.search(rest) or REVISED.search(rest):
        retracted = RETRACTED.search(rest)
        other = reader.read(rest[: retracted.start()].strip(" ,")) if retracted is not None else None
        if other and found and other != found:
            return found  # "22. Earlier I said 21, which was wrong."
        later = _read_unmarked(rest.strip(), "", reader)
        if later:
            return later
        return REFUSED if RETRACTED.search(rest) else found
    if _CHECKED.search(rest) and (later := _read_unmarked(rest.strip(), "", reader)):
        # A check may come to another value, but most of its numbers are on the way to the same one.
        last = split_sentences(rest)[-1]
        return later if CONCLUSION.search(last) or _CORRECTED.search(last) else found
    hedge = HEDGE_AFTER.search(rest)
    if hedge is not None:
        other = reader.read(SENTENCE_END.split(rest[hedge.start() :], maxsplit=1)[0])
        if other is not None and other != found:
            return REFUSED
    return found


def _read_unmarked(text: str, question: str, reader: AnswerReader) -> str | None:
    sentences = split_sentences(text)
    if not sentences or len(sentences) == 1:
        return _read_sentence(sentences[0], reader) if sentences and len(sentences[0]) <= 1500 else None
    if reader.is_listing(sentences):
        return (_read_sentence(sentences[-1], reader) if CONCLUSION.search(sentences[-1]) else None) or REFUSED
    for sentence in reversed(sentences):
        # "(B) is the correct answer" commits wherever it stands.
        if IS_ANSWER.search(sentence) and not _OTHERS.search(sentence) and len(sentence) <= _MAX_SPAN:
            found = reader.read(sentence)
            if found is not None:
                labelled = _LABEL_END.search(sentences[-1]) and reader.read(sentences[-1])
                return labelled or found
    last = sentences[-1]
    if _UNRESOLVED.search(" ".join(sentences[-2:])) and reader.read_alone(last) is None:
        return REFUSED
    concluding = CONCLUSION.search(last) is not None or _concludes(text, last, question, reader)
    # "C? Or maybe D" asks rather than answers.
    sentences = [sentence for sentence in sentences if not sentence.endswith("?")] or sentences
    first = reader.read_alone(sentences[0]) or reader.read_opening(sentences[0])
    # Behind the first word: "No," opens an answer.
    if first and not REVISED.search(text.partition(" ")[2]):
        later = _read_sentence(last, reader) if concluding else reader.read_alone(last)
        return REFUSED if later and later != first else _revise(first, text.partition(sentences[0])[2], reader)
    if (concluding or len(sentences) <= 3) and len(last) <= _MAX_SPAN:
        found = _read_sentence(last, reader)
        # What follows an answer and its reason may speak of several others.
        beside = found == REFUSED and not concluding and _REASON.search(sentences[0])
        if found is not None and not beside:
            return _prefer_asked(found, sentences, question, reader)
    if _ASSIGNED.match(last) and (named := reader.read_alone(last)):
        return named
    if first or len(sentences) > _MAX_SENTENCES or not ENDED.search(text):
        return None
    # One and the same answer all over a text without a conclusion.
    names = [reader.read(sentence) for sentence in sentences]
    if names[0] and _REASON.search(sentences[0]):
        names = [name for name in names if name != REFUSED]
    answers = set(names) - {None}
    return answers.pop() if len(answers) == 1 else None


def _prefer_asked(found: str, sentences: list[str], question: str, reader: AnswerReader) -> str:
    """What an earlier sentence says of what is asked, where the last one speaks of something else: "The area is 15"."""
    last = sentences[-1]
    if not found or CONCLUSION.search(last) or not _ASIDE.match(last) or shared_words(last, question):
        return found
    others = [(shared_words(sentence, question), reader.read(sentence)) for sentence in sentences[:-1]]
    shared, other = max(((count, name) for count, name in others if name), default=(0, None), key=lambda pair: pair[0])
    return other if other and shared else found


def _concludes(text: str, last: str, question: str, reader: AnswerReader) -> bool:
    """Whether the last sentence is a paragraph of its own, or takes up the question, unless the text breaks off."""
    alone = text.rpartition("\n\n")[2].strip(" *\n") == last.strip(" *")
    if not ENDED.search(text):
        return alone and reader.read_alone(last) is not None
    return alone or shared_words(last, question) >= _TAKEN_UP


def _read_sentence(sentence: str, reader: AnswerReader) -> str | None:
    if UNFINISHED.search(sentence) or (OPEN.match(sentence) and reader.read_alone(sentence) is None):
        return None
    return _read_revised(sentence, reader)
