"""The browsable samples of prompts: what the page's script is given, as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from PIL import Image

from mstar.dashboards.run_pictures import RunPictures
from mstar.dashboards.wording import (
    describe_fate,
    describe_verdict,
    distinct_responses,
    score_level,
    scored_steps,
    visible,
)
from mstar.errors import DataError
from mstar.types import Fate, ScoredResponse, StepLabels

_SMALL: Final = 256
# A page or a plot of this many pixels can still be read.
_LARGEST: Final = 1280


def browser_payload(legend: str, prompts: Sequence[Mapping[str, Any]], pictures: RunPictures) -> dict[str, Any]:
    """What the page's script is given: the prompts (``show_prompt``), and their pictures, each of them once."""
    shown: dict[tuple[str, str], str] = {}
    for prompt in prompts:
        for uri in prompt["images"]:
            if (prompt["id"], uri) not in shown:
                load = partial(pictures.find, uri, prompt["id"], prompt["question"] or None)
                shown[prompt["id"], uri] = json.dumps(embed_picture(load, uri))
    # Prompts may share a picture, and different ones may have one name.
    images = list(dict.fromkeys(shown.values()))
    places = {image: place for place, image in enumerate(images)}
    rows = [
        {
            **p,
            "id": visible(p["id"]),
            # Data that is opened for pictures has the turns before the question, too.
            "question": visible(pictures.conversation(p["id"], p["question"]) if p["images"] else p["question"]),
            "images": [places[shown[p["id"], uri]] for uri in p["images"]],
        }
        for p in prompts
    ]
    return {"legend": legend, "images": [json.loads(image) for image in images], "prompts": rows}


def show_prompt(
    row: Mapping[str, Any], responses: Sequence[Mapping[str, Any]], iteration: int | None = None
) -> dict[str, Any]:
    """A prompt of a run's file as JSON values, hidden characters written as codes.

    Its id, its question and the names of its pictures are as they are: pictures are found by them. Of a prompt that
    the file says nothing of, the id alone is known.
    """
    answer = row.get("answer")
    return {
        "id": row["prompt_id"],
        "question": row.get("question") or "",
        "answer": None if answer is None else visible(answer),
        # Whether it is what the prompt's responses agreed on, and no gold answer.
        "voted": bool(row.get("voted")),
        "category": visible(row.get("category") or ""),
        "images": row.get("images") or [],
        "iteration": iteration,
        "samples": sum(response["count"] for response in responses),
        "responses": responses,
    }


def embed_picture(load: Callable[[], Image.Image], name: str) -> dict[str, Any]:
    """A picture as a data URI with its name, a large one made smaller; or the reason why it cannot be shown."""
    try:
        image = load()
    except DataError as error:
        return {"error": visible(str(error))}
    small = max(image.size) <= _SMALL
    if not small:
        image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    kind = "PNG" if small else "JPEG"
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, kind)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"source": f"data:image/{kind.lower()};base64,{data}", "name": visible(name), "small": small}


def show_responses(responses: Sequence[ScoredResponse]) -> list[dict[str, Any]]:
    """Every distinct response once (``distinct_responses``), with the fates of all its copies."""
    rows = []
    for same in distinct_responses(responses):
        first = same[0]
        rows.append(
            {
                "steps": _steps(scored_steps(first)),
                "count": len(same),
                "verdict": describe_verdict(first),
                "correct": first.verdict.correct,
                "predicted": None if first.verdict.predicted is None else visible(first.verdict.predicted),
                "fates": [[describe_fate(fate), count] for fate, count in Counter(s.fate for s in same).items()],
                "kept": first.fate is Fate.KEPT,
                "reward": _rounded(first.process_reward),
                "logprob": _rounded(first.response.logprob),
                "temperature": _rounded(first.response.temperature),
                "tokens": first.response.num_tokens,
                "finished": first.response.finished,
                "chain": first.chain_correct,
            }
        )
    return rows


def show_label(label: StepLabels) -> dict[str, Any]:
    """A labelled response in the form of a sampled one; what is not known of it is None."""
    return {
        "steps": _steps(zip(label.steps, label.soft_labels, strict=True)),
        "count": 1,
        "verdict": "right" if label.correct else "wrong",
        "correct": label.correct,
        "predicted": None,
        "fates": [],
        "kept": False,
        "reward": None,
        "logprob": _rounded(label.logprob),
        "temperature": None,
        "tokens": None,
        "finished": label.finished,
        "chain": label.chain_correct,
    }


def _steps(steps: Iterable[tuple[str, float | None]]) -> list[list[Any]]:
    """[text, score or None, colour level or None] of every step."""
    rows = ((visible(step.rstrip("\n")), _rounded(score)) for step, score in steps)
    return [[step, score, None if score is None else score_level(score)] for step, score in rows]


def _rounded(value: float | None) -> float | None:
    """Four decimals; None for what JSON cannot hold (NaN and the infinities)."""
    return None if value is None or value - value != 0 else round(value, 4)
