"""Some prompts of a source as one HTML page: what the model sees of each, and what a loss on its response is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from mstar.dashboards.markup import escape
from mstar.dashboards.page import wrap_page
from mstar.dashboards.sample_browser import embed_picture
from mstar.end_tokens import without_end_tokens
from mstar.errors import DataError
from mstar.types import Prompt

if TYPE_CHECKING:
    from mstar.rendering import Renderer

__all__ = ["render_prompt_page"]

# The placeholder of a picture stands for each of its tokens; more than these are counted.
_REPEATED: Final = 3


def render_prompt_page(
    title: str, lines: Iterable[tuple[str, str]], prompts: Sequence[Prompt], renderer: Renderer | None
) -> str:
    """The page as a string.

    Args:
        title: What the source is called.
        lines: What is known of it, as names and texts.
        prompts: The prompts to show.
        renderer: How the model reads them; None shows their text alone.
    """
    facts = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in lines)
    shown = "".join(_prompt(prompt, renderer) for prompt in prompts)
    how = "Name a model (model_name) to see them as it does."
    if renderer is not None:
        how = (
            'As the model sees them; <span class="learned">coloured</span> is what the loss is over. Where the data '
            "has no rationale, the gold answer stands in for a response."
        )
    main = (
        f'<section id="facts"><h2>Data</h2><table class="text">{facts}</table></section>'
        f'<section id="prompts"><h2>Prompts</h2><p class="lead">{how}</p>{shown}</section>'
    )
    return wrap_page(title, label="M-STaR prompts", kind="prompts", main=main)


def _prompt(prompt: Prompt, renderer: Renderer | None) -> str:
    answer = "none, or hidden" if prompt.answer is None else prompt.answer
    facts = f"{escape(prompt.id)} · {escape(prompt.answer_type.value)} · gold answer <b>{escape(answer)}</b>"
    pictures = "".join(_pictures(prompt))
    return (
        f'<article class="prompt"><div class="pictures">{pictures}</div><div><p class="facts">{facts}</p>'
        f"{_text(prompt, renderer)}</div></article>"
    )


def _pictures(prompt: Prompt) -> Iterator[str]:
    for image in prompt.images:
        try:
            picture = embed_picture(image.load(), image.uri)
        except DataError as error:
            yield f"<p>{escape(error)}</p>"
        else:
            small = ' class="small"' if picture["small"] else ""
            yield f'<img{small} src="{picture["source"]}" alt="{escape(image.uri)}">'


def _text(prompt: Prompt, renderer: Renderer | None) -> str:
    if renderer is None:
        more = f"\n\n{escape(prompt.rationale)}" if prompt.rationale else ""
        said = "".join(f"{escape(turn.role)}: {escape(turn.text)}\n\n" for turn in prompt.turns)
        return f'<pre class="tokens">{said}{escape(prompt.question)}{more}</pre>'
    from mstar.rendering import IGNORE_INDEX  # with torch, which came with the renderer

    response = without_end_tokens(prompt.rationale or prompt.answer or "", renderer.end_texts)
    try:
        made = renderer.response_inputs([prompt], [response])
    except DataError as error:
        return f'<p class="missing">{escape(error)}</p>'
    ids, labels = made.inputs.ids_BT[0].tolist(), made.labels_BT[0].tolist()
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORE_INDEX)
    parts = [(learned, escape(_decode(renderer, [token for token, _ in run]))) for learned, run in runs]
    text = "".join(f'<span class="learned">{part}</span>' if learned else part for learned, part in parts)
    count = sum(label != IGNORE_INDEX for label in labels)
    return f'<pre class="tokens">{text}</pre><p class="measures">{len(ids)} tokens, {count} of them in the loss</p>'


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
