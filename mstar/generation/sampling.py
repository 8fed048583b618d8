"""Drawing tokens: each row at its own temperature, from random numbers of its own.

Nothing here waits for the device: what the host must know is known before the first token.

Shapes: R rows, T new tokens at most, V vocabulary, N entries, X entries of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from mstar.generation.base import Sample

_BLOCK: Final = 128


@dataclass(frozen=True)
class Draws:
    """How the rows of a batch draw their tokens.

    Attributes:
        temperatures: The temperature of every row; 0 is greedy.
        uniform_RT: The random number of every row and token, uniform in [0, 1).
    """

    temperatures: tuple[float, ...]
    temperature_R: Tensor
    uniform_RT: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample], num_tokens: int, device: torch.device) -> Draws:
        """One stream of random numbers a row, drawn ahead: what a row draws depends on its own seed alone."""
        temperatures = tuple(sample.temperature for sample in samples)
        uniforms = np.stack(
            [np.random.Generator(np.random.Philox(sample.seed)).random(num_tokens) for sample in samples]
        )
        temperature_R = torch.tensor(temperatures, device=device, dtype=torch.float32)
        return cls(temperatures, temperature_R, torch.from_numpy(uniforms).to(device))

    def keep(self, order: Sequence[int], order_R: Tensor) -> Draws:
        """These rows, in this order, which is given twice: for the host and on the device."""
        temperatures = tuple(self.temperatures[row] for row in order)
        return Draws(temperatures, self.temperature_R[order_R], self.uniform_RT[order_R])

    def tokens(self, logits_RV: Tensor, step: int, banned: Tensor) -> tuple[Tensor, Tensor]:
        """One token a row, by inverse-CDF sampling (temperature 0: greedy), and its log-probability at temperature 1.

        Args:
            logits_RV: The logits, in float32.
        """
        hot = [temperature > 0 for temperature in self.temperatures]
        allowed_RV = logits_RV.index_fill(1, banned, -torch.inf)
        if any(hot):
            divisor_R1 = self.temperature_R.clamp(min=1e-6)[:, None]
            token_R = _invert((allowed_RV / divisor_R1).softmax(-1), self.uniform_RT[:, step])
            if not all(hot):
                token_R = torch.where(self.temperature_R > 0, token_R, allowed_RV.argmax(-1))
        else:
            token_R = allowed_RV.argmax(-1)
        del allowed_RV
        return token_R, logits_RV.log_softmax(-1).gather(1, token_R[:, None]).squeeze(1)


def _invert(weights_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """Where the cumulative weights of each row pass the share ``uniform_R`` of their sum.

    First the block, then the place in it: a running sum over the whole vocabulary takes many times as long.
    """
    blocks_RNX = pad(weights_RV, (0, -weights_RV.shape[1] % _BLOCK)).view(len(weights_RV), -1, _BLOCK)
    cumulative_RN = blocks_RNX.sum(-1).double().cumsum(-1)
    block_R, rest_R = _search(cumulative_RN, uniform_R)
    inside_RX = blocks_RNX[torch.arange(len(block_R), device=block_R.device), block_R].double().cumsum(-1)
    place_R, _ = _search(inside_RX, rest_R)
    return block_R * _BLOCK + place_R


def _search(cumulative_RN: Tensor, share_R: Tensor) -> tuple[Tensor, Tensor]:
    """The first entry beyond a share of the last one, and how far into that entry's own part the share reaches."""
    # Below 1 and scaled by the last entry, so that rounding cannot select an entry that adds nothing.
    target_R = share_R.clamp(max=1 - 2.0**-50) * cumulative_RN[:, -1]
    # Where logits are no numbers, nothing is found; their log-probability, no number either, tells.
    found_R1 = torch.searchsorted(cumulative_RN, target_R[:, None], right=True).clamp(max=cumulative_RN.shape[1] - 1)
    before_R = cumulative_RN.gather(1, (found_R1 - 1).clamp(min=0)).squeeze(1).where(found_R1.squeeze(1) > 0, 0.0)
    part_R = cumulative_RN.gather(1, found_R1).squeeze(1) - before_R
    return found_R1.squeeze(1), ((target_R - before_R) / part_R).clamp(0.0, 1.0)
