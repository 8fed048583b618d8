"""The shards of one iteration: what they depend on, whose folder it is, and earlier ones that can be used again.

A shard holds responses, verdicts, scores and a choice. Each depends on what is before it, and on facts of its own.
Where the choice alone is another one (other rule, reward or ``top_k``), what is before it is read, not made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from mstar.atomic import copy_file
from mstar.endpoint import Judged
from mstar.errors import DataError
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.quarantine import quarantine_shard
from mstar.provenance import find_change
from mstar.storage import PromptResponses, RunDirectory, find_in_runs, read_json, read_responses, write_json
from mstar.types import Prompt, ScoredResponse

_log = logging.getLogger(__name__)

# Of plan.json. The first one did not keep apart what each stage depends on.
_FORMAT: Final = 2
_LATER: Final = ("verdicts", "scores", "selection", "prompts")


def iteration_facts(
    generation: Mapping[str, Any],
    *,
    verdicts: Mapping[str, Any],
    scores: Mapping[str, Any] | None,
    selection: Mapping[str, Any],
    prompts: Sequence[str],
) -> dict[str, Any]:
    """What an iteration's shards depend on, stage by stage, in the form of its ``plan.json``.

    Args:
        generation: What responses depend on beside their prompts.
        scores: What scores depend on beside the responses and verdicts; None if nothing is scored.
        selection: What the choice depends on beside the scores.
    """
    stages = {"verdicts": verdicts, "scores": scores, "selection": selection, "prompts": list(prompts)}
    return {"format": _FORMAT, **generation, **stages}


@dataclass(frozen=True, slots=True)
class Earlier:
    """A shard that was made for another choice.

    Attributes:
        ahead: Whether it was drawn ahead, and neither graded nor scored yet.
    """

    path: Path
    verdicts: bool
    scores: bool
    ahead: bool = False

    @property
    def quarantine(self) -> Path:
        """The prompts of its shard that were put aside; there is no file if there are none."""
        return self.path.with_name(f"{self.path.stem.replace('responses', 'quarantine')}.jsonl")

    @property
    def judged(self) -> Path:
        """What a judge was asked about its shard; there is no file if that was nothing."""
        return self.path.with_name(f"{self.path.stem.replace('responses', 'judge')}.json")


def claim_iteration(run: RunDirectory, iteration: int, facts: Mapping[str, Any]) -> None:
    """Makes sure that what is in an iteration's folder belongs to it; anything else is moved aside, not deleted.

    Shards that depend on the same facts are those of an interrupted run and are used again. Folders of later
    iterations belong to an earlier run.
    """
    for index in (index for index in run.iterations if index >= iteration):
        change = "a later one" if index > iteration else _find_change(run.plan(index), facts)
        if change is not None:
            free = move_aside(run.iteration(index))
            if index == iteration:
                _log.warning("iteration %d: what is there is put aside as %s: made with %s", index, free.name, change)
    if not run.plan(iteration).exists():
        write_json(run.plan(iteration), facts)


def move_aside(folder: Path) -> Path:
    """Gives a folder a name of those that are put aside, and returns that."""
    free = next(path for n in count(1) if not (path := Path(f"{folder}.old-{n}")).exists())
    return folder.rename(free)


def _find_change(plan: Path, now: Mapping[str, Any]) -> str | None:
    if not plan.exists():
        return "nobody knows what"
    before = read_json(plan)
    change = find_change({**before, "prompts": None}, {**now, "prompts": None})
    return change or (None if before["prompts"] == now["prompts"] else "other prompts")


def warn_of_other_reward(run: RunDirectory, iteration: int, facts: Mapping[str, Any]) -> None:
    """Says so where the reward's weights are others than in the iteration before, and nothing in the run changed them.

    Its folder is the same: whoever trained the MPRM again between two starts may not know that a run scores with it.
    """
    before = run.plan(iteration - 1)
    with suppress(DataError):
        there = read_json(before) if before.exists() else {}
        old, new = ((plan.get("scores") or {}).get("weights") for plan in (there, facts))
        if old is not None and new is not None and old != new:
            _log.warning(
                "iteration %d: the reward model has other weights than in iteration %d", iteration, iteration - 1
            )


def find_earlier(
    run: RunDirectory, iteration: int, facts: Mapping[str, Any], reuse: str | Path | None = None
) -> dict[int, Earlier]:
    """Shards with the responses that an iteration would draw, by the number of its own shard.

    They are looked for in the iteration's folders that were put aside, and in the runs of ``reuse``.

    Args:
        iteration: The iteration, whose folder is claimed.
        reuse: The folder of another run, or one of several, up to two levels deep.
    """
    place = {key: number for number, key in enumerate(facts["prompts"])}
    found: dict[int, Earlier] = {}
    for plan in _plans(run, iteration, reuse):
        there = read_json(plan)
        # Tokens that were kept and are not needed do no harm; without those that are needed, responses are drawn again.
        ignored = {*_LATER, *(() if facts.get("keep_tokens") else ("keep_tokens",))}
        if any(there.get(name) != facts.get(name) for name in (there.keys() | facts.keys()) - ignored):
            continue
        verdicts = there["verdicts"] == facts["verdicts"]
        scores = verdicts and facts["scores"] is not None and there["scores"] == facts["scores"]
        for number, key in enumerate(there["prompts"]):
            path = plan.with_name(f"responses-{number:05d}.parquet")
            own = place.get(key)
            if own is None or not path.exists():
                continue
            before = found.get(own)
            if before is None or (before.verdicts, before.scores) < (verdicts, scores):
                found[own] = Earlier(path, verdicts, scores)
    return found


def _plans(run: RunDirectory, iteration: int, reuse: str | Path | None) -> Iterator[Path]:
    own = run.iteration(iteration)
    yield from sorted(own.parent.glob(f"{own.name}.old-*/plan.json"))
    for plan in find_in_runs(reuse, f"iterations/{own.name}*/plan.json"):
        if plan.parent.resolve() != own.resolve():
            yield plan


def read_shard(shard: Sequence[Prompt], counts: range, path: Path) -> list[PromptResponses]:
    """Reads a shard's responses with what is known of them, in the order of its prompts.

    Raises:
        DataError: it is damaged, or does not hold these.
    """
    by_prompt: dict[str, list[ScoredResponse]] = {prompt.id: [] for prompt in shard}
    for row in read_responses(path):
        by_prompt.setdefault(row.response.prompt_id, []).append(row)
    # A prompt without responses was put aside.
    if len(by_prompt) > len(shard) or {len(rows) for rows in by_prompt.values()} - {0, *counts}:
        raise DataError(f"{path} does not hold {counts.start} responses to each prompt of its shard.")
    return [PromptResponses(prompt, tuple(found)) for prompt in shard if (found := by_prompt[prompt.id])]


def read_earlier(
    shard: Sequence[Prompt], counts: range, earlier: Earlier, put_aside: Path
) -> list[PromptResponses] | None:
    """Reads an earlier shard.

    Returns:
        None if its file is damaged, or gone since it was found.
    """
    try:
        groups = read_shard(shard, counts, earlier.path)
    except DataError as error:
        # It is another run's, which puts it aside itself when it meets it.
        _log.warning("%s Its responses are drawn again.", error)
        return None
    if earlier.quarantine.exists():
        copy_file(earlier.quarantine, put_aside)
    return groups


def keep_judged(judged: Judged, path: Path, earlier: Earlier | None) -> None:
    """Writes what a judge was asked about one shard, or what it was when the verdicts were made that hold still."""
    if judged.asked:
        write_json(path, judged.as_dict())
    elif earlier is not None and earlier.verdicts and earlier.judged.exists():
        copy_file(earlier.judged, path)


def read_judged(run: RunDirectory, iteration: int, shards: int) -> Judged:
    """What a judge was asked about all shards of an iteration."""
    paths = (run.judged(iteration, number) for number in range(shards))
    return sum((Judged.from_dict(read_json(path)) for path in paths if path.exists()), Judged())


def sift_shard(shard: Sequence[Prompt], check: PromptCheck, put_aside: Path, total: int) -> list[Prompt]:
    """The prompts of a shard that can be shown to the policy; the others are written to a file.

    Here, and not when the data is loaded: it takes a look at every picture.
    """
    usable, bad = check.sift(shard)
    quarantine_shard(put_aside, bad, "prompts", total, check.max_bad_share, "data.max_bad_share")
    return usable
