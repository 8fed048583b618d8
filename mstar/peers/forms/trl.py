"""TRL: Parquet with the pictures inside, in the types that its documentation calls prompt-completion and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pyarrow as pa

from mstar.chat_template import place_pictures
from mstar.peers.forms.base import PeerForm, PeerTable, Row, whole_text
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, LabelledSteps, Pair
from mstar.rewards.published.base import question_of
from mstar.types import Prompt, Turn

_TEXT: Final = pa.string()
_STEPWISE: Final = pa.schema(
    [("prompt", _TEXT), ("completions", pa.list_(_TEXT)), ("labels", pa.list_(pa.bool_())), ("prompt_id", _TEXT)]
)


def _row(prompt: Prompt, pictures: Pictures, **answers: str) -> Row:
    """The prompt's messages, in parts so that each picture keeps its place, the pictures, and answers.

    Where no row has pictures, a message is one text: of parts, templates of models of text make nothing (Qwen3), or an
    error, and TRL makes parts of a text for those that want them.
    """
    messages = {"prompt": place_pictures([*prompt.turns, Turn("user", prompt.question)], prompt)}
    for name, text in answers.items():
        messages[name] = [{"role": "assistant", "content": [{"type": "text", "text": whole_text(text)}]}]
    if not pictures.some:
        for message in (one for said in messages.values() for one in said):
            message["content"] = "".join(part["text"] for part in message["content"])
    return {**messages, "images": [pictures.content(image) for image in prompt.images], "prompt_id": prompt.id}


def _kept(row: Kept, pictures: Pictures) -> Row:
    return _row(row.prompt, pictures, completion=row.response)


def _pair(row: Pair, pictures: Pictures) -> Row:
    return _row(row.prompt, pictures, chosen=row.chosen, rejected=row.rejected)


def _steps(row: LabelledSteps, pictures: Pictures) -> Row:
    return {
        "prompt": question_of(row.prompt),
        "completions": list(row.steps),
        "labels": list(row.labels),
        "images": [pictures.content(image) for image in row.prompt.images],
        "prompt_id": row.prompt.id,
    }


def _chat(*answers: str) -> Callable[[bool], pa.Schema]:
    def columns(with_pictures: bool) -> pa.Schema:
        content = pa.list_(pa.struct([("type", _TEXT), ("text", _TEXT)])) if with_pictures else _TEXT
        messages = pa.list_(pa.struct([("role", _TEXT), ("content", content)]))
        return pa.schema([*((name, messages) for name in ("prompt", *answers)), ("prompt_id", _TEXT)])

    return columns


TRL: Final = PeerForm(
    {
        Kept: PeerTable("sft.parquet", _kept, _chat("completion")),
        Pair: PeerTable("preference.parquet", _pair, _chat("chosen", "rejected")),
        LabelledSteps: PeerTable("stepwise.parquet", _steps, lambda _: _STEPWISE),
    }
)
