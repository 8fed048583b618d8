"""Proof that an engine has the trainer's weights, and that it computes with them what the trainer computes.

An engine that keeps its own copy of the policy can silently go on with old weights, or with image features that old
weights made. What it then writes looks plausible, so it is compared with the trainer before anything is learnt from it:
its weights and caches exactly, and its log-probabilities of the same responses. In 16 bits rounding hides small updates
from log-probabilities, and hides no wrong weight from the exact comparison.

Shapes: B rows, T tokens, N response tokens of the batch, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from torch import Tensor, nn

from mstar.distributed import gather_lists
from mstar.errors import EngineDriftError
from mstar.generation.base import GREEDY, Engine, HandOver, Request
from mstar.models.families import family_of
from mstar.models.sharding import inside_forward
from mstar.models.token_loss import token_losses
from mstar.rendering import IGNORE_INDEX, Renderer, ResponseInputs
from mstar.types import Prompt

# Prompts that are looked through for pictures.
_SEARCHED: Final = 64
# How many times the drift of the first hand-over later ones may reach: rounding grows as a policy gets surer.
_GROWTH: Final = 3.0
# Mean absolute differences of a token's log-probability by what is computed in: what the first hand-over may have, and
# what later ones may have even if it had less. Rounding gives 1e-6 to 1e-5 in float32 and 1e-2 to 3e-2 in 16 bits; TF32
# has three bits more than bfloat16, so an eighth of that is to be expected. Wrong pictures gave 0.5 and more.
_EXACT: Final = (1e-3, None)
_TF32: Final = (5e-2, 1e-2)
_IN_16_BITS: Final = (2.5e-1, 5e-2)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the engine's log-probabilities are from the trainer's, over all tokens of the compared responses.

    Attributes:
        mean: Mean absolute difference of a token, in nats: what is logged and held against the engine's bound.
        where: What of the engine it is of, if that has several parts with weights of their own: the worst of them.
    """

    mean: float
    worst: float
    num_tokens: int
    where: str = ""


def drift_bounds(exact: bool, device: torch.device) -> tuple[float, float | None]:
    """The largest drift of the first hand-over, and the floor of the bound that later ones get."""
    if not exact:
        return _IN_16_BITS
    # cuDNN's convolutions use it where nothing is set, and so the patches of pictures do.
    tf32 = torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"
    return _TF32 if device.type == "cuda" and tf32 else _EXACT


def trainer_logprobs(
    policy: nn.Module,
    renderer: Renderer,
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    dtype: torch.dtype | None = None,
) -> list[list[float]]:
    """The log-probability at temperature 1 of each token of given responses, by the Transformers model itself.

    Args:
        policy: The model that is trained; its mode is as before afterwards. If it is sharded, all processes must call
            this together.
        prompts: One a response, with their pictures.
        responses: The responses' texts; the end token is added.
        dtype: What is computed in; None leaves it to the surroundings.
    """
    batch = renderer.response_inputs(prompts, responses)
    was_training = policy.training
    policy.eval()
    try:
        with torch.no_grad(), _computing_in(dtype, policy):
            logprob_N = inside_forward(policy, _logprobs, policy, batch)
    finally:
        policy.train(was_training)
    rows = torch.split(logprob_N.cpu(), (batch.labels_BT != IGNORE_INDEX).sum(1).tolist())
    return [row.tolist() for row in rows]


def _computing_in(dtype: torch.dtype | None, policy: nn.Module) -> AbstractContextManager[object]:
    """Has a policy of another type compute as an engine of this one does."""
    own = next(p for p in policy.parameters() if p.is_floating_point())
    if dtype is None or dtype == own.dtype != torch.float32:
        return nullcontext()
    return torch.autocast(own.device.type, dtype=dtype, enabled=dtype != torch.float32)


def _logprobs(policy: nn.Module, batch: ResponseInputs) -> Tensor:
    """The log-probabilities of all response tokens, row after row."""
    device = next(policy.parameters()).device
    inputs, target_BT = batch.inputs.to(device), batch.labels_BT[:, 1:].to(device)
    hidden_BTH = family_of(policy).hidden_states(policy, inputs.ids_BT, inputs.mask_BT, inputs.extras)
    scored_BT = target_BT != IGNORE_INDEX
    return -token_losses(policy, hidden_BTH[:, :-1][scored_BT], target_BT[scored_BT])


def measure_drift(
    engine: Engine, policy: nn.Module, renderer: Renderer, prompts: Sequence[Prompt], responses: Sequence[str]
) -> Drift | None:
    """Compares an engine with the policy on given responses.

    Args:
        prompts: One a response. A stale picture is noticed only where the engine has seen it with the old weights.

    Returns:
        The drift, of several parts the largest; None for an engine that computes with the policy itself.

    Raises:
        EngineDriftError: no token could be compared.
    """
    each = engine.response_logprobs(prompts, responses)
    if not each:
        return None
    ours = trainer_logprobs(policy, renderer, prompts, responses, engine.dtype)
    drifts = [_compare(theirs, ours, type(engine).__name__, where) for where, theirs in each.items()]
    return max(drifts, key=lambda drift: drift.mean)


