"""LightningCLI with ``rollout`` and ``benchmark`` at the top level, and a run's callbacks and loggers filled in."""

from __future__ import annotations

import inspect
import logging
from argparse import HelpFormatter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from mstar.callbacks import BenchmarkCallback, ExportCallback, IterationCheckpoint, PredictionsCallback, RolloutCallback
from mstar.callbacks.checkpoint import check_checkpoint_path, checkpoint_folder, find_checkpoint
from mstar.callbacks.config_check import check_same_run
from mstar.callbacks.finite_steps import FiniteSteps
from mstar.callbacks.progress_bar import TrainingBar
from mstar.callbacks.run_record import RunRecord, find_finished
from mstar.callbacks.signals import StopOnSignal, end_with_the_first, end_with_the_others
from mstar.callbacks.trainer_check import choose_accelerator, require_training
from mstar.cli.config_files import warn_of_copy
from mstar.cli.parsing import Parser
from mstar.datamodules import BenchmarkDataModule, PolicyDataModule, StepLabelDataModule
from mstar.errors import ConfigError, MstarError
from mstar.evaluation.prompt_survey import summarise
from mstar.interruption import stop_if_asked
from mstar.locking import hold_run
from mstar.logs import level_lightning
from mstar.memory.run_account import warn_before_start
from mstar.models.backbone import load_renderer
from mstar.models.lora import LoraSettings
from mstar.models.precision import allow_tensor_cores, choose_precision
from mstar.models.step_scorer import refuse_step_scorer
from mstar.modules import MPRMModule, PolicyModule
from mstar.modules.trainable import check_trainable
from mstar.prompts import PromptSource
from mstar.rendering import Renderer
from mstar.trainer.fit_end import count_by_epochs
from mstar.trainer.scratch import make_scratch_folder

_log = logging.getLogger(__name__)

# Rows of the data that tokens are counted on at the beginning of a fit.
_SAMPLED: Final = 8
# Sources of prompts that a command sums up.
_MOST_SOURCES: Final = 5
# Classes whose arguments the help shows.
_DOCUMENTED: Final = (
    RolloutCallback, PolicyModule, MPRMModule, LoraSettings, PolicyDataModule, StepLabelDataModule, BenchmarkCallback
)  # fmt: skip
# What a command calls of the model and of the data.
_STEPS: Final = (
    ("fit", "training_step", "train_dataloader"),
    ("validate", "validation_step", "val_dataloader"),
    ("test", "test_step", "test_dataloader"),
    ("predict", "predict_step", "predict_dataloader"),
)


