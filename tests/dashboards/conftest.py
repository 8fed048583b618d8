from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mstar.prompts import TinyDice
from mstar.steps import split_steps
from mstar.storage import (
    PromptResponses,
    RunDirectory,
    write_json,
    write_responses,
)
from mstar.types import Fate, Response, ScoredResponse, Verdict, VerdictStatus

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!-- & \x00 \u202egnp.exe \u2028 "
    "https://evil.example/x.png $\\frac{1$\n```\n# heading\nAnswer: 5"
)
MakeGroup = Callable[..., PromptResponses]
COUNTS = {"voted": 600, "abstained": 20, "known": 0, "accuracy": None}


class Page(HTMLParser):
    """A parsed page: its tags with attributes, its visible text, and its scripts."""

    VOID = frozenset({"meta", "input", "br", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data

    @property
    def sample(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture
def make_group() -> MakeGroup:
    """Builds prompt ``index`` with a kept response, its duplicate, a wrong one, and one per given text."""

    def make(index: int, *texts: str, scored: bool = True) -> PromptResponses:
        prompt = TinyDice("pool", 100)[index]
        right = prompt.reference_responses[0]
        wrong = right.replace(f"Answer: {prompt.answer}", "Answer: 99")
        rows = [(right, True, Fate.KEPT), (right, True, Fate.DUPLICATE), (wrong, False, Fate.WRONG)]
        rows += [(text, False, Fate.WRONG) for text in texts]
        responses = []
        for number, (text, correct, fate) in enumerate(rows):
            scores = tuple(0.1 + 0.2 * (step % 5) for step in range(len(split_steps(text)))) if scored else ()
            responses.append(
                ScoredResponse(
                    Response(prompt.id, number, text, 17, True, 1.0, -2.5),
                    Verdict(correct, prompt.answer if correct else "99", VerdictStatus.GRADED),
                    scores,
                    min(scores) if scores else None,
                    correct,
                    fate,
                )
            )
        return PromptResponses(prompt, tuple(responses))

    return make


@pytest.fixture
def run(tmp_path: Path, make_group: MakeGroup) -> Path:
    """Two iterations of ten prompts in two shards each; a hostile response at the first prompt of each iteration."""
    root = tmp_path / "my run"
    directory = RunDirectory(root)
    for iteration in (1, 2):
        groups = [
            make_group(10 * iteration + i, *([HOSTILE] if i == 0 else []), scored=iteration == 2) for i in range(10)
        ]
        write_responses(directory.responses(iteration, 0), groups[:5])
        write_responses(directory.responses(iteration, 1), groups[5:])
        write_json(
            directory.report(iteration),
            {
                "iteration": iteration,
                "prompts": 10,
                "put_aside": 3 if iteration == 2 else 0,
                "grading_timeouts": 0,
                "engine_drift": 0.0123,
                "temperature": 1.0,
                "funnel": {"generated": 40, "parsed": 40, "correct": 20, "unique": 10, "kept": 8},
                "tokens": 1234,
                "truncated_fraction": 0.0,
                "tokens_per_second": 500.0,
                "seconds": {"refresh": 30.0, "generate": 75.0, "train": 25.0, "dynamics": 50.0},
                "refreshed": True,
                "kept_chain_accuracy": None,
                "pseudo_labels": {"voted": 4, "abstained": 1, "known": 0, "accuracy": None},
                "labelled": {"funnel": {"generated": 24, "correct": 6}},
                "by_pass_rate": {"up to 3/4": {"prompts": 10, "accuracy": 0.5, "kept": 8}},
                "by_category": {"<i>odd</i>/even": {"prompts": 10, "accuracy": 0.5, "kept": 8}},
                "dynamics": {
                    "greedy_accuracy": 0.125 * iteration,
                    "pass_at_k": 0.9,
                    "k": 4,
                    "reward_pass_at_k": 0.5,
                    "prompts": 1250,
                },
                "mprm": None
                if iteration == 1
                else {
                    "auc": 0.8,
                    "auc_within": 0.71,
                    "compared": 1100,
                    "compared_correct": 0,
                    "likelihood_lead": 0.03,
                    "likelihood_lead_error": 0.01,
                },
                "sweep": None
                if iteration == 1
                else {
                    "chosen": 0.7,
                    "metric": "reward_pass@2",
                    "lead": 0.2,
                    "standard_error": 0.05,
                    "scores": {"0.7": {"reward_pass@2": 0.6}, "0.3": {"reward_pass@2": 0.4}},
                },
                "skipped": False,
            },
        )
    return root
