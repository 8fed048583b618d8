"""Scoring responses that are there already, shard by shard: what ``python -m mstar score`` does."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from PIL import Image

from mstar.atomic import write_text
from mstar.chat_template import prompt_messages
from mstar.distributed import takes_part
from mstar.errors import DataError
from mstar.evaluation.votes import read_votes
from mstar.grading import Grader, grade_response
from mstar.interruption import stop_if_asked
from mstar.prompts.field_values import read_images
from mstar.prompts.images import PixelLimits, decode_image, open_image
from mstar.prompts.quarantine import RowError
from mstar.prompts.response_rows import read_response_rows, to_prompt
from mstar.provenance import fingerprint
from mstar.rewards import Reward, add_process_rewards
from mstar.storage import PromptResponses, read_or_put_aside, read_responses, write_responses
from mstar.storage.responses import VOTE
from mstar.types import ImageReference, Prompt, Response, ScoredResponse, Verdict, VerdictStatus

# Finds a picture by its name and, where they are known, the id and the question of the prompt that shows it.
OpenPicture: TypeAlias = Callable[[str, str | None, str | None], Image.Image]
_log: Final = logging.getLogger(__name__)
# Rows that are read, scored and written as one; a prompt's responses stay together unless they are more than as many.
SHARD: Final = 512
# What stands for the id of a prompt that has none.
_NO_ID: Final = (None, "")
# What they may be, beside None, and what that is called.
_FIELDS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    **dict.fromkeys(("sample_index", "num_tokens", "temperature", "logprob"), ((int, float), "a number")),
    "prompt_id": ((str, int, float), "a text or a number"),
    "predicted": ((str,), "a text"),
    "chain_correct": ((bool,), "true or false"),
}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture by the name that a run, or the user's file, has for it; or one that stands in its row.

    Attributes:
        uri: A path, or the name of a picture in a data set, of a generated one, or of one in a row.
    """

    uri: str
    open_picture: Callable[[str], Image.Image]
    limits: PixelLimits

    def load(self) -> Image.Image:
        """The picture."""
        return self.limits.apply(self.open_picture(self.uri))


def read_shards(path: str, size: int = SHARD) -> Iterator[list[tuple[int, dict[str, Any] | str]]]:
    """The rows of a file or folder by shards, one in memory at a time; prompts that stand together stay together.

    Args:
        path: As for ``read_response_rows``.
        size: Rows in a shard, at least; at most twice as many.
    """
    shard: list[tuple[int, dict[str, Any] | str]] = []
    asked: dict[str, int] = {}
    for number, row in read_response_rows(path, answered=False):
        if not isinstance(row, str) and (known := row.get("prompt_id")) not in _NO_ID:
            own = hash((row.get("question"), str(_golds(row))))
            if asked.setdefault(str(known), own) != own:
                row = f"'prompt_id' is {known!r}, as of an earlier row with another question or answer."
        if len(shard) >= size and (len(shard) == 2 * size or _key(row) != _key(shard[-1][1])):
            yield shard
            shard = []
        shard.append((number, row))
    if shard:
        yield shard


def _key(row: Mapping[str, Any] | str) -> object:
    """What tells whose response a row is."""
    if isinstance(row, str):
        return row
    if row.get("prompt_id") not in _NO_ID:
        return row["prompt_id"]
    return (row.get("question"), str(row.get("images") or row.get("image")), str(_golds(row)))


def _golds(row: Mapping[str, Any]) -> list[object]:
    """What is right: questions are often the same words about other pictures, which a row need not name."""
    return [row.get("answer"), row.get("answers") or None]


def _open_file(uri: str, *_: str | None) -> Image.Image:
    return open_image(uri)


def make_groups(
    rows: Sequence[tuple[int, dict[str, Any] | str]],
    grader: Grader,
    open_picture: OpenPicture = _open_file,
    limits: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    *,
    look: bool = True,
    lacks: Callable[[Response], str | None] = lambda _: None,
) -> tuple[list[PromptResponses], list[str]]:
    """The prompts of a shard's rows with their responses, graded.

    A row's own verdict is taken, if it has one: it may be another grader's. What was voted on (``voted``) has neither
    verdict nor gold answer. Rows without a ``prompt_id`` are of one prompt where question, pictures and answer are the
    same, and those without a ``sample_index`` are counted by their number.

    Args:
        grader: Grades those with a gold answer and without a verdict.
        look: Whether every picture is decoded once, and its mark looked for, so that the rows of those that cannot be
            shown are left out.
        lacks: What a response lacks, as for ``Reward.lacks``; its row is left out, too.

    Returns:
        The groups, and what is wrong with the rows that were left out, one sentence each.
    """
    prompts: dict[object, Prompt] = {}
    found: dict[object, list[tuple[Response, ScoredResponse | None]]] = {}
    faults: list[str] = []
    for number, row in rows:
        fault = row if isinstance(row, str) else _find_fault(row)
        if isinstance(row, str) or fault is not None:
            faults.append(f"row {number}: {fault}")
            continue
        key = _key(row)
        if key not in prompts:
            known = row.get("prompt_id")
            try:
                images = _images(row, open_picture, limits)
                names = [image.uri for image in images]
                own = fingerprint(row.get("question") or "", tuple(names), *_golds(row)) if known in _NO_ID else known
                prompt = to_prompt(row, str(own), images)
                if look:
                    prompt_messages(prompt)
                    for image in images:
                        image.load()
            except (RowError, DataError) as error:
                faults.append(f"row {number}: {error}")
                continue
            prompts[key] = prompt
        response = _response(prompts[key], row, number)
        if (missing := lacks(response)) is not None:
            faults.append(f"row {number}: {missing}")
            continue
        found.setdefault(key, []).append((response, _known(response, row)))
    grader.prepare([(prompts[key], r.text) for key, drawn in found.items() for r, known in drawn if known is None])
    groups = [PromptResponses(prompts[key], _grade_voters(prompts[key], drawn, grader)) for key, drawn in found.items()]
    return groups, faults


