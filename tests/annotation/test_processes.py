"""Two processes share the shards of one annotation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mstar.annotation import Annotation, AnnotationSettings, annotate, annotator
from mstar.distributed import rank
from mstar.evaluation.dynamics import measure_dynamics, sweep
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader
from mstar.iteration.iteration import Stages, run_iteration
from mstar.iteration.plan import IterationPlan, IterationPrompts
from mstar.rewards import Reward
from mstar.selection import Balance, Selector
from mstar.storage import RunDirectory
from mstar.types import Prompt, Response, Verdict

PROMPTS = [Prompt(f"p{i}", "What is red plus blue?", answer="3") for i in range(7)]


class AlternatingEngine(Engine):
    """Every second response is right."""

    max_new_tokens = 40

    def start(self, policy: Any, renderer: Any) -> None: ...

    def update_weights(self, policy: Any) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        def write(request: Request, index: int) -> Response:
            text = (request.prefix or f"red = {index}\n") + f"Answer: {index % 2 + 2}"
            return Response(request.prompt.id, index, text, 5, True, 1.0, -1.0)

        return [[write(request, sample.index) for sample in request.samples] for request in requests]


def make(output: Path) -> Annotation:
    settings = AnnotationSettings(num_samples=4, num_continuations=3, shard_size=2)
    return annotate(PROMPTS, AlternatingEngine(), AnswerGrader(), settings, output, progress=False)


def work(output: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    made = make(output)
    summary = f"{len(made.labels)} {made.num_tokens}"
    (output / f"summary-{dist.get_rank()}").write_text(summary, encoding="utf-8")
    dist.destroy_process_group()


def test_two_processes_write_the_labels_of_one(tmp_path: Path, forker: Any) -> None:
    expected = make(tmp_path / "one")
    output = tmp_path / "two"
    script = tmp_path / "script.py"
    script.write_text(f"import pathlib, sys; from {__name__} import work; work(pathlib.Path(sys.argv[1]))")
    forker.run([output], tmp_path / "log", number=2, script=script)
    for number in range(2):
        summary = (output / f"summary-{number}").read_text(encoding="utf-8")
        assert summary == f"{len(expected.labels)} {expected.num_tokens}"
    for path in (tmp_path / "one").iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()


class Moody(AnswerGrader):
    """A grader that one process of a group asks alone: a judge by address may tell another one something else."""

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        # Whether a gold answer can be compared, every process looks for itself, with an empty response.
        assert not (rank() and response)
        return super().grade(prompt, response)


class Even(Reward):
    """All responses are worth the same."""

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        return [[(0.5,) for _ in responses] for _, responses in groups]


class Together(AlternatingEngine):
    """Two processes of one engine; each must be given the same requests."""

    group_size = 2

    def __init__(self) -> None:
        self.seen: list[str] = []

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        self.seen += [f"{r.prompt.id} {r.prefix!r} {[s.index for s in r.samples]}" for r in requests]
        return super().generate(requests)


def work_together(output: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    engine = Together()
    settings = AnnotationSettings(num_samples=4, num_continuations=8, continuing="ahead", lead=2, shard_size=2)
    annotate(PROMPTS, engine, Moody(), settings, output / "labels", progress=False)
    plan = IterationPlan(1, 0, 4, 1.0, balance=Balance(hard=0.3, extra_samples=1.0))
    stages = Stages(engine, Moody(), None, Selector("all"))
    run_iteration(IterationPrompts(PROMPTS[1:], PROMPTS[:1], plan), stages, RunDirectory(output))
    options: dict[str, Any] = {"num_samples": 2, "seed": 0, "stage": "dynamics"}
    measure_dynamics(engine, PROMPTS, Moody(), None, temperature=1.0, **options)
    sweep(engine, PROMPTS, Moody(), Even(), candidates=[1.0], k=2, **options)
    (output / f"seen-{dist.get_rank()}").write_text("\n".join(engine.seen), encoding="utf-8")
    dist.destroy_process_group()


def test_processes_of_one_engine_ask_it_for_the_same(tmp_path: Path, forker: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import pathlib, sys; from {__name__} import work_together; work_together(pathlib.Path(sys.argv[1]))"
    )
    forker.run([tmp_path], tmp_path / "log", number=2, script=script)
    first, second = ((tmp_path / f"seen-{number}").read_text(encoding="utf-8") for number in range(2))
    assert first == second
    assert len(first.splitlines()) > 2 * len(PROMPTS)


def test_shards_of_others_are_not_looked_for_before_they_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of NFS that has not found a file does not find it for a minute, even if it is there by then."""
    expected = make(tmp_path / "one")
    output, looked = tmp_path / "two", set[str]()
    exists = Path.exists

    def look(path: Path) -> bool:
        looked.add(path.name)
        return exists(path)

    def wait() -> None:
        # Of four shards, the other process has made two by the time that this one has its own.
        if os.path.exists(output / "labels-00002.parquet"):
            assert not looked & {"labels-00001.parquet", "labels-00003.parquet"}
            for shard in (1, 3):
                shutil.copy(tmp_path / f"one/labels-{shard:05d}.parquet", output)

    monkeypatch.setattr(annotator, "takes_part", lambda shard, size: shard % 2 == 0)
    monkeypatch.setattr(annotator, "wait_for_all", wait)
    monkeypatch.setattr(Path, "exists", look)
    assert make(output).labels == expected.labels
    assert "labels-00000.parquet" in looked
