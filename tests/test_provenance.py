"""What an artefact depends on is found by construction, and other artefacts are not taken for one's own."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from mstar.errors import ConfigError
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.prompts import TinyDice
from mstar.prompts.images import FileImage, PixelLimits
from mstar.provenance import (
    _own_source,
    claim,
    describe,
    fingerprint,
    fingerprint_prompt,
    fingerprint_prompts,
    hash_rules,
)
from mstar.types import AnswerType, Prompt


class Typed(TransformersEngine):
    """An engine with a type of its own for the weights, where VllmEngine has it."""

    def __init__(self, dtype: str = "auto", **settings: Any) -> None:
        super().__init__(**settings)
        self.options = SimpleNamespace(dtype=dtype)


class Marked(AnswerGrader):
    """A grader with settings: one of them is an object of its own, one is kept under another name."""

    def __init__(self, marker: str = "Answer", words: tuple[str, ...] = (), other: object = None) -> None:
        self.marker = marker
        self._words = words
        self.other = object() if other is None else other


class Renamed(AnswerGrader):
    """A grader that keeps its setting under a name that nobody knows."""

    def __init__(self, limit: float) -> None:
        self.bound = limit


def test_a_component_is_described_by_what_its_work_depends_on() -> None:
    described = describe(Typed(max_new_tokens=5))
    settings = {key: value for key, value in described.items() if key != "class_code"}
    assert settings == {"class": f"{__name__}.Typed", "dtype": "auto", "max_new_tokens": 5, "adapters": "merged"}
    # How many responses are written at a time is no difference.
    assert describe(Typed(max_new_tokens=5, batch_size=3)) == described
    assert describe(Typed("bfloat16", max_new_tokens=5)) != described
    assert describe(Typed(max_new_tokens=6)) != described
    assert describe(Marked()) == describe(Marked())
    distinct = [Marked(), Marked("Result"), Marked(words=("so",)), Marked(other=AnswerGrader()), Renamed(1), Renamed(2)]
    assert len({fingerprint(grader) for grader in (*distinct, AnswerGrader(), MathVistaGrader())}) == len(distinct) + 2


def test_a_class_of_ones_own_is_described_by_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a grader gave before it was mended is not what it gives now."""
    base = "from mstar.grading import AnswerGrader\nclass Mine(AnswerGrader):\n    {}\n"
    child = "from my_grader import Mine\nclass Child(Mine):\n    pass\n"
    for folder in (tmp_path, tmp_path / "site-packages"):
        folder.mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(folder)  # type: ignore[no-untyped-call]

    def written(code: str, file: str = "my_grader.py", name: str = "Mine") -> Any:
        """As a new process finds it."""
        path = tmp_path / file
        path.write_text(code, encoding="utf-8")
        _own_source.cache_clear()
        importlib.invalidate_caches()
        for module in ("my_grader", "my_child", "installed"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return describe(getattr(importlib.import_module(path.stem), name)())

    before, inherited = written(base.format("pass")), written(child, "my_child.py", "Child")
    assert before["class"] == "my_grader.Mine"
    assert written(base.format("pass")) == before
    assert written(base.format("sure = True")) != before
    # What it inherits from another file of one's own counts, too.
    assert written(child, "my_child.py", "Child") != inherited
    # An installed package changes with its version, and mstar's own classes with mstar's.
    assert "class_code" not in written(base.format("pass"), "site-packages/installed.py")
    assert "class_code" not in describe(AnswerGrader())


def test_graders_are_described_by_their_rules_but_not_by_what_is_said_of_them(tmp_path: Path) -> None:
    """A verdict follows from the rules, which an iteration or an annotation outlives."""

    def written(code: str, file: str = "answer.py") -> str:
        (tmp_path / file).write_text(code, encoding="utf-8")
        hash_rules.cache_clear()
        return hash_rules(tmp_path)

    before = written('"""Rules."""\nclass A:\n    """One."""\n    def grade(self):\n        # One.\n        return 1\n')
    assert written("class A:\n    def grade(self):\n        'Says 1.'\n\n        return 1\n") == before
    assert hash_rules(tmp_path, tmp_path / "answer.py") != before
    assert written("class A:\n    def grade(self):\n        return 2\n") != before
    hash_rules.cache_clear()
    rules = describe(AnswerGrader())["rules_code"]
    assert describe(Marked())["rules_code"] == describe(MathVistaGrader())["rules_code"] == rules
    assert "rules_code" not in describe(Typed())


def test_a_class_of_a_notebook_has_no_code_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))
    grader = type("Mine", (AnswerGrader,), {"__module__": "notebook"})()
    assert describe(grader) == describe(AnswerGrader()) | {"class": "notebook.Mine"}


