"""verl: Parquet for its RL data set (prompts with gold answers) and for its SFT data set (messages)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from mstar.errors import DataError
from mstar.peers.forms.base import PeerForm, PeerTable, Row, answered, marked_turns
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Kept, Sampled
from mstar.storage.responses import GOLD, gold
from mstar.types import AnswerIs, Prompt

# Which of verl's reward functions is meant follows from it; a custom_reward_function sees it too.
_SOURCE: Final = "mstar"
_TEXT: Final = pa.string()
_MESSAGES: Final = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))
_SFT: Final = pa.schema([("messages", _MESSAGES), ("prompt_id", _TEXT)])
_RL: Final = pa.schema(
    [
        ("data_source", _TEXT),
        ("prompt", _MESSAGES),
        ("ability", _TEXT),
        ("reward_model", pa.struct([("style", _TEXT), ("ground_truth", _TEXT)])),
        ("extra_info", pa.struct([*((name, _TEXT) for name in ("split", "prompt_id", "question", "answer")), *GOLD])),
    ]
)


def _images(prompt: Prompt, pictures: Pictures) -> list[dict[str, Any]]:
    return [pictures.content(image) for image in prompt.images]


def _kept(row: Kept, pictures: Pictures) -> Row:
    return {"messages": answered(row), "images": _images(row.prompt, pictures), "prompt_id": row.prompt.id}


def _lettered(prompt: Prompt) -> Prompt:
    """The prompt with the letters of right options in place of their numbers, which no response says."""
    if prompt.answer_is not in (AnswerIs.INDEX0, AnswerIs.INDEX1):
        return prompt
    answer, *others = prompt.shown_answers
    return replace(prompt, answer=answer, answers=tuple(others), answer_is=AnswerIs.LETTER)


def _sampled(row: Sampled, pictures: Pictures) -> Row:
    prompt = row.prompt
    if prompt.answer is None:
        raise DataError("the prompt has no gold answer, which a reward by rule compares with")
    prompt = _lettered(prompt)
    return {
        "data_source": _SOURCE,
        "prompt": marked_turns(prompt),
        "images": _images(prompt, pictures),
        "ability": prompt.category or "reasoning",
        "reward_model": {"style": "rule", "ground_truth": prompt.answer},
        "extra_info": {
            "split": "train",
            "prompt_id": prompt.id,
            "question": prompt.question,
            "answer": prompt.answer,
            **gold(prompt),
        },
    }


VERL: Final = PeerForm(
    {
        Kept: PeerTable("sft.parquet", _kept, lambda _: _SFT),
        Sampled: PeerTable("rl.parquet", _sampled, lambda _: _RL),
    }
)
