"""The prompts behind a run's files: its files lack earlier turns and pictures, its prompt sources have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mstar.dashboards.run_config import SavedConfig, read_configs, settings_of
from mstar.dashboards.run_sources import open_sources
from mstar.errors import ConfigError, DataError, MstarError
from mstar.prompts import PromptSource
from mstar.prompts.hidden import hide_answers
from mstar.prompts.sources import PartName
from mstar.types import Prompt

_GIVE: Final = "give the run's prompts with --prompts"


class RunPrompts:
    """Finds prompts by the ids that a run's files have for them.

    Args:
        sources: Where the run took them from; a prompt is that of the first source that has it as the run's file does.
        hidden: Those of them whose answers the run does not look at.
    """

    def __init__(self, sources: Sequence[PromptSource], hidden: Sequence[PromptSource] = ()) -> None:
        self._sources = sources
        self._hidden = hidden

    def find(self, row: Mapping[str, Any]) -> Prompt:
        """The prompt of a row.

        Args:
            row: A row with ``prompt_id`` and, as far as it is written down, ``question`` and ``images``.

        Raises:
            DataError: no source has it, or only another one of that id.
        """
        other = False
        for source in self._sources:
            if (index := source.index_of(row["prompt_id"])) is None:
                continue
            prompt = source[index]
            uris = [image.uri for image in prompt.images]
            if row.get("question") in (None, prompt.question) and row.get("images") in (None, uris):
                return hide_answers(prompt) if source in self._hidden else prompt
            other = True
        why = "is another one by now than when the run asked it" if other else "is in no prompt source of the run"
        raise DataError(f"the prompt '{row['prompt_id']}' {why}: mend the data, or {_GIVE}.")


def rollout_prompts(folder: Path) -> RunPrompts:
    """The prompts that a self-evolving run takes its rollouts from: of its labelled and unlabelled data.

    Answers that the run does not look at (``rollout.unlabelled``) are left out.

    Raises:
        ConfigError: its configuration is not there, or names none that can be opened.
    """
    config = _find_config(folder, "rollout")
    data = settings_of(config.values.get("data"))
    labelled = _open(config, data.get("train"), data.get("sources"), "train")
    unlabelled = _open(config, data.get("unlabelled"), data.get("sources"), "unlabelled")
    hidden = () if settings_of(config.values["rollout"]).get("unlabelled") == "oracle" else unlabelled
    # Sources are opened without their size: what is hidden must not be found among the labelled prompts.
    return RunPrompts(_require([*unlabelled, *labelled], config), hidden)


def refresh_prompts(folder: Path) -> RunPrompts:
    """The prompts that a run labelled to train its MPRM again."""
    config = _find_config(folder, "rollout")
    refresh = settings_of(settings_of(config.values.get("rollout")).get("refresh_reward_model"))
    return RunPrompts(_require(_open(config, refresh.get("prompts")), config))


def label_prompts(folder: Path) -> RunPrompts:
    """The prompts that an annotation labelled."""
    config = _find_config(folder, "policy")
    found = _open(config, config.values.get("prompts"), config.values.get("sources"), "annotation")
    return RunPrompts(_require(found, config))


def _find_config(folder: Path, key: str) -> SavedConfig:
    configs = [config for config in read_configs(folder) if config.values.get(key) is not None]
    if not configs:
        raise ConfigError(
            f"{folder} has no config.yaml that names the prompts of its rows, which its files have without pictures "
            f"and earlier turns: {_GIVE}."
        )
    return configs[0]


def _open(config: SavedConfig, own: Any, sources: Any = None, part: PartName = "train") -> list[PromptSource]:
    """A prompt source by its settings, or without any that part of a data set."""
    settings = sources if own is None else own
    if not isinstance(settings, dict) or not settings:
        return []
    try:
        return open_sources(settings, config, [part])
    except MstarError as error:
        raise ConfigError(f"{str(error).rstrip('.')}: mend that, or {_GIVE}.") from error


def _require(found: list[PromptSource], config: SavedConfig) -> list[PromptSource]:
    if not found:
        raise ConfigError(f"{config.folder / 'config.yaml'} names no prompts that can be opened: {_GIVE}.")
    return found
