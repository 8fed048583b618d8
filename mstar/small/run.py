"""The stages of ``make small``, in order; each of mstar's own commands that it runs is printed, and also runs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch

from mstar.atomic import writing
from mstar.demo.run import command, config, count_steps
from mstar.demo.stages import StageBook
from mstar.errors import ConfigError
from mstar.models.precision import half_type
from mstar.provenance import claim, find_change
from mstar.small.align import AlignSettings, align
from mstar.small.model import build_model, build_processor
from mstar.small.tasks import TASKS, TaskName
from mstar.small.weights import load_language_model
from mstar.storage import read_json

Numbers = Literal["float32", "bfloat16"]

# What every arm starts from.
SHARED: Final = ("start", "warmup", "annotate", "mprm")
_NO_MPRM: Final = "--rollout.reward_model=null"
# What an arm changes in small/evolve.yaml or, without rollouts, in small/seed_only.yaml.
ARMS: Final[Mapping[str, Sequence[str]]] = {
    "mprm_top_1": (),
    "random": ("--rollout.selection=random", _NO_MPRM),
    "likelihood": ("--rollout.selection=likelihood", _NO_MPRM),
    "oracle": ("--rollout.selection=oracle", _NO_MPRM),
    "seed_only": (),
    "mixed": ("--rollout.selection=mixed",),
    "more_seed": ("--data.train.seed=1",),
}
# Those that are run when they are asked for alone.
FURTHER: Final = ("mixed", "more_seed")
_FIRST: Final = "mprm_top_1"
_SUPERVISED: Final = ("seed_only", "more_seed")
# The batch of small/seed_only.yaml.
_BATCH: Final = 16
# Where all arms are compared with: the policy that they start from.
WARMUP: Final = "warmup"


@dataclass(frozen=True, slots=True)
class SmallRun:
    """One seed of the experiment.

    Attributes:
        task: What is on the pictures. Charts are the experiment's own folder, another task has one in it.
        arms: Which arms are run after the shared stages, in the order of ``ARMS``.
        model: A vision-language model to take in place of the small one; None builds that one.
        numbers: What is computed and stored in: float32, or bfloat16 (adapters and heads stay float32). None takes what
            the seed's folder began with; a new one begins with bfloat16 where this machine multiplies it (GPUs, CPUs
            with AVX512-BF16 or AMX; elsewhere it is many times slower), else with float32.
        align: How long tower and connector of the small model learn.
        language: Loads its language model and tokenizer; None downloads them.
        overrides: Further arguments of a stage's command, by the stage's name, e.g. to make it smaller; ``evolve``
            reaches every arm with rollouts, ``test`` every test.
    """

    seed: int = 0
    output: Path = Path("runs/small")
    task: TaskName = "charts"
    arms: Sequence[str] = tuple(arm for arm in ARMS if arm not in FURTHER)
    model: str | None = None
    numbers: Numbers | None = None
    align: AlignSettings = field(default_factory=AlignSettings)
    language: Callable[[], tuple[Any, Any]] | None = None
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder of the task's seeds and their table."""
        return self.output if self.task == "charts" else self.output / self.task

    @property
    def folder(self) -> Path:
        """The seed's folder."""
        return self.root / f"seed-{self.seed}"

    @property
    def book(self) -> StageBook:
        """What is done of the seed."""
        return StageBook(self.folder, self.seed)

    def further(self, stage: str) -> Sequence[str]:
        """The further arguments of a stage."""
        return self.overrides.get(stage, ())

    def prompts(self, *options: str) -> list[str]:
        """The arguments that give these options of a shipped configuration, which name charts, the task's prompts."""
        return [] if self.task == "charts" else [f"--{option}={TASKS[self.task].prompts}" for option in options]


