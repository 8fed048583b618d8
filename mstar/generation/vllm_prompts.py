"""What vLLM is given for a prompt, in this process or by ``/inference/v1/generate``, and what its answer says.

Which prompts it is not given, too: one bad prompt would end a whole call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

from mstar.endpoint.messages import data_url
from mstar.generation.base import Request, Sample
from mstar.models.export import SAVED_BACKEND
from mstar.prompts.images import FileImage
from mstar.rendering import Renderer
from mstar.types import Prompt, Response

# vLLM's own limit of pictures in a prompt, where it is started without one.
MOST_IMAGES: Final = 999
# What vLLM's sampler on the GPU takes at most.
_MOST_BANNED: Final = 1024
# What is added to the logits of tokens that are never drawn: JSON has no infinity.
_NEVER: Final = -1e30

# Of an image processor's values, those that say nothing about what it makes of a picture.
_NO_SETTINGS: Final = ("image_processor_type", "processor_class", SAVED_BACKEND)


def prompt_tokens(renderer: Renderer, prompt: Prompt, prefix: str = "", *, show_answer: bool = False) -> list[int]:
    """The tokens of a prompt with one placeholder a picture, which vLLM replaces by as many as the picture needs."""
    text = renderer.render_prompt(prompt, show_answer=show_answer)
    ids = [int(i) for i in renderer.tokenizer(text, add_special_tokens=renderer.adds_beginning(text))["input_ids"]]
    return ids + (renderer.encode_responses([prefix])[0][0][:-1] if prefix else [])


def shows_images(renderer: Renderer) -> bool:
    """Whether the chat template has a place for pictures; vLLM fails on a picture without one."""
    plain, never_opened = Prompt("", ""), FileImage("", "")
    return renderer.render_prompt(replace(plain, images=(never_opened,))) != renderer.render_prompt(plain)


def find_fault(prompt: Prompt, ids: Sequence[int], *, max_images: int, max_len: int) -> str | None:
    """Why vLLM would refuse a prompt; None if it can be given to it.

    Args:
        ids: Its tokens with one placeholder a picture.
        max_len: Most tokens of prompt and response. vLLM itself counts the tokens of the pictures.
    """
    if len(ids) >= max_len:
        return f"its text alone has {len(ids)} tokens, and max_model_len is {max_len}"
    if len(prompt.images) > max_images:
        why = f"--limit-mm-per-prompt is {max_images}" if max_images else "the chat template has no place for any"
        return f"it has {len(prompt.images)} pictures, and {why}"
    return None


def never_drawn(policy: Any, renderer: Renderer) -> list[int]:
    """The tokens that no response may have: special ones, and rows of the embeddings behind the vocabulary."""
    rows = policy.get_input_embeddings().num_embeddings
    # The rows behind the vocabulary come last: they are the least likely, should there be too many.
    return [*renderer.banned_ids, *range(renderer.vocabulary_size, rows)][:_MOST_BANNED]


def equal_temperatures(request: Request) -> Iterator[tuple[float, list[tuple[int, Sample]]]]:
    """A request's samples by temperature, each with its place in the request: what one vLLM request can draw."""

    def temperature(item: tuple[int, Sample]) -> float:
        return item[1].temperature

    ordered: Iterable[tuple[int, Sample]] = sorted(enumerate(request.samples), key=temperature)
    for value, group in groupby(ordered, key=temperature):
        yield value, list(group)


class SampleSeeds(int):
    """The seed of a request for n samples: vLLM adds a sample's number to it, and gets the seed planned for that one.

    So a sample is the same whether it is drawn alone or with others.
    """

    planned: tuple[int, ...]

    def __new__(cls, samples: Sequence[Sample]) -> SampleSeeds:  # noqa: D102 - as the class says
        seeds = super().__new__(cls, samples[0].seed)
        seeds.planned = tuple(sample.seed for sample in samples)
        return seeds

    # What vLLM calls for the n-th sample.
    def __add__(self, number: int) -> int:
        return self.planned[number]

    def __deepcopy__(self, memo: dict[int, Any]) -> SampleSeeds:
        return self


def unwritten(request: Request, sample: Sample) -> Response:
    """What stands for a response that could not be written: empty and unfinished."""
    return Response(request.prompt.id, sample.index, request.prefix, 0, False, sample.temperature, 0.0)


def processor_options(processor: Any) -> dict[str, str]:
    """Has vLLM make the model's inputs with the library that the renderer's processor makes them with."""
    backend = getattr(getattr(processor, "image_processor", None), "backend", None)
    # One for videos exists for torchvision only, and a family that has it has the other for torchvision, too.
    return {} if backend is None or hasattr(processor, "video_processor") else {"backend": backend}


def picture_settings(processor: Any) -> dict[str, Any]:
    """What a processor makes of a picture (sizes, limits, parts, means), as it is in JSON."""
    images = getattr(processor, "image_processor", None)
    settings = {} if images is None else json.loads(json.dumps(images.to_dict(), default=str))
    return {name: value for name, value in settings.items() if name not in _NO_SETTINGS}


def find_other_setting(own: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The setting by which pictures are prepared otherwise; None if both prepare them alike.

    What one of them does not have at all is of another version of transformers.
    """
    different = (name for name in own if name in other and own[name] != other[name])
    return next((f"{name} is {other[name]} in place of {own[name]}" for name in different), None)


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
    logprobs = [float(step["logprob"]) for step in choice["logprobs"]["content"]]
    finished = choice["finish_reason"] == "stop"
    return request.fill(sample, renderer.decode, choice["token_ids"], finished, sum(logprobs), logprobs)


def read_logprobs(answer: Mapping[str, Any], tail: Sequence[int]) -> list[float]:
    """The log-probabilities of a prompt's last tokens, ``tail``, in an answer with ``prompt_logprobs``."""
    rows = answer["prompt_logprobs"][-len(tail) :]
    return [float(row[str(token)]["logprob"]) for row, token in zip(rows, tail, strict=True)]
