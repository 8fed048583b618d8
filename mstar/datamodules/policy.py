"""Stage 5 for the policy: examples -> batches, and prompts for evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from mstar.datamodules.quarantined import Quarantine, UsablePairs, require_limits, usable_prompts
from mstar.datamodules.rationales import Rationales
from mstar.datamodules.resumable import ResumableLoader, worker_start
from mstar.datamodules.samplers import MixedSampler
from mstar.datamodules.step_batches import StepCollate, StepLoader, encode
from mstar.distributed import gather_lists, rank, world_size
from mstar.errors import ConfigError, DataError, require_least
from mstar.evaluation.gradeable import check_prompts
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.benchmarks import BenchmarkSource
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.quarantine import QuarantineFile
from mstar.prompts.sources import STAGE_PARTS
from mstar.rendering import Renderer
from mstar.storage import ExampleFile
from mstar.types import Example, Prompt

_log: Final = logging.getLogger(__name__)

Pair = tuple[Prompt, Example]

_HANDFUL: Final = 8


def _choose(key: str, given: PromptSource | None, sources: DataSources, stage: str) -> PromptSource | None:
    """A part that is given, or that of the sources; where there are both, the one that is not used is named."""
    part = STAGE_PARTS[stage].get(key)
    if part is None:
        return given
    if given is None:
        return sources.open(part)
    if sources.has(part) and rank() == 0:
        _log.warning(
            "data.%s takes the place of the part '%s' of data.sources; to use that, set data.%s to null", key, part, key
        )
    return given


def tried_prompts(trainer: Trainer | None, batch_size: int) -> int | None:
    """How many prompts a ``fast_dev_run`` draws responses to or measures, so many batches and a handful at least.

    Returns:
        None where it is none, and all are taken.
    """
    batches = int(getattr(trainer, "fast_dev_run", 0))
    return max(_HANDFUL, batches * batch_size) if batches else None


class _Examples(Dataset[Pair]):
    """What an iteration kept, as often as it is gone through."""

    def __init__(self, sources: Sequence[PromptSource], examples: Sequence[Example], passes: int) -> None:
        self.sources = sources
        self.examples = examples
        self.passes = passes

    def __len__(self) -> int:
        return len(self.examples) * self.passes

    def __getitem__(self, index: int) -> Pair:
        example = self.examples[index % len(self.examples)]
        for source in self.sources:
            if (place := source.index_of(example.prompt_id)) is not None:
                return source[place], example
        raise DataError(f"example {index}: no prompt source has the prompt '{example.prompt_id}'.")


class PolicyDataModule(LightningDataModule):
    """Prompts to train and evaluate a policy on.

    Without a ``rollout`` section, ``fit`` trains on the rationales of ``train``, reshuffled every epoch. With one, the
    rollouts take their prompts from ``train`` (and ``unlabelled``) and replace the training data every epoch.

    The prompts come from ``sources``, one data set whose parts all stages share, or are given one by one; a part that
    is given takes the place of the sources' own.

    Args:
        train: Labelled prompts; ``fit`` needs them.
        validation: Held-out prompts for the dynamics and the adaptive temperature.
        test: Held-out prompts for ``test`` and ``predict``.
        unlabelled: Prompts whose answers are hidden from training, for ``rollout.unlabelled``.
        batch_size: Training examples in a batch, in each process.
        eval_batch_size: Prompts that validate, test and predict give an engine at a time; it writes as many together
            as its memory allows.
        max_prompt_tokens: Longest prompt, the tokens of its pictures included; longer ones are put aside, in
            generation, training and evaluation alike. Counting costs one more run of the processor, for prompts that
            may be longer by their text's bytes and the sizes of their pictures. None for no limit.
        max_example_tokens: Longest training example, prompt and response together; longer ones are put aside, and not
            cut. None for no limit.
        max_bad_share: If more than this share of what is used turns out to be unusable (its picture cannot be decoded,
            it is too long), it is an error; None allows 5 %, and of a few up to 10, but not more than a quarter. What
            is put aside stands, with the reason, in the run's ``quarantine`` folder and in those of its iterations.
        sources: The data set and its parts, most often a file (``--data.sources configs/data/mathv360k.yaml``).
        stage: Which parts of ``sources`` are used: evolve takes train, validation, test and unlabelled; warmup takes
            warmup (or train) and test.
        sort_by_length: Where an optimizer step accumulates several batches (``trainer.accumulate_grad_batches``), put
            rows of like length into the same batch, which saves padding. Steps are made of the same rows either way,
            and the loss of such a step is the mean over the response tokens of all its batches.
        num_workers: Processes that load images and build batches, those of a retrained MPRM
            (``rollout.refresh_reward_model``), too; 0 for none.
        seed: Seed of the shuffling.

    Raises:
        ConfigError: a batch size is below 1.
    """

    def __init__(
        self,
        train: PromptSource | None = None,
        validation: PromptSource | None = None,
        test: PromptSource | None = None,
        unlabelled: PromptSource | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
        max_prompt_tokens: int | None = None,
        max_example_tokens: int | None = None,
        max_bad_share: float | None = None,
        sort_by_length: bool = True,
        sources: DataSources | None = None,
        stage: Literal["warmup", "evolve"] = "evolve",
    ) -> None:
        super().__init__()
        require_least("data.", batch_size=batch_size, eval_batch_size=eval_batch_size)
        require_limits(max_prompt_tokens, max_example_tokens, max_bad_share, num_workers)
        if sources is not None:
            train = _choose("train", train, sources, stage)
            validation = _choose("validation", validation, sources, stage)
            test = _choose("test", test, sources, stage)
            unlabelled = _choose("unlabelled", unlabelled, sources, stage)
        self._train = train
        self.validation = validation
        self.test = test
        self.unlabelled = unlabelled
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.max_prompt_tokens = max_prompt_tokens
        self.max_example_tokens = max_example_tokens
        self.max_bad_share = max_bad_share
        self.sort_by_length = sort_by_length
        self._examples: Sequence[Example] | None = None
        self._passes = 1
        self._held_out: dict[int | None, list[Prompt]] = {}
        self._put_aside = Quarantine(max_bad_share)

    @property
    def train(self) -> PromptSource:
        """The labelled prompts.

        Raises:
            ConfigError: there are none.
        """
        if self._train is None:
            raise ConfigError("data.train is not set, but 'fit' needs prompts to train on: set it or data.sources.")
        return self._train

    def setup(self, stage: str) -> None:
        """Makes sure that the training data may be trained on.

        Raises:
            ConfigError: the licence of ``train`` or ``unlabelled`` does not allow it.
        """
        for name in ("train", "unlabelled") if stage == "fit" else ():
            source: PromptSource | None = getattr(self, name)
            for member in source.members() if source is not None else ():
                if isinstance(member, BenchmarkSource) and member.test_only:
                    raise ConfigError(
                        f"data.{name} is {member.name}, whose licence prohibits training on it ({member.licence}); "
                        "choose other data."
                    )

    def teardown(self, stage: str) -> None:
        """Says what was put aside."""
        self._put_aside.announce()

    def prompt_check(self) -> PromptCheck:
        """Tells the prompts that can be shown to the policy, with its own renderer; a model by address has none."""
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        reader = None if getattr(module, "by_address", False) else self._renderer()
        return PromptCheck(reader, self.max_prompt_tokens, self.max_example_tokens, self.max_bad_share)

    def held_out(self) -> list[Prompt]:
        """The validation prompts that can be shown to the policy; the same list on every process."""
        tried = tried_prompts(self.trainer, self.batch_size)
        if tried not in self._held_out:
            everything = list(self.validation or ())[:tried]
            mine = range(rank(), len(everything), world_size())
            _, bad = self.prompt_check().sift([everything[index] for index in mine], mine)
            self._quarantine("validation", len(everything)).add(bad)
            lost = set(gather_lists([row.row for row in bad]))
            self._held_out[tried] = [prompt for index, prompt in enumerate(everything) if index not in lost]
        return self._held_out[tried]

    def sample(self, count: int) -> tuple[list[tuple[Prompt, str | None]], int]:
        """Some prompts spread over the training data, each with its rationale if it has one; and how many there are."""
        places = range(0, len(self.train), max(1, len(self.train) // count))
        prompts = [self.train[place] for place in places[:count]]
        return [(prompt, prompt.rationale) for prompt in prompts], len(self.train)

    def set_examples(self, examples: Sequence[Example], passes: int = 1) -> None:
        """Replaces the training data by these examples, in this order, gone through so many times."""
        self._examples, self._passes = examples, passes

    def placeholder(self) -> list[Example]:
        """One row, for the loader that Lightning builds before the first iteration has made any data."""
        prompt = self.train[0]
        return [Example(prompt.id, prompt.answer or prompt.question)]

    def train_dataloader(self) -> DataLoader[Any]:
        """The examples of the present iteration in their order, or without any the shuffled rationales."""
        if self._examples is None:
            quarantine = self._quarantine("train", len(self.train))
            reader = self._renderer()
            pairs: Rationales | _Examples = Rationales(self.train, reader.end_texts, quarantine, reader.thought)
            shuffle = True
        else:
            sources = [source for source in (self.train, self.unlabelled) if source is not None]
            pairs = _Examples(sources, self._examples, self._passes)
            shuffle, name = False, f"train-{self.trainer.current_epoch + 1:04d}" if self.trainer else "train"
            quarantine = self._quarantine(name, len(pairs))
        data = UsablePairs(pairs, self.prompt_check(), quarantine)
        # DistributedSampler also serves one process: Lightning tells it the epoch, and its order follows from that; and
        # where a strategy for several runs on one, Lightning replaces any other.
        sampler: DistributedSampler[Pair] = DistributedSampler(
            data, num_replicas=world_size(), rank=rank(), shuffle=shuffle, seed=self.seed
        )
        mixing = pairs.mixing() if isinstance(pairs, Rationales) else None
        if mixing is not None:
            sampler = MixedSampler(data, mixing, world_size(), rank(), self.seed)
        batches_per_step = self.trainer.accumulate_grad_batches if self.trainer is not None else 1
        batch_size = self.batch_size
        if self._examples is not None and self._passes > 1:
            # A step that held several passes would be one pass: the policy has not moved between them.
            rows = len(self._examples) // (batches_per_step * world_size())
            batch_size = max(1, min(batch_size, rows))
        credited = _are_credited(self._examples)
        # Then every token of a step counts by its worth, in whatever batch of whatever process it is.
        if batches_per_step > 1 or credited or world_size() > 1:
            return StepLoader(
                data,
                batch_size,
                batches_per_step,
                sampler,
                self.num_workers,
                StepCollate(self._renderer(), batch_size, batches_per_step, self.sort_by_length, credited),
            )
        return ResumableLoader(
            data,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=partial(encode, self._renderer()),
        )

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Prompt]]:
        """The validation prompts, if there are any; none in a fit with rollouts, which measure the dynamics on them.

        Raises:
            DataError: most of their gold answers cannot be graded, or one has none.
        """
        evolves, trainer = self._examples is not None, self.trainer
        if self.validation is None or (evolves and trainer is not None and trainer.state.fn == TrainerFn.FITTING):
            return []
        grader = getattr(self.trainer and self.trainer.lightning_module, "grader", None)
        if grader is not None:
            check_prompts(self.validation, "data.validation", grader)
        return self._prompt_loader(self.validation, "validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """The test prompts.

        Raises:
            ConfigError: ``test`` is not set.
        """
        return self._prompt_loader(self.require("test"), "test")

    def require(self, command: str) -> PromptSource:
        """The prompts that ``validate``, ``test`` or ``predict`` works on.

        Raises:
            ConfigError: they are not set.
        """
        name, source = ("validation", self.validation) if command == "validate" else ("test", self.test)
        if source is None:
            raise ConfigError(f"data.{name} is not set, but '{command}' needs prompts: set data.{name}.")
        return source

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test prompts."""
        return self.test_dataloader()

    def _prompt_loader(self, source: PromptSource, name: str) -> DataLoader[Any]:
        # By keyword: Lightning builds prediction and distributed loaders again from what it was told by name.
        return DataLoader(
            range(len(source)),  # type: ignore[arg-type]  # any sequence will do
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            multiprocessing_context=worker_start(self.num_workers),
            collate_fn=partial(usable_prompts, source, self.prompt_check(), self._quarantine(name, len(source))),
        )

    def _quarantine(self, name: str, size: int) -> QuarantineFile:
        return self._put_aside.file(self.trainer.default_root_dir if self.trainer is not None else ".", name, size)

    def _renderer(self) -> Renderer:
        if self.trainer is None:
            raise RuntimeError("PolicyDataModule builds batches with the trainer's module, but it has no trainer.")
        module: Any = self.trainer.lightning_module
        renderer: Renderer = module.renderer
        return renderer


def _are_credited(examples: Sequence[Example] | None) -> bool:
    """Whether examples have advantages, or weights other than 1."""
    if examples is None or isinstance(examples, ExampleFile):
        return examples is not None and examples.credited
    return any(example.advantage is not None or example.weight != 1 for example in examples)
