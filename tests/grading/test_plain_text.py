"""The plain spelling of Unicode, Markdown and LaTeX."""

from __future__ import annotations

import pytest

from mstar.grading.plain_text import clean_latex, find_boxed, fold, normalise, strip_markup


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("10²", "10^2"),
        ("1½", "1 1/2"),
        ("−5", "-5"),
        ("\uff13\uff0e\uff15", "3.5"),
        ("“a”", '"a"'),
        ("a\u200bb", "ab"),
        ("٣", "3"),
    ],
)
def test_unicode(text: str, plain: str) -> None:
    assert normalise(text) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"1\frac{1}{2}", "1 1/2"),
        (r"\frac{x}{y+1}", "((x)/(y+1))"),
        (r"2\sqrt{3}\text{ cm}", "2√(3) cm"),
        (r"\$1{,}200", "$1,200"),
        (r"x^{2}", "x^2"),
        (r"x^{n+1}", "x^(n+1)"),
        (r"90^{\circ}", "90°"),
        (r"\unknown{x}", r"\unknown{x}"),
    ],
)
def test_latex(text: str, plain: str) -> None:
    assert " ".join(clean_latex(text).split()) == plain


def test_emphasis_goes_and_powers_stay() -> None:
    assert strip_markup("**9** and `x` and __y__, 9**9, a*b, x_1") == "9 and x and y, 9**9, a*b, x_1"


def test_case_articles_and_outer_punctuation_go() -> None:
    assert fold(' "The  Red, grey house." ') == fold("red, gray house")


def test_boxes_are_found_with_what_they_contain() -> None:
    text = r"\boxed{1} and \fbox{\frac{1}{2}} and \boxed{\boxed{3}} and \boxed{4"
    assert [content for _, _, content in find_boxed(text)] == ["1", r"\frac{1}{2}", r"\boxed{3}"]
