"""The commands: LightningCLI with a top-level ``rollout`` key, and the tools beside it."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from argparse import HelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it exports lazily
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from mstar.callbacks import ExportCallback, IterationCheckpoint, PredictionsCallback, RolloutCallback
from mstar.commands import annotate_policy, check_leakage, export_checkpoint, grade_file, write_run_report
from mstar.datamodules import PolicyDataModule, StepLabelDataModule
from mstar.errors import ConfigError, MstarError
from mstar.models.backbone import load_renderer
from mstar.modules import MPRMModule, PolicyModule

__all__ = ["MstarCLI", "run"]

_TOOLS: Final[dict[str, Callable[..., object]]] = {
    "annotate": annotate_policy,
    "grade": grade_file,
    "export": export_checkpoint,
    "leakage": check_leakage,
    "report": write_run_report,
}
_DOCUMENTED: Final = (RolloutCallback, PolicyModule, MPRMModule, PolicyDataModule, StepLabelDataModule)


class _Parser(LightningArgumentParser):
    """Reports a mistake in one line, and shows in --help what the classes behind the keys take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would let a typo such as --trainer.max_epoch pass, or change its meaning with a new option.
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong, without the usage of some hundred options, and exits with status 2."""
        sys.stderr.write(f"mstar: error: {_condense(message)}\n")
        raise SystemExit(2)

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The options, then the arguments of the classes that ``rollout``, ``model`` and ``data`` take."""
        text = str(super().format_help(formatter))
        if "--rollout" not in text:
            return text
        sections = [f"{cls.__module__}.{cls.__name__}:\n{inspect.getdoc(cls)}" for cls in _DOCUMENTED]
        return "\n\n".join([text.rstrip(), *sections]) + "\n"


def _condense(message: str) -> str:
    """The lines of a jsonargparse message that name the key and what is wrong with it."""
    return " ".join(_complaints(message))


def _complaints(message: str) -> list[str]:
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>", "tip:")
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    return [line for line in lines if line and not line.startswith(noise)]


def _find_mistake(error: ValueError) -> MstarError | None:
    """The user's mistake, if it was one, behind what jsonargparse raises when a class refuses its arguments."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MstarError):
            return cause
        cause = cause.__cause__
    if not str(error).startswith("Does not validate"):
        return None
    # Of several alternatives only the first is chained, so the others are known by their words alone.
    return ConfigError(" ".join(line for line in _complaints(str(error)) if not line.startswith("Expected a")))


class MstarCLI(LightningCLI):
    """LightningCLI with the ``rollout`` key, checkpoints and export in the run's folder, and TensorBoard logs."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=_Parser,
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},
            args=list(arguments),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``rollout``; without it, ``fit`` is plain supervised training."""
        parser.add_argument(
            "--rollout", type=RolloutCallback | None, default=None, help="Self-evolving training; see below."
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the rollout, checkpoint and export callbacks and the logger that the configuration leaves open."""
        configured = self._get(self.config_init, "trainer")
        given = configured.get("callbacks") or []
        extra: list[Callback] = []
        rollout = self._get(self.config_init, "rollout", default=None)
        if rollout is not None:
            extra.append(rollout)
        callbacks = [*extra, *(given if isinstance(given, list) else [given])]
        for default in (ExportCallback, PredictionsCallback):
            if not any(isinstance(callback, default) for callback in callbacks):
                callbacks.append(default())
        if configured.get("enable_checkpointing") is not False and not any(
            isinstance(callback, ModelCheckpoint) for callback in callbacks
        ):
            callbacks.append(IterationCheckpoint())
        if configured.get("enable_progress_bar") is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            # The bars of generation and scoring are tqdm's too, and so is that of an MPRM that is retrained within the
            # run; Lightning's other bar cannot be nested.
            callbacks.append(TQDMProgressBar())
        configured["callbacks"] = callbacks
        if configured.get("logger") in (None, True):
            configured["logger"] = TensorBoardLogger(configured.get("default_root_dir") or ".", name="tensorboard")
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error

    def after_instantiate_classes(self) -> None:
        """Finds what is missing or does not fit together, before anything is written."""
        checkpoint = self._get(self.config_init, "ckpt_path", default=None)
        if checkpoint not in (None, "last", "best", "hpc") and not Path(checkpoint).exists():
            raise ConfigError(f"ckpt_path '{checkpoint}' does not exist: give a checkpoint's file, or 'last'.")
        if isinstance(self.model, PolicyModule | MPRMModule):
            load_renderer(self.model.model_name)
        rollout = self._get(self.config_init, "rollout", default=None)
        if rollout is not None and self.subcommand == "fit":
            rollout.check(self.trainer, self.model, self.datamodule)


def _run_tool(name: str, arguments: Sequence[str]) -> int:
    summary = (inspect.getdoc(_TOOLS[name]) or "").partition("\n\n")[0]
    parser = _Parser(prog=f"mstar {name}", description=summary)
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file with the options below.")
    parser.add_function_arguments(_TOOLS[name], as_group=False)
    config = parser.parse_args(list(arguments))
    config.pop("config", None)
    result = _TOOLS[name](**parser.instantiate_classes(config).as_dict())
    # A tool that returns a number has done its work, but not on all of its input.
    return result if isinstance(result, int) else 0


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: The command and its options.

    Returns:
        The exit status.
    """
    if not arguments[0].startswith("-") and arguments[0] not in {*_TOOLS, *MstarCLI.subcommands()}:
        commands = ", ".join([*MstarCLI.subcommands(), *_TOOLS])
        raise ConfigError(f"there is no such command; choose one of {commands}.")
    _quieten()
    try:
        if arguments[0] in _TOOLS:
            return _run_tool(arguments[0], arguments[1:])
        MstarCLI(arguments)
    except ValueError as error:
        mistake = _find_mistake(error)
        if mistake is None:
            raise
        raise mistake from error
    return 0


def _quieten() -> None:
    """Silences advice that does not apply: it would bury what a user needs to read."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Transformers compares every saved config with its class's defaults, which it finds invalid itself.
    logging.getLogger("transformers.configuration_utils").addFilter(
        lambda record: "pad_token_id must be" not in record.getMessage()
    )
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()
    )
    for message in (
        ".*LightningCLI's args parameter.*",
        ".*does not have many workers.*",
        ".*number of training batches.*is smaller than the logging interval.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*Total length of `.*` across ranks is zero.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=message)
