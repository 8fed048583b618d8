"""Where a response commits to an answer: its last box, answer tag or marker, or the whole of it, or its last line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from mstar.grading.base import AnswerReader
from mstar.grading.plain_text import find_boxed, normalise, strip_markup
from mstar.thoughts import CLOSING, OPENING

# More is never needed to state an answer; it bounds the work on texts of any size.
_MAX_RESPONSE: Final = 24_000
_MAX_SPAN: Final = 600
# Long runs of blanks say nothing, and cost every pattern that looks beyond them.
_BLANKS: Final = re.compile(r"\s{3,}")
_TEXT_END: Final = re.compile(
    r"(?i)</s>|<\|(?!(?:begin|end)_of_(?:box|thought)|begin_of_sol|(?:object_ref|box|quad)_)[\w▁]{1,30}\|>|<(?:eos|eoa|end_of_turn|end_of_utterance)>|<turn\|>"
    r"|\[(?:/?INST|END FINAL RESPONSE)\]"
)
# GLM-4.1V's box, and the brackets that We-Math asks for.
_BOX_TOKENS: Final = re.compile(r"(?is)<\|begin_of_box\|>(.*?)<\|end_of_box\|>|<answer>\s*:\s*<<(.*?)>>")
_TAG: Final = re.compile(r"<(?:answer|conclusion)>", re.IGNORECASE)
# A question that a model asks itself behind its answer: a label at the start of a line, "Q:" only with a question mark.
_FOLLOW_ON: Final = re.compile(
    r"(?i)(?:^|\n|(?<=[.!?。)}$])\s|\s(?=问题))[^\w\n]{0,6}(?:(?:next|new|another|follow-?up)\s+)?"
    r"(?:(?:question|problem|exercise|human(?!: \d)|user|instruction|题目|问题|请你回答)\s*\d{0,3}"
    r"[^\w\n]{0,4}?[:.](?!\d)"
    r"|q\s?\d{0,3}[:.](?=[^\n]*\?))|\n\#{1,6}\s*(?:question|problem)\b"
)
_WORD: Final = re.compile(r"\w+")

_IS: Final = (
    r"(?:[\"']?\s*[:=]|\s+(?:is|are|was|were|would be|should be|must be|will be|is therefore|is thus|comes to)\b)"
)
_OF: Final = r"(?:\s+(?:to|for|of|in|choice|option|letter|here|would|that|value)\b[^.\n:=]{0,100}?)?"
_MARKER: Final = re.compile(
    rf"(?i)\banswers?{_OF}\s?(?:\([^()\n]{{1,20}}\))?{_IS}:?"
    rf"|\b(?:correct|right|best|final|appropriate|closest|nearest|my)\s+(?:option|choice|letter|response|result|selection){_OF}{_IS}:?"
    rf"|\boption\s+letter{_IS}:?|\bans\.?\s*[:=]"
    # A heading with the answer below it; and "Answer B" alone on a line.
    r"|(?:^|\n)[^\w<]{0,8}(?:final\s+|correct\s+|short\s+)?(?:answer|答案)\W{0,8}(?=\n)"
    r"|final answer\?(?=\n[-$]{0,2}\d.*\Z)"
    r"|(?:^|\n)\W{0,8}(?:final |correct )?answer\s*(?:-\s+|(?=\(?[A-Z]\)?\W{0,8}(?:$|\n)))"
    # GSM8K's mark, wherever it stands, but not a heading of the fourth level.
    r"|(?<=\S)[ \t]+\#{4}(?=\s)|\#{4}\s*(?=[-+$(]{0,3}\.?\d|[^\n]{1,25}$)"
    r"|[【\[](?:正确)?答案[】\]]|(?:正确)?(?:答案|选项)\s*(?:应该是|应为|应选|就是|是|为|选|:)\s*:?"
    r"|(?:故|应|所以|因此|可)(?:选(?!项)择?|填)\s*:?|对应选项(?=\s?\(?[A-Z])|(?<!\w)选择?\s*:?\s*(?=\(?[A-Z]\b)"
)
# "Therefore, (B) is the correct answer.", "Option B is correct."
_CONFIRMED: Final = re.compile(
    r"(?i)(?:^|[\n.!?:,;]\s{0,3}|\b(?:so|thus|hence|therefore|that)\s+)(?:the\s+)?(?P<name>(?P<kind>(?:option|choice|answer)\s+)?"
    r"\(?(?-i:[A-J])\)?)\s+is\s+(?:the\s+)?(?:correct|right|best)(?(kind)|\s+(?:answer|option|choice))(?=\W|$)"
)
# "None of the answers is correct", "my answer is based on", "how I got the answer:" before steps; what breaks off.
_NO_ANNOUNCEMENT: Final = re.compile(
    r"(?i)\s*(?:\Z|(?:correct|incorrect|wrong|not (?:correct|in)|based|found)\b|\n\s{0,3}1[.)]\s+[a-z]{2,}\s[a-z])"
)
_CHAIN: Final = re.compile(r"(?is)(?:[^\n\w]+\w+){9}[^\n]*\n(?:.*\n)?[^\w\n]*(?:therefore|thus|so|hence)\b")
_AFTER_MARKER: Final = re.compile(
    r"(?i)(?:[\s:*_#}]|[>=](?!\W{,5}(?:\n\w|$)))*(?:(?<=\n)-\s(?!.*\n-\s))?(?:(?:\\\[|\$\$(?=\n))\s*)?(?:(?:clearly"
    r"|as follows|(?:most )?likely|probably|definitely|simply|indeed|therefore|thus|given by|approximately)\b:?\s*)?"
)
# A line, or a list of bullets.
_LINE: Final = re.compile(r"-\s.*(?:\n-\s.*)+|.*")
# A member of a JSON object: {"answer": "B", "confidence": 0.9}
_JSON_VALUE: Final = re.compile(r"\s?(?:\"([^\"\n]{0,500})\"|([-\d.]{1,40}|\[[^\]\n]{1,200}\])(?=\s?[,}]))")
# Another one's answer, or one of before; what an option says: "(B) the answer is option C in the picture".
_NOT_MINE: Final = re.compile(
    r"(?i)\b(?:initial|first|original|previous|earlier|common|tempting|wrong|incorrect|another|possible|alternative|your|their)"
    r"\s+(?:answer|option|choice|guess|result)|\([A-J]\) (?:the )?(?:correct )?(?:answer|choice)"
)
# "I don't think the answer is", "whether the answer is", "cannot give an answer:"
_DENIED: Final = re.compile(
    r"(?i)(?:\b(?:not|if|whether|unless|suppose|assuming|false|cannot|unable|wrong)|n't)(?: +[a-z]+){0,3}[ \"'*]*$"
    r"|[不非]$"
)
# "If it were a right triangle, the answer would be 5."; "If so, the answer is A; if not, B."
_CONDITION: Final = re.compile(r"(?:^|[.!?(\n]\s*)(?:if|had|suppose|assuming|unless)\b[^.!?\n]{0,200}$", re.IGNORECASE)
_OTHERWISE: Final = re.compile(r"(?i)\b(?:if not|otherwise|else|(?<!even )if (?:it|so|the|we|they|this)|would)\b")
NEGATION: Final = re.compile(r"(?i)\b(?:not|never|neither|cannot|no longer|incorrect|wrong|except)\b|n't\b|不|错")
# "x cannot be \boxed{8}", "\boxed{A}, not \boxed{B}", "\boxed{8} is wrong", "if so, \boxed{A}; otherwise it is B"
_NO_BOX: Final = re.compile(
    r"(?i)(?:(?<!\bor )\b(?:not|never|rather than|instead of)|n't|\b(?:cannot|can't) be|n't think (?:it|the answer) is"
    r"|≠|\\neq?|不是|不等于|并非)(?: be| equal(?: to)?)?[ $*(\"']*(?:\\\(\s*)?(?:<\w+>\s*)?\Z"
)
_BOX_IS_WRONG: Final = re.compile(
    r"(?i)(?:</\w+>|\\\)|[$*)} ])*(?:(?:is|was)\s+(?:wrong|incorrect|not correct)\b|是错误?的|不正确|不对(?!应)"
    r"|(?P<else>[,;.]\s*(?:otherwise|else|if not),? (?:it|the answer) is\b))"
)
_TAKEN_BACK: Final = re.compile(
    r"(?i)\b(?:that|this|which|it|my answer)(?:'s| is| was)\s+(?:wrong|incorrect|not right|not correct|a mistake)\b"
    r"|\bI (?:(?:have )?made (?:a mistake|an error)|(?:cannot|can't) (?:see|tell|determine)(?! you| any))\b"
    r"|\b(?:ignore|disregard|scratch) (?:that|this answer|my)\b"
    r"|\b(?:could|might|may|can) (?:also|instead|equally) be\b|\bor (?:maybe|perhaps|possibly)\b"
    r"|\balternatively\b(?!, (?:we|you|one) can)|\bnot (?:entirely |completely )?(?:sure|certain|confident)\b"
    r"|\b(?:let me re-?count|it should be|re-?examin\w+|looking again|however)\b|(?:^|[.!?\n]\s*|,\s+)"
    r"(?:wait|actually|on second thought|sorry|correction|hold on|hmm|no(?=,)|verification\b[^.\n]*\bbut)\b"
)
_INSTEAD: Final = re.compile(
    r"(?i)not\b[^,;.]{1,80}?(?:[,;.]|\s(?=but))\s*"
    r"(?:but(?: rather)?|instead|rather|it is|it's|it should be)\s+(?P<stated>.+)"
)
SENTENCE_END: Final = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b(?:vs|sq|cu|Dr|Mr|St)\.)(?<!\b(?:i\.e|e\.g|a\.m|p\.m)\.)(?<!\bapprox\.)[\"')]?\s+"
    r"(?!(?<=\bNo\. )\d|(?<=\d! )[a-z]|[=<>+*/×≈\\])|(?<=。)|(?<=[^\\]!)(?![^\s\w。.]|\d|(?<=\d!) [^A-Z])|(?<=.)(?=【)"
    r"|(?<=\)\.)\s|(?<=[A-Zm]\.)\s+(?=(?:The|A|My|This|It|If|In|As|Given|Since|Because|However|Actually)\s[a-z])"
)
# Where a sentence stops to state its answer and begins to say why.
_EXPLANATION: Final = re.compile(
    r"(?i),?\s*(?:\b(?:because|since|given that|due to|where|whereas|while|so that|although|though|which|based on|"
    r"according to|meaning|rather than|instead of)\b|,\s*(?:that is|i\.e\.|as\b|so\b)|\bas (?=the|it|there|shown|all)"
    r"|(?<=[\w%°.]\s)\((?!option|choice|maybe|perhaps|or (?:[1-9][\d.]*|[A-J])\))"
    r"(?=(?:\d+|(?!sin|cos|tan)[^\W\d_]{2,}|an?\s)\s*[-+*/×\s]\s*\w+)"
    r"|\s-\s(?=[^\W\d_]{2,}[\s'])|(?<=\d)\s+with\b|;(?!\s*(?:\d+\s*$|\(|\w+\s*=))|因为|由于)"
)
# "B, not D", "Friday, with 40 cakes"
_ASIDE: Final = re.compile(r",\s+(?:I\b|(?!or\b|nor\b|and\b)(?=[a-z]{3,}\s))")
_FACTORIAL: Final = re.compile(r"(?<![\d.])(\d+!)(?=[$}])")  # "5!" may be an emphatic 5
_COUNTED: Final = re.compile(
    r"(-?\$?\d[\d,]*(?:\.\d+)?%?) (?:(?P<to>(?:to|by|in|per|more)(?= [a-z])|(?<=% )of)|[a-z]{2,})\b", re.IGNORECASE
)
# Two statements, as "Ann is a knight, and Ben is a knave", state no single one.
_COPULA: Final = re.compile(
    r"(?is)(?!.*\b(?:is|are)\b.*(?:\band|;)\s+\S+\s+(?:is|are)\b).{2,}\b(?:is|are|was|were|be|equals?)\s+(?P<stated>.+)"
)
# Two boxes side by side are one answer with two parts, or a hedge.
_BETWEEN_BOXES: Final = re.compile(r"[\s,;$]*(?:\\text\s*\{)?\s*(?:and|or|和|或)?\s*\}?[\s$]*")
# "I think it's C", "Thus C."
_LEAD_IN: Final = re.compile(
    r"(?i)^(?:(?:so|thus|hence|therefore|I think|I believe|I'd say|I would say|I choose|based on the \w+)\b,?\s+)?"
    r"(?:(?:it's|it is|that's|this is)\s+|正确的是)?"
)
_SO: Final = re.compile(r".*[,.;:]\s+(?:so|thus|hence|therefore),?\s+(?P<stated>.+)", re.IGNORECASE)
# What rules a value out, or is on the way to another one, says no answer in one line.
_RULED_OUT: Final = re.compile(
    r"(?i)\b(?:rul\w+ out|(?:eliminat|exclud|reject)\w*|wrong|incorrect|impossible|fails?|invalid|too \w+|still|without"
    r"|tempting|many \w+ pick|might think|short of|would (?:have|require)|second (?:\w+est|most|place)|comes second"
    r"|hidden|1\. \(?[A-J]\b.* 2\. \(?[A-J]|than (?:in|for|that of)|hardly)\b|\d%? (?:more|less|fewer) than|排除|错误"
)
# What stands in dollars and ends its sentence is the answer, whatever is in it.
_FORMULA: Final = re.compile(r"\$([^$]+)\$(?:[.。]|$)")
_OPTION: Final = re.compile(r"\(?[A-J][).:]\s")
LISTED: Final = re.compile(r"(?:^|[\s;,:])\(?([A-J])[).:]")
_EXPLAINED: Final = re.compile(r"\n\W{0,4}(?:explanation|解析|解释)\W{0,4}:", re.IGNORECASE)
_MAX_BARE_WORDS: Final = 8


def relevant_part(response: str, question: str) -> str:
    """What of a response answers the question, in plain spelling: no thoughts, no end tokens, no invented questions.

    Args:
        response: The response. Of more than 24,000 characters behind thoughts only the last are looked at.
        question: The question; a repetition of it is no new question. Empty if unknown.
    """
    text = normalise((_without_thoughts(response) if response[_MAX_RESPONSE:] else response)[-_MAX_RESPONSE:])
    text = _BOX_TOKENS.sub(r"\\boxed{\1\2}", text.rpartition("<|channel|>final<|message|>")[2])
    # What a model writes behind the end of its text is no part of it, nor is the header that it may begin with.
    text = next((part for part in _TEXT_END.split(text) if part.strip() not in ("", "assistant")), "")
    text = _BLANKS.sub(lambda run: "\n\n" if "\n" in run[0] else " ", _without_thoughts(text))
    for match in _FOLLOW_ON.finditer(text):
        asked = set(_WORD.findall(text[match.end() :].lstrip("* \n").partition("\n")[0].casefold()))
        if text[: match.start()].strip() and not (asked and asked <= set(_WORD.findall(question.casefold()))):
            text = text[: match.start()]
            break
    return strip_markup(text).strip()


def _without_thoughts(text: str) -> str:
    text = CLOSING.split(text)[-1]
    start = OPENING.search(text)
    if start is None:
        return text
    # A thought that was never closed counts for nothing, but an answer tag in it is an answer.
    tags = list(_TAG.finditer(text, start.end()))
    return text[tags[-1].start() :] if tags else text[: start.start()]


def find_committed(gold: str) -> str:
    """A gold answer without the box, tag or solution that a data set wraps it in."""
    gold = _without_thoughts(gold).strip() or gold
    if (place := _find_last(gold)) is None:
        return gold
    start, end, kind = place
    return _of_box(gold[start:end]) if kind == "box" else gold[start:end].strip().rstrip(".")


def read_commitment(text: str, reader: AnswerReader, question: str = "") -> tuple[bool, str | None]:
    """Whether what ``relevant_part`` gave commits to an answer by a box, a tag or a marker, and to which.

    Returns:
        Whether there is such a place, and the answer of the last one: None if it cannot be read, is denied (where the
        question does not ask for what is not so), or holds under a condition only.
    """
    if (place := _find_last(text)) is None:
        return False, None
    start, end, kind = place
    span = _FACTORIAL.sub(r"(\1)", text[start:end])
    asked = NEGATION.search(question) is not None or "false" in question.casefold()
    denied = kind == "denied" or (kind != "marker" and not asked and _is_denied(text, start, end))
    if denied or not span.strip():
        return True, None
    answer = _read_any([_of_box(span)] if kind == "box" else _of_line(span, True), reader)
    # GSM8K's mark within a sentence: "#### 95 minutes to finish".
    if answer is None and text.endswith("#### ", 0, start) and (counted := _COUNTED.match(span)) is not None:
        answer = reader.read(counted[0] if counted["to"] is None else counted[1])
    # An option may speak of doubt itself.
    said = "" if kind == "box" or reader.read(span.strip()) is not None else span
    return True, None if _TAKEN_BACK.search(f"{said}\n{text[end : end + 300]}") else answer


def is_plain_line(text: str, question: str) -> bool:
    """Whether a response is one line that says something, and rules nothing out that the question does not, too."""
    ruled_out = _RULED_OUT.search(text)
    return "\n" not in text and len(text) <= _MAX_SPAN and (ruled_out is None or ruled_out[0] in question)


def read_bare(text: str, reader: AnswerReader) -> str | None:
    """The answer of a text without a commitment that is nothing but an answer, or whose last line is."""
    text = _EXPLAINED.split(text, maxsplit=1)[0]
    lines = [line.strip() for line in text.splitlines() if _WORD.search(line)] or [text]
    if len(text) <= _MAX_SPAN:
        whole = _read_any([text] if len(lines) > 1 else _of_line(lines[0], False), reader, bare=True)
        if whole is not None:
            return whole
    if len(lines) < 2:
        return None
    last, before = lines[-1].strip("#> "), lines[-2]
    # "(C) The road is wet because it rained.": an option's text may be long, if no other one is on a line of its own.
    alone = _OPTION.match(last) is not None and not any(map(_OPTION.match, lines[:-1]))
    answer = reader.read(last) if _is_bare(last) or alone else None
    # The last of several options, one a line, is no choice.
    if _OPTION.match(last) and (above := _OPTION.match(before)) is not None and not last.startswith(above[0]):
        return None
    other = reader.read(before) if _is_bare(before) and "=" not in before else None
    return answer if other in (None, answer) else None


def _read_any(readings: Iterable[str], reader: AnswerReader, bare: bool = False) -> str | None:
    """The widest of a place's readings that is an answer; for a reader of any text, the narrowest."""
    # Which one it is must not depend on the gold answer: unlabelled prompts vote by the same answers.
    if reader.takes_any_text:
        readings = reversed([reading for reading in readings if not bare or _is_bare(reading)])
    return next((answer for reading in readings if (answer := reader.read(reading)) is not None), None)


