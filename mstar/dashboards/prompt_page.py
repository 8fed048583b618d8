"""Some prompts of a source as one HTML page: what the model sees of each, and what a loss on its response is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from mstar.dashboards.page import render
from mstar.dashboards.sample_browser import embed_picture
from mstar.end_tokens import without_end_tokens
from mstar.errors import DataError
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.quarantine import RowError
from mstar.types import Prompt

if TYPE_CHECKING:
    from mstar.rendering import Renderer

# The placeholder of a picture stands for each of its tokens; more than these are counted.
_REPEATED: Final = 3


def render_prompt_page(
    title: str, lines: Iterable[tuple[str, str]], prompts: Sequence[Prompt], renderer: Renderer | None
) -> str:
    """A page of prompts, under what is known of their source; without a renderer their text alone is shown."""
    shown = [_show(prompt, renderer) for prompt in prompts]
    values = {"title": title, "lines": list(lines), "prompts": shown, "rendered": renderer is not None}
    return render("prompts.html", values)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A prompt as the page has it: ``parts`` are its text, each with whether the loss is over it."""

    id: str
    kind: str
    answer: str
    pictures: list[dict[str, Any]]
    parts: Sequence[tuple[bool, str]] = ()
    measures: str = ""
    error: str = ""


def _show(prompt: Prompt, renderer: Renderer | None) -> _Shown:
    answer = "none, or hidden" if prompt.answer is None else prompt.answer
    shown = _Shown(prompt.id, prompt.answer_type.value, answer, list(_pictures(prompt)))
    if renderer is None:
        more = f"\n\n{prompt.rationale}" if prompt.rationale else ""
        return replace(shown, parts=[(False, f"{prompt.conversation}{more}")])
    from mstar.rendering import IGNORE_INDEX  # with torch, which came with the renderer

    response = without_end_tokens(prompt.rationale or prompt.answer or "", renderer.end_texts)
    try:
        # A processor may refuse a strip of a picture with an error of its own.
        made = renderer.response_inputs([PromptCheck().open(prompt)], [response])
    except (DataError, RowError) as error:
        return replace(shown, error=str(error))
    ids, labels = made.inputs.ids_BT[0].tolist(), made.labels_BT[0].tolist()
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORE_INDEX)
    parts = [(learned, _decode(renderer, [token for token, _ in run])) for learned, run in runs]
    count = sum(label != IGNORE_INDEX for label in labels)
    return replace(shown, parts=parts, measures=f"{len(ids)} tokens, {count} of them in the loss")


def _pictures(prompt: Prompt) -> Iterator[dict[str, Any]]:
    for image in prompt.images:
        try:
            yield embed_picture(image.load(), image.uri)
        except DataError as error:
            yield {"error": str(error)}


def _decode(renderer: Renderer, ids: Sequence[int]) -> str:
    """The text of tokens, special ones too; of a token that repeats often, its number."""
    text, waiting = "", list[int]()
    for token, group in groupby(ids):
        count = len(list(group))
        if count <= _REPEATED:
            waiting += [token] * count
        else:
            text += renderer.tokenizer.decode(waiting) + renderer.tokenizer.decode([token]) + f"×{count}"
            waiting = []
    return text + str(renderer.tokenizer.decode(waiting))
