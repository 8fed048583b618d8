"""Stage 5 for the policy: examples -> batches, and prompts for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from mstar.distributed import rank, world_size
from mstar.errors import ConfigError, DataError
from mstar.prompts import PromptSource
from mstar.rendering import Renderer, ResponseInputs
from mstar.types import Example, Prompt

if TYPE_CHECKING:
    from mstar.modules.policy import PolicyModule

__all__ = ["PolicyDataModule", "PromptBatch"]

Pair = tuple[Prompt, str]


class PromptBatch:
    """Prompts for evaluation, all at once.

    A plain class, because Lightning looks for tensors inside lists and dataclasses and refuses frozen ones.

    Args:
        prompts: The prompts.
    """

    def __init__(self, prompts: list[Prompt]) -> None:
        self.prompts = prompts


class _Rationales(Dataset[Pair]):
    """Prompts with the rationale that the data has for them."""

    def __init__(self, source: PromptSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        prompt = self.source[index]
        if prompt.rationale is None:
            raise DataError(
                f"prompt '{prompt.id}' (row {index}) has no rationale to imitate: train on data with rationales, or "
                "let the policy write its own responses with a 'rollout' section."
            )
        return prompt, prompt.rationale


class _Examples(Dataset[Pair]):
    """What an iteration kept."""

    def __init__(self, sources: Sequence[PromptSource], examples: Sequence[Example]) -> None:
        self.sources = sources
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Pair:
        example = self.examples[index]
        for source in self.sources:
            try:
                return source[source.index_of(example.prompt_id)], example.response
            except DataError:
                continue
        raise DataError(f"example {index}: no prompt source has the prompt '{example.prompt_id}'.")


class _Prompts(Dataset[Prompt]):
    def __init__(self, source: PromptSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Prompt:
        return self.source[index]


class PolicyDataModule(LightningDataModule):
    """Prompts to train and evaluate a policy on.

    Without a ``rollout`` section, ``fit`` trains on the rationales of ``train``, reshuffled every epoch. With one, the
    rollouts take their prompts from ``train`` (and ``unlabelled``) and replace the training data every epoch.

    Args:
        train: Labelled prompts.
        validation: Held-out prompts for the dynamics and the adaptive temperature.
        test: Held-out prompts for ``test`` and ``predict``.
        unlabelled: Prompts whose answers are hidden from training, for ``rollout.unlabelled``.
        batch_size: Training examples in a batch, in each process.
        eval_batch_size: Prompts in a batch of validate, test and predict.
        num_workers: Processes that load images and build batches; 0 for none.
        seed: Seed of the shuffling.

    Raises:
        ConfigError: a batch size is below 1.
    """

    def __init__(
        self,
        train: PromptSource,
        validation: PromptSource | None = None,
        test: PromptSource | None = None,
        unlabelled: PromptSource | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ConfigError(f"data.{name} is {value}, but a batch needs at least 1 row.")
        self.train = train
        self.validation = validation
        self.test = test
        self.unlabelled = unlabelled
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._examples: Sequence[Example] | None = None

    def set_examples(self, examples: Sequence[Example]) -> None:
        """Replaces the training data by these examples, in this order."""
        self._examples = examples

    def placeholder(self) -> list[Example]:
        """One row, for the loader that Lightning builds before the first iteration has made any data."""
        prompt = self.train[0]
        return [Example(prompt.id, prompt.answer or prompt.question)]

    def train_dataloader(self) -> DataLoader[Pair]:
        """The examples of the present iteration in their order, or without any the shuffled rationales."""
        if self._examples is None:
            data: Dataset[Pair] = _Rationales(self.train)
            shuffle = True
        else:
            sources = [source for source in (self.train, self.unlabelled) if source is not None]
            data = _Examples(sources, self._examples)
            shuffle = False
        # DistributedSampler also serves one process: Lightning tells it the epoch, and its order follows from that.
        sampler: DistributedSampler[Pair] | None = DistributedSampler(
            data, num_replicas=world_size(), rank=rank(), shuffle=shuffle, seed=self.seed
        )
        if world_size() == 1 and not shuffle:
            sampler = None
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=_Collate(self._renderer()),
        )

    def val_dataloader(self) -> DataLoader[Prompt] | list[DataLoader[Prompt]]:
        """The validation prompts, if there are any; none in a fit with rollouts, which measure the dynamics on them."""
        if self.validation is None or self._examples is not None:
            return []
        return self._prompt_loader(self.validation)

    def test_dataloader(self) -> DataLoader[Prompt]:
        """The test prompts.

        Raises:
            ConfigError: ``test`` is not set.
        """
        if self.test is None:
            raise ConfigError("data.test is not set, but 'test' and 'predict' need prompts: set data.test.")
        return self._prompt_loader(self.test)

    def predict_dataloader(self) -> DataLoader[Prompt]:
        """The test prompts."""
        return self.test_dataloader()

    def _prompt_loader(self, source: PromptSource) -> DataLoader[Prompt]:
        # By keyword: Lightning builds prediction and distributed loaders again from what it was told by name.
        return DataLoader(
            _Prompts(source), batch_size=self.eval_batch_size, num_workers=self.num_workers, collate_fn=PromptBatch
        )

    def _renderer(self) -> Renderer:
        if self.trainer is None:
            raise RuntimeError("PolicyDataModule builds batches with the trainer's module, but it has no trainer.")
        return cast("PolicyModule", self.trainer.lightning_module).renderer


class _Collate:
    """Pairs -> a batch; a class, so that worker processes can be handed it."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def __call__(self, pairs: list[Pair]) -> ResponseInputs:
        return self.renderer.response_inputs([prompt for prompt, _ in pairs], [response for _, response in pairs])
