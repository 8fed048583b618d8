"""Several values: for each gold answer, responses that give them and responses that do not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.grading.frames import check


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"answer": "[2, 5, 9]", "answer_type": "list"},
            ["2, 5, 9", "[2,5,9]", "2, 5 and 9"],
            ["9, 5, 2", "2, 5", "2, 5, 9, 9"],
        ),
        (
            {"answer": "[2, 5]"},
            ['{"answer": [2, 5], "reasoning": "The final result is a list."}'],
            ['{"answer": [5, 2]}'],
        ),
        ({"answer": "{2, 5, 9}", "answer_type": "set"}, ["9, 2, 5", "{5, 9, 2}", "2, 5 and 9"], ["2, 5", "2, 5, 8"]),
        (
            {"answer": "{2, 7}", "answer_type": "set"},
            ["x = 2 or x = 7", "y = 7, or y = 2", r"x = 2 \text{ or } x = 7"],
            ["x = 2 or x = -7", "2 or 7"],
        ),
        ({"answer": "red; green", "answer_type": "set"}, ["green and red", "red, green"], ["red", "red, blue"]),
        # Two rising numbers in square brackets are an interval, others a list; brackets of a declared type say nothing.
        ({"answer": "[-1, 4]"}, ["[-1, 4]", "-1, 4"], ["[-1, 4)", "(-1, 4)", "(-1, 4]", r"\{-1, 4\}"]),
        ({"answer": r"[0,\pi]"}, [r"[0, \pi]"], [r"[0,\pi)", r"(0,\pi)"]),
        ({"answer": r"[0,1]\cup[2,3]"}, [r"[0,1] \cup [2,3]", "[0,1] \u222a [2,3]"], [r"[0,1)\cup(2,3]", "[0,1]"]),
        ({"answer": r"\{1,2\}"}, [r"\{2,1\}", "1, 2", "[1, 2]"], ["(1,2)"]),
        ({"answer": "[1, 2, 3]"}, ["(1, 2, 3)", "1, 2, 3"], ["[1, 2, 3)", "[3, 2, 1]"]),
        ({"answer": "[5, 2]"}, ["(5, 2)", "5, 2"], ["[2, 5]", "[5, 2)"]),
        ({"answer": "[2, 5]", "answer_type": "list"}, ["(2, 5)", "[2, 5]"], ["(5, 2)"]),
        ({"answer": "±3"}, ["±3", r"\pm 3", r"x=\pm 3", "-3, 3"], ["3", "-3", "±2"]),
        ({"answer": r"\pm 3"}, ["±3", "3, -3"], ["3"]),
        ({"answer": "[1, 4)"}, ["[1, 4)", "[1,4)"], ["(1, 4)", "[1, 4]", "[1, 5)"]),
        ({"answer": r"(-\infty, 2]"}, [r"(-\infty, 2]", r"(-\infty,2]"], [r"(-\infty, 2)", "(0, 2]"]),
        (
            {"answer": r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"},
            [r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"],
            [r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}"],
        ),
        (
            {"answer": "[10, 20, 50, 80]", "answer_type": "box"},
            [
                "[10, 20, 50, 80]",
                "[12, 22, 50, 80]",
                "(10, 20), (50, 80)",
                '{"bbox_2d": [10, 20, 50, 80], "label": "car 7"}',
                "{'Position': [10, 20, 50, 80], 'Confidence': 0.8}",
                "xmin: 10, ymin: 20, xmax: 50, ymax: 80",
                "[10. 20. 50. 80.]",
                "<10><20><50><80>",
            ],
            ["[60, 20, 90, 80]", "[10, 20]", "[10, 20, 50, 80, 90]", "[10, 20, 50, 80] or [60, 20, 90, 80]"],
        ),
    ],
)
def test_several_values(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)
