"""Reading the files themselves: splits, damage, and pictures that are found again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts import PixelLimits
from mstar.prompts.benchmarks import AI2D, MathVista, MMBench, MMStar, VisualProcessBench
from mstar.prompts.prompt_table import PromptRecord


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        AI2D(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="called test"):
        AI2D(str(tmp_path))


@pytest.mark.parametrize("damage", ["short", "binary", "cells"])
def test_a_damaged_file_is_an_error(files: Any, tmp_path: Path, damage: str) -> None:
    content = Path(files.mmbench_tsv()).read_bytes()
    path = tmp_path / "MMBench.tsv"
    path.write_bytes({"short": b"", "binary": b"\xff\xfe" + content, "cells": content + b"7\tonly two\n"}[damage])
    with pytest.raises(DataError, match=r"is an empty file|is UTF-16 text|row 6 cannot be read"):
        MMBench(str(path))


def test_a_truncated_parquet_file_is_an_error(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "mmstar.parquet"
    path.write_bytes(Path(files.mmstar_parquet()).read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        MMStar(str(path))


@pytest.mark.parametrize("cut", [40, 41])
def test_a_truncated_picture_is_an_error(files: Any, tmp_path: Path, cut: int) -> None:
    content = Path(files.mmstar_tsv()).read_text(encoding="utf-8").rstrip("\n")
    path = tmp_path / "MMStar.tsv"
    path.write_text(content[:-cut] + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"MMStar.tsv#3' cannot be decoded|row 3 cannot be read"):
        MMStar(str(path))[3].images[0].load()


def test_pictures_are_read_from_the_cache(files: Any, shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(files.mmstar_tsv())
    MMStar(path)
    monkeypatch.setattr(PromptRecord, "__init__", None)
    again = pickle.loads(pickle.dumps(MMStar(path)))  # noqa: S301 - as a loader's process gets it
    assert all(shown(prompt.images[0], number) for number, prompt in enumerate(again))


def test_pixel_limits_apply_to_every_form(files: Any) -> None:
    limits = PixelLimits(maximum=300)
    for source in (
        MMStar(str(files.mmstar_parquet()), pixels=limits),
        MMStar(str(files.mmstar_tsv()), pixels=limits),
        VisualProcessBench(str(files.visual_process_bench()), pixels=limits),
    ):
        width, height = source[0].images[0].load().size
        assert width * height <= 300


def test_rows_that_stand_twice_are_an_error(files: Any, tmp_path: Path) -> None:
    lines = Path(files.mmstar_tsv()).read_text(encoding="utf-8")
    path = tmp_path / "MMStar.tsv"
    path.write_text(lines + lines.partition("\n")[2], encoding="utf-8")
    with pytest.raises(DataError, match="rows 0 and 4 have the same id 'mmstar-0'"):
        MMStar(str(path))


def test_missing_pictures_are_found_before_the_run(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "testmini.json"
    path.write_text(Path(files.mathvista_json()).read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"7 of 7 pictures are missing, the first of them .*images/1.png'; check image_root"
    ):
        MathVista(str(path))
    assert len(MathVista(str(path), image_root=str(files.mathvista_json().parent))) == 7


def test_a_file_without_pictures_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ai2d.jsonl"
    path.write_text(json.dumps({"question": "Q?", "options": ["a", "b"], "answer": "1"}), encoding="utf-8")
    with pytest.raises(DataError, match="no row has a picture"):
        AI2D(str(path))


def test_visual_process_bench_has_labels_for_steps(files: Any, shown: Any) -> None:
    source = VisualProcessBench(str(files.visual_process_bench()))
    assert len(source) == 12
    prompt = source[3]
    assert prompt.question == "What is 3 plus 2?"
    assert shown(prompt.images[0], 3)
    steps = source.steps[prompt.id]
    # The step without text is left out; the first step has two lines.
    assert steps.steps == ("3 is shown.\n\n- in red", "I add 2.", "Answer: 6")
    assert steps.labels == (1, 1, -1)
    assert source.items[3].facets == (("data_source", "WeMath"), ("policy_model", "a"))


def test_a_folder_that_datasets_saved(files: Any, shown: Any, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    published = MMStar(str(files.mmstar_parquet()))
    data = Dataset.from_parquet(str(files.mmstar_parquet()), cache_dir=str(tmp_path / "hf"))
    data.save_to_disk(str(tmp_path / "saved"))
    source = MMStar(str(tmp_path / "saved"), pixels=PixelLimits(maximum=300))
    assert [prompt.question for prompt in source] == [prompt.question for prompt in published]
    assert [item.facets for item in source.items] == [item.facets for item in published.items]
    assert source[2].images[0].load().size != published[2].images[0].load().size
    assert all(shown(prompt.images[0], number) for number, prompt in enumerate(MMStar(str(tmp_path / "saved"))))
    # Pictures as datasets has them, in a folder of several splits.
    pictures = Dataset.from_parquet(str(files.ai2d_parquet() / "data/*.parquet"), cache_dir=str(tmp_path / "hf"))
    DatasetDict({"train": pictures.select([0]), "test": pictures}).save_to_disk(str(tmp_path / "splits"))
    source = AI2D(str(tmp_path / "splits"))
    assert [prompt.answer for prompt in source] == ["c", "Egg"]
    assert all(shown(prompt.images[0], number) for number, prompt in enumerate(source))
    assert len(AI2D(str(tmp_path / "splits/train"))) == 1
    with pytest.raises(DataError, match=r"has the splits \['test', 'train'\]: give the folder"):
        AI2D(str(tmp_path / "splits"), split="val")
