"""From a parsed configuration to its account, its remedies and what a fit says of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from mstar.errors import ConfigError, MstarError
from mstar.memory.account import Account, summary, verdict
from mstar.memory.advice import find_remedies
from mstar.memory.configuration import read_plan
from mstar.memory.estimate import estimate
from mstar.memory.lengths import assume_lengths, count_lengths
from mstar.memory.plan import Plan
from mstar.memory.process import machine_bytes, resident_bytes
from mstar.memory.run import Run
from mstar.memory.shape import ModelShape, Training, read_config, shape_of
from mstar.rendering import Renderer
from mstar.types import Prompt

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What a user says beside the configuration.

    Attributes:
        shape: Folder or ``config.json`` of the policy's shape, where ``model_name`` is not there yet.
    """

    shape: str | None = None
    gpu_bytes: int | None = None
    prompt_tokens: int | None = None
    response_tokens: int | None = None


def account_of(
    plan: Plan,
    given: Given = Given(),
    *,
    renderer: Renderer | None = None,
    rows: Sequence[tuple[Prompt, str | None]] = (),
    total: int | None = None,
) -> Account:
    """The account of a plan.

    Args:
        renderer: The model's, to count tokens with.
        rows: Some prompts, with a response where the data has one; without any, lengths are assumed.
        total: Rows of the training data, where that is known.
    """
    shape = _shape(given.shape or plan.model_name, plan.trust_remote_code, plan.revision, plan.training)
    # What only scores has no policy beside it.
    reward = _reward_shape(plan, given) if plan.reward is None else shape
    if rows and renderer is not None and given.prompt_tokens is None and given.response_tokens is None:
        lengths = count_lengths(plan, shape, renderer, rows)
    else:
        lengths = assume_lengths(plan, shape, given.prompt_tokens, given.response_tokens)
    return estimate(Run(plan, shape, lengths, *_place(plan, given), total), reward)


@cache
def _shape(name: str, trust_remote_code: bool, revision: str | None, training: Training) -> ModelShape:
    if not name:
        raise ConfigError(
            "the configuration does not say which model it is about: name the folder of one of like dimensions by "
            "--shape."
        )
    path = Path(name)
    folder = str(path.parent) if path.name == "config.json" else name
    return shape_of(read_config(folder, trust_remote_code, revision), training)


def _reward_shape(plan: Plan, given: Given) -> ModelShape | None:
    reward = None if plan.rollout is None else plan.rollout.reward
    if reward is None:
        return None
    if reward.name == "MPRM" and not (Path(reward.model) / "config.json").is_file():
        # An MPRM begins as the policy's copy.
        return _shape(given.shape or plan.model_name, plan.trust_remote_code, plan.revision, Training())
    return _shape(reward.model, plan.trust_remote_code, reward.revision, Training())


def _place(plan: Plan, given: Given) -> tuple[bool, int | None, int, int]:
    """Whether it runs on GPUs, the memory of each, how many there are on a machine, and what a process has already."""
    here = torch.cuda.is_available()
    named = plan.accelerator in {"gpu", "cuda"} or given.gpu_bytes is not None
    if plan.accelerator != "cpu" and (named or (plan.accelerator == "auto" and here)):
        size = given.gpu_bytes or (int(torch.cuda.mem_get_info()[1]) if here else None)
        return True, size, plan.devices or (torch.cuda.device_count() if here else 1), 0
    local = plan.devices or 1
    return False, machine_bytes() // local, local, resident_bytes()


def warn_before_start(
    config: Mapping[str, Any],
    renderer: Renderer | None,
    rows: Sequence[tuple[Prompt, str | None]],
    total: int | None,
    *,
    tells: bool = True,
) -> None:
    """Says at the beginning of a fit with this parsed configuration what it takes, on one process, which ``tells``.

    The rest is as for ``account_of``.

    Raises:
        ConfigError: weights, gradients and states alone take more than there is.
    """
    account_for = partial(account_of, renderer=renderer, rows=rows, total=total)
    try:
        plan = read_plan(config)
        account = account_for(plan)
    except (MstarError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        # An estimate is no reason for a run not to begin: a model may have a configuration that is read here wrongly.
        _log.debug("no account of memory: %s", error)
        return
    if tells:
        _log.info(summary(account))
    if account.fault is not None and tells:
        _log.warning("%s.", account.fault)
    if account.capacity is None or account.peak.total <= 0.9 * account.capacity:
        return
    remedies = find_remedies(plan, account_for)
    advice = f" It would fit with {'; or '.join(remedies)}." if remedies else ""
    if account.surest.certain > account.capacity:
        raise ConfigError(f"this run cannot fit: {verdict(account)}{advice}")
    if tells:
        _log.warning("memory may be short: %s%s", verdict(account), advice)
