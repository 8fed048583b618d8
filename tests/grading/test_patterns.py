"""No pattern without a reason: for each one, a response that is judged rightly with it and not without it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mstar.grading
from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.prompts.response_rows import to_prompt
from mstar.types import Verdict

# With groups, for replacements that speak of them.
NEVER = re.compile("(?!)" + "()" * 9)
ROWS = [
    json.loads(line)
    for line in Path(__file__).with_name("pattern_examples.jsonl").read_text(encoding="utf-8").splitlines()
]
MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(mstar.grading.__path__, "mstar.grading.")
    if not info.name.endswith("math_worker")
]
CACHES = [value for module in MODULES for value in vars(module).values() if hasattr(value, "cache_clear")]


def find_patterns() -> Iterator[tuple[ModuleType, str, re.Pattern[str]]]:
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield module, name, value


def judge(row: dict[str, Any]) -> Verdict | None:
    """The verdict; None where the grader cannot do without the pattern at all."""
    for cache in CACHES:
        cache.cache_clear()
    official = row.get("grader") == "official"
    grader = MathVistaGrader() if official else AnswerGrader(sentences=row.get("sentences", False))
    try:
        return grader.grade(to_prompt(row, "p"), row["response"])
    except (AttributeError, IndexError, TypeError):
        return None


def is_right(row: dict[str, Any], verdict: Verdict | None) -> bool:
    if verdict is None or verdict.correct is not row["right"]:
        return False
    return "status" not in row or verdict.status.value == row["status"]


def test_every_pattern_has_an_example() -> None:
    # A pattern that several modules import has several names.
    names: dict[int, set[str]] = {}
    for module, name, value in find_patterns():
        names.setdefault(id(value), set()).add(f"{module.__name__}.{name}")
    assert len(names) <= 132
    listed = {f"mstar.grading.{row['pattern']}" for row in ROWS}
    assert listed <= set().union(*names.values())
    assert [same for same in names.values() if listed.isdisjoint(same)] == []


@pytest.mark.parametrize("row", ROWS, ids=[row["pattern"] for row in ROWS])
def test_a_pattern_decides(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_right(row, judge(row))
    module, _, name = f"mstar.grading.{row['pattern']}".rpartition(".")
    pattern = getattr(importlib.import_module(module), name)
    for place, attribute, value in list(find_patterns()):
        if value is pattern:
            monkeypatch.setattr(place, attribute, NEVER)
    assert not is_right(row, judge(row))


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What was read without a pattern is not kept for other tests."""
    yield
    for cache in CACHES:
        cache.cache_clear()
