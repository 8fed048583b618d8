"""Requests and answers of ``/inference/v1/generate``, vLLM's route for tokens in and tokens out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mstar.endpoint.messages import data_url
from mstar.generation.base import Request, Sample
from mstar.generation.vllm_prompts import equal_temperatures, unwritten
from mstar.rendering import Renderer
from mstar.types import Prompt, Response

# What is added to the logits of tokens that are never drawn: JSON has no infinity.
_NEVER: Final = -1e30


@dataclass(frozen=True)
class Draw:
    """One request for one response.

    Attributes:
        places: Its place among the request's samples; several where greedy decoding is wanted several times.
    """

    sample: Sample
    places: tuple[int, ...]


def draws_of(request: Request) -> list[Draw]:
    """What is to be drawn for a prompt; greedy decoding has one outcome, however many samples want it."""
    draws = []
    for temperature, group in equal_temperatures(request):
        if temperature > 0:
            draws += [Draw(sample, (place,)) for place, sample in group]
        else:
            draws.append(Draw(group[0][1], tuple(place for place, _ in group)))
    return draws


def generate_bodies(
    prompt: Prompt, ids: Sequence[int], sampling: Sequence[Mapping[str, Any]], banned: Sequence[int]
) -> list[dict[str, Any]]:
    """The bodies of a prompt's requests, with its pictures."""
    # Compressed quickly, since they go over a fast network once.
    pictures = [{"type": "image_url", "url": data_url(image.load(), compress_level=1)} for image in prompt.images]
    common = {"detokenize": False, "logit_bias": {str(token): _NEVER for token in banned}}
    return [
        {"token_ids": list(ids), "sampling_params": {**common, **parameters}}
        | ({"content_parts": pictures} if pictures else {})
        for parameters in sampling
    ]


def read_response(answer: Mapping[str, Any], request: Request, sample: Sample, renderer: Renderer) -> Response:
    """The response in an answer."""
    choice = answer["choices"][0]
    tokens, finished = choice["token_ids"], choice["finish_reason"] == "stop"
    logprobs = [float(step["logprob"]) for step in choice["logprobs"]["content"]]
    return replace(
        unwritten(request, sample),
        text=request.prefix + renderer.decode(tokens[: len(tokens) - finished]),
        num_tokens=len(tokens),
        finished=finished,
        logprob=sum(logprobs),
        tokens=tuple(tokens) if request.keep_tokens else (),
        logprobs=tuple(logprobs) if request.keep_tokens else (),
    )


def read_logprobs(answer: Mapping[str, Any], tail: Sequence[int]) -> list[float]:
    """The log-probabilities of a prompt's last tokens, ``tail``, in an answer with ``prompt_logprobs``."""
    rows = answer["prompt_logprobs"][-len(tail) :]
    return [float(row[str(token)]["logprob"]) for row, token in zip(rows, tail, strict=True)]
