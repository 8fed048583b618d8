"""``python -m mstar prompts``: what a prompt source holds, before anything is trained on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from mstar.atomic import write_text
from mstar.dashboards.prompt_page import render_prompt_page
from mstar.errors import ConfigError, counted, require_least
from mstar.evaluation.prompt_survey import (
    count_lengths,
    describe_facts,
    describe_lengths,
    describe_survey,
    spread,
    survey_prompts,
)
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.facts import UnusableSourceError
from mstar.prompts.sources import PartName

_OWN_DATA: Final = "mstar.prompts.RecordPrompts"


def name_source(arguments: Sequence[str]) -> list[str]:
    """A command line with the class of the prompts in it, where it names files or a path alone.

    Args:
        arguments: For instance ``data.jsonl --prompts.image_root images``.
    """
    files = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    options = list(arguments[len(files) :])
    if files:
        options = ["--prompts.path", files[0] if len(files) == 1 else json.dumps(files), *options]
    names = {option.partition("=")[0] for option in options}
    if "--prompts.path" in names and not names & {"--prompts", "--config"}:
        options = ["--prompts", _OWN_DATA, *options]
    return options


def show_prompts(
    prompts: Callable[[], PromptSource] | None = None,
    model_name: str | None = None,
    html: str | None = None,
    rows: int = 8,
    num_counted: int = 200,
    trust_remote_code: bool = False,
    revision: str | None = None,
    sources: DataSources | None = None,
    part: PartName | None = None,
) -> None:
    """Shows what a file (``mstar prompts data.jsonl``) or another source holds, before anything is trained on it.

    Which columns are read and why, how many prompts have which type of answer and how many pictures, gold answers that
    cannot be graded, token lengths, and the rows that were put aside, with the first one of each reason.

    Args:
        prompts: The prompts, by the class of their source, e.g. ``mstar.prompts.RecordPrompts``, which is meant where
            the command line names files (``mstar prompts data.jsonl``) or ``--prompts.path`` alone.
        model_name: Hugging Face folder or id of the model that is to read them, for lengths and the page; its weights
            are not loaded. None leaves out what needs a model.
        html: A page to write with some of the prompts: text, pictures, gold answer, and what a loss is over.
        rows: Prompts on the page, spread over the data.
        num_counted: Prompts whose tokens are counted, spread over the data.
        trust_remote_code: Run Python code that comes with the model; read it first.
        revision: Commit, tag or branch of a model id; with trust_remote_code it must be a commit.
        sources: In place of ``prompts``, a data set and its parts, most often a file
            (``--sources configs/data/mathv360k.yaml``).
        part: Which part of ``sources``; none is ``train``.

    Raises:
        ConfigError: there are no prompts, or two kinds of them; a part is named without ``sources``; a number is below
            1; or the model's processor cannot be loaded.
        DataError: the data cannot be read, or too many of its rows cannot be used; what is known is shown first.
    """
    require_least("", rows=rows, num_counted=num_counted)
    if prompts is None and sources is None:
        raise ConfigError("there are no prompts to show: name a file of questions, or set prompts or sources.")
    if prompts is not None and sources is not None:
        raise ConfigError("prompts (or files) and sources are both given: leave out one, or set it to null.")
    if part is not None and sources is None:
        raise ConfigError(f"part is '{part}', but only sources have parts: give the file of them as --sources.")
    renderer = None
    if model_name is not None:
        from mstar.models.backbone import load_renderer  # with torch, which takes seconds

        renderer = load_renderer(model_name, trust_remote_code=trust_remote_code, revision=revision)
    try:
        source = prompts() if prompts is not None else sources.require(part or "train", "sources")  # type: ignore[union-attr]
    except UnusableSourceError as error:
        _write(describe_facts(error.facts))
        raise
    facts = source.facts()
    lines = list(describe_survey(survey_prompts(source)))
    if renderer is not None:
        lines += describe_lengths(count_lengths(source, renderer, num_counted), facts)
    if facts is not None:
        lines += describe_facts(facts)
    for member in source.members() if facts is None else ():
        # Of a mixture, each of its sources.
        if member is not source and (known := member.facts()) is not None:
            lines += [("source", f"{counted(len(member), 'prompt')} of {member.title}"), *describe_facts(known)]
    _write(lines)
    if html is not None:
        chosen = [source[index] for index in spread(len(source), rows)]
        page = render_prompt_page(source.title, lines, chosen, renderer)
        write_text(Path(html), page)
        sys.stdout.write(f"{html}\n")


def _write(lines: Iterable[tuple[str, str]]) -> None:
    for name, text in lines:
        sys.stdout.write(f"{name:<10} {text}\n")