def run_small(
    settings: SmallRun, stages: Sequence[str] | None = None, tested: Callable[[], object] = lambda: None
) -> None:
    """Runs the stages that are not done yet.

    Args:
        stages: These stages alone, of ``SHARED`` and ``ARMS``, whose predecessors are done; None for all.
        tested: Called whenever an arm is done and tested.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings = _claim(settings)
    TASKS[settings.task].prepare()
    book = settings.book
    work: dict[str, Callable[[], dict[str, Any] | None]] = {
        "start": partial(_start, settings),
        "warmup": partial(_warmup, settings),
        "annotate": partial(_annotate, settings),
        "mprm": partial(_mprm, settings),
    }
    work |= {arm: partial(_arm, settings, arm) for arm in ARMS if arm in (*settings.arms, *(stages or ()))}
    if settings.model is not None:
        del work["start"]
    for name, stage in work.items():
        if stages is None or name in stages:
            book.run(name, stage)
            if name in (WARMUP, *ARMS):
                book.run(f"test {name}", partial(_test, settings, name))
                tested()


def _claim(settings: SmallRun) -> SmallRun:
    """Writes down what all stages of a folder share, or finds that it is the same."""
    manifest = settings.folder / "manifest.json"
    numbers = settings.numbers or (read_json(manifest)["numbers"] if manifest.exists() else _numbers())
    facts = {"model": settings.model, "numbers": numbers}
    require_one_experiment(settings.root, {settings.folder: facts})
    claim(settings.folder, facts, what="stages", pattern="stages.json")
    return replace(settings, numbers=numbers)


def require_one_experiment(root: Path, begun: Mapping[Path, dict[str, Any]] | None = None) -> None:
    """Refuses seeds of different models or numbers, which no table compares.

    Args:
        root: Where the seeds' folders are; those count that have stages.
        begun: What a folder's stages are going to share.

    Raises:
        ConfigError: there are.
    """
    folders = [book.parent for book in sorted(root.glob("seed-*/stages.json"))]
    facts = {folder: read_json(path) for folder in folders if (path := folder / "manifest.json").exists()}
    facts |= begun or {}
    for folder in facts:
        first = next(iter(facts))
        change = find_change(facts[first], facts[folder])
        if change is not None:
            raise ConfigError(
                f"'{first}' and '{folder}' cannot be in one table: {change}. Give both the same --model and --numbers, "
                "or choose another folder (--output)."
            )


def _numbers() -> Numbers:
    """What this machine multiplies fast."""
    if torch.cuda.is_available():
        return "bfloat16" if half_type() == torch.bfloat16 else "float32"
    found = torch.cpu.get_capabilities()
    return "bfloat16" if found.get("avx512_bf16") or found.get("amx_bf16") else "float32"


def _fit(settings: SmallRun, name: str, file: str, *arguments: str) -> None:
    command(
        "fit", config(f"small/{file}.yaml"), f"--seed_everything={settings.seed}", *_precision(settings), *arguments,
        f"--trainer.default_root_dir={settings.folder / name}",
    )  # fmt: skip


def _precision(settings: SmallRun) -> list[str]:
    if settings.numbers == "float32":
        return []
    return ["--trainer.precision=bf16-mixed", f"--model.dtype={settings.numbers}"]


def _start(settings: SmallRun) -> dict[str, Any]:
    """The small model with its aligned eyes, as a folder."""
    load = settings.language or partial(load_language_model, settings.output / "weights")
    language, tokenizer = load()
    processor = build_processor(tokenizer)
    model = build_model(language, processor, settings.seed)
    share = align(model, processor, TASKS[settings.task].image, settings.align, settings.seed)
    folder = settings.folder / "start"
    with writing(folder):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return {"read": round(share, 4)}


def _warmup(settings: SmallRun) -> None:
    start = settings.model or _need(settings, "start", "start")
    prompts = settings.prompts("data.train", "data.test")
    _fit(settings, "warmup", "warmup", f"--model.model_name={start}", *prompts, *settings.further("warmup"))


def _annotate(settings: SmallRun) -> None:
    command(
        "annotate", config("small/annotate.yaml"), f"--policy={_policy(settings)}", f"--dtype={settings.numbers}",
        f"--output={settings.folder / 'annotate'}", f"--settings.seed={settings.seed}", *settings.prompts("prompts"),
        *settings.further("annotate"),
    )  # fmt: skip


def _mprm(settings: SmallRun) -> None:
    _fit(
        settings, "mprm", "mprm", f"--model.model_name={_policy(settings)}", f"--model.seed={settings.seed}",
        f"--data.labels={_need(settings, 'annotate', 'annotate')}", *settings.prompts("data.prompts"),
        *settings.further("mprm"),
    )  # fmt: skip


def _arm(settings: SmallRun, arm: str) -> dict[str, Any]:
    shared = [f"--model.model_name={_policy(settings)}", *settings.prompts("data.train", "data.test"), *ARMS[arm]]
    if arm in _SUPERVISED:
        done = settings.book.stages
        if _FIRST not in done:
            raise ConfigError(f"the arm {arm} takes as many steps as {_FIRST}, which is not done: run that first.")
        steps = done[_FIRST]["result"]["steps"]
        # Every new rationale once.
        size = [f"--data.train.size={_BATCH * steps}"] if arm == "more_seed" else []
        _fit(settings, arm, "seed_only", *shared, *size, f"--trainer.max_steps={steps}", *settings.further("seed_only"))
    else:
        ready = []
        if _NO_MPRM not in ARMS[arm]:
            mprm = _need(settings, "mprm", "mprm/mprm-best")
            ready = [f"--rollout.reward_model={mprm}", f"--rollout.reward_dtype={settings.numbers}"]
        # All start from the same policy: what one of them has drawn in its first iteration the others read.
        reuse = f"--rollout.reuse={settings.folder}"
        _fit(settings, arm, "evolve", *shared, *ready, reuse, *settings.further("evolve"))
    return {"steps": count_steps(settings.folder / arm)}


def _test(settings: SmallRun, name: str) -> None:
    """The greedy responses to the test prompts, which the comparison reads."""
    command(
        "predict", config("small/warmup.yaml"), f"--model.model_name={settings.folder / name / 'policy'}",
        "--model.lora=null", *_precision(settings), "--trainer.logger=false",
        *settings.prompts("data.train", "data.test"), f"--trainer.default_root_dir={settings.folder / 'test' / name}",
        *settings.further("test"),
    )  # fmt: skip


def _policy(settings: SmallRun) -> Path:
    return _need(settings, "warmup", "warmup/policy")


def _need(settings: SmallRun, stage: str, folder: str) -> Path:
    """A folder that an earlier stage made; one that was stopped may have left a part of it."""
    path = settings.folder / folder
    if stage not in settings.book.stages:
        raise ConfigError(f"the stage {stage}, which makes '{path}', is not done: run that first.")
    return path
