"""Responses to a benchmark that are on disk already: an interrupted run goes on after them.

    <root>/<benchmark>-responses/<key>/plan.json            what the responses depend on
    <root>/<benchmark>-responses/<key>/responses-*.parquet  the responses to some prompts each

The key follows from what the responses depend on, so that other weights or settings never meet them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mstar.generation import derive_seed
from mstar.provenance import fingerprint
from mstar.storage import PromptResponses, read_responses, write_json, write_responses
from mstar.types import Response


class ResponseShards:
    """The responses that one policy wrote with one group of settings.

    Raises:
        DataError: a file of an earlier run is damaged.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder / fingerprint(facts)
        found: dict[str, list[Response]] = defaultdict(list)
        for path in sorted(self.folder.glob("responses-*.parquet")):
            own: dict[str, list[Response]] = defaultdict(list)
            for scored in read_responses(path):
                own[scored.response.prompt_id].append(scored.response)
            found |= own
        self._found: Mapping[str, list[Response]] = found
        self._facts = dict(facts)

    def __len__(self) -> int:
        """Prompts with responses of an earlier run."""
        return len(self._found)

    def find(self, prompt_id: str) -> list[Response] | None:
        """The responses of an earlier run to a prompt, or None."""
        return self._found.get(prompt_id)

    def add(self, groups: Sequence[PromptResponses]) -> None:
        """Writes the responses to some prompts, all or none of them."""
        if groups:
            if not (plan := self.folder / "plan.json").exists():
                write_json(plan, self._facts)
            name = f"responses-{derive_seed(*(group.prompt.id for group in groups)):016x}.parquet"
            write_responses(self.folder / name, groups)
