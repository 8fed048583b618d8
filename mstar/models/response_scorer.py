"""What every scorer of steps has in common: a batch of responses, the states of their tokens, and where steps are.

Shapes: B rows, T tokens, N the response tokens of all rows in order, S their steps, H hidden, P prompts, R responses,
L response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mstar.models.families import family_of
from mstar.models.prefix import encode_prefix, extend
from mstar.rendering import IGNORE_INDEX, ModelInputs, Renderer, ResponseInputs
from mstar.types import Prompt


def pad_rows(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids (R, L), right-padded with 0, and a mask that is 1 for those of the rows."""
    ids_RL = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths_R = torch.tensor([len(row) for row in rows])
    return ids_RL, (torch.arange(ids_RL.shape[1]) < lengths_R[:, None]).long()


@dataclass
class SharedInputs:
    """Responses with their prompts, each prompt (and its images) once for all the responses to it.

    Not frozen, because Lightning moves a batch to a device by setting its fields.

    Attributes:
        prompts: The P prompts, left-padded.
        owner_R: For every response, the row of its prompt.
        ids_RL: The responses' tokens, closed by the end token, right-padded.
        mask_RL: 1 for real response tokens.
        step_ends: For every response, the position in L of the last token of each step.
    """

    prompts: ModelInputs
    owner_R: Tensor
    ids_RL: Tensor
    mask_RL: Tensor
    step_ends: list[list[int]]

    @classmethod
    def render(
        cls, renderer: Renderer, prompts: Sequence[Prompt], owners: Sequence[int], responses: Sequence[str]
    ) -> SharedInputs:
        """Renders responses and their prompts."""
        tokens, step_ends = renderer.encode_responses(responses)
        return cls(renderer.prompt_inputs(prompts), torch.tensor(owners), *pad_rows(tokens), step_ends)

    def lengths(self) -> list[int]:
        """The tokens of every response with its prompt."""
        lengths: list[int] = (self.prompts.mask_BT.sum(1)[self.owner_R] + self.mask_RL.sum(1)).tolist()
        return lengths

    def to(self, device: torch.device | str) -> SharedInputs:
        """The same inputs on another device."""
        owner_R, ids_RL, mask_RL = (value.to(device) for value in (self.owner_R, self.ids_RL, self.mask_RL))
        return SharedInputs(self.prompts.to(device), owner_R, ids_RL, mask_RL, self.step_ends)


class ResponseScorer(nn.Module):
    """What scores the steps of responses in one pass."""

    def render(self, renderer: Renderer, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> SharedInputs:
        """The inputs of each prompt's responses, made on the host."""
        owners = [number for number, texts in enumerate(responses) for _ in texts]
        return SharedInputs.render(renderer, prompts, owners, [text for texts in responses for text in texts])

    @torch.inference_mode()
    def score_inputs(self, batch: SharedInputs) -> list[tuple[float, ...]]:
        """The logits of the steps of every response, in order, equal to ``forward``'s up to rounding.

        A response without steps has none.
        """
        steps = self(batch.to(next(self.parameters()).device))
        rows: list[list[float]] = [[] for _ in batch.step_ends]
        for row, logit in zip(steps.row_N.tolist(), steps.logits_N.tolist(), strict=True):
            rows[row].append(logit)
        return [tuple(row) for row in rows]


class ResponseStates(NamedTuple):
    """The response tokens of all rows of a batch, laid end to end.

    Attributes:
        predicting_NH: The hidden state that predicts each token.
        hidden_NH: The hidden state at each token.
        ends: For each row, the index of each step's last token in the row.
    """

    predicting_NH: Tensor
    hidden_NH: Tensor
    ids_N: Tensor
    lengths: list[int]
    ends: list[list[int]]


def response_states(model: nn.Module, batch: ResponseInputs | SharedInputs) -> ResponseStates:
    """Runs a vision-language model over responses, each behind its own prompt or with each prompt once."""
    if isinstance(batch, SharedInputs):
        prefix = encode_prefix(model, batch.prompts).select(batch.owner_R)
        before_R1H = prefix.hidden_BH[:, None]
        hidden_RLH, _ = extend(model, prefix, batch.ids_RL, batch.mask_RL)
        predicting_RLH = torch.cat([before_R1H, hidden_RLH[:, :-1]], dim=1)
        real_RL = batch.mask_RL.bool()
        lengths = batch.mask_RL.sum(1).tolist()
        return ResponseStates(
            predicting_RLH[real_RL], hidden_RLH[real_RL], batch.ids_RL[real_RL], lengths, batch.step_ends
        )
    inputs = batch.inputs
    hidden_BTH = family_of(model).hidden_states(model, inputs.ids_BT, inputs.mask_BT, inputs.extras)
    # A row's response is one run of labelled tokens, and each token is predicted one position before its own.
    response_BT = batch.labels_BT != IGNORE_INDEX
    row_N, column_N = response_BT.nonzero(as_tuple=True)
    starts = response_BT.int().argmax(1).tolist()
    ends = [[end - start for end in row] for start, row in zip(starts, batch.step_ends, strict=True)]
    return ResponseStates(
        hidden_BTH[row_N, column_N - 1],
        hidden_BTH[row_N, column_N],
        batch.labels_BT[row_N, column_N],
        response_BT.sum(1).tolist(),
        ends,
    )


class StepPlaces(NamedTuple):
    """Where the steps of a batch are among the tokens of ``ResponseStates``.

    Attributes:
        last_S: The last token of every step.
        owner_N: The step of every token; -1 for those after the last step (of a blank response).
    """

    last_S: Tensor
    row_S: Tensor
    owner_N: Tensor

    @classmethod
    def of(cls, states: ResponseStates) -> StepPlaces:
        """Finds them."""
        last: list[int] = []
        owners: list[int] = []
        step_rows: list[int] = []
        offset = 0
        for row, (length, row_ends) in enumerate(zip(states.lengths, states.ends, strict=True)):
            begin = 0
            for end in row_ends:
                owners += [len(last)] * (end + 1 - begin)
                last.append(offset + end)
                step_rows.append(row)
                begin = end + 1
            owners += [-1] * (length - begin)
            offset += length
        device = states.hidden_NH.device
        return cls(*(torch.tensor(places, dtype=torch.long, device=device) for places in (last, step_rows, owners)))
