"""LaTeX in answers: boxes, and the plain spelling of what numbers and units are written with."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["clean_latex", "find_boxed", "strip_dollars"]

_BOX: Final = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{")
_BRACE: Final = re.compile(r"\\[{}]|[{}]")
_STYLE: Final = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|cal|bb)|mbox|operatorname|bm|boldsymbol|emph)"
    r"\s*\{([^{}]*)\}"
)
_REPLACEMENTS: Final = (
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"\{,\}|\\,(?=\d)|(?<=\d)\\[!;:](?=\d{3})"), ","),
    (re.compile(r"\\(?:left|right|displaystyle|big|Big|bigg|Bigg|limits|[!])(?![a-zA-Z])"), ""),
    (re.compile(r"\\[()\[\],;: ]|\\q?quad(?![a-zA-Z])|~"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\%"), "%"),
    (
        re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\*?\\degree(?:s)?(?![a-zA-Z])|\\circ(?![a-zA-Z])"),
        "°",
    ),
    (re.compile(r"\\times(?![a-zA-Z])"), "×"),
    (re.compile(r"\\cdot(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\pi(?![a-zA-Z])"), "π"),
    (re.compile(r"\\(?:approx|simeq|cong)(?![a-zA-Z])"), "≈"),
    (re.compile(r"\\neq?(?![a-zA-Z])"), "≠"),
    (re.compile(r"\\leq?(?:slant)?(?![a-zA-Z])"), "≤"),
    (re.compile(r"\\geq?(?:slant)?(?![a-zA-Z])"), "≥"),
    (re.compile(r"\\(?:pounds|textsterling)(?![a-zA-Z])"), "£"),
    (re.compile(r"\\(?:Rightarrow|implies|rightarrow|to)(?![a-zA-Z])"), " "),
)
_SHORT_FRACTION: Final = re.compile(r"\\frac\s*(\d)\s*(\d)")
_NUMBER_FRACTION: Final = re.compile(r"\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_SIMPLE_FRACTION: Final = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_DELIMITED: Final = re.compile(r"\$\$?(?=\S)([^$\n]*[^\s$])\$\$?(?!\d)")
_EXPONENT: Final = re.compile(r"\^\s*\{([^{}]*)\}")
_ROOT: Final = re.compile(r"(?:\\sqrt|√)\s*\{([^{}]*)\}|\\sqrt\s*(\d)")


def find_boxed(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and content of every ``\boxed{...}``; one that is never closed is left out. Linear in the length."""
    boxes: list[tuple[int, int, str]] = []
    end = 0
    for opening in _BOX.finditer(text):
        if opening.start() < end:
            continue
        depth = 1
        for brace in _BRACE.finditer(text, opening.end()):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                boxes.append((opening.start(), brace.end(), text[opening.end() : brace.start()]))
                end = brace.end()
                break
        else:
            # Nothing closes this box, so nothing that it contains is looked at again.
            break
    return boxes


def clean_latex(text: str) -> str:
    r"""Spells LaTeX numbers, units and words plainly; commands that it does not know stay as they are.

    Fractions of whole numbers become mixed-number parts (``1\frac{1}{2}`` is ``1 1/2``), others a quotient
    in brackets, roots ``√(...)``. Dollar signs stay: the readers tell a currency from a delimiter.
    """
    if "\\" not in text and "{" not in text:
        return text
    for _ in range(2):
        text = _STYLE.sub(r"\1", text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    text = _SHORT_FRACTION.sub(r" \1/\2", text)
    for _ in range(3):
        text = _NUMBER_FRACTION.sub(r" \1/\2", text)
        text = _ROOT.sub(lambda root: f"√({root[1] or root[2]})", text)
        text = _SIMPLE_FRACTION.sub(r"((\1)/(\2))", text)
    text = _EXPONENT.sub(r"^(\1)", text).replace("\\\\", " ")
    return text.replace("\\{", "{").replace("\\}", "}").strip()


def strip_dollars(text: str) -> str:
    """The text without the dollar signs that delimit LaTeX; those of currencies stay."""
    return _DELIMITED.sub(r"\1", text) if "$" in text else text
