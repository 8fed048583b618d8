"""The head of the step scorer: from hidden states and token log-probabilities to one logit a step.

Shapes: B rows, N the steps (or, where said, the tokens) of all rows in order, H hidden, F features.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_FEATURES: Final = 3
# A token this unlikely is simply wrong; clamped, one of them cannot dominate the head.
_LOWEST_LOGPROB: Final = -12.0


class StepLogits(NamedTuple):
    """Scores of the steps of some responses, before the sigmoid.

    Attributes:
        logits_N: One a step, row by row.
    """

    logits_N: Tensor
    row_N: Tensor

    def minimum(self, num_rows: int) -> Tensor:
        """The lowest logit of each row (M-STaR: R_p is the minimum over the steps); +inf for a row without steps."""
        lowest_B = self.logits_N.new_full((num_rows,), torch.inf)
        return lowest_B.scatter_reduce(0, self.row_N, self.logits_N, "amin")


class StepHead(nn.Module):
    """Maps the hidden state at a step's last token, and the step's log-probability features, to one logit.

    The score is a linear function of the features plus a small network on everything. The network's last layer starts
    at zero and the linear one at "an unlikely token means a wrong step", so that training starts from the likelihood.

    Args:
        hidden_size: Width of the backbone's hidden states.
        head_size: Width of the network's hidden layer.
    """

    def __init__(self, hidden_size: int, head_size: int, step_logprob_features: bool) -> None:
        super().__init__()
        features = _FEATURES if step_logprob_features else 0
        self.hidden = nn.Linear(hidden_size + features, head_size)
        self.output = nn.Linear(head_size, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.linear = nn.Linear(features, 1) if features else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
            with torch.no_grad():
                self.linear.weight[0, 0] = 0.3

    def forward(self, hidden_NH: Tensor, features_NF: Tensor | None) -> Tensor:
        """The logits of N steps, in float32."""
        dtype = self.hidden.weight.dtype
        # Whatever the backbone computes in: scores in 16 bits are often equal where their order matters.
        with torch.autocast(hidden_NH.device.type, enabled=False):
            inputs_NH = hidden_NH.to(dtype)
            if features_NF is not None:
                inputs_NH = torch.cat([inputs_NH, features_NF.to(dtype)], dim=1)
            # Not squeeze: what a sharded module returns must be no view.
            logits_N: Tensor = self.output(functional.gelu(self.hidden(inputs_NH))).sum(1)
            if self.linear is not None and features_NF is not None:
                logits_N = logits_N + self.linear(features_NF.to(dtype)).squeeze(1)
        return logits_N.float()


def logprob_features(logprob_N: Tensor, owner_N: Tensor, num_steps: int) -> Tensor:
    """Log-probability features (steps, F) of steps from those of their tokens, whose steps are ``owner_N``."""
    start = logprob_N.new_zeros(num_steps)
    lowest = start.scatter_reduce(0, owner_N, logprob_N, "amin")  # log-probabilities are at most 0
    total = start.index_add(0, owner_N, logprob_N)
    return torch.stack(
        [lowest.clamp(min=_LOWEST_LOGPROB) + 1, total.clamp(min=_LOWEST_LOGPROB) / 2 + 1, lowest.exp()], dim=1
    )
