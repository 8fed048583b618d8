"""One spelling for the many that Unicode and Markdown have: the first thing that happens to any answer."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["fold", "normalise", "strip_markup", "to_american"]

_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT_RUN: Final = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_OTHER_DIGIT: Final = re.compile(r"(?![0-9])\d")
# Before NFKC, which would turn a masculine ordinal into "o" and glue a vulgar fraction to the digit before it.
_BEFORE: Final = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00ba\u02da", "°"),
        **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u202a\u202b\u202c\u202d\u202e", ""),
        **dict.fromkeys("\u2066\u2067\u2068\u2069\ufe0f\u20e3", ""),
        **dict.fromkeys("\u2018\u2019\u201b\u2032", "'"),
        **dict.fromkeys("“”„″«»", '"'),
        **dict.fromkeys("⋅∙", "*"),
        **{char: f" {unicodedata.normalize('NFKC', char)}" for char in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"},
        "\u2014": " - ",
        "\u2015": " - ",
        "\u2044": "/",
        "\u2215": "/",
        "÷": "/",
        "\u2236": ":",
        "≅": "≈",
    }
)
_EMPHASIS: Final = re.compile(
    r"(?<![0-9a-z)}])\*{1,3}(?=[^\s*])|\*{1,3}(?![0-9a-z({*]|\.\d)|[`]+|(?<!\w)__?(?=\S)|(?<=\S)__?(?!\w)"
)
_EDGE_PUNCTUATION: Final = " \t\n\r.,;:!?\"'。、,"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]+")
_SPACES: Final = re.compile(r"\s+")
_AMERICAN: Final = {"grey": "gray", "colour": "color", "centre": "center"}
_BRITISH: Final = re.compile(rf"\b(?:{'|'.join(_AMERICAN)})")
_ARTICLE: Final = re.compile(r"^(?:the|a|an)\s+(?=\S)")


def normalise(text: str) -> str:
    """Compatibility forms, signs, digits, quotes and invisible characters in their ASCII spelling; ASCII stays.

    Superscripts become powers (``10²`` is ``10^2``) and vulgar fractions parts of a mixed number (``1½`` is ``1 1/2``).
    """
    text = _CONTROL.sub("", text)
    if text.isascii():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda run: ("^" if run.start() else "") + run[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text.translate(_BEFORE)).replace("\u2044", "/").replace("\u2212", "-")
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def strip_markup(text: str) -> str:
    """The text without Markdown emphasis; a power such as ``9**9`` stays."""
    if "*" not in text and "`" not in text and "_" not in text:
        return text
    return _EMPHASIS.sub("", text)


def fold(text: str) -> str:
    """The form in which two texts are compared: without case, outer punctuation, first article, doubled spaces."""
    folded = _SPACES.sub(" ", normalise(text).casefold()).strip(_EDGE_PUNCTUATION)
    folded = to_american(folded)
    return _ARTICLE.sub("", folded)


def to_american(folded: str) -> str:
    """A folded text with the American spelling of the few words that answers have in both."""
    return _BRITISH.sub(lambda word: _AMERICAN[word[0]], folded)
