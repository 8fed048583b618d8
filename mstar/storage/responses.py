"""Response shards: every response to some prompts, scored, one row each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mstar.storage.tables import ASKED, asked, open_table, read_table, write_table
from mstar.types import Example, Fate, Prompt, Response, ScoredResponse, Verdict, VerdictStatus

_RESPONSES: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        *ASKED,
        ("sample_index", pa.int32()),
        ("response", pa.string()),
        ("num_tokens", pa.int32()),
        ("finished", pa.bool_()),
        ("temperature", pa.float64()),
        ("logprob", pa.float64()),
        ("predicted", pa.string()),
        ("correct", pa.bool_()),
        ("status", pa.string()),
        ("step_scores", pa.list_(pa.float64())),
        ("process_reward", pa.float64()),
        ("chain_correct", pa.bool_()),
        ("fate", pa.string()),
    ]
)
# What a grader reads of the prompt beside its question and answer, as ``grade`` and ``score`` take it.
GOLD: Final = pa.schema(
    [
        ("answer_type", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("answer_is", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("tolerance", pa.struct([("relative", pa.float64()), ("absolute", pa.float64())])),
        ("precision", pa.int32()),
        ("unit", pa.string()),
    ]
)
_KEPT: Final = pa.schema([("prompt_id", pa.string()), ("response", pa.string()), ("fate", pa.string())])
# Only in files of runs that use them, and weights where one may be other than 1. Log-probabilities are computed in 32
# bits.
TOKENS: Final = pa.schema([("tokens", pa.list_(pa.int32())), ("logprobs", pa.list_(pa.float32()))])
WEIGHT: Final = pa.schema([("weight", pa.float64())])
CREDIT: Final = pa.schema([*WEIGHT, ("advantage", pa.float64())])
# Only in files of runs that may have such prompts.
VOTED: Final = pa.schema([("voted", pa.bool_())])
# Only in files that votes are counted from.
VOTE: Final = pa.schema([("vote", pa.string())])


@dataclass(frozen=True, slots=True)
class PromptResponses:
    """A prompt with its scored responses: the unit of a responses shard.

    Attributes:
        voted: Whether the prompt's answer is what its responses agreed on, and no gold answer.
    """

    prompt: Prompt
    responses: tuple[ScoredResponse, ...]
    voted: bool = False


def write_responses(
    path: Path,
    groups: Sequence[PromptResponses],
    made_by: Mapping[str, str] | None = None,
    always: Collection[str] = (),
) -> None:
    """Writes one responses shard, one row a response.

    Args:
        made_by: What every row says of where it comes from, by the name of the column; for files that stand alone.
        always: Columns of ``TOKENS``, ``CREDIT``, ``VOTED`` and ``VOTE`` that stand there even where this shard needs
            none: a data set of shards has the same columns in each.
    """
    scored_responses = [scored for group in groups for scored in group.responses]
    needed = set(always)
    if any(s.response.tokens for s in scored_responses):
        needed |= {*TOKENS.names}
    if any(s.advantage is not None for s in scored_responses):
        needed |= {*CREDIT.names}
    elif any(s.weight != 1 for s in scored_responses):
        needed |= {*WEIGHT.names}
    if any(group.voted for group in groups):
        needed |= {*VOTED.names}
    extra = [
        *(field for field in (*TOKENS, *CREDIT, *VOTED, *VOTE) if field.name in needed),
        *((name, pa.string()) for name in made_by or ()),
    ]
    prompts = [
        {"prompt_id": group.prompt.id, "voted": group.voted} | asked(group.prompt) | gold(group.prompt)
        for group in groups
    ]
    rows = [
        {
            **prompt,
            "sample_index": scored.response.sample_index,
            "response": scored.response.text,
            "num_tokens": scored.response.num_tokens,
            "finished": scored.response.finished,
            "temperature": scored.response.temperature,
            "logprob": scored.response.logprob,
            "predicted": scored.verdict.predicted,
            "correct": scored.verdict.correct,
            "vote": scored.verdict.vote,
            "status": scored.verdict.status.value,
            "step_scores": list(scored.step_scores),
            "process_reward": scored.process_reward,
            "chain_correct": scored.chain_correct,
            "fate": scored.fate.value if scored.fate else None,
            "tokens": scored.response.tokens,
            "logprobs": scored.response.logprobs,
            "weight": scored.weight,
            "advantage": scored.advantage,
        }
        | dict(made_by or {})
        for prompt, group in zip(prompts, groups, strict=True)
        for scored in group.responses
    ]
    write_table(path, rows, pa.schema([*_RESPONSES, *GOLD, *extra]))


def gold(prompt: Prompt) -> dict[str, Any]:
    """A prompt's row of the columns ``GOLD``."""
    return {
        "answer_type": prompt.answer_type.value,
        "answers": list(prompt.answers),
        "answer_is": prompt.answer_is.value if prompt.answer_is else None,
        "choices": list(prompt.choices),
        "tolerance": asdict(prompt.tolerance) if prompt.tolerance else None,
        "precision": prompt.precision,
        "unit": prompt.unit,
    }


def read_responses(path: Path, prompt_ids: Sequence[str] | None = None) -> list[ScoredResponse]:
    """Reads one responses shard.

    Args:
        prompt_ids: Reads the responses to these prompts alone, without their tokens; None reads all.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return [
        ScoredResponse(
            response=Response(
                prompt_id=row["prompt_id"],
                sample_index=row["sample_index"],
                text=row["response"],
                num_tokens=row["num_tokens"],
                finished=row["finished"],
                temperature=row["temperature"],
                logprob=row["logprob"],
                tokens=tuple(row.get("tokens") or ()),
                logprobs=tuple(row.get("logprobs") or ()),
            ),
            verdict=Verdict(row["correct"], row["predicted"], VerdictStatus(row["status"])),
            step_scores=tuple(row["step_scores"]),
            process_reward=row["process_reward"],
            chain_correct=row["chain_correct"],
            fate=Fate(row["fate"]) if row["fate"] else None,
            weight=row.get("weight", 1.0),
            advantage=row.get("advantage"),
        )
        for row in read_table(
            path, _RESPONSES, [*(TOKENS.names if prompt_ids is None else ()), *CREDIT.names], prompt_ids
        )
    ]


def read_kept(path: Path) -> pa.Table:
    """Reads the responses of one shard that were kept for training, sorted by prompt and response.

    Returns:
        Rows of ``prompt_id``, ``response``, and the file's columns of ``CREDIT`` and ``TOKENS`` as far as they count.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    with open_table(path, _KEPT) as file:
        table = file.read([*_KEPT.names, *credit_columns(file)])
    kept = table.filter(pc.equal(table["fate"], Fate.KEPT.value)).drop_columns(["fate"])
    # Stable, and by code points, as Python sorts.
    return kept.sort_by([("prompt_id", "ascending"), ("response", "ascending")])


def credit_columns(file: pq.ParquetFile) -> list[str]:
    """The columns of a file that say more of an example than its text; none where all texts are imitated alike."""
    names = file.schema_arrow.names
    # Without an advantage, tokens are those that another method asked for.
    wanted = [*CREDIT.names, *TOKENS.names] if "advantage" in names else WEIGHT.names
    return [name for name in wanted if name in names]


def make_example(row: Mapping[str, Any]) -> Example:
    """The example of a row, which may have the columns of ``CREDIT`` and ``TOKENS``."""
    return Example(
        row["prompt_id"],
        row["response"],
        row.get("weight", 1.0),
        row.get("advantage"),
        tuple(row.get("tokens") or ()),
        tuple(row.get("logprobs") or ()),
    )
