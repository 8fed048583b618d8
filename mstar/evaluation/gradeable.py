"""Whether responses to prompts can be graded; found out before anything is drawn."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from mstar.distributed import is_main
from mstar.errors import DataError
from mstar.grading import Grader
from mstar.prompts import PromptSource
from mstar.prompts.part import find_repetition
from mstar.types import Prompt

_log: Final = logging.getLogger(__name__)
# Ids that a warning names.
_NAMED: Final = 10


def check_prompts(source: PromptSource | Sequence[Prompt], name: str, grader: Grader) -> None:
    """Makes sure that every prompt can be sampled and graded; no picture is loaded for it.

    Gold answers that cannot be graded are counted on the terminal, by category: no response to them is ever right.

    Raises:
        DataError: there are none, one has no answer, two have the same id, or most gold answers cannot be graded.
    """
    if len(source) == 0:
        raise DataError(f"{name} has no prompts, so there is nothing to sample; mend its settings.")
    # The id and the category of each.
    bad: list[tuple[str, str]] = []

    def check(index: int, prompt: Prompt) -> str:
        if prompt.answer is None:
            otherwise = "move it to data.unlabelled" if name == "data.train" else "choose other prompts"
            if name == "data.unlabelled":
                otherwise = "have the responses vote (rollout.unlabelled: voting); hide_answers hides all of a source"
            raise DataError(
                f"{name}: prompt '{prompt.id}' (row {index}) has no answer, so its responses cannot be graded; give it "
                f"one, leave it out, or {otherwise}."
            )
        if not grader.is_gradeable(prompt):
            bad.append((prompt.id, prompt.category or "all"))
        return prompt.id

    repeated = find_repetition(check(index, prompt) for index, prompt in enumerate(source))
    if repeated is not None:
        raise DataError(
            f"{name}: row {repeated} repeats the prompt id '{source[repeated].id}', but an id must be unique."
        )
    categories = Counter(category for _, category in bad)
    counts = ", ".join(f"{category} {number}" for category, number in sorted(categories.items()))
    if 2 * len(bad) > len(source):
        raise DataError(
            f"{name}: {len(bad)} of {len(source)} gold answers cannot be graded ({counts}), so that hardly "
            "any response could be right; mend the columns of the answer, its type and the choices."
        )
    if bad and is_main():
        _log.warning(
            "%s: %d of %d gold answers cannot be graded (%s), those of %s%s; no response to these prompts is right.",
            *(name, len(bad), len(source), counts),
            *(", ".join(prompt_id for prompt_id, _ in bad[:_NAMED]), " and others" * (len(bad) > _NAMED)),
        )
