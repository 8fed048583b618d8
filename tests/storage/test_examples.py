"""Examples in a file: read group by group, and sent to other processes by their path."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import mstar.storage.examples
from mstar.errors import DataError
from mstar.storage import ExampleFile, write_examples
from mstar.types import Example

EXAMPLES = [Example(f"p{i}", f"response {i}") for i in range(2500)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "examples.parquet"
    write_examples(path, iter(EXAMPLES))
    return path


def test_it_is_a_sequence(path: Path) -> None:
    examples = ExampleFile(path)
    assert len(examples) == 2500
    assert list(examples) == EXAMPLES
    assert (examples[0], examples[1023], examples[1024], examples[-1]) == tuple(
        EXAMPLES[i] for i in (0, 1023, 1024, 2499)
    )
    assert examples[1020:1030:3] == EXAMPLES[1020:1030:3]
    for index in (2500, -2501):
        with pytest.raises(IndexError):
            examples[index]


def test_few_groups_are_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mstar.storage.examples, "_HELD", 2)
    examples = ExampleFile(path)
    for index in (0, 2499, 5, 1500, 2):
        assert examples[index] == EXAMPLES[index]
        assert len(examples._held) <= 2
    # The group that was used last before the third came in has stayed.
    assert set(examples._held) == {0, 1}


def test_it_is_sent_to_a_process_by_its_path(path: Path) -> None:
    examples = ExampleFile(path)
    assert examples[3] == EXAMPLES[3]
    sent = pickle.dumps(examples)
    assert len(sent) < 1000
    assert list(pickle.loads(sent)) == EXAMPLES  # noqa: S301 - what the line before has written


def test_without_examples(tmp_path: Path) -> None:
    write_examples(tmp_path / "none.parquet", ())
    assert list(ExampleFile(tmp_path / "none.parquet")) == []


def test_a_file_that_is_missing_or_damaged_or_something_else(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.parquet does not exist"):
        ExampleFile(tmp_path / "gone.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as Parquet"):
        ExampleFile(tmp_path / "cut.parquet")
