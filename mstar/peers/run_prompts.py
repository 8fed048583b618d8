"""The prompts behind a run's files: its files lack earlier turns and pictures, its prompt sources have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mstar.dashboards.run_config import SavedConfig, read_configs
from mstar.dashboards.run_sources import open_parts, open_settings
from mstar.errors import ConfigError, DataError, MstarError
from mstar.prompts import DataSources, PromptSource
from mstar.types import Prompt

__all__ = ["RunPrompts", "label_prompts", "refresh_prompts", "rollout_prompts"]

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
            try:
                prompt = source[source.index_of(row["prompt_id"])]
            except DataError:
                continue
            if row.get("question") in (None, prompt.question) and _same_pictures(row.get("images"), prompt):
                return replace(prompt, answer=None, answers=()) if source in self._hidden else prompt
            other = True
        why = "is another one by now than when the run asked it" if other else "is in no prompt source of the run"
        raise DataError(f"the prompt '{row['prompt_id']}' {why}: mend the data, or {_GIVE}.")


def _same_pictures(names: list[str] | None, prompt: Prompt) -> bool:
    return names is None or names == [image.uri for image in prompt.images]


def rollout_prompts(folder: Path) -> RunPrompts:
    """The prompts that a self-evolving run takes its rollouts from: of its labelled and unlabelled data.

    Answers that the run does not look at (``rollout.unlabelled``) are left out.

    Args:
        folder: The folder with its ``iterations``.

    Raises:
        ConfigError: its configuration is not there, or names none that can be opened.
    """
    config = _find_config(folder, "rollout")
    data = _settings(config.values.get("data"))
    found: dict[str, list[PromptSource]] = {}
    for name in ("train", "unlabelled"):
        if data.get(name) is not None:
            found[name] = _open(data[name], config, ())
        else:
            found[name] = _open(data.get("sources"), config, (name,))
    hidden = () if _settings(config.values["rollout"]).get("unlabelled") == "oracle" else found["unlabelled"]
    return RunPrompts(_require([*found["train"], *found["unlabelled"]], config), hidden)


def refresh_prompts(folder: Path) -> RunPrompts:
    """The prompts that a run labelled to train its MPRM again.

    Raises:
        ConfigError: as for ``rollout_prompts``.
    """
    config = _find_config(folder, "rollout")
    refresh = _settings(_settings(config.values.get("rollout")).get("refresh_reward_model"))
    prompts = refresh.get("prompts")
    return RunPrompts(_require(_open(prompts, config, ()), config))


def label_prompts(folder: Path) -> RunPrompts:
    """The prompts that an annotation labelled.

    Raises:
        ConfigError: as for ``rollout_prompts``.
    """
    config = _find_config(folder, "policy")
    if config.values.get("prompts") is not None:
        return RunPrompts(_require(_open(config.values["prompts"], config, ()), config))
    return RunPrompts(_require(_open(config.values.get("sources"), config, ("annotation",)), config))


def _find_config(folder: Path, key: str) -> SavedConfig:
    configs = [config for config in read_configs(folder) if config.values.get(key) is not None]
    if not configs:
        raise ConfigError(
            f"{folder} has no config.yaml that names the prompts of its rows, which its files have without pictures "
            f"and earlier turns: {_GIVE}."
        )
    return configs[0]


def _settings(value: Any) -> dict[str, Any]:
    """The arguments of a class in a configuration, whether or not it names the class."""
    if not isinstance(value, dict):
        return {}
    inner = value.get("init_args", value)
    return inner if isinstance(inner, dict) else {}


def _open(settings: Any, config: SavedConfig, parts: Sequence[str]) -> list[PromptSource]:
    if not isinstance(settings, dict) or not settings:
        return []
    try:
        made = open_settings(settings, config)
        return open_parts(made, parts) if isinstance(made, DataSources) else [made]
    except MstarError as error:
        raise ConfigError(f"{str(error).rstrip('.')}: mend that, or {_GIVE}.") from error


def _require(found: list[PromptSource], config: SavedConfig) -> list[PromptSource]:
    if not found:
        raise ConfigError(f"{config.folder / 'config.yaml'} names no prompts that can be opened: {_GIVE}.")
    return found
