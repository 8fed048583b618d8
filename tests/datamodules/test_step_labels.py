"""Step labels to batches: filled prompt by prompt, split by prompt, reshuffled by epoch."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import HalfPrecision

from mstar.annotation import ContrastSettings, LabelDiet
from mstar.datamodules.samplers import PromptBatchSampler
from mstar.datamodules.step_label_batches import StepLabelBatch
from mstar.datamodules.step_labels import StepLabelDataModule
from mstar.errors import ConfigError, DataError
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.response_scorer import SharedInputs
from mstar.prompts import PromptSource, TinyDice
from mstar.rendering import Renderer
from mstar.storage import write_step_labels
from mstar.types import StepLabels

GROUPS = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9]]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return load_renderer(EMBEDDED_MODEL, load_model(EMBEDDED_MODEL))


def label(prompt_id: str, number: int = 0, **changes: Any) -> StepLabels:
    steps = (f"red = {number}\n", "Answer: 3")
    values = {"num_correct": (number % 5, 1), "num_total": (4, 1), "correct": True, "logprob": -2.5, **changes}
    return StepLabels(prompt_id, "".join(steps), steps, **values)


def loaded(data: StepLabelDataModule, renderer: Renderer, share_prompts: bool = False) -> StepLabelDataModule:
    """The data module after setup, on the only process of a run whose module has this renderer."""
    module = SimpleNamespace(renderer=renderer, share_prompts=share_prompts, count_terms=lambda batch: ())
    trainer = SimpleNamespace(
        lightning_module=module, world_size=1, global_rank=0, default_root_dir=".", callbacks=[],
        accumulate_grad_batches=1,
    )  # fmt: skip
    data.trainer = trainer  # type: ignore[assignment]
    data.setup("fit")
    return data


def test_batches_are_filled_prompt_by_prompt() -> None:
    assert list(PromptBatchSampler(GROUPS, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shuffled = [row for batch in PromptBatchSampler(GROUPS, 4, seed=5) for row in batch]
    assert sorted(shuffled) == list(range(10))
    for group in GROUPS:
        start = shuffled.index(group[0])
        assert shuffled[start : start + len(group)] == group


def test_the_order_follows_from_seed_and_epoch() -> None:
    groups = [[i] for i in range(20)]

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = PromptBatchSampler(groups, 3, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_get_equally_many_batches_and_leave_none_out(world: int) -> None:
    samplers = [PromptBatchSampler(GROUPS, 4, num_replicas=world, rank=rank) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {-(-3 // world)}
    assert {row for share in shares for batch in share for row in batch} == set(range(10))


def test_a_batch_by_hand(renderer: Renderer, tmp_path: Path) -> None:
    prompts = TinyDice("annotation", 3)
    first = label("annotation-0-2", 3, chain_correct=True, logprob=-20.03)
    second = label("annotation-0-2", 0, correct=False, chain_correct=False, logprob=None)
    third = label("annotation-0-0", 1)
    write_step_labels(tmp_path / "labels-00000.parquet", [first, third])
    write_step_labels(tmp_path / "labels-00001.parquet", [second])
    data = loaded(StepLabelDataModule(str(tmp_path), prompts, batch_size=8, validation_share=0.0), renderer)
    [batch] = list(data.train_dataloader())

    assert isinstance(batch, StepLabelBatch)
    order = [renderer.decode(row[row != -100][:-1].tolist()) for row in batch.responses.labels_BT]
    assert sorted(order) == sorted(label.response for label in (first, second, third))
    at = [order.index(label.response) for label in (first, second, third)]
    assert batch.soft_N.view(3, 2)[at].tolist() == [[0.75, 1.0], [0.0, 1.0], [0.25, 1.0]]
    assert batch.hard_N.view(3, 2)[at].tolist() == [[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
    assert [len(ends) for ends in batch.responses.step_ends] == [2, 2, 2]
    groups = batch.group_B[at].tolist()
    assert groups[0] == groups[1] != groups[2]
    assert batch.correct_B[at].tolist() == [True, False, True]
    assert batch.chain_B[at].tolist() == [1, 0, -1]
    assert [math.isnan(batch.logprobs[place]) for place in at] == [False, True, False]
    # In 16 bits the likelihoods of a prompt's responses would often be equal.
    assert HalfPrecision("bf16-true").convert_input(batch).logprobs == batch.logprobs
    # Each row shows the picture of its own prompt.
    pixels = batch.responses.inputs.extras["pixel_values"][at]
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[0], pixels[2])


def test_a_shared_batch_has_every_prompt_once(renderer: Renderer, tmp_path: Path) -> None:
    labels = [label("annotation-0-2", 3), label("annotation-0-2", 1), label("annotation-0-0", 2)]
    write_step_labels(tmp_path / "labels-00000.parquet", labels)
    prompts = TinyDice("annotation", 3)
    data = StepLabelDataModule(str(tmp_path), prompts, validation_share=0.0)
    [batch] = list(loaded(data, renderer, share_prompts=True).train_dataloader())
    shared = batch.responses
    assert isinstance(shared, SharedInputs)
    assert len(shared.prompts.ids_BT) == len(shared.prompts.extras["pixel_values"]) == 2
    responses = [
        renderer.decode(row[mask.bool()][:-1].tolist()) for row, mask in zip(shared.ids_RL, shared.mask_RL, strict=True)
    ]
    asked = [renderer.decode(shared.prompts.ids_BT[owner].tolist()) for owner in shared.owner_R]
    by_response = {item.response: prompts[prompts.index_of(item.prompt_id)].question for item in labels}
    assert sorted(responses) == sorted(by_response)
    for response, text in zip(responses, asked, strict=True):
        assert text.endswith(by_response[response] + "\n")
    for row, ends in zip(shared.ids_RL.tolist(), shared.step_ends, strict=True):
        assert [renderer.decode([row[end]]) for end in ends] == ["\n", ""]


def test_the_split_is_by_prompt_and_follows_from_the_seed(renderer: Renderer, tmp_path: Path) -> None:
    labels = [label(f"annotation-0-{i}", j) for i in range(60) for j in range(3)]
    path = tmp_path / "labels.parquet"
    write_step_labels(path, labels)

    def split(seed: int) -> tuple[Counter[str], Counter[str]]:
        data = StepLabelDataModule(str(path), TinyDice("annotation", 60), validation_share=0.3, seed=seed)
        data.setup("fit")
        return Counter(x.prompt_id for x in data.train), Counter(x.prompt_id for x in data.validation)

    train, validation = split(0)
    assert not set(train) & set(validation)
    assert set((train + validation).values()) == {3}
    assert 8 <= len(validation) <= 28
    assert split(0) == (train, validation)
    assert split(1) != (train, validation)


@pytest.mark.parametrize(("numbers", "warned"), [((1, 2), 0), ((0, 1), 1)])
def test_prompts_that_are_trained_and_validated_on_are_told(
    renderer: Renderer, tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: tuple[int, ...], warned: int
) -> None:
    write_step_labels(tmp_path / "a" / "labels-00000.parquet", [label("annotation-0-0")])
    write_step_labels(tmp_path / "b" / "labels-00000.parquet", [label(f"annotation-0-{n}") for n in numbers])
    data = StepLabelDataModule(str(tmp_path / "a"), TinyDice("annotation", 3), validation_labels=str(tmp_path / "b"))
    loaded(data, renderer)
    assert sum("validation_labels has 1 prompt that data.labels has" in line for line in caplog.messages) == warned


def test_validation_labels_of_their_own_from_several_sources(renderer: Renderer, tmp_path: Path) -> None:
    write_step_labels(tmp_path / "a" / "labels-00000.parquet", [label("annotation-0-0")])
    write_step_labels(tmp_path / "b" / "labels-00000.parquet", [label("validation-0-1"), label("validation-0-0")])
    sources: list[PromptSource] = [TinyDice("annotation", 1), TinyDice("validation", 2)]
    data = StepLabelDataModule(str(tmp_path / "a"), sources, validation_labels=str(tmp_path / "b"))
    loaded(data, renderer)
    assert [x.prompt_id for x in data.train] == ["annotation-0-0"]
    assert [x.prompt_id for x in data.validation] == ["validation-0-1", "validation-0-0"]
    [batch] = list(data.val_dataloader())
    assert len(batch.group_B) == 2


def test_no_validation(renderer: Renderer, tmp_path: Path) -> None:
    write_step_labels(tmp_path / "labels-00000.parquet", [label("annotation-0-0")])
    data = loaded(StepLabelDataModule(str(tmp_path), TinyDice("annotation", 1), validation_share=0.0), renderer)
    assert data.val_dataloader() == []
    with pytest.raises(ConfigError, match=r"raise data\.validation_share"):
        data.setup("validate")


def test_labels_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    source = TinyDice("annotation", 2)
    with pytest.raises(DataError, match="holds no step labels"):
        StepLabelDataModule(str(tmp_path), source).setup("fit")
    with pytest.raises(DataError, match=r"missing\.parquet' holds no step labels.*or mend the path"):
        StepLabelDataModule(str(tmp_path / "missing.parquet"), source).setup("fit")
    path = tmp_path / "labels-00000.parquet"
    write_step_labels(path, [label("annotation-0-7")])
    with pytest.raises(DataError, match=r"data\.prompts does not have 'annotation-0-7'"):
        StepLabelDataModule(str(tmp_path), source, validation_share=0.0).setup("fit")
    write_step_labels(path, [StepLabels("annotation-0-0", "a\nb", ("a\nb",), (1,), (1,), True)])
    with pytest.raises(DataError, match="annotate again"):
        StepLabelDataModule(str(tmp_path), source, validation_share=0.0).setup("fit")


@pytest.mark.parametrize("right", [0, 1])
def test_labels_of_one_kind_teach_nothing(tmp_path: Path, right: int) -> None:
    source = TinyDice("annotation", 2)
    same = [label(f"annotation-0-{i}", i, num_correct=(4 * right, right), correct=bool(right)) for i in range(2)]
    write_step_labels(tmp_path / "labels-00000.parquet", same)
    data = StepLabelDataModule(str(tmp_path), source, validation_share=0.0)
    data.setup("fit")
    with pytest.raises(DataError, match=f"all step labels in '.*' are {right}, and an MPRM learns nothing"):
        data.require_two_kinds()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size is 0"):
        StepLabelDataModule("labels", TinyDice("annotation", 1), batch_size=0)
    with pytest.raises(ConfigError, match=r"data\.validation_share is 1"):
        StepLabelDataModule("labels", TinyDice("annotation", 1), validation_share=1.0)


def test_contrasts_join_the_labels_that_are_trained_on(renderer: Renderer, tmp_path: Path) -> None:
    chain = label("annotation-0-2", 3, num_correct=(4, 1))
    wrong = label("annotation-0-0", 4, correct=False)
    write_step_labels(tmp_path / "labels-00000.parquet", [chain, wrong])
    plain = StepLabelDataModule(str(tmp_path), TinyDice("annotation", 3), validation_share=0.0)
    contrast = ContrastSettings()
    data = StepLabelDataModule(
        str(tmp_path),
        TinyDice("annotation", 3),
        validation_share=0.0,
        validation_labels=str(tmp_path),
        contrast=contrast,
    )
    [before], [after] = (list(loaded(module, renderer).train_dataloader()) for module in (plain, data))
    assert before.labelled_N is None
    assert list(data.train or ())[:2] == list(plain.train or ()) == list(data.validation or ())
    made = (data.train or ())[2]
    assert (made.prompt_id, made.soft_labels[0]) == ("annotation-0-2", 0.0)
    assert made.steps[0] != chain.steps[0]
    # Its steps are all labelled, and rows of one prompt are one group.
    assert after.labelled_N is None
    assert len(after.soft_N) == len(before.soft_N) + 2
    assert sorted(Counter(after.group_B.tolist()).values()) == [1, 2]


def test_a_diet_is_for_training_alone_and_comes_before_contrasts(tmp_path: Path) -> None:
    mixed = label("annotation-0-2", 3, num_correct=(4, 0))
    alike = label("annotation-0-2", 4, num_correct=(4, 1))
    write_step_labels(tmp_path / "labels-00000.parquet", [alike, mixed])
    source, folder = TinyDice("annotation", 3), str(tmp_path)
    diet = LabelDiet(keep=0.5, agree=folder)
    data = StepLabelDataModule(
        folder, source, validation_labels=folder, diet=diet, contrast=ContrastSettings()
    )  # fmt: skip
    data.setup("fit")
    # The right chain that a contrast could be made of is not kept.
    assert list(data.train or ()) == [mixed]
    assert list(data.validation or ()) == [alike, mixed]