class _FitParser(Parser, LightningArgumentParser):
    """The parser of ``fit`` and its like."""

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The options, then the arguments of the classes that ``rollout``, ``model`` and ``data`` take."""
        text = str(super().format_help(formatter))
        if "--rollout" not in text:
            return text
        sections = [f"{cls.__module__}.{cls.__name__}:\n{inspect.getdoc(cls)}" for cls in _DOCUMENTED]
        return "\n\n".join([text.rstrip(), *sections]) + "\n"


class MstarCLI(LightningCLI):
    """LightningCLI with the ``rollout`` key, checkpoints and export in the run's folder, and TensorBoard logs."""

    def __init__(self, arguments: Sequence[str]) -> None:
        level_lightning()
        commands = self.subcommands()
        if arguments[0] in commands:
            # Lightning would make the parsers of all commands, some hundred options each, to use one.
            asked = {arguments[0]: commands[arguments[0]]}
            self.subcommands = lambda: asked  # type: ignore[method-assign]
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=_FitParser,
            load_from_checkpoint_support=False,
            save_config_callback=RunRecord,
            save_config_kwargs={"save_to_log_dir": False},
            args=list(arguments),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``rollout``, without which ``fit`` is plain supervised training, and ``benchmark`` for ``test``."""
        parser.add_argument(
            "--rollout", type=RolloutCallback | None, default=None, help="Self-evolving training; see below."
        )
        parser.add_argument(
            "--benchmark", type=BenchmarkCallback | None, default=None, help="How test scores a benchmark; see below."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, and refuses a seed that PyTorch and NumPy do not take.

        Raises:
            ConfigError: the seed is out of bounds.
        """
        super().parse_arguments(parser, args)
        command = self.config.get("subcommand")
        seed = self.config.get(command, self.config).get("seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything is {seed}; choose a seed from 0 to {2**32 - 1}.")

    def _parse_ckpt_path(self) -> None:
        """Settings are the configuration's alone; Lightning would read a checkpoint's before any of it is checked."""

    def before_instantiate_classes(self) -> None:
        """On CUDA, computes in 16 bits unless the configuration says otherwise; the saved one then says so too."""
        trainer = self._get(self.config, "trainer")
        if runs_on_cuda(trainer.get("accelerator")):
            trainer["precision"] = choose_precision(trainer.get("precision"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the rollout, checkpoint and export callbacks and the logger that the configuration leaves open."""
        configured = self._get(self.config_init, "trainer")
        self._root = Path(configured.get("default_root_dir") or Path.cwd())
        if configured.get("fast_dev_run"):
            configured["default_root_dir"] = make_scratch_folder(self._root)
        configured["accelerator"] = choose_accelerator(configured.get("accelerator"))
        given = configured.get("callbacks") or []
        rollout = self._get(self.config_init, "rollout", default=None)
        extra: list[Callback] = [] if rollout is None else [rollout]
        benchmark = self._get(self.config_init, "benchmark", default=None)
        if benchmark is None and isinstance(self.datamodule, BenchmarkDataModule):
            benchmark = BenchmarkCallback()
        if benchmark is not None and self.subcommand == "test" and isinstance(self.model, PolicyModule):
            extra.append(benchmark)
        callbacks = [*extra, *(given if isinstance(given, list) else [given])]
        # A checkpoint callback that is added by flag takes the place of the configuration's.
        saving = [callback for callback in callbacks if isinstance(callback, IterationCheckpoint)]
        callbacks = [callback for callback in callbacks if callback not in saving[:-1]]
        # Each unless there is one of its kind.
        defaults: list[tuple[type, type[Callback]]] = [
            (default, default) for default in (ExportCallback, PredictionsCallback, StopOnSignal, FiniteSteps)
        ]
        if configured.get("enable_checkpointing") is not False:
            # A ModelCheckpoint for the best does not take its place: a run goes on from this one's.
            defaults.append((IterationCheckpoint, IterationCheckpoint))
        if configured.get("enable_progress_bar") is not False:
            # The bars of generation and scoring are tqdm's too, and so is that of an MPRM that is retrained within the
            # run; Lightning's other bar cannot be nested.
            defaults.append((ProgressBar, TrainingBar))
        missing = [default() for kind, default in defaults if not any(isinstance(c, kind) for c in callbacks)]
        configured["callbacks"] = callbacks + missing
        if configured.get("logger") in (None, True):
            # A fit that goes on logs where it logged before; predict has nothing to log.
            version = 0 if self.subcommand == "fit" else self.subcommand
            root = configured.get("default_root_dir") or "."
            configured["logger"] = self.subcommand != "predict" and TensorBoardLogger(
                root, name="tensorboard", version=version, default_hp_metric=False
            )
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
        if isinstance(trainer.strategy, FSDPStrategy):
            raise ConfigError(
                "trainer.strategy is FSDP in its first version, which mstar does not run: take the second one, with "
                "--config configs/overlays/fsdp2.yaml."
            )
        count_by_epochs(trainer)
        end_with_the_others()
        end_with_the_first()
        allow_tensor_cores(trainer.strategy.root_device)
        fix_order(configured.get("deterministic"), trainer.accelerator)
        return trainer

    def after_instantiate_classes(self) -> None:
        """Finds what is missing or does not fit together, before anything is written."""
        checkpoint = self._get(self.config_init, "ckpt_path", default=None)
        if checkpoint == "last" and self.subcommand != "fit":
            self._find_last()
        elif checkpoint == "best" and not any(
            isinstance(callback, ModelCheckpoint) for callback in self.trainer.checkpoint_callbacks
        ):
            raise ConfigError("ckpt_path is 'best', but only a ModelCheckpoint among the callbacks knows which one is.")
        elif checkpoint is not None:
            check_checkpoint_path(checkpoint)
        self._require_steps(self.subcommand or "")
        if self.subcommand != "fit" and isinstance(self.datamodule, PolicyDataModule):
            self.datamodule.require(self.subcommand or "")
        named = self.subcommand != "fit" and isinstance(self.model, PolicyModule) and self.model.engine.own_model
        if named and checkpoint is not None:
            raise ConfigError(
                f"ckpt_path is set, but '{named}' by its address answers, not the policy: drop one of them."
            )
        if isinstance(self.model, PolicyModule) and not named:
            refuse_step_scorer(self.model.model_name)
        if isinstance(self.model, PolicyModule | MPRMModule) and not named:
            renderer = load_renderer(
                self.model.model_name,
                trust_remote_code=self.model.trust_remote_code,
                revision=self.model.revision,
            )
            if self.subcommand != "fit" and checkpoint is None and self.trainer.is_global_zero:
                self._say_model()
            if self.subcommand == "fit":
                require_training(self.trainer)
                self.model.check_fit(self.trainer)
                if isinstance(self.datamodule, PolicyDataModule):
                    _ = self.datamodule.train  # which it may lack, for the other commands
                self._say_memory(renderer)
                check_trainable(self.model, self.trainer)
                for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                    if isinstance(callback, ExportCallback):
                        callback.check(self.trainer, self.model, self.datamodule)
        rollout = self._get(self.config_init, "rollout", default=None)
        if rollout is not None and self.subcommand == "fit":
            rollout.check(self.trainer, self.model, self.datamodule)
        self._say_prompts()

    def _require_steps(self, command: str) -> None:
        """Refuses a command that model or data have nothing for; Lightning would say so by a traceback."""
        can = [
            name
            for name, step, loader in _STEPS
            if is_overridden(step, self.model) and is_overridden(loader, self.datamodule)
        ]
        if command not in can:
            raise ConfigError(
                f"'{command}' needs what {type(self.model).__name__} with {type(self.datamodule).__name__} does not "
                f"have: choose {' or '.join([*can, 'another model or data'])}."
            )

    def _say_prompts(self) -> None:
        """Says what the prompts are, in up to five lines a source."""
        if not self.trainer.is_global_zero or not _log.isEnabledFor(logging.INFO):
            return
        rollout = self._get(self.config_init, "rollout", default=None)
        votes = ("unlabelled",) if rollout is not None and rollout.settings.unlabelled != "off" else ()
        used = {"fit": ("train", *votes, "validation"), "validate": ("validation",)}
        data = self.datamodule
        found = [(name, getattr(data, name, None)) for name in used.get(self.subcommand or "", ("test",))]
        if isinstance(data, StepLabelDataModule):
            found = [("prompts", source) for source in data.sources]
        sources = [(name, source) for name, source in found if isinstance(source, PromptSource)]
        for name, source in sources[:_MOST_SOURCES]:
            _log.info("%s", "\n".join(summarise(f"data.{name}", source)))

    def _find_last(self) -> None:
        """Has ``last`` mean a checkpoint of the run, or be an error: Lightning would go on without."""
        ours = [c for c in self.trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        if any(callback._find_last_checkpoints(self.trainer) for callback in ours):
            return
        found = find_checkpoint(self._root)
        if found is None:
            raise ConfigError(
                f"ckpt_path is 'last', but '{checkpoint_folder(self._root)}' has no checkpoint: set "
                "trainer.default_root_dir to the run's folder, or give a checkpoint's file."
            )
        self.config_init[self.subcommand]["ckpt_path"] = str(found)

    def _say_model(self) -> None:
        """Says that a model is measured as it was before training, which may not be what is meant."""
        trained = f"; the run in '{self._root}' has one: --ckpt_path last" if find_checkpoint(self._root) else ""
        _log.info(
            "%s: without ckpt_path this is the model as it is in '%s', before any training of this run%s",
            *(self.subcommand, self.model.model_name, trained),
        )

    def _say_memory(self, renderer: Renderer) -> None:
        """Says what the fit will take, and refuses one that cannot fit, before anything is loaded."""
        try:
            rows, total = self.datamodule.sample(_SAMPLED)
        except (MstarError, OSError, AttributeError):
            rows, total = [], None  # the fit itself will say what is wrong with its data
        # Lightning knows SLURM's processes, too.
        warn_before_start(self.config["fit"].as_dict(), renderer, rows, total, tells=self.trainer.is_global_zero)

    def fit(self, **arguments: Any) -> None:
        """Runs the fit; one that was begun in the same folder goes on from its last checkpoint.

        Raises:
            ConfigError: another process is at it, the configuration is not the one that it began with, or Lightning
                refuses it.
        """
        stop_if_asked()
        root = Path(self.trainer.default_root_dir)
        with hold_run(root) if self.trainer.is_global_zero else nullcontext():
            given = arguments.pop("ckpt_path", None)
            limit = find_finished(root, self.trainer) if given is None else None
            checkpoint = find_checkpoint(root) if given in (None, "last") else given
            ours = checkpoint is not None and checkpoint_folder(root).resolve() in Path(checkpoint).resolve().parents
            if self.trainer.is_global_zero:
                warn_of_copy(self.config["fit"].get("config") or (), root)
            if limit is not None or ours:
                check_same_run(root, self._parser("fit"), self.config["fit"])
            if limit is not None:
                more = f"raise {limit}" if limit.startswith("trainer.max_") else f"change what ended it ({limit})"
                _log.info(
                    "The run in '%s' is finished, so there is nothing to do: %s to go on, or choose another "
                    "trainer.default_root_dir (or remove that folder) to start over.",
                    *(root, more),
                )
                return
            try:
                self.trainer.fit(**arguments, ckpt_path=checkpoint)
            except (MisconfigurationException, RuntimeError, ValueError) as error:
                # What Lightning finds while it runs, such as a metric that is watched and never logged.
                known = ("Early stopping conditioned on", " `val_check_interval`")
                if not isinstance(error, MisconfigurationException) and not str(error).startswith(known):
                    raise
                raise ConfigError(" ".join(str(error).split())) from error


def runs_on_cuda(accelerator: object) -> bool:
    """Whether a trainer with this accelerator, as the configuration has it, runs on CUDA."""
    named = accelerator in ("auto", "gpu", "cuda") or str(accelerator).endswith("CUDAAccelerator")
    return named and CUDAAccelerator.is_available()


def fix_order(deterministic: bool | str | None, accelerator: Accelerator) -> None:
    """Has sums added up in a fixed order on a CPU, and where ``trainer.deterministic`` asks for it."""
    on_cpu = isinstance(accelerator, CPUAccelerator)
    if deterministic is None and on_cpu:
        # The gradient of an indexed tensor is added up by several threads in whatever order they come to it, unless
        # PyTorch is told otherwise: a run that was killed would not end as one that was not.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # That also fills all new memory with NaN, a tenth of a rollout's time; none is read before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    elif deterministic is True and not on_cpu:
        # PyTorch refuses the running sums on GPUs by which tokens are drawn (2.13): it is to say so, and to go on.
        torch.use_deterministic_algorithms(True, warn_only=True)
