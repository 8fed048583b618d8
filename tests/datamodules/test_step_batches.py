"""The batches of an optimizer step: the same rows, of like length together, and one mean over their tokens."""

from __future__ import annotations

import copy
import resource
import sys
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import HalfPrecision
from torch import Tensor
from torch.utils.data import DistributedSampler, SequentialSampler

from mstar.datamodules import PolicyDataModule, step_batches
from mstar.datamodules.step_batches import StepBatch, StepLoader
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.types import Example

NUMBER = 22
POOL = TinyDice("pool", NUMBER)
# As many words as the row's number says, in an order without order.
EXAMPLES = [Example(POOL[i].id, "red " * (1 + (i * 7) % NUMBER)) for i in range(NUMBER)]


@pytest.fixture
def make(tiny: Any, tmp_path: Any) -> Any:
    """Makes a data module with 22 examples whose trainer accumulates 4 batches of 2."""

    def made(
        accumulate: int = 4, examples: list[Example] | None = EXAMPLES, train: TinyDice = POOL, **settings: Any
    ) -> PolicyDataModule:
        data = PolicyDataModule(train, batch_size=2, **settings)
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
            lightning_module=SimpleNamespace(renderer=tiny.renderer), accumulate_grad_batches=accumulate,
            default_root_dir=str(tmp_path), current_epoch=0, callbacks=[],
        )  # fmt: skip
        if examples is not None:
            data.set_examples(examples)
        return data

    return made


def lengths_of(batches: Any) -> list[list[int]]:
    """For every batch, the tokens of its rows."""
    return [batch.inputs.mask_BT.sum(1).tolist() for batch in batches]


