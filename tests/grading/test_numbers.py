"""Numbers: for each gold answer, responses that give it and responses that do not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.grading.frames import check, grade


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"answer": "12", "answer_type": "integer"},
            ["12", "12.0", "twelve", "12 apples", "1.2e1"],
            ["12.5", "13", "-12"],
        ),
        ({"answer": "2.50", "answer_type": "float"}, ["2.5", "2.501", "5/2", "2 1/2"], ["2.51", "2.4", "25"]),
        ({"answer": "3", "answer_type": "float"}, ["3", "3.0"], ["3.3", "2.7", "5.27"]),
        ({"answer": "2.5", "answer_type": "float", "precision": 0}, ["3", "2.6"], ["2", "3.6"]),
        (
            {"answer": "1500", "answer_type": "float", "unit": "m"},
            ["1500", "1500 m", "1.5 km", "1,500 meters"],
            ["1500 km", "1.5"],
        ),
        (
            {"answer": "200", "tolerance": {"relative": 0.05}, "answer_type": "float"},
            ["200", "190", "210"],
            ["189.9", "210.1"],
        ),
        (
            {"answer": "0.5", "tolerance": {"absolute": 0.001}, "answer_type": "float"},
            ["0.5", "0.501", "0.499"],
            ["0.502", "0.49"],
        ),
        ({"answer": "1/3^40"}, ["1/3^40", r"\frac{1}{3^{40}}"], ["1/3^41", "0"]),
        ({"answer": "5!", "question": "In how many ways?"}, ["5!", "120"], ["5", "24"]),
        (
            {"answer": "-6", "question": "What is the rate of change?"},
            ["-6 kg/year", "-6 kg per year"],
            ["6 kg/year", "-6/x"],
        ),
        ({"answer": "1200", "answer_type": "float"}, ["CHF 1,200", "₤1,200"], ["CHF 1,100"]),
        # Thousands as MATH writes them.
        ({"answer": "12600"}, [r"12,\!600", r"$12,\!600$", r"12\,600"], ["12", r"12,\!60"]),
        ({"answer": r"12,\!600"}, ["12600", "12,600", r"12,\!600"], ["12"]),
        # The exact value and the decimal.
        (
            {"answer": r"\sqrt{3}"},
            [r"\sqrt{3} \approx 1.73", r"x = \sqrt{3} ≈ 1.7"],
            [r"\sqrt{2} \approx 1.41", "1.73"],
        ),
        ({"answer": "5/7"}, [r"\frac{5}{7} \approx 0.714"], ["5/7 ≈ 0.9", "5/7 ≈ 0.69", "0.714"]),
        ({"answer": "1.73"}, [r"\sqrt{3} \approx 1.73"], [r"\sqrt{3}"]),
        ({"answer": "23", "answer_type": "integer"}, ["22.6 ≈ 23"], ["23 ≈ 24"]),
        # What has a variable behind it is no number, and what has a unit or a thing is one.
        ({"answer": "$6 p$"}, ["6p", "6 p", "p*6"], ["6", "6 q"]),
        ({"answer": r"\frac{\sqrt{5}}{3} b"}, [r"\frac{\sqrt{5}b}{3}"], [r"\frac{\sqrt{5}}{3}"]),
        ({"answer": r"$5 \pi R$"}, [r"5R\pi"], [r"5\pi"]),
        ({"answer": r"\sqrt{5}"}, [r"\sqrt{5}"], [r"\sqrt{5}i", r"\sqrt{5} x y"]),
        # Letters are variables, where they are no unit for sure: behind a formula, a fraction, a root and pi.
        ({"answer": "5+2t"}, ["2t+5"], ["5+2s", "5+2"]),
        ({"answer": "x+2m"}, ["2m+x"], ["x+2", "x+2n"]),
        ({"answer": r"2\cos t"}, [r"2\cos(t)"], [r"2\cos s"]),
        ({"answer": r"\frac12 ab"}, [r"\frac{ab}{2}", r"\frac{1}{2}ab", "0.5ab"], [r"\frac12", "1/2"]),
        ({"answer": "2ab"}, ["2ba"], ["2", "2cd"]),
        ({"answer": r"\pi rl"}, [r"\pi lr"], [r"\pi rh", r"\pi"]),
        ({"answer": r"2\pi h"}, [r"2h\pi"], [r"2\pi"]),
        ({"answer": "5x+3"}, [r"5x+3\text{ cm}", "5x+3 cm", r"3+5x\mathrm{~m}^2"], [r"5x+3\text{ cm}y"]),
        ({"answer": r"2x \mathrm{~m} / \mathrm{s}"}, ["2x", r"2x\ \text{m/s}", r"x\cdot 2"], ["3x", "2"]),
        ({"answer": r"5 \mathrm{~m} / \mathrm{s}"}, ["5", "5 m/s", r"5\text{ m/s}"], ["4 m/s", "5 km/h"]),
        ({"answer": r"2\pi"}, [r"2\pi\text{ m}", r"2\pi \text{ radians}", r"2\pi\text{ Pa}"], [r"2\pi rh"]),
        (
            {"answer": "25", "answer_type": "float"},
            [
                "25 N",
                "25 g of salt",
                "25 cups a day",
                "25 L of milk",
                "25 V battery",
                "25 m above the ground",
                "25 t-shirts",
            ],
            ["25n", "25i"],
        ),
        ({"answer": "40%"}, ["40%", "40 percent", "40 %"], ["4%", "60%"]),
    ],
)
def test_numbers(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)


def test_a_gold_answer_keeps_its_own_unit() -> None:
    """Its number is in that, whatever unit the question mentions."""
    asked = {"answer": "0.25 m", "answer_type": "float", "question": "What is the length of AB in cm?"}
    assert [grade(f"Answer: {text}", **asked).correct for text in ("0.25 m", "25 cm", "0.25 cm")] == [True, True, False]
