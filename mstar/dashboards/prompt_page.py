"""Some prompts of a source as one HTML page: what the model sees of each, and what a loss on its response is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def _show(prompt: Prompt, renderer: Renderer | None) -> dict[str, Any]:
    """A prompt as the page has it: ``parts`` are its text, each with whether the loss is over it."""
    shown: dict[str, Any] = {
        "id": prompt.id,
        "kind": prompt.answer_type.value,
        "answer": "none, or hidden" if prompt.answer is None else prompt.answer,
        "pictures": [embed_picture(image.load, image.uri) for image in prompt.images],
        "measures": "",
        "error": "",
    }
    if renderer is None:
        more = f"\n\n{prompt.rationale}" if prompt.rationale else ""
        return shown | {"parts": [(False, f"{prompt.conversation}{more}")]}
    from mstar.rendering import IGNORE_INDEX  # with torch, which came with the renderer

    response = without_end_tokens(prompt.rationale or prompt.answer or "", renderer.end_texts)
    try:
        # A processor may refuse a strip of a picture with an error of its own.
        made = renderer.response_inputs([PromptCheck().open(prompt)], [response])
    except (DataError, RowError) as error:
        return shown | {"error": str(error)}
    ids, labels = made.inputs.ids_BT[0].tolist(), made.labels_BT[0].tolist()
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORE_INDEX)
    parts = [(learned, _decode(renderer, [token for token, _ in run])) for learned, run in runs]
    count = sum(label != IGNORE_INDEX for label in labels)
    return shown | {"parts": parts, "measures": f"{len(ids)} tokens, {count} of them in the loss"}


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