def responses_of(batches: Any) -> list[list[int]]:
    """For every batch, the tokens of its responses, which differ from row to row."""
    return [(batch.labels_BT >= 0).sum(1).tolist() for batch in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def test_a_step_has_the_same_rows_in_batches_of_like_length(make: Any) -> None:
    as_they_come = list(make(sort_by_length=False).train_dataloader())
    batches = list(make().train_dataloader())
    assert [len(batch) for batch in responses_of(batches)] == [2] * 11
    for start in (0, 4, 8):
        before, after = as_they_come[start : start + 4], batches[start : start + 4]
        assert sorted(flat(responses_of(after))) == sorted(flat(responses_of(before)))
        assert flat(lengths_of(after)) == sorted(flat(lengths_of(before)), reverse=True)
        assert flat(lengths_of(after)) != flat(lengths_of(before))


def test_a_precision_of_16_bits_does_not_round_the_log_probabilities(make: Any) -> None:
    """With bf16-true Lightning converts every tensor of a batch that it can reach."""
    worth = {"weight": 1 / 3, "advantage": 2 / 3, "tokens": (5, 6), "logprobs": (-20.03, -20.06)}
    data = make(examples=[replace(EXAMPLES[0], **worth), replace(EXAMPLES[1], **worth)], accumulate=1)
    [batch] = data.train_dataloader()
    converted = HalfPrecision("bf16-true").convert_input(batch)
    assert converted.inputs.extras["pixel_values"].dtype == torch.bfloat16
    credit = move_data_to_device(converted, torch.device("meta")).credit
    assert {value.device.type for value in vars(credit).values()} == {"meta"}
    for name, values in (("weight_B", [1 / 3] * 2), ("advantage_B", [2 / 3] * 2), ("logprob_N", [-20.03, -20.06] * 2)):
        assert torch.equal(getattr(converted.credit, name), torch.tensor(values))


def test_the_loss_is_divided_by_the_tokens_of_the_step(make: Any) -> None:
    for sort in (True, False):
        batches = list(make(sort_by_length=sort).train_dataloader())
        for start in (0, 4, 8):
            step = batches[start : start + 4]
            tokens = sum(int((batch.labels_BT >= 0).sum()) for batch in step)
            # The last step has three batches only, but the trainer divides by four there, too.
            assert [batch.mean_tokens for batch in step] == [tokens / 4] * len(step)


def test_a_step_changes_the_weights_in_the_same_way_sorted_or_not(tiny: Any, tmp_path: Any) -> None:
    def train(sort: bool, batch_size: int, accumulate: int) -> torch.Tensor:
        module = PolicyModule("unused", lr=0.1, optimizer=torch.optim.SGD)  # type: ignore[arg-type]
        module.model, module._renderer = copy.deepcopy(tiny.model).train(), tiny.renderer
        data = PolicyDataModule(POOL, batch_size=batch_size, sort_by_length=sort)
        data.set_examples(EXAMPLES[:8])
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, accumulate_grad_batches=accumulate, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        assert trainer.global_step == 1
        return torch.cat([value.detach().flatten() for value in module.model.parameters()])

    whole = train(sort=False, batch_size=8, accumulate=1)
    before = torch.cat([value.detach().flatten() for value in tiny.model.parameters()])
    assert (whole - before).abs().max() > 1e-3
    for sort in (True, False):
        torch.testing.assert_close(train(sort, batch_size=2, accumulate=4), whole, rtol=0, atol=2e-6)


def test_without_accumulation_batches_are_as_they_come(make: Any) -> None:
    loader = make(accumulate=1).train_dataloader()
    assert not isinstance(loader, StepLoader)
    assert not any(isinstance(batch, StepBatch) for batch in loader)


def test_rationales_are_in_another_order_every_epoch_and_the_same_again(make: Any) -> None:
    def epoch(number: int) -> list[torch.Tensor]:
        loader = make(examples=None, train=TinyDice("seed", NUMBER)).train_dataloader()
        assert isinstance(loader.sampler, DistributedSampler)
        loader.sampler.set_epoch(number)
        return [batch.inputs.ids_BT for batch in loader]

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("position", "num_workers"), [(0, 0), (3, 0), (4, 0), (9, 0), (10, 0), (9, 1)])
def test_it_goes_on_where_it_stopped_also_within_a_step(make: Any, position: int, num_workers: int) -> None:
    whole = list(make().train_dataloader())
    begun = make().train_dataloader()
    list(islice(begun, position))
    resumed = make(num_workers=num_workers).train_dataloader()
    assert len(resumed) == 11
    resumed.load_state_dict(begun.state_dict())
    rest = list(resumed)
    assert len(rest) == 11 - position
    for one, other in zip(rest, whole[position:], strict=True):
        assert torch.equal(one.inputs.ids_BT, other.inputs.ids_BT)
    # The next epoch is a whole one.
    assert len(list(resumed)) == 11


def test_every_process_has_as_many_batches(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = flat(responses_of(make().train_dataloader()))
    seen: list[int] = []
    counts = []
    for rank in range(3):
        monkeypatch.setattr("mstar.datamodules.policy.world_size", lambda: 3)
        monkeypatch.setattr("mstar.datamodules.policy.rank", lambda rank=rank: rank)
        batches = responses_of(make(accumulate=2).train_dataloader())
        counts.append([len(batch) for batch in batches])
        seen += flat(batches)
    assert counts == [[2, 2, 2, 2]] * 3
    assert set(seen) == set(expected)


def _many_tensors(rows: list[int]) -> list[list[Tensor]]:
    return [[torch.tensor(row)] * 12 for row in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="where tensors are handed over by open files")
def test_steps_of_many_batches_pass_with_the_usual_limit_of_open_files() -> None:
    """The lost step was waited for for ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        loader = StepLoader(range(512), 1, 128, SequentialSampler(range(512)), 2, _many_tensors)
        assert [int(batch[0]) for batch in loader] == list(range(512))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_no_more_files_may_be_open_there_are_fewer_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for allowed, batches, usable in ((1024, 128, 0), (10_000, 128, 3), (1024, 4, 4)):
        monkeypatch.setattr(step_batches, "allow_files", lambda number, allowed=allowed: min(number, allowed))
        assert StepLoader(range(8), 1, batches, SequentialSampler(range(8)), 4, _many_tensors).num_workers == usable
    assert caplog.text.count("are allowed (ulimit -n)") == 2
