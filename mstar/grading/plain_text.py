"""What all readers take off first: the many spellings that Unicode, Markdown and LaTeX have for one thing."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# What a text begins with: "Yes, they do", but not "Yes. Wait, no."
YES_OR_NO: Final = re.compile(
    r"(?is)(?!(?=.*\b(?:yes|true)\b).*\b(?:no|false)\b)"
    r"(yes|no|true|false|是的|不是|是|否|对|错误?|正确)(?!\w)(?:\W*$|\s*[,.;:(]|\s+-|\s+(?:it|they|there|he|she)\b)"
)
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT_RUN: Final = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
# Before NFKC, which would turn a masculine ordinal into "o" and glue a vulgar fraction to the digit before it.
_BEFORE: Final = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"), **dict.fromkeys("\u00ba\u02da", "°"),
        **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u202a\u202b\u202c\u202d\u202e", ""),
        **dict.fromkeys("\u2066\u2067\u2068\u2069\ufe0f\u20e3", ""), "\u066a": "%", "\u066b": ".", "\u066c": ",",
        **dict.fromkeys("\u2018\u2019\u201b\u2032", "'"), **dict.fromkeys("“”„″«»", '"'),
        **dict.fromkeys("⋅∙·", "*"), **dict.fromkeys("\u2044\u2215÷", "/"), **dict.fromkeys("\u2014\u2015", " - "),
        **{char: f" {unicodedata.normalize('NFKC', char)}" for char in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"},
        **{char: f"({number})" for number, char in enumerate("①②③④⑤⑥⑦⑧⑨⑩", start=1)},
        "\u2236": ":", "≅": "≈", "≌": "≈", "\u2016": "∥", "\u223c": "∽", "±": "\\pm ", "\u222a": "\\cup ",
    }
)  # fmt: skip
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]+")
_EMPHASIS: Final = re.compile(
    r"(?<![0-9A-Za-z)}*])\*{1,3}(?=[^\s*])|\*{1,3}(?![0-9A-Za-z({*]|\.\d)|[`]+|(?<!\w)__?(?=[^\s{])|(?<=\S)__?(?![\w{\\])"
)
_ARTICLE: Final = re.compile(r"^(?:the|a|an)\s+(?=\S)")
_AMERICAN: Final = {"grey": "gray", "colour": "color", "centre": "center", "metre": "meter", "litre": "liter"}
_BRITISH: Final = re.compile(rf"\b(?:{'|'.join(_AMERICAN)})")

_BRACE: Final = re.compile(r"(?<!\\)[{}]|(?P<box>\\(?:boxed|fbox|framebox)\s*\{)")
# A command before it keeps apart what follows: of "\pi\text{cm}" nothing is called "\picm".
_STYLE: Final = re.compile(
    r"(\\[a-zA-Z]+)?\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|cal|bb)|mbox|operatorname|bm|boldsymbol"
    r"|ce|emph|underline|boxed|fbox|(?:text)?color\s*\{\w+\})\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_COMMAND: Final = re.compile(r"\\((?:text)?color\s*\{\w+\}|[a-zA-Z]+|.)")
_PLAIN: Final = {
    **dict.fromkeys(("left", "right", "displaystyle", "big", "Big", "bigg", "Bigg", "limits"), ""),
    **dict.fromkeys(("tiny", "small", "large", "Large", "LARGE", "huge", "bf", "rm", "it"), ""),
    **dict.fromkeys(("!", " ", ",", ";", ":", "(", ")", "[", "]", "quad", "qquad", "implies"), " "),
    **dict.fromkeys(("to", "rightarrow", "longrightarrow"), "→"),
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "\\frac"),
    **dict.fromkeys(("circ", "degree", "degrees"), "°"), **dict.fromkeys(("approx", "simeq", "cong"), "≈"),
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"), **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    "times": "×", "cdot": "*", "div": "/", "pi": "π", "$": "$", "%": "%", "{": "{", "}": "}", "pounds": "£",
    "infty": "∞", "emptyset": "∅", "varnothing": "∅", "triangle": "△", "angle": "∠",
    "Omega": "Ω", "mu": "μ", "ne": "≠", "neq": "≠",
    "parallel": "∥", "perp": "⊥", "sim": "∽", "mid": "|", "alpha": "α", "beta": "β", "gamma": "γ", "theta": "θ",
    "lambda": "λ", "varphi": "φ", "phi": "φ", "uparrow": "↑", "downarrow": "↓", "imath": "i", "jmath": "j",
}  # fmt: skip
_GROUPS: Final = re.compile(r"\{,\}|(?:,?\\!|\\,)(?=\d{3})")
_DEGREE: Final = re.compile(r"\s*(?:\^\s*\{?\s*|\*)°\s*\}?")
_SHORT_FRACTION: Final = re.compile(r"\\frac\s*(\d)\s*(\d)")
_NUMBER_FRACTION: Final = re.compile(r"\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_FRACTION: Final = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_ROOT: Final = re.compile(r"(?:\\sqrt|√)\s*\{([^{}]*)\}|\\sqrt\s*(\d)")
_EXPONENT: Final = re.compile(r"\^\s*\{([^{}]*)\}")
SUBSCRIPT: Final = re.compile(r"(?<=[A-Za-z])_\{?(\d+)\}?")  # "H_2O" is H2O
_DELIMITED: Final = re.compile(r"\$\$?\s?(?=\S)([^$\n]*[^\s$])\$\$?(?!\d)")


def normalise(text: str) -> str:
    """Compatibility forms, signs, digits, quotes and invisible characters in their ASCII spelling; ASCII stays.

    Superscripts become powers (``10²`` is ``10^2``) and vulgar fractions parts of a mixed number (``1½`` is ``1 1/2``).
    """
    text = _CONTROL.sub("", text)
    if text.isascii():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda run: ("^" if run.start() else "") + run[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text.translate(_BEFORE)).replace("\u2044", "/").replace("\u2212", "-")
    return "".join(str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in text)


def strip_markup(text: str) -> str:
    """The text without Markdown emphasis; a power such as ``9**9`` stays."""
    return _EMPHASIS.sub("", text) if "*" in text or "`" in text or "_" in text else text


def fold(text: str) -> str:
    """The form in which two texts are compared: without case, outer punctuation, first article, doubled spaces."""
    folded = " ".join(f"{text.casefold()}.".replace(".m.", "m").split()).strip(" .,;:!?\"'。、")
    return _ARTICLE.sub("", _BRITISH.sub(lambda word: _AMERICAN[word[0]], folded))


def find_boxed(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and content of every ``\boxed{...}``; one that is never closed is left out. Linear in the length."""
    boxes: list[tuple[int, int, str]] = []
    opened: list[re.Match[str]] = []
    nested = 0  # a box within a box is a part of it
    for token in _BRACE.finditer(text):
        if token[0] != "}":
            opened.append(token)
            nested += token["box"] is not None
        elif opened and (start := opened.pop())["box"]:
            nested -= 1
            if not nested:
                boxes.append((start.start(), token.end(), text[start.end() : token.start()]))
    return boxes


