"""``python -m mstar memory``: what a configuration takes, before anything is loaded."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it exports lazily

from mstar.annotation import annotate_policy
from mstar.cli.lightning_cli import MstarCLI
from mstar.cli.option_names import given_options
from mstar.cli.parsing import Parser
from mstar.datamodules import PolicyDataModule, StepLabelDataModule
from mstar.errors import ConfigError, MstarError
from mstar.memory.account import as_json, render
from mstar.memory.advice import find_remedies
from mstar.memory.configuration import read_plan
from mstar.memory.plan import Plan
from mstar.memory.run_account import Given, account_of
from mstar.models.backbone import load_renderer
from mstar.rendering import Renderer
from mstar.storage import write_json
from mstar.types import Prompt

_ROWS: Final = 32
_DESCRIPTION: Final = """\
What a run takes: weights, gradients, optimizer states, activations, the MPRM, the engine and its caches, by stage and
GPU; main memory of a machine, and disk. From the configuration of fit, annotate or a benchmark and the model's
config.json: no weights are loaded.

Give the configuration as the command would get it, files and overrides alike:

  python -m mstar memory --config configs/evolve/mathv360k_continuous.yaml --config configs/evolve/qwen2_5_vl_7b.yaml \\
    --config configs/overlays/fsdp2.yaml --shape benchmarks/shapes/qwen2_5_vl_7b --gpu_memory_gb 80

The figures are estimates. Certain are those of weights, gradients and optimizer states; activations and caches
depend on how long prompts and responses are, which is counted on some rows where the data is there, and else assumed
(the last lines say what was).
"""


def _options() -> ArgumentParser:
    parser = ArgumentParser(
        "mstar memory", description=_DESCRIPTION, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="All other options are those of fit (or of annotate, for a configuration of annotate).",
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--gpu_memory_gb", type=float, metavar="GB", help="memory of one GPU in GiB; by default that of the present one"
    )
    add("--shape", metavar="DIR", help="folder with the config.json of the policy's shape, where model_name is one "
        "that an earlier stage has yet to write; benchmarks/shapes has some")  # fmt: skip
    add("--prompt_tokens", type=int, metavar="N", help="longest prompt, the tokens of its pictures included")
    add("--response_tokens", type=int, metavar="N", help="longest response that is trained on or scored")
    add("--rows", type=int, default=_ROWS, metavar="N",
        help="prompts of the data to count tokens on, if it is there; 0 for none (default: %(default)s)")  # fmt: skip
    add("--command", choices=("fit", "test"), default="fit",
        help="the command that the configuration is for; one of annotate is known by its keys")  # fmt: skip
    add("--json", metavar="FILE", type=os.path.expanduser, help="write the account there, too, in bytes")
    return parser


def show_memory(arguments: Sequence[str]) -> int:
    """Prints the account of a configuration.

    Returns:
        The exit status: 1 if the run certainly does not fit, or its engine cannot start.

    Raises:
        ConfigError: there is no configuration, or a model's is not found.
    """
    own, rest = _options().parse_known_args(list(arguments))
    if not rest:
        raise ConfigError("there is no configuration: give --config FILE, as to fit or annotate.")
    keys = {name for name, _ in given_options(rest)}
    config = (_parse_annotation if "policy" in keys and "model" not in keys else _parse_fit)(rest)
    plan = read_plan(config, evaluate=own.command == "test")
    given = Given(
        shape=own.shape,
        gpu_bytes=None if own.gpu_memory_gb is None else int(own.gpu_memory_gb * 2**30),
        prompt_tokens=own.prompt_tokens,
        response_tokens=own.response_tokens,
    )
    account_for = partial(account_of, given=given)
    if own.rows > 0 and plan.kind in {"policy", "mprm"}:
        renderer = _renderer(plan)
        rows, total = ([], 0) if renderer is None else _rows(config, own.rows)
        if rows:
            account_for = partial(account_for, renderer=renderer, rows=rows, total=total)
    account = account_for(plan)
    sys.stdout.write(render(account))
    fits = account.capacity is None or account.peak.total <= account.capacity
    if not fits:
        for remedy in find_remedies(plan, account_for) or ("nothing that was tried: take a smaller model",):
            sys.stdout.write(f"- it would fit with {remedy}\n")
    if own.json is not None:
        write_json(Path(own.json), as_json(account))
    certain = account.capacity is not None and account.surest.certain > account.capacity
    return 1 if certain or account.fault is not None else 0


class _ParsedOnly(MstarCLI):
    """Parses a configuration as ``fit`` does, and makes nothing of it."""

    def instantiate_classes(self) -> None:
        """Makes nothing."""

    def after_instantiate_classes(self) -> None:
        """Has nothing to check."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def _parse_fit(arguments: Sequence[str]) -> Mapping[str, Any]:
    config: Mapping[str, Any] = _ParsedOnly(["fit", *arguments]).config["fit"].as_dict()
    return config


def _parse_annotation(arguments: Sequence[str]) -> Mapping[str, Any]:
    parser = Parser(prog="mstar annotate")
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_function_arguments(annotate_policy, as_group=False, sub_configs=True)
    config: Mapping[str, Any] = parser.parse_args(list(arguments)).as_dict()
    return config


def _renderer(plan: Plan) -> Renderer | None:
    try:
        return load_renderer(plan.model_name, trust_remote_code=plan.trust_remote_code, revision=plan.revision)
    except MstarError:
        # Without a processor lengths are assumed, which the account says.
        return None


def _rows(config: Mapping[str, Any], count: int) -> tuple[list[tuple[Prompt, str | None]], int]:
    """Some rows of the data, and how many it has; none where it is not there."""
    parser = Parser()
    parser.add_argument("--data", type=PolicyDataModule | StepLabelDataModule)
    try:
        made = parser.instantiate(parser.parse_object({"data": config.get("data")}))
        data: PolicyDataModule | StepLabelDataModule = made.data
        return data.sample(count)
    except (MstarError, ValueError, OSError, SystemExit):
        return [], 0
