"""What losses are computed by, by hand."""

from __future__ import annotations

import math


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))