def clean_latex(text: str) -> str:
    r"""Spells LaTeX numbers, units and words plainly; commands that it does not know stay as they are.

    Fractions of whole numbers become mixed-number parts (``1\frac{1}{2}`` is ``1 1/2``), others a quotient in brackets,
    roots ``√(...)``. Dollar signs that delimit go, those of currencies stay.
    """
    if "\\" in text or "{" in text:
        for _ in range(2):
            text = _STYLE.sub(lambda style: " ".join(filter(None, style.groups())), text)
        text = _GROUPS.sub(",", text).replace("\\\\", " ").replace("~", " ").replace("{}", "")
        text = _COMMAND.sub(lambda command: _PLAIN.get(command[1], "" if "{" in command[1][1:] else command[0]), text)
        text = _SHORT_FRACTION.sub(r" \1/\2", _DEGREE.sub("°", text))
        for _ in range(3):
            text = _EXPONENT.sub(_write_exponent, text)
            text = _NUMBER_FRACTION.sub(r" \1/\2", text)
            text = _ROOT.sub(lambda root: f"√({root[1] or root[2]})", text)
            text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = text.strip()
    return _DELIMITED.sub(r"\1", text) if "$" in text else text


def _write_exponent(exponent: re.Match[str]) -> str:
    inner = exponent[1].strip()
    plain = inner.rstrip("+-").isdecimal() or (len(inner) == 1 and (inner.isalnum() or inner in "+-"))
    return f"^{inner}" if plain else f"^({inner})"
