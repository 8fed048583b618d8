"""Weights in files, written and read again."""

from __future__ import annotations

from pathlib import Path

import torch

from mstar.generation.weight_files import WeightsFingerprint, read_weights, write_weights


def test_weights_are_written_in_files_of_a_size_and_read_again(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    weights = [("a", shared), ("b", shared.T), ("c", torch.tensor(3)), ("d", torch.ones(100, dtype=torch.float64))]
    written = write_weights(weights, tmp_path, torch.bfloat16, size=20)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    read = dict(read_weights(tmp_path))
    assert {name: value.dtype for name, value in read.items()} == dict.fromkeys("abd", torch.bfloat16) | {
        "c": torch.int64
    }
    assert torch.equal(read["b"], shared.T.bfloat16())
    again = WeightsFingerprint()
    for name in "dcba":
        again.add(name, read[name])
    assert str(again) == str(written)
    again.add("a", read["a"] + 1)
    assert str(again) != str(written)
