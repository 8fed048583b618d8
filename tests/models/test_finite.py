"""Weights that are no numbers are found, wherever they are, and nothing else is taken for them."""

from __future__ import annotations

import math

import pytest
import torch

from mstar.errors import ConfigError
from mstar.models.finite import find_nonfinite, require_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_first_bad_tensor_is_named(dtype: torch.dtype) -> None:
    largest = torch.full((3, 2), torch.finfo(dtype).max, dtype=dtype)
    good = [("a", largest), ("b", -largest), ("empty", torch.zeros(0)), ("whole", torch.ones(2, dtype=torch.long))]
    assert find_nonfinite(good) is None
    assert find_nonfinite([]) is None
    assert find_nonfinite([("same", torch.tensor(torch.inf)), ("same", largest)]) == "same"
    for value in (math.nan, math.inf, -math.inf):
        bad = largest.clone()
        bad[2, 1] = value
        assert find_nonfinite([*good, ("c", bad), ("d", bad)]) == "c"
        with pytest.raises(
            ConfigError, match=r"not finite numbers \('c' is the first\), so nothing is done: go on from"
        ):
            require_finite([*good, ("c", bad)], "nothing is done")
