"""The whole annotation with the embedded model: policy folder in, label shards out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from mstar.__main__ import main
from mstar.annotation import AnnotationSettings, annotate_policy
from mstar.errors import ConfigError, DataError, StorageError
from mstar.generation import OpenAIEngine, TransformersEngine
from mstar.judges import JudgeGrader
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.export import save_model
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
from mstar.storage import read_step_labels

if TYPE_CHECKING:
    from tests.stub_server import StubServer


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model after a few steps on responses of two short lines, which it then writes with variations."""
    folder = tmp_path_factory.mktemp("policy")
    model = load_model(EMBEDDED_MODEL)
    renderer = load_renderer(EMBEDDED_MODEL, model)
    prompts = list(TinyDice("seed", 32))
    batch = renderer.response_inputs(prompts, [f"red = {i % 10}\nAnswer: {i % 3}" for i in range(32)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        inputs = batch.inputs
        model(
            input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, labels=batch.labels_BT, **inputs.extras
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save_model(model, renderer, folder)
    return folder


def test_a_search_continues_at_most_so_many_times(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = AnnotationSettings(num_samples=8, num_continuations=2, unmixed_share=1.0, continuing="search")
    engine = TransformersEngine(max_new_tokens=16, progress=False)
    made = annotate_policy(str(policy), TinyDice("annotation", 8), str(tmp_path), engine, settings=settings)
    assert f"{made.num_prefixes} prefixes continued at most 2 times" in capsys.readouterr().out


def test_two_runs_and_a_resumed_one_write_the_same_labels(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = AnnotationSettings(num_samples=8, num_continuations=2, shard_size=4, unmixed_share=1.0)
    engine = TransformersEngine(max_new_tokens=16, progress=False)
    prompts = TinyDice("annotation", 8)
    made = annotate_policy(str(policy), prompts, str(tmp_path / "a"), engine, settings=settings)
    said = capsys.readouterr().out
    assert f"{len(made.labels)} responses to 8 prompts" in said
    assert f"{made.num_prefixes} prefixes continued 2 times" in said
    assert any(len(label.steps) == 2 for label in made.labels)
    for label in made.labels:
        assert "".join(label.steps) == label.response
        assert label.num_total == (*[2] * (len(label.steps) - 1), 1)
        assert all(0 <= c <= t for c, t in zip(label.num_correct, label.num_total, strict=True))

    assert annotate_policy(str(policy), prompts, str(tmp_path / "b"), engine, settings=settings).labels == made.labels
    (tmp_path / "b" / "labels-00001.parquet").unlink()
    annotate_policy(str(policy), prompts, str(tmp_path / "b"), engine, settings=settings)
    for shard in ("labels-00000.parquet", "labels-00001.parquet"):
        assert read_step_labels(tmp_path / "b" / shard) == read_step_labels(tmp_path / "a" / shard)


def test_an_engine_starts_and_ends_among_the_joined_processes(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are joined, vLLM would take itself for the only one."""
    order: list[str] = []

    @contextmanager
    def joined() -> Iterator[None]:
        order.append("joined")
        yield
        order.append("parted")

    class Engine(TransformersEngine):
        def start(self, policy: nn.Module, renderer: Renderer) -> None:
            order.append("started")
            super().start(policy, renderer)

        def close(self) -> None:
            order.append("closed")
            super().close()

    monkeypatch.setattr("mstar.annotation.command.joined_processes", joined)
    settings = AnnotationSettings(num_samples=4, num_continuations=1, unmixed_share=1.0)
    engine = Engine(max_new_tokens=16, progress=False)
    annotate_policy(str(policy), TinyDice("annotation", 2), str(tmp_path / "labels"), engine, settings=settings)
    assert order == ["joined", "started", "closed", "parted"]


def test_a_policy_that_writes_no_lines_fails_loudly(tmp_path: Path) -> None:
    save_model(model := load_model(EMBEDDED_MODEL), load_renderer(EMBEDDED_MODEL, model), tmp_path / "policy")
    with pytest.raises(DataError, match=r"no(ne of).*(step|response to label)"):
        annotate_policy(
            str(tmp_path / "policy"),
            TinyDice("annotation", 2),
            str(tmp_path / "labels"),
            TransformersEngine(max_new_tokens=1, progress=False),
            settings=AnnotationSettings(unmixed_share=1.0),
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
def test_a_device_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    flags = ["--prompts", "mstar.prompts.TinyDice", "--prompts.split", "annotation", "--prompts.size", "4"]
    given = ["--policy", EMBEDDED_MODEL, "--output", str(tmp_path / "labels"), "--device", device]
    assert main(["annotate", *given, *flags]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"mstar annotate: error: device '{device}' cannot be used (")
    assert last.endswith("): leave device out, which takes a GPU where there is one.")
    assert not (tmp_path / "labels").exists()


def test_what_a_judge_of_answers_was_asked_and_how_it_agrees_is_said(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mstar.annotation.command.sum_all", lambda own: own + own)  # two processes
    stub.write = lambda body: "ANSWER: 1\nVERDICT: CORRECT" if body["model"] == "judge" else "a\nb\nAnswer: 1"
    grader = JudgeGrader(stub.address, "judge", cache=str(tmp_path), use="always")
    settings = AnnotationSettings(num_samples=1, num_continuations=1, unmixed_share=1.0)
    engine = OpenAIEngine(stub.address, "teacher", progress=False)
    annotate_policy(None, TinyDice("annotation", 2), str(tmp_path / "labels"), engine, grader, settings)
    assert f": asked {2 * grader.judged().asked:,} times" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told_before_the_policy_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory"):
        annotate_policy(str(tmp_path / "no policy"), TinyDice("pool", 4), str(tmp_path / "file" / "labels"))


def test_a_folder_that_another_annotation_works_in_is_refused(tmp_path: Path, hold_elsewhere: Any) -> None:
    """Both would do all of the work."""
    hold_elsewhere(tmp_path)
    with pytest.raises(ConfigError, match=r"is in use by process \d+ on .* or choose another folder \(output\)\.$"):
        annotate_policy(EMBEDDED_MODEL, TinyDice("annotation", 2), str(tmp_path))
    assert list(tmp_path.glob("*.parquet")) == []
