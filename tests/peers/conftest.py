from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from mstar.prompts import RecordPrompts
from mstar.storage import PromptResponses, RunDirectory, write_responses, write_step_labels
from mstar.types import Fate, Prompt, Response, ScoredResponse, StepLabels, Verdict, VerdictStatus

WRONG: Final = ("wrong\nAnswer: 8", "worse\nAnswer: 9")


def encode(colour: str, kind: str) -> bytes:
    Image.new("RGB", (16, 8), colour).save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ["system", "user", "assistant", "user"] if len(texts) == 4 else ["user"]
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


def scored(prompt: Prompt, number: int, text: str, fate: Fate) -> ScoredResponse:
    correct = fate in (Fate.KEPT, Fate.DUPLICATE)
    response = Response(prompt.id, number, text, 5, fate is not Fate.TRUNCATED, 1.0, -1.0)
    return ScoredResponse(response, Verdict(correct, text[-1:], VerdictStatus.GRADED), fate=fate)


def outcomes(prompt: Prompt, kept: Sequence[str]) -> PromptResponses:
    """What was kept and its duplicate, two that are wrong, one of them twice, and one that was cut off."""
    rows = [(text, Fate.KEPT) for text in kept] + [(text, Fate.DUPLICATE) for text in kept[:1]]
    rows += [(text, Fate.WRONG) for text in (*WRONG, WRONG[1])] + [("cut", Fate.TRUNCATED)]
    return PromptResponses(prompt, tuple(scored(prompt, number, *row) for number, row in enumerate(rows)))


@pytest.fixture
def source(tmp_path: Path, own_cache: None) -> dict[str, Any]:
    """The settings of a source of three prompts: a picture file, a chat with a picture in the data, and no picture."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "red.jpg").write_bytes(encode("red", "JPEG"))
    file, inside = {"bytes": None, "path": "red.jpg"}, {"bytes": encode("blue", "PNG"), "path": None}
    chat = turns("Be brief.", "Look: <image> what is it?", "A room.", "How many chairs?")
    rows = [
        {"id": "file", "messages": turns("Which colour?"), "answer": "red", "images": [file]},
        {"id": "chat", "messages": chat, "answer": "3", "images": [inside]},
        {"id": "text", "messages": turns("1 + 1?"), "answer": "2", "images": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    own = {"path": str(folder / "rows.parquet")}
    return {"class_path": "mstar.prompts.RecordPrompts", "init_args": own}


@pytest.fixture
def prompts(source: dict[str, Any]) -> RecordPrompts:
    return RecordPrompts(**source["init_args"])


@pytest.fixture
def run(tmp_path: Path, source: dict[str, Any], prompts: RecordPrompts) -> Path:
    """A staged run: two iterations, the second of which keeps one response of the first again; and an annotation."""
    root = tmp_path / "run"
    evolve = RunDirectory(root / "evolve")
    file, chat, text = prompts
    write_responses(
        evolve.responses(1, 0), [outcomes(file, ["It is\nAnswer: red"]), outcomes(chat, ["a 3", "b 3", "c 3"])]
    )
    write_responses(evolve.responses(2, 0), [outcomes(file, ["It is\nAnswer: red"]), outcomes(text, ["2"])])
    config: dict[str, Any] = {"rollout": {"num_samples": 4}, "data": {"init_args": {"train": source}}}
    (root / "evolve/config.yaml").write_text(yaml.safe_dump(config))
    labels = [
        StepLabels("file", "It is\n\nAnswer: red", ("It is\n\n", "Answer: red"), (3, 1), (4, 1), True),
        # The last step of these is not reached: the first without a label ends it.
        StepLabels("chat", "two\nor\n3", ("two\n", "or\n", "3"), (0, 0, 1), (4, 0, 1), True),
        StepLabels("text", "1\n2", ("1\n", "2"), (0, 1), (0, 1), True),
    ]
    (root / "annotate").mkdir()
    write_step_labels(root / "annotate/labels-00000.parquet", labels, list(prompts))
    (root / "annotate/config.yaml").write_text(yaml.safe_dump({"policy": "p", "prompts": source}))
    return root
