"""LLaMA-Factory: JSON lines in its sharegpt form with OpenAI's names, and the dataset_info.json that describes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mstar.peers.forms.base import (
    PeerForm,
    PeerTable,
    Row,
    answered,
    judged_row,
    marked_turns,
    message_row,
    whole_text,
)
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, LabelledSteps, Pair

_TAGS: Final = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
_PREFERENCE: Final = "preference.jsonl"


def _kept(row: Kept, pictures: Pictures) -> Row:
    return message_row(answered(row), row.prompt, pictures)


def _pair(row: Pair, pictures: Pictures) -> Row:
    chosen, rejected = ({"role": "assistant", "content": whole_text(text)} for text in (row.chosen, row.rejected))
    made = message_row(marked_turns(row.prompt), row.prompt, pictures)
    return {**made, "chosen": chosen, "rejected": rejected}


def _describe(files: Mapping[str, int], folder: Path) -> Mapping[str, Any]:
    described = {}
    for name in files:
        ranked = {"chosen": "chosen", "rejected": "rejected"} if name == _PREFERENCE else {}
        described[f"mstar_{Path(name).stem}"] = {
            "file_name": name,
            "formatting": "sharegpt",
            **({"ranking": True} if ranked else {}),
            "columns": {"messages": "messages", "images": "images", **ranked},
            "tags": _TAGS,
        }
    return {"dataset_info.json": described}


LLAMA_FACTORY: Final = PeerForm(
    {
        Kept: PeerTable("sft.jsonl", _kept),
        Pair: PeerTable(_PREFERENCE, _pair),
        LabelledSteps: PeerTable("steps.jsonl", judged_row),
    },
    _describe,
)
