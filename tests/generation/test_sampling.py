"""Drawing tokens: by the softmax, from each row's own random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mstar.generation.sampling import Draws

LOGITS = torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0, 1.0, -4.0])
BANNED = torch.tensor([0, 3])


def draw(logits_RV: Tensor, temperatures: Sequence[float], uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    draws = Draws(tuple(temperatures), torch.tensor(temperatures), uniform_R[:, None])
    return draws.tokens(logits_RV, 0, BANNED)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.6])
def test_the_drawn_tokens_follow_the_softmax(temperature: float) -> None:
    count = 50_000
    # Evenly spaced "random" numbers: every token must then be drawn as often as its share says, to within one.
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, logprobs = draw(LOGITS.expand(count, -1), [temperature] * count, uniform)
    weights = [0.0 if i in (0, 3) else math.exp(x / temperature) for i, x in enumerate(LOGITS.tolist())]
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    counts = torch.bincount(tokens, minlength=7)
    assert (counts - count * shares).abs().max() < 1.5
    assert counts[BANNED].tolist() == [0, 0]
    # The log-probability is that of the policy itself: temperature 1, nothing banned.
    assert torch.equal(logprobs, LOGITS.log_softmax(-1)[tokens])


def test_the_extremes_of_the_random_numbers_never_draw_an_impossible_token() -> None:
    logits = torch.tensor([[5.0, 1.0, 1.0, 5.0]]).expand(2, -1)
    uniform = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    tokens, _ = draw(logits, [1.0, 1.0], uniform)
    assert tokens.tolist() == [1, 2]


def test_greedy_and_sampled_rows_side_by_side() -> None:
    uniform = torch.full((4,), 0.999999, dtype=torch.float64)
    tokens, _ = draw(LOGITS.expand(4, -1), [0.0, 1.0, 0.0, 1e-4], uniform)
    # 5 is the likeliest that is not banned; 6 the last one; and almost no temperature is as good as none.
    assert tokens.tolist() == [5, 6, 5, 5]
