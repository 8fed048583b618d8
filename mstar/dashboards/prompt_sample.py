"""The prompts of a run that its report shows, with their responses in some of its iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mstar.dashboards.sample_browser import show_prompt, show_responses
from mstar.evaluation.prompt_survey import spread
from mstar.storage import ASKED, RunDirectory, read_responses
from mstar.storage.responses import VOTED
from mstar.storage.tables import open_table, read_table
from mstar.types import ScoredResponse

_ID: Final = pa.schema([("prompt_id", pa.string())])
_ASKED: Final = pa.schema([*_ID, *ASKED])
# In so many iterations a prompt is shown at most: a page of 30 would have 34 MB.
_ITERATIONS: Final = 8


@dataclass(frozen=True, slots=True)
class PromptSample:
    """Some prompts of a run.

    Attributes:
        prompts: The chosen prompts (``show_prompt``), once for every iteration that they are shown in, in the
            iterations' order.
    """

    prompts: tuple[dict[str, Any], ...] = ()
    num_prompts: int = 0
    num_responses: int = 0

    @property
    def num_shown(self) -> int:
        """How many prompts were chosen."""
        return len({prompt["id"] for prompt in self.prompts})


@dataclass(frozen=True, slots=True)
class _Shard:
    iteration: int
    path: Path
    num_rows: int
    ids: Sequence[str]


def sample_prompts(run: RunDirectory, count: int) -> PromptSample:
    """Chooses ``count`` evenly spaced prompts, or all where there are fewer, and of each some of its iterations."""
    shards = [_index_shard(number, path) for number in run.iterations for path in run.response_shards(number)]
    ids = list(dict.fromkeys(prompt_id for shard in shards for prompt_id in shard.ids))
    sampled_in: dict[str, list[int]] = {ids[place]: [] for place in spread(len(ids), count)}
    for shard in shards:
        for prompt_id in shard.ids:
            if prompt_id in sampled_in:
                sampled_in[prompt_id].append(shard.iteration)
    shown = {prompt_id: _first_last_and_between(numbers) for prompt_id, numbers in sampled_in.items()}
    prompts: list[dict[str, Any]] = []
    for shard in shards:
        chosen = [prompt_id for prompt_id in shard.ids if shard.iteration in shown.get(prompt_id, ())]
        if chosen:
            prompts += _read_prompts(shard, chosen)
    return PromptSample(tuple(prompts), len(ids), sum(shard.num_rows for shard in shards))


def _first_last_and_between(numbers: Sequence[int]) -> set[int]:
    last = len(numbers) - 1
    return {numbers[round(place * last / (_ITERATIONS - 1))] for place in range(_ITERATIONS)}


def _index_shard(iteration: int, path: Path) -> _Shard:
    with open_table(path, _ID) as file:
        column = file.read(_ID.names)["prompt_id"]
    return _Shard(iteration, path, len(column), column.unique().to_pylist())


def _read_prompts(shard: _Shard, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    rows = {row["prompt_id"]: row for row in read_table(shard.path, _ASKED, VOTED.names, ids)}
    responses: dict[str, list[ScoredResponse]] = {prompt_id: [] for prompt_id in ids}
    for scored in read_responses(shard.path, ids):
        responses[scored.response.prompt_id].append(scored)
    for prompt_id in ids:
        yield show_prompt(rows[prompt_id], show_responses(responses[prompt_id]), shard.iteration)
