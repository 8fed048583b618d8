"""Batches of the policy's training: which rows, in which order, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DistributedSampler

from mstar.__main__ import main
from mstar.datamodules.benchmark import BenchmarkDataModule
from mstar.datamodules.policy import PolicyDataModule
from mstar.datamodules.samplers import MixedSampler
from mstar.errors import ConfigError, DataError
from mstar.prompts import DataSources, MixedPrompts, Part, PromptSource, TinyDice
from mstar.rendering import ResponseInputs
from mstar.types import Example

SEED = TinyDice("seed", 10)


@pytest.fixture
def make(tiny: Any, tmp_path: Path) -> Any:
    """Makes a data module that is attached to a trainer of a policy with the embedded model's renderer."""

    def made(train: PromptSource = SEED, **settings: Any) -> PolicyDataModule:
        data = PolicyDataModule(train, **settings)
        module = SimpleNamespace(renderer=tiny.renderer)
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
            lightning_module=module, default_root_dir=tmp_path, current_epoch=0, accumulate_grad_batches=1, callbacks=[]
        )
        return data

    return made


def responses(loader: Any, tiny: Any) -> list[str]:
    """The responses of all batches, in order."""
    texts = []
    for batch in loader:
        assert isinstance(batch, ResponseInputs)
        for row in batch.labels_BT:
            texts.append(tiny.renderer.decode(row[row >= 0].tolist()))
    return texts


def epoch(data: PolicyDataModule, number: int, tiny: Any) -> list[str]:
    loader = data.train_dataloader()
    sampler = loader.sampler
    assert isinstance(sampler, DistributedSampler)
    sampler.set_epoch(number)
    return responses(loader, tiny)


def test_rationales_are_shuffled_anew_every_epoch(make: Any, tiny: Any) -> None:
    data = make(batch_size=4)
    rationales = [prompt.rationale for prompt in SEED]
    first, second = epoch(data, 0, tiny), epoch(data, 1, tiny)
    assert sorted(first) == sorted(second) == sorted(rationales)
    assert first != second
    assert first != rationales
    assert epoch(make(batch_size=4), 0, tiny) == first
    assert epoch(make(batch_size=4, seed=1), 0, tiny) != first


def test_an_epoch_draws_rationales_from_their_sources_by_weight(make: Any) -> None:
    """Of two sources of six rows each, with weights of 1 and 3, an epoch of twelve has three and nine."""
    mixed = MixedPrompts([TinyDice("seed", 6), TinyDice("seed", 6, seed=1)], [1, 3])
    sampler: Any = make(mixed).train_dataloader().sampler
    epochs = []
    for number in range(2):
        sampler.set_epoch(number)
        epochs.append(list(sampler))
    assert [sum(row < 6 for row in rows) for rows in epochs] == [3, 3]
    # Each is gone through to its end before it begins anew.
    assert {row for rows in epochs for row in rows if row < 6} == set(range(6))
    assert epochs[0] != sorted(epochs[0])
    # Two processes share an epoch.
    parts = [MixedSampler(mixed, sampler.mixing, 2, rank, seed=0) for rank in range(2)]
    assert sorted(row for part in parts for row in part) == sorted(epochs[0])


def test_batches_pair_each_prompt_with_its_rationale(make: Any, tiny: Any) -> None:
    loader = make(batch_size=10).train_dataloader()
    (batch,) = list(loader)
    order = list(loader.sampler)
    expected = tiny.renderer.response_inputs([SEED[i] for i in order], [SEED[i].rationale or "" for i in order])
    assert torch.equal(batch.inputs.ids_BT, expected.inputs.ids_BT)
    assert torch.equal(batch.labels_BT, expected.labels_BT)
    assert torch.equal(batch.inputs.extras["pixel_values"], expected.inputs.extras["pixel_values"])
    assert batch.step_ends == expected.step_ends


def test_examples_are_taken_in_their_order(make: Any, tiny: Any) -> None:
    data = make(TinyDice("pool", 10), unlabelled=TinyDice("annotation", 10), batch_size=2)
    examples = [
        Example("pool-0-7", "red = 1"),
        Example("annotation-0-3", "red = 2"),
        Example("pool-0-7", "red = 3"),
        Example("pool-0-0", "red = 4"),
        Example("annotation-0-9", "red = 5"),
    ]
    data.set_examples(examples)
    loader = data.train_dataloader()
    assert [len(batch.step_ends) for batch in loader] == [2, 2, 1]
    assert responses(loader, tiny) == [f"red = {i}" for i in range(1, 6)]
    first = next(iter(loader)).inputs
    wanted = tiny.renderer.response_inputs(
        [TinyDice("pool", 10)[7], TinyDice("annotation", 10)[3]], ["red = 1", "red = 2"]
    ).inputs
    assert torch.equal(first.ids_BT, wanted.ids_BT)
    assert torch.equal(first.extras["pixel_values"], wanted.extras["pixel_values"])

    data.set_examples(examples[:1])
    assert responses(data.train_dataloader(), tiny) == ["red = 1"]