def _grade_voters(
    prompt: Prompt, drawn: Sequence[tuple[Response, ScoredResponse | None]], grader: Grader
) -> tuple[ScoredResponse, ...]:
    """A prompt's responses with verdicts and votes; those that have a verdict are there as they are known."""
    voters = read_votes(prompt, [known or grade_response(prompt, r, grader) for r, known in drawn], grader)
    # Where this grader reads no answer, the one that gave the row's verdict may have.
    return tuple(
        replace(voter, verdict=known.verdict) if known is not None and not voter.verdict.vote else voter
        for voter, (_, known) in zip(voters, drawn, strict=True)
    )


def _find_fault(row: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields that a response has in a run's files, and that ``grade`` does not look at."""
    for name, (kinds, expected) in _FIELDS.items():
        value = row.get(name)
        if value is not None and type(value) not in kinds:
            return f"'{name}' is {value!r}, but it is {expected}."
    try:
        for value in row.values():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    text.encode()
    except UnicodeEncodeError as error:
        # Half a surrogate pair, which JSON can hold, can be written nowhere.
        return f"the text is no valid Unicode: {error}."
    return None


def _images(row: Mapping[str, Any], open_picture: OpenPicture, limits: PixelLimits) -> tuple[ImageReference, ...]:
    pictures: list[ImageReference] = []
    known = row.get("prompt_id")

    def find(uri: str) -> Image.Image:
        return open_picture(uri, None if known in _NO_ID else str(known), row.get("question") or None)

    for place, value in enumerate(read_images(row, ("images",) if row.get("images") else ("image",))):
        if isinstance(value, bytes):
            # By its content: another row with it, in whatever shard, is of the same prompt.
            name = hashlib.blake2b(value, digest_size=12).hexdigest()
            pictures.append(StoredImage(f"{name}#{place}", partial(decode_image, value), limits))
        else:
            pictures.append(StoredImage(value, find, limits))
    return tuple(pictures)


def _response(prompt: Prompt, row: Mapping[str, Any], number: int) -> Response:
    def read(name: str, default: float) -> float:
        return default if row.get(name) is None else float(row[name])

    return Response(
        prompt.id, int(read("sample_index", number)), row["response"], int(read("num_tokens", 0)),
        row.get("finished") is not False, read("temperature", math.nan), read("logprob", math.nan),
    )  # fmt: skip


def _known(response: Response, row: Mapping[str, Any]) -> ScoredResponse | None:
    """The response with its row's own verdict, if it has one; a vote's says nothing of what is right."""
    status = row.get("status")
    if not isinstance(row.get("correct"), bool) or status not in list(VerdictStatus) or row.get("voted") is True:
        return None
    vote = row.get("vote") if isinstance(row.get("vote"), str) else None
    verdict = Verdict(row["correct"], row.get("predicted"), VerdictStatus(status), vote)
    return ScoredResponse(response, verdict, chain_correct=row.get("chain_correct"))


def score_shards(
    path: str,
    output: Path,
    reward: Reward,
    grader: Grader,
    *,
    size: int = SHARD,
    open_picture: OpenPicture = _open_file,
    limits: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
) -> list[Path]:
    """Scores responses; shards that exist are not made again. Several processes share the shards out.

    What is not said here is as for ``read_shards`` and ``make_groups``.

    Args:
        output: The folder of the shards (``scores-00000.parquet``, ..., in the form of a run's responses). Rows that
            were left out are beside them (``faults-00000.txt``).

    Returns:
        The shards' files, in order.
    """
    paths = []
    for shard, rows in enumerate(read_shards(path, size)):
        stop_if_asked()
        paths.append(output / f"scores-{shard:05d}.parquet")
        if not takes_part(shard) or read_or_put_aside(paths[-1], read_responses) is not None:
            continue
        groups, faults = make_groups(rows, grader, open_picture, limits, look=False, lacks=reward.lacks)
        try:
            scored = add_process_rewards(groups, reward)
        except DataError:
            # Pictures are looked at before they are scored only where one cannot be shown: then its rows are left out.
            groups, faults = make_groups(rows, grader, open_picture, limits, lacks=reward.lacks)
            scored = add_process_rewards(groups, reward)
        left_out = output / f"faults-{shard:05d}.txt"
        # Those of a call that ended before the shard was written: its pictures may be readable by now.
        left_out.unlink(missing_ok=True)
        if faults:
            write_text(left_out, "\n".join(faults) + "\n")
            _log.warning("%s, %s (%d rows of this shard are left out)", path, faults[0], len(faults))
        write_responses(paths[-1], scored, always=VOTE.names)
    return paths
