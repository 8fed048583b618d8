"""Batches without what cannot be used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mstar.datamodules import PolicyDataModule, StepLabelDataModule
from mstar.datamodules.quarantined import Quarantine, UsablePairs, usable_prompts
from mstar.errors import ConfigError, DataError
from mstar.prompts import PromptSource
from mstar.prompts.benchmarks import MathVista
from mstar.prompts.images import FileImage
from mstar.prompts.prompt_check import PromptCheck
from mstar.storage import write_step_labels
from mstar.types import Example, Prompt, StepLabels


class Pictures(PromptSource):
    """Prompts whose pictures are files; some of them are broken."""

    def __init__(self, folder: Path, size: int, broken: set[int]) -> None:
        for number in range(size):
            Image.new("RGB", (32, 32)).save(folder / f"{number}.png")
            if number in broken:
                (folder / f"{number}.png").write_bytes(b"")
        self.folder = folder
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Prompt:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return Prompt(str(index), "What is red?", (FileImage(f"{index}.png", str(self.folder)),))

    def index_of(self, prompt_id: str) -> int | None:
        return int(prompt_id)


def pairs(folder: Path, size: int, broken: set[int]) -> list[tuple[Prompt, Example]]:
    return [(prompt, Example(prompt.id, f"response {prompt.id}")) for prompt in Pictures(folder, size, broken)]


def test_the_next_usable_example_takes_the_place_of_a_bad_one(tmp_path: Path) -> None:
    quarantine = Quarantine(1.0).file(tmp_path, "train", 6)
    data = UsablePairs(pairs(tmp_path, 6, {2, 3, 5}), PromptCheck(), quarantine)
    assert [data[index][1].response[-1] for index in range(len(data))] == ["0", "1", "4", "4", "4", "0"]
    assert data[4][0].images[0].load().size == (32, 32)
    assert len((tmp_path / "quarantine/train.jsonl").read_text().splitlines()) == 3


def test_examples_that_are_all_bad_are_an_error(tmp_path: Path) -> None:
    data = UsablePairs(pairs(tmp_path, 2, {0, 1}), PromptCheck(), Quarantine(1.0).file(tmp_path, "train", 2))
    with pytest.raises(DataError, match=r"data\.train: none of the 2 examples can be used; see .*train\.jsonl"):
        data[0]


def test_a_batch_of_prompts_is_smaller_for_those_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Quarantine(None)
    collate = partial(usable_prompts, Pictures(tmp_path, 8, {6}), PromptCheck(), kept.file(tmp_path, "test", 8))
    assert [prompt.id for prompt in collate(range(4, 8)).prompts] == ["4", "5", "7"]
    kept.announce()
    kept.announce()
    assert capsys.readouterr().err.count("data.test: 1 of 8 rows are put aside") == 1


def test_labels_of_bad_prompts_are_left_out_and_no_batch_is_empty(tmp_path: Path, tiny: Any) -> None:
    source = Pictures(tmp_path, 4, {1, 2})
    labels = [
        StepLabels(str(n), f"red = {k}\nAnswer: 3", (f"red = {k}\n", "Answer: 3"), (n, 1), (4, 1), True)
        for n in range(4)
        for k in range(2)
    ]
    write_step_labels(tmp_path / "labels.parquet", labels)
    data = StepLabelDataModule(
        str(tmp_path / "labels.parquet"), source, batch_size=2, validation_share=0.0, max_bad_share=1.0
    )
    module = SimpleNamespace(renderer=tiny.renderer, share_prompts=True, count_terms=lambda batch: ())
    trainer = SimpleNamespace(
        lightning_module=module, world_size=1, global_rank=0, default_root_dir=tmp_path, callbacks=[],
        accumulate_grad_batches=1,
    )  # fmt: skip
    data.trainer = trainer  # type: ignore[assignment]
    data.setup("fit")
    batches = {tuple(batch.group_B.tolist()) for batch in data.train_dataloader()}
    # In place of the two rows of prompt 1 comes the next row that can be used, the first of prompt 3; likewise of 2.
    assert batches == {(0, 0), (3,), (3, 3)}
    assert len((tmp_path / "quarantine/labels.jsonl").read_text().splitlines()) == 4


def test_a_benchmark_whose_licence_forbids_it_is_not_trained_on(files: Any, tmp_path: Path) -> None:
    source = MathVista(str(files))
    data = PolicyDataModule(source)
    data.setup("test")
    with pytest.raises(ConfigError, match=r"data\.train is MathVista, whose licence prohibits training on it"):
        data.setup("fit")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A miniature testmini.json."""
    import json

    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    row = {"question": "How many?", "choices": None, "answer": "3", "question_type": "free_form",
           "answer_type": "integer", "image": "1.png"}  # fmt: skip
    (tmp_path / "testmini.json").write_text(json.dumps({"1": row}), encoding="utf-8")
    return tmp_path / "testmini.json"


def test_limits_out_of_range_are_refused(tmp_path: Path) -> None:
    source = Pictures(tmp_path, 1, set())
    with pytest.raises(ConfigError, match=r"data\.max_prompt_tokens is 0"):
        PolicyDataModule(source, max_prompt_tokens=0)
    with pytest.raises(ConfigError, match=r"data\.max_example_tokens is -1"):
        StepLabelDataModule("labels", source, max_example_tokens=-1)
    with pytest.raises(ConfigError, match=r"data\.max_bad_share is 1\.5"):
        PolicyDataModule(source, max_bad_share=1.5)