@pytest.mark.parametrize(("batches_per_step", "sizes"), [(1, [3, 3]), (2, [1] * 6)])
def test_a_step_holds_one_pass_at_most(make: Any, batches_per_step: int, sizes: list[int]) -> None:
    """Over two passes in one step the policy would not move, and no ratio would leave 1."""
    data = make(TinyDice("pool", 10), batch_size=8)
    data.trainer.accumulate_grad_batches = batches_per_step
    data.set_examples(
        [Example(f"pool-0-{i}", "red = 1", advantage=1.0, tokens=(5,), logprobs=(-1.0,)) for i in range(3)], 2
    )
    assert [len(batch.step_ends) for batch in data.train_dataloader()] == sizes
    data.set_examples([Example("pool-0-0", "red = 1")] * 3)
    assert [len(batch.step_ends) for batch in data.train_dataloader()] == [3]


def test_an_example_of_an_unknown_prompt(make: Any) -> None:
    data = make(TinyDice("pool", 10))
    data.set_examples([Example("pool-0-99", "red = 1")])
    with pytest.raises(DataError, match="example 0: no prompt source has the prompt 'pool-0-99'"):
        next(iter(data.train_dataloader()))


def test_a_prompt_without_rationale(make: Any) -> None:
    with pytest.raises(DataError, match=r"prompt 'pool-0-0' \(row 0\) has no rationale to imitate: train on data"):
        make(TinyDice("pool", 1)).train_dataloader()


def test_the_placeholder_is_a_row_that_can_be_rendered(make: Any) -> None:
    data = make(TinyDice("pool", 3))
    data.set_examples(data.placeholder())
    (batch,) = list(data.train_dataloader())
    assert batch.inputs.ids_BT.shape[0] == 1


def test_prompts_for_evaluation_come_whole_and_in_order(make: Any) -> None:
    data = make(validation=TinyDice("validation", 5), test=TinyDice("test", 3), eval_batch_size=2)
    batches = [[prompt.id for prompt in batch.prompts] for batch in data.val_dataloader()]
    assert batches == [["validation-0-0", "validation-0-1"], ["validation-0-2", "validation-0-3"], ["validation-0-4"]]
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        assert [prompt for batch in loader for prompt in batch.prompts] == list(TinyDice("test", 3))


def test_an_engine_is_given_as_many_prompts_as_a_gpu_answers_together(make: Any) -> None:
    source = TinyDice("test", 300)
    loaders = make(test=source).test_dataloader(), BenchmarkDataModule(source).test_dataloader()
    assert [loader.batch_size for loader in loaders] == [256, 256]


def test_splits_that_are_not_set(make: Any) -> None:
    data = make()
    assert data.val_dataloader() == []
    for loader in (data.test_dataloader, data.predict_dataloader):
        with pytest.raises(ConfigError, match=r"data\.test is not set, but 'test' needs prompts"):
            loader()
    with pytest.raises(ConfigError, match=r"data\.validation is not set, but 'validate' needs prompts"):
        data.require("validate")


@pytest.mark.parametrize("setting", ["batch_size", "eval_batch_size"])
def test_batch_sizes_below_one(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{setting} is 0, but it must be at least 1"):
        PolicyDataModule(SEED, **{setting: 0})


def test_worker_processes_build_the_same_batches(make: Any) -> None:
    data, parallel = make(batch_size=4), make(batch_size=4, num_workers=1)
    for one, other in zip(data.train_dataloader(), parallel.train_dataloader(), strict=True):
        assert torch.equal(one.inputs.ids_BT, other.inputs.ids_BT)
        assert torch.equal(one.inputs.extras["pixel_values"], other.inputs.extras["pixel_values"])


def test_without_a_trainer_no_batch_can_be_built() -> None:
    with pytest.raises(RuntimeError, match="has no trainer"):
        PolicyDataModule(SEED).train_dataloader()


def test_test_and_predict_need_no_training_data(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings = evolve.settings()
    del settings["rollout"], settings["data"]["init_args"]["train"]
    config = str(evolve.write(settings))
    assert main(["fit", "--config", config]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        "mstar fit: error: data.train is not set, but 'fit' needs prompts to train on: set it or data.sources."
    )
    assert not (evolve.folder / "run").exists()
    assert main(["test", "--config", config]) == 0
    assert main(["predict", "--config", config]) == 0


def test_a_part_that_takes_the_place_of_the_sources_own_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A shipped configuration names its own data, and --data.sources beside it must not be passed over in silence."""
    sources = DataSources(partial(TinyDice, "seed", 4), train=Part(), test=Part())
    data = PolicyDataModule(TinyDice("annotation", 3), sources=sources, stage="warmup")
    assert (len(data.train), data.validation) == (3, None)
    [record] = caplog.records
    assert record.getMessage().startswith("data.train takes the place of the part 'warmup' of data.sources")
