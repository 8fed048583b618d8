"""What sentences do to an answer: conclude, hedge, take back, explain, or break off."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "CONCLUSION",
    "ENDED",
    "EXPLANATION",
    "HEDGE_AFTER",
    "IS_ANSWER",
    "NEGATED",
    "OPEN",
    "RETRACTED",
    "REVISED",
    "REVISION",
    "SENTENCE_END",
    "UNFINISHED",
    "split_sentences",
    "without_explanation",
]

SENTENCE_END: Final = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"']))(?<!\b[A-Za-z]\.)(?<!\b(?:vs|sq|cu|Dr|Mr|St|No)\.)(?<!\bapprox\.)(?<!\bMrs\.)\s+(?![=<>+*/×≈])"
    r"|(?<=[。!?])|\n+"
    # A letter with a full stop begins "B. 64°" or a name, but not before these.
    r"|(?<=[A-Za-z]\.)\s+(?=(?:Actually|Wait|However|But|Sorry|Hmm|Hold on|Oops|No,|Scratch|Correction|On second)\b)"
)
# Where a sentence stops to state its answer and begins to say why, or under what condition.
EXPLANATION: Final = re.compile(
    r",?\s*(?:\b(?:because|since|given that|due to|where|whereas|while|so that|although|"
    r"(?<!of )which(?! (?:(?:means|leaves|gives|implies) (?:that )?(?:the|there|it|we)|adds up to|totals)\b)|"
    r"(?:even )?though|despite|in order|i\.e\.|rather than|instead of|unlike|based on|according to|assuming|"
    r"meaning|considering|obtained by|calculated|by (?:\w+ing)|if|after \w+ing|"
    r"(?<!is )(?<!are )(?<!was )(?<!be )(?<!'s )not(?= [\d(]))\b"
    r"|\band (?:then )?again\b|\b(?:at|when|for)\s+\w{1,3}\s*=|,\s*(?:when|after|before)\b"
    r"|,\s*(?:more|less|fewer|higher|lower|greater|larger|smaller) than\b"
    r"|\bas (?=(?:the|it|we|there|shown|each|both|all|they|this|that|can|seen|indicated|a|an|you)\b)|因为|由于)",
    re.IGNORECASE,
)
NEGATED: Final = re.compile(
    r"\s*(?:\b(?:not|cannot|can't|neither|unclear|unknown|unable|isn't|impossible|wrong|incorrect)\b|不是|无法)",
    re.IGNORECASE,
)
IS_ANSWER: Final = re.compile(
    r"(?<!not )\b(?:is|are|be|as|would be|must be)\s+(?:the\s+|therefore\s+the\s+)?"
    r"(?:correct|right|final|best|only correct)?\s*(?:(?:answer|option|choice)\b|(?<=correct)|(?<=right))",
    re.IGNORECASE,
)
HEDGE_AFTER: Final = re.compile(
    r"\b(?:could|might|may|can)\s+(?:also|instead|equally)?\s*be\b|\balternatively\b"
    r"|\bor\s+(?:maybe|perhaps|possibly|it)\b|\b(?:perhaps|maybe|possibly)\s+(?:it|the)\b"
    r"|\bnot\s+(?:entirely\s+|completely\s+)?(?:sure|certain|confident)\b",
    re.IGNORECASE,
)
RETRACTED: Final = re.compile(
    r"\b(?:that|this|which|it|my answer)(?:'s| is| was)\s+(?:wrong|incorrect|not right|not correct|a mistake|not the)\b"
    r"|\bscratch that\b|\bI (?:made|have made) (?:a mistake|an error)\b"
    r"|\b(?:ignore|disregard) (?:that|this|my)\b|\bcorrection\b",
    re.IGNORECASE,
)
REVISED: Final = re.compile(
    r"\b(?:wait|actually|on second thought|sorry|correction|hold on|hmm|oops|my mistake|"
    r"I (?:swapped|misread|mixed up)|looking again|"
    r"on (?:closer|second) (?:inspection|look)|let me (?:recount|re-?examine)|"
    r"upon re-?examin\w*|no(?=,))\b",
    re.IGNORECASE,
)
# A change of mind inside a sentence: "36, no, 35".
REVISION: Final = re.compile(
    r"(?:[,;]|(?<!\.)\.\.+|…|\s-|\()\s*(?:(?:oh|um|oops)[,\s]+)?"
    r"(?:(?:(?:no|wait|sorry|hmm)[,\s]+)*(?:no|wait|sorry|hmm)\s*[,:]\s*"
    r"|(?:or rather|I mean|scratch that|actually|make that)\b[,:]?\s*)+",
    re.IGNORECASE,
)
CONCLUSION: Final = re.compile(
    r"(?:^\W*(?:so|consequently|accordingly|in (?:conclusion|summary|all)|finally|overall|"
    r"this means|that means|that leaves|to sum up|the (?:\w+ )?\w+est\b[^.]{0,60}\b(?:is|was))"
    r"|^\W*the (?:only|remaining|matching|closest|corresponding)\b|,\s*so\b"
    r"|\b(?:therefore|thus|hence|altogether|total))\b|[∴]|^\W*(?:因此|所以|故|综上)",
    re.IGNORECASE,
)
UNFINISHED: Final = re.compile(
    r"(?:[,:;+*/=<({\\-]|\b(?:the|(?-i:a)|(?<=[:=]\s)a|an|of|is|are|was|be|by|and|or|to|with|from|than|that|which|then|if|as|at|in|on|"
    r"for|we|because|since|so|therefore|times|plus|minus))\s*$",
    re.IGNORECASE,
)
# A question or a supposition commits to nothing.
OPEN: Final = re.compile(
    r"\W*(?:(?:suppose|assume|imagine|say)\b[^,;]*$"
    r"|I (?:do not|don't) (?:think|believe)\b[^,;]*$|I (?:would )?need more\b"
    r"|(?:is|are|was|were|do|does|did|can|could|what|which|how|who|where|when|why|should|would|will)\b.*\?\W*$"
    r"|.*[,;:]\s*(?:how|what|which)\b[^?]*\?\W*$)",
    re.IGNORECASE | re.DOTALL,
)
ENDED: Final = re.compile(r"[.!?。)\]}$\"'*°%]\s*$")
_ENUMERATED: Final = re.compile(r"^\s*1[.)]\s[^\n]*\n(?:[^\n]*\n){0,6}?\s*2[.)]\s", re.MULTILINE)
_ENUMERATOR: Final = re.compile(r"^\s*\d{1,2}[.)]\s+", re.MULTILINE)
_CLOSING: Final = re.compile(
    r"\((?:\w+[\s,]+){3,}.*\)$"
    r"|\W*(?:I hope|hope this|let me know|.*\b(?:by the way|incidentally)\b|"
    r"please let|feel free|thank|is there anything|if you have)",
    re.IGNORECASE,
)


def split_sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without the numerals of a numbered list and without closing courtesies."""
    if _ENUMERATED.search(text):
        text = _ENUMERATOR.sub("", text)
    sentences = [part.strip() for part in SENTENCE_END.split(text) if part.strip()]
    while len(sentences) > 1 and _CLOSING.match(sentences[-1]):
        sentences.pop()
    return sentences


def without_explanation(sentence: str) -> str:
    """What a sentence states before it says why or under what condition; a condition that it begins with stays."""
    explanation = EXPLANATION.search(sentence, 1)
    return sentence if explanation is None else sentence[: explanation.start()]
