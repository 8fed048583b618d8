"""TRL: Parquet with the pictures inside, in the types that its documentation calls prompt-completion and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mstar.chat_template import place_pictures
from mstar.peers.forms.base import PeerForm, PeerTable, Row, whole_text
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, LabelledSteps, Pair
from mstar.rewards.published.base import question_of
from mstar.types import Prompt, Turn


def _shown(prompt: Prompt, pictures: Pictures) -> Row:
    """The prompt's messages, in parts so that each picture keeps its place, and the pictures."""
    messages = place_pictures([*prompt.turns, Turn("user", prompt.question)], prompt)
    return {"prompt": messages, "images": [pictures.content(image) for image in prompt.images]}


def _answer(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": whole_text(text)}]}]


def _kept(row: Kept, pictures: Pictures) -> Row:
    return {**_shown(row.prompt, pictures), "completion": _answer(row.response), "prompt_id": row.prompt.id}


def _pair(row: Pair, pictures: Pictures) -> Row:
    texts = {"chosen": _answer(row.chosen), "rejected": _answer(row.rejected)}
    return {**_shown(row.prompt, pictures), **texts, "prompt_id": row.prompt.id}


def _steps(row: LabelledSteps, pictures: Pictures) -> Row:
    return {
        "prompt": question_of(row.prompt),
        "completions": list(row.steps),
        "labels": list(row.labels),
        "images": [pictures.content(image) for image in row.prompt.images],
        "prompt_id": row.prompt.id,
    }


def _chat(*answers: str) -> Callable[[], dict[str, Any]]:
    def columns() -> dict[str, Any]:
        from datasets import Value

        messages = [{"role": Value("string"), "content": [{"type": Value("string"), "text": Value("string")}]}]
        return {**dict.fromkeys(("prompt", *answers), messages), "prompt_id": Value("string")}

    return columns


def _stepwise() -> dict[str, Any]:
    from datasets import Value

    text = Value("string")
    return {"prompt": text, "completions": [text], "labels": [Value("bool")], "prompt_id": text}


TRL: Final = PeerForm(
    {
        Kept: PeerTable("sft.parquet", _kept, _chat("completion")),
        Pair: PeerTable("preference.parquet", _pair, _chat("chosen", "rejected")),
        LabelledSteps: PeerTable("stepwise.parquet", _steps, _stepwise),
    }
)
