"""Prompts with the rationales that the data has for them; those that cannot be imitated are put aside at the start."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from torch.utils.data import Dataset

from mstar.distributed import rank, world_size
from mstar.end_tokens import without_end_tokens
from mstar.errors import DataError
from mstar.prompts import PromptSource
from mstar.prompts.base import Mixing
from mstar.prompts.prompt_check import describe
from mstar.prompts.quarantine import QuarantineFile, Reason, RowError
from mstar.types import Example, Prompt

_log: Final = logging.getLogger(__name__)
# Rows between two looks at whether too many are bad.
_CHUNK: Final = 4096
_HANDFUL: Final = 64


class Rationales(Dataset[tuple[Prompt, Example]]):
    """Prompts with their rationale.

    The text of an end token at a rationale's end is cut: it would be learned as text, beside the end token itself.

    Args:
        end_tokens: Texts of the model's own end tokens.
        quarantine: Where the rows are put that have no rationale, or an end token in the middle of it.
        thought: What opens the thought that the answer's turn begins with; empty where it begins with none.

    Raises:
        DataError: no prompt has a rationale, or too few have one.
    """

    def __init__(
        self, source: PromptSource, end_tokens: Sequence[str], quarantine: QuarantineFile, thought: str = ""
    ) -> None:
        self.source = source
        self.end_tokens = tuple(end_tokens)
        bad: dict[int, RowError] = dict(self._faults())
        if len(bad) == len(source) and all(fault.reason is Reason.NO_RATIONALE for fault in bad.values()):
            raise DataError(
                f"prompt '{source[0].id}' (row 0) has no rationale to imitate: train on data with rationales (none of "
                f"these {len(source)} has one), or let the policy write its own responses with a 'rollout' section."
            )
        # Each process says what is in its share.
        mine = [row for row in bad if row % world_size() == rank()]
        for start in range(0, len(mine), _CHUNK):
            quarantine.add([describe(source[row], bad[row], row) for row in mine[start : start + _CHUNK]])
        self.rows = np.delete(np.arange(len(source)), list(bad))
        if not len(self.rows):
            raise DataError(f"{quarantine.name}: none of the {len(source)} rows can be used; see {quarantine.path}.")
        if thought and rank() == 0:
            self._warn_of_open_thoughts(thought.strip())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Prompt, Example]:
        prompt = self.source[int(self.rows[index])]
        return prompt, Example(prompt.id, without_end_tokens(prompt.rationale or "", self.end_tokens))

    def mixing(self) -> Mixing | None:
        """By which weights the rows that are left are drawn; None for all alike."""
        mixing = self.source.mixing()
        return None if mixing is None else mixing.select(self.rows)

    def _warn_of_open_thoughts(self, opening: str) -> None:
        closing = f"{opening[0]}/{opening[1:]}"
        texts = [self.source[int(row)].rationale or "" for row in self.rows[:: len(self.rows) // _HANDFUL + 1]]
        num_open = sum(closing not in text for text in texts)
        if num_open > len(texts) / 2:
            _log.warning(
                "the chat template begins an answer with '%s', and %d of %d rationales have no '%s': the policy would "
                "learn to end its turn within a thought; begin the template with {%%- set enable_thinking = false %%}, "
                "if it reads that, or take one that opens no thought",
                *(opening, num_open, len(texts), closing),
            )

    def _faults(self) -> Iterator[tuple[int, RowError]]:
        for row, prompt in enumerate(self.source):
            text = without_end_tokens(prompt.rationale or "", self.end_tokens)
            if not text.strip():
                yield row, RowError(Reason.NO_RATIONALE, "it has no rationale to imitate")
            elif (token := next((token for token in self.end_tokens if token in text), None)) is not None:
                yield row, RowError(Reason.BAD_TEXT, f"its rationale goes on behind the end token '{token}'")