def _is_bare(text: str) -> bool:
    return len(text) <= _MAX_SPAN and len(text.split()) <= _MAX_BARE_WORDS


def _find_last(text: str) -> tuple[int, int, str] | None:
    """Start, end and kind of the last place that commits; of a marker and the box behind it, the box."""
    confirmed = ((*match.span("name"), "marker") for match in _CONFIRMED.finditer(text))
    places = (*_find_boxes(text), *_find_tags(text), *_find_markers(text), *confirmed)
    return max(places, key=lambda place: place[0], default=None)


def _find_boxes(text: str) -> list[tuple[int, int, str]]:
    joined: list[tuple[int, int, str]] = []
    for start, end, _ in find_boxed(text):
        if joined and start - joined[-1][1] < 16 and _NO_BOX.search(text, joined[-1][1], start):
            continue
        if joined and _BETWEEN_BOXES.fullmatch(text, joined[-1][1], start):
            start = joined.pop()[0]
        joined.append((start, end, "box"))
    return joined


def _find_tags(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _TAG.finditer(text):
        end = text.find("</", match.end())
        yield match.end(), len(text) if end < 0 else end, "tag"


def _find_markers(text: str) -> Iterator[tuple[int, int, str]]:
    member_end = 0
    for marker in _MARKER.finditer(text):
        before = text[max(0, marker.start() - 220) : marker.start()]
        inner = marker.start() < member_end and '"' not in marker[0]
        another = inner or _NOT_MINE.search(text, max(0, marker.start() - 14), marker.end())
        # "Answer: John has ... Therefore, ..." is a heading of all that follows.
        heading = marker.start() < 5 and _CHAIN.match(text, marker.end())
        if another or heading or _NO_ANNOUNCEMENT.match(text, marker.end()):
            continue
        if (value := _JSON_VALUE.match(text, marker.end())) is not None and '"' in marker[0]:
            # Of {"answer": 4, "reasoning": "... The final result is ..."} the answer is the member of that name.
            member_end = text.rfind("}")
            yield *value.span(1 if value[1] is not None else 2), "marker"
            continue
        start = _AFTER_MARKER.match(text, marker.end()).end()  # type: ignore[union-attr]  # it matches the empty text
        end = start + len(_LINE.findall(text[start : start + _MAX_SPAN])[0].partition("</")[0])
        sentence = before[max(before.rfind("\n"), 0) :] + marker[0]
        conditional = _CONDITION.search(sentence) and _OTHERWISE.search(marker[0] + text[marker.end() : end + 100])
        denied = conditional or _DENIED.search(before[-60:])
        yield start, end, "denied" if denied else "marker"


def _is_denied(text: str, start: int, end: int) -> bool:
    """Whether a box or a tag is denied right before or behind it, or holds in one of two cases."""
    before, behind = text[max(0, start - 220) : start], _BOX_IS_WRONG.match(text, end)
    wrong = behind is not None and (behind["else"] is None or _CONDITION.search(before))
    return bool(wrong or _NO_BOX.search(before[-60:]))


def _of_box(span: str) -> str:
    contents = list(dict.fromkeys(content for _, _, content in find_boxed(span)))
    return span if len(contents) > 1 and " or " in span else ", ".join(contents)


def _of_line(span: str, marked: bool) -> Iterator[str]:
    """What a line may be as an answer: all of it, its first sentence, and that without its lead-in and reasons."""
    lines = [line.strip() for line in _balance(span).strip(" \n|").splitlines() if line.strip()]
    if not lines:
        return
    if len(lines) > 1:
        yield "\n".join(lines)
        if lines[0].startswith("- "):  # of a list, the last is no answer
            return
    line = _LEAD_IN.sub("", lines[-1])
    yield from (lines[-1], line)
    if not marked and (_TAKEN_BACK.search(line) or {"yes", "no"} <= set(_WORD.findall(line.casefold()))):
        return
    if (formula := (_FORMULA.match if marked else _FORMULA.fullmatch)(line)) is not None:
        yield formula[1]
        return
    parts = [line]
    if (instead := _INSTEAD.fullmatch(line)) is not None:
        parts = [instead["stated"]]
    elif (conclusion := _SO.fullmatch(line)) is not None:
        # "(C) 13. The area is 66. Therefore, ...": what a marker announces comes before what follows from it.
        parts = [*(parts if marked else ()), conclusion["stated"]]
    for part in parts:
        sentence = SENTENCE_END.split(part, maxsplit=1)[0].strip()
        yield sentence
        # "A: iron; B: zinc; C: gold" are the options, and no reason why it is A.
        listed = len(set(LISTED.findall(sentence))) > 2
        stated = sentence if listed else _EXPLANATION.split(sentence, maxsplit=1)[0].strip()
        yield from (stated, _ASIDE.split(stated, maxsplit=1)[0])
    if marked and (copula := _COPULA.fullmatch(stated)) is not None:
        yield copula["stated"]


def _balance(span: str) -> str:
    r"""The span up to a brace that was opened before it, as in ``\text{Answer: A}``."""
    depths = accumulate((char == "{") - (char == "}") for char in span)
    return span[: next((place for place, depth in enumerate(depths) if depth < 0), None)]
