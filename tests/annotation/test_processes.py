"""Two processes share the shards of one annotation."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mstar.annotation import Annotation, AnnotationSettings, annotate
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader
from mstar.types import Prompt, Response

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


def work(rank: int, rendezvous: str, output: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    made = make(output)
    (output / f"summary-{rank}").write_text(f"{len(made.labels)} {made.num_tokens}", encoding="utf-8")
    dist.destroy_process_group()


def test_two_processes_write_the_labels_of_one(tmp_path: Path) -> None:
    expected = make(tmp_path / "one")
    # Both come from a process that has imported this once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mstar.annotation", "torch.distributed"])
    output = tmp_path / "two"
    processes = [context.Process(target=work, args=(r, str(tmp_path / "rendezvous"), output)) for r in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for rank in range(2):
        summary = (output / f"summary-{rank}").read_text(encoding="utf-8")
        assert summary == f"{len(expected.labels)} {expected.num_tokens}"
    for path in (tmp_path / "one").iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()
