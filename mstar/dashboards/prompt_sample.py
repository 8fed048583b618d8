"""The prompts of a run that its report shows, with all their responses in every iteration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mstar.storage import ASKED, RunDirectory, read_responses
from mstar.storage.responses import VOTED
from mstar.storage.tables import read_table
from mstar.types import ScoredResponse

_ASKED: Final = pa.schema([("prompt_id", pa.string()), *ASKED])
_CATEGORY: Final = pa.schema([("prompt_id", pa.string()), ("category", pa.string())])


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPrompt:
    """What was asked, as the files of a run say it; of a prompt that they say nothing of, the id alone is known.

    Attributes:
        voted: Whether the answer is what the prompt's responses agreed on, and no gold answer.
    """

    id: str
    question: str
    image_uris: tuple[str, ...]
    answer: str | None
    voted: bool = False
    category: str


def asked(prompt_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an ``AskedPrompt`` from a row of a file."""
    return {
        "id": prompt_id,
        "question": row.get("question") or "",
        "image_uris": tuple(row.get("images") or ()),
        "answer": row.get("answer"),
        "voted": bool(row.get("voted")),
        "category": row.get("category") or "",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledPrompt(AskedPrompt):
    """One prompt in one iteration, with every response to it."""

    iteration: int
    responses: tuple[ScoredResponse, ...]


@dataclass(frozen=True, slots=True)
class PromptSample:
    """Some prompts of a run.

    Attributes:
        prompts: The chosen prompts, once for every iteration that they were sampled in, in the iterations' order.
    """

    prompts: tuple[SampledPrompt, ...] = ()
    num_prompts: int = 0
    num_responses: int = 0

    @property
    def num_shown(self) -> int:
        """How many prompts were chosen."""
        return len({prompt.id for prompt in self.prompts})


@dataclass(frozen=True, slots=True)
class _Shard:
    iteration: int
    path: Path
    num_rows: int
    categories: Mapping[str, str]


def sample_prompts(run: RunDirectory, count: int) -> PromptSample:
    """Chooses ``count`` prompts evenly over the iterations and their categories, or all where there are fewer."""
    shards = [_index_shard(number, path) for number in run.iterations for path in run.response_shards(number)]
    # A prompt that is sampled in several iterations counts for the first, and is shown in all of them.
    by_iteration: dict[int, dict[str, str]] = {}
    seen: set[str] = set()
    for shard in shards:
        new = {prompt_id: category for prompt_id, category in shard.categories.items() if prompt_id not in seen}
        by_iteration.setdefault(shard.iteration, {}).update(new)
        seen |= new.keys()
    groups = list(by_iteration.values())
    shares = _even_shares([len(group) for group in groups], count)
    chosen = {id for group, share in zip(groups, shares, strict=True) for id in spread(group, share)}
    return PromptSample(
        tuple(prompt for shard in shards for prompt in _read_prompts(shard, chosen)),
        len(seen),
        sum(shard.num_rows for shard in shards),
    )


def spread(categories: Mapping[str, str], count: int) -> set[str]:
    """Chooses so many prompts, or all, by their categories: these in turn, and evenly over the prompts of each."""
    by_category: dict[str, list[str]] = {}
    for prompt_id, category in categories.items():
        by_category.setdefault(category, []).append(prompt_id)
    share = -(-count // max(1, len(by_category)))
    taken = [[ids[i * len(ids) // share] for i in range(share)][: len(ids)] for ids in by_category.values()]
    in_turn = dict.fromkeys(prompt_id for prompt_id in chain(*zip_longest(*taken)) if prompt_id is not None)
    # Small categories leave room, which any other prompt fills.
    return set(list({**in_turn, **dict.fromkeys(categories)})[:count])


def _even_shares(sizes: Sequence[int], count: int) -> list[int]:
    """Splits ``count`` evenly; what one group has too few of is taken from the others."""
    shares, left = [0] * len(sizes), count
    for done, index in enumerate(sorted(range(len(sizes)), key=lambda index: sizes[index])):
        shares[index] = min(sizes[index], left // (len(sizes) - done))
        left -= shares[index]
    return shares


def _index_shard(iteration: int, path: Path) -> _Shard:
    rows = read_table(path, _CATEGORY)
    return _Shard(iteration, path, len(rows), {row["prompt_id"]: row["category"] or "" for row in rows})


def _read_prompts(shard: _Shard, chosen: set[str]) -> Iterator[SampledPrompt]:
    ids = [prompt_id for prompt_id in shard.categories if prompt_id in chosen]
    if not ids:
        return
    prompts = {row["prompt_id"]: row for row in read_table(shard.path, _ASKED, VOTED.names)}
    responses: dict[str, list[ScoredResponse]] = {prompt_id: [] for prompt_id in ids}
    for scored in read_responses(shard.path):
        if scored.response.prompt_id in responses:
            responses[scored.response.prompt_id].append(scored)
    for prompt_id in ids:
        yield SampledPrompt(
            **asked(prompt_id, prompts[prompt_id]),
            iteration=shard.iteration,
            responses=tuple(responses[prompt_id]),
        )
