"""InternVL's MPO and VisualPRM: the JSON lines of MMPR and VisualPRM400K, and the meta file that names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mstar.errors import DataError
from mstar.peers.forms.base import PeerForm, PeerTable, Row, answered, judged_steps, marked_turns, whole_text
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, LabelledSteps, Pair
from mstar.types import PICTURE, Prompt

_SPEAKERS: Final = {"user": "human", "assistant": "gpt", "system": "system"}
# InternVL is asked with a line break behind every picture. Its loaders write one behind a mark that they add
# themselves, and none behind a mark that is there.
_BARE: Final = re.compile(rf"{PICTURE}(?!\n)")


def _lined(text: str) -> str:
    return _BARE.sub(f"{PICTURE}\n", text)


def _image(prompt: Prompt, pictures: Pictures) -> Row:
    """One path, or a list of several; a question without a picture has no such column."""
    found = [pictures.path(image) for image in prompt.images]
    return {"image": found[0] if len(found) == 1 else found} if found else {}


def _pair(row: Pair, pictures: Pictures) -> Row:
    if row.prompt.turns:
        raise DataError("the prompt has a system prompt or earlier turns, and a row of MMPR has one question")
    [asked] = marked_turns(row.prompt)
    return {
        **_image(row.prompt, pictures),
        "question": _lined(asked["content"]),
        "chosen": whole_text(row.chosen),
        "rejected": whole_text(row.rejected),
        "id": row.prompt.id,
    }


def _chat(messages: list[dict[str, str]], prompt: Prompt, pictures: Pictures) -> Row:
    conversations = [{"from": _SPEAKERS[said["role"]], "value": _lined(said["content"])} for said in messages]
    image = _image(prompt, pictures)
    if conversations[0]["from"] == "system" and isinstance(image.get("image"), str):
        # InternVL's loader of a single picture puts a mark into the first turn, even the system's; that of a list not.
        image = {"image": [image["image"]]}
    return {**image, "conversations": conversations, "id": prompt.id}


def _kept(row: Kept, pictures: Pictures) -> Row:
    return _chat(answered(row), row.prompt, pictures)


def _steps(row: LabelledSteps, pictures: Pictures) -> Row:
    return _chat(judged_steps(row), row.prompt, pictures)


def _describe(files: Mapping[str, int], folder: Path) -> Mapping[str, Any]:
    """A meta file for each: MPO and SFT are programs of their own, which take one each."""
    return {
        f"meta_{Path(name).stem}.json": {
            f"mstar_{Path(name).stem}": {
                "root": "",
                "annotation": str(folder / name),
                "data_augment": False,
                "repeat_time": 1,
                "length": length,
            }
        }
        for name, length in files.items()
    }


MPO: Final = PeerForm(
    {
        Kept: PeerTable("sft.jsonl", _kept),
        Pair: PeerTable("preference.jsonl", _pair),
        LabelledSteps: PeerTable("steps.jsonl", _steps),
    },
    _describe,
)
