"""The form of ms-swift, read by its documented columns."""

from __future__ import annotations

from pathlib import Path

from mstar.rewards.published.base import INSTRUCTION

from ..conftest import WRONG, encode, turns  # type: ignore[import-not-found]
from .conftest import ASKED, export, lines  # type: ignore[import-not-found]


def test_ms_swift(run: Path) -> None:
    folder = export(run, "ms-swift")
    file, chat, *_, text = lines(folder / "sft.jsonl")
    red = str(run.parent / "data/red.jpg")
    answer = {"role": "assistant", "content": "It is\nAnswer: red"}
    assert file == {"messages": [*turns("<image>Which colour?"), answer], "images": [red], "prompt_id": "file"}
    # What was said before the question is not trained on.
    assert chat["messages"][:-1] == [message | ({"loss": False} if message["role"] == "assistant" else {})
                                     for message in ASKED]  # fmt: skip
    [blue] = chat["images"]
    assert Path(blue).read_bytes() == encode("blue", "PNG")
    assert Path(blue).parent == folder / "images"
    assert text["images"] == []
    assert lines(folder / "preference.jsonl")[0] == {**file, "rejected_response": WRONG[0]}
    said = lines(folder / "steps.jsonl")[0]["messages"]
    # As VisualPRM's data are, and as mstar.rewards.published.VisualPRM asks what is trained on them.
    assert said[0] == {"role": "system", "content": INSTRUCTION}
    assert [turn["content"] for turn in said[1:]] == [
        "### Question:\n<image>Which colour?\n\n### Solution Process:\nIt is", "+", "Answer: red", "+",
    ]  # fmt: skip