def _compare(theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], name: str, where: str) -> Drift:
    # An engine leaves out the tokens that do not fit its longest sequence.
    differences = [
        abs(a - b) for row_a, row_b in zip(theirs, ours, strict=True) for a, b in zip(row_a, row_b, strict=False)
    ]
    if not differences:
        raise EngineDriftError(
            f"the {name} could not be compared with the trainer, because none of the responses fits "
            "its longest sequence: raise its max_model_len."
        )
    # Only a NaN differs from itself: it is neither small nor large, but as wrong as can be.
    if any(difference != difference for difference in differences):
        return Drift(float("inf"), float("inf"), len(differences), where)
    return Drift(sum(differences) / len(differences), max(differences), len(differences), where)


class DriftCheck:
    """Proves at every hand-over of weights that the engine has them.

    Between ``prepare`` and ``measure`` the weights are handed over. What an engine wrongly keeps (weights, features of
    pictures) it then holds for these very prompts, and the difference shows: in the exact comparison of its weights and
    caches if the engine can be read (``Engine.compare_weights``), and in log-probabilities.

    It costs as much as the hand-over again, for the weights, and the reading of a few responses by either side.

    Args:
        prompts: Where the prompts come from; the first few with pictures are used, or without if none has any.
    """

    def __init__(self, prompts: Iterable[Prompt], num_responses: int = 4) -> None:
        with_images: list[Prompt] = []
        without: list[Prompt] = []
        for prompt in islice(prompts, _SEARCHED):
            (with_images if prompt.images else without).append(prompt)
            if len(with_images) == num_responses:
                break
        self.prompts = (with_images or without)[:num_responses]
        self._responses: list[str] | None = None
        self._calibrated: float | None = None

    def prepare(self, engine: Engine) -> None:
        """Has the engine read the prompts with the weights that it is about to lose; it writes the responses, once."""
        if engine.drift_bound is None or not self.prompts:
            return
        if self._responses is None:
            written = engine.generate([Request(prompt, (GREEDY,)) for prompt in self.prompts])
            self._responses = [row[0].text for row in written]
        elif not engine.asleep:
            # Asleep it keeps nothing that could be wrong, and would want the weights before it could read.
            engine.response_logprobs(self.prompts, self._responses)

    def measure(self, engine: Engine, policy: nn.Module, renderer: Renderer) -> Drift | None:
        """The drift after the hand-over, the largest of any process.

        Raises:
            EngineDriftError: the engine's weights are not the trainer's, it keeps what others made, or the drift is
                above its bound, so that its responses must not be learnt from.
        """
        if engine.drift_bound is None or self._responses is None:
            return None
        require_handed_over(engine, policy)
        drift = measure_drift(engine, policy, renderer, self.prompts, self._responses)
        drifts = [d for d in gather_lists([drift]) if d is not None]
        worst = max(drifts, key=lambda d: d.mean, default=None)
        if worst is None:
            return None
        bound = engine.drift_bound if self._calibrated is None else self._calibrated
        if worst.mean > bound:
            part = f" ({worst.where})" if worst.where else ""
            raise EngineDriftError(
                f"the {type(engine).__name__}{part} does not compute what the trainer computes: the log-probabilities "
                f"of {worst.num_tokens} tokens differ by {worst.mean:.3g} on average ({worst.worst:.3g} at most), and "
                f"its drift_bound is {bound:.3g}; the run stops before it learns from them. If rounding alone is as "
                "large as that (16 bits), set drift_bound."
            )
        if self._calibrated is None and engine.drift_floor is not None:
            self._calibrated = max(engine.drift_floor, _GROWTH * worst.mean)
        return worst


def wrong_weights(name: str, different: Sequence[str], compared: int) -> EngineDriftError:
    """The error of an engine, or a server, some of whose ``compared`` tensors are not the trainer's."""
    others = f" and {len(different) - 1} more" if len(different) > 1 else ""
    return EngineDriftError(
        f"the {name} does not have the trainer's weights: '{different[0]}'{others} of {compared} tensors that were "
        "compared are not the present ones, so the run stops before it learns from what it writes."
    )


def require_handed_over(engine: Engine, policy: nn.Module) -> None:
    """``EngineDriftError`` if some process finds a wrong weight in the engine, or a cache with entries. Collective."""
    name = type(engine).__name__
    hand_overs: list[HandOver | None] = gather_lists([engine.compare_weights(policy)])
    for found in hand_overs:
        if found is not None and found.different:
            raise wrong_weights(name, found.different, found.num_tensors)
        if found is not None and found.stale:
            raise EngineDriftError(
                f"the {name} still has {' and '.join(found.stale)}, made by earlier weights: the run stops before it "
                "learns from what follows from them."
            )