def test_an_optimizer_without_weights_is_described_by_its_settings() -> None:
    # Such a partial passes for a routine from Python 3.14 on, and has no name as those have.
    assert describe(partial(torch.optim.SGD, lr=0.5)) == {"call": ["torch.optim.sgd.SGD"], "lr": 0.5}


def test_descriptions_are_plain_json() -> None:
    values = (float("nan"), Path("a/b"), AnswerType.TEXT, {"b": (1, 2)}, frozenset({"x"}), PixelLimits(3), Typed, b"x")
    assert json.loads(json.dumps(describe(values), allow_nan=False)) == describe(values)


OTHER: dict[str, Any] = {
    "id": "b", "question": "??", "answer": "2", "answer_type": AnswerType.FLOAT, "choices": ("a",), "precision": 1,
    "unit": "cm", "rationale": "r", "reference_responses": ("r",), "category": "c",
    "images": (FileImage("b.png", "root"),),
}  # fmt: skip


def test_every_field_of_a_prompt_counts() -> None:
    """A new field counts by itself; this fails if one is left out of the fingerprint."""
    base = Prompt("a", "?", answer="1", images=(FileImage("a.png", "root"),))
    for field in dataclasses.fields(Prompt):
        value = OTHER.get(field.name, "another value")
        changed = dataclasses.replace(base, **{field.name: value})
        assert fingerprint_prompt(changed) != fingerprint_prompt(base), field.name


def test_a_picture_counts_by_name_limits_and_size_and_not_by_its_folder(tmp_path: Path) -> None:
    for folder, content in (("one", b"12"), ("two", b"12"), ("three", b"123")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(content)

    def key(folder: str, limits: PixelLimits = PixelLimits()) -> str:  # noqa: B008 - frozen
        return fingerprint_prompt(Prompt("a", "?", images=(FileImage("a.png", str(tmp_path / folder), limits),)))

    assert key("one") == key("two")
    assert len({key("one"), key("three"), key("none"), key("one", PixelLimits(maximum=100))}) == 4


def test_prompts_count_in_their_order() -> None:
    prompts = list(TinyDice("pool", 3))
    assert fingerprint_prompts(prompts) == fingerprint_prompts(list(TinyDice("pool", 9))[:3])
    others = [prompts[:2], prompts[::-1]]
    assert len({fingerprint_prompts(each) for each in [prompts, *others]}) == 3


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    def take(**facts: Any) -> None:
        claim(tmp_path, {"format": 1, **facts}, what="labels", pattern="*.parquet")

    take(a=1, b={"c": "x"})
    take(b={"c": "x"}, a=1)
    with pytest.raises(
        ConfigError, match=r"^the labels in '.*' were made with b\.c x \(now y\): choose another output"
    ):
        take(a=1, b={"c": "y"})
    with pytest.raises(ConfigError, match=r"a 1 \(now not set\)"):
        take(b={"c": "x"})
    with pytest.raises(ConfigError, match="an earlier version"):
        claim(tmp_path, {"format": 2}, what="labels", pattern="*.parquet")
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "one.parquet").touch()
    with pytest.raises(ConfigError, match=r"holds labels but no manifest\.json"):
        take(a=1)
