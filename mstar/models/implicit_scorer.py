"""The implicit process reward: how much likelier a trained policy finds each step than the one it was trained from.

Shapes: N the response tokens of all rows in order, S their steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mstar.models.response_scorer import ResponseScorer, SharedInputs, StepPlaces, response_states
from mstar.models.step_head import StepLogits
from mstar.models.token_loss import token_losses
from mstar.rendering import ResponseInputs


def step_logprobs(
    model: nn.Module, batch: ResponseInputs | SharedInputs, finished: Sequence[bool] | None = None
) -> StepLogits:
    """The log-probability of every step of every response; that of a last step has the end token's in it.

    Args:
        batch: The responses, each behind its own prompt or with each prompt once.
        finished: For every response, whether its end token was drawn and counts; None where all do.
    """
    states = response_states(model, batch)
    places = StepPlaces.of(states)
    inside_N = places.owner_N >= 0
    if finished is not None:
        lengths_B = torch.tensor(states.lengths, device=inside_N.device)
        cut_off_B = ~torch.tensor(finished, device=inside_N.device)
        inside_N[(lengths_B.cumsum(0) - 1)[cut_off_B]] = False
    logprob_N = -token_losses(model, states.predicting_NH[inside_N], states.ids_N[inside_N]).float()
    logprob_S: Tensor = logprob_N.new_zeros(len(places.last_S)).index_add(0, places.owner_N[inside_N], logprob_N)
    return StepLogits(logprob_S, places.row_S)


class ImplicitScorer(ResponseScorer):
    """Scores steps by beta (log p - log p_reference) of their tokens (arXiv 2412.01981).

    The sum over a response is the logit of its being right, which is what ``ImplicitRewardModule`` trains; what a step
    adds to it is the step's reward.
    """

    def __init__(self, backbone: nn.Module, reference: nn.Module, beta: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.reference = reference
        self.beta = beta

    def forward(self, batch: ResponseInputs | SharedInputs) -> StepLogits:
        """Scores every step of every response."""
        trained, reference = step_logprobs(self.backbone, batch), step_logprobs(self.reference, batch)
        return StepLogits(self.beta * (trained.logits_N - reference.logits_N), trained.row_N)
