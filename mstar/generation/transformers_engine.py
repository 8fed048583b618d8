"""The Transformers engine: batched sampling in the training process, with one prefill a prompt.

Shapes: B prompts, R running rows (one a sample), T tokens so far, V vocabulary, N entries, X entries of a
block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from tqdm.auto import tqdm

from mstar.errors import ConfigError
from mstar.generation.base import Engine, Request, Sample
from mstar.interruption import stop_if_asked
from mstar.models.out_of_memory import is_out_of_memory, release_memory
from mstar.models.prefix import encode_prefix, extend, logits_of
from mstar.models.sharding import whole_weights
from mstar.rendering import Renderer
from mstar.types import Response

__all__ = ["TransformersEngine"]

_BLOCK: Final = 128
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Row:
    """One sample while it is being written."""

    request: int
    sample: Sample
    tokens: list[int]
    logprob: float = 0.0
    finished: bool = False


class TransformersEngine(Engine):
    """Samples with the policy's own Transformers model.

    Image and prompt are encoded once for all the samples of a prompt; rows that have ended leave the batch.

    Args:
        max_new_tokens: Longest response, in tokens.
        batch_size: Most samples that are written at the same time. Memory grows with it; the responses do not depend
            on it beyond rounding. A prompt with more samples than this is encoded once for each batch of them.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(self, max_new_tokens: int = 1024, batch_size: int = 64, progress: bool = True) -> None:
        for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
            if value < 1:
                raise ConfigError(f"TransformersEngine: {name} is {value}, but it must be at least 1.")
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.progress = progress
        self._policy: nn.Module | None = None
        self._renderer: Renderer | None = None
        self._whole = ExitStack()

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Takes the policy itself, not a copy: its weights are always the present ones."""
        self._policy, self._renderer = policy, renderer

    def update_weights(self, policy: nn.Module) -> None:
        """Draws the next responses from this policy; sharded weights are put together, by all processes at once."""
        self._policy = policy
        self._whole.close()
        self._whole.enter_context(whole_weights(policy))

    def rest(self) -> None:
        """Takes sharded weights apart again."""
        self._whole.close()

    def close(self) -> None:
        """Lets go of the policy."""
        self.rest()
        self._policy = self._renderer = None

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Draws every sample of every request; the policy's training mode is as before afterwards.

        Raises:
            RuntimeError: ``start`` was not called.
        """
        if self._policy is None or self._renderer is None:
            raise RuntimeError("TransformersEngine.generate was called before start.")
        policy, renderer = self._policy, self._renderer
        written: list[list[Response]] = [[] for _ in requests]
        was_training = policy.training
        policy.eval()
        bar = tqdm(
            total=sum(len(r.samples) for r in requests), desc="generate", unit="response", disable=not self.progress,
            leave=False,
        )  # fmt: skip
        try:
            with torch.inference_mode():
                for batch in self._batches(requests):
                    for row in self._write(policy, renderer, requests, batch):
                        request = requests[row.request]
                        written[row.request].append(
                            Response(
                                prompt_id=request.prompt.id,
                                sample_index=row.sample.index,
                                text=request.prefix + renderer.decode(row.tokens[: len(row.tokens) - row.finished]),
                                num_tokens=len(row.tokens),
                                finished=row.finished,
                                temperature=row.sample.temperature,
                                logprob=row.logprob,
                            )
                        )
                        bar.update()
        finally:
            bar.close()
            policy.train(was_training)
        return written

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[_Row]]:
        """Fills batches with whole requests in order; a request with more samples than a batch holds is split."""
        batch: list[_Row] = []
        for number, request in enumerate(requests):
            rows = [_Row(number, sample, []) for sample in request.samples]
            if batch and len(batch) + len(rows) > self.batch_size:
                yield batch
                batch = []
            while len(rows) > self.batch_size:
                yield rows[: self.batch_size]
                rows = rows[self.batch_size :]
            batch += rows
        if batch:
            yield batch

    def _write(
        self, policy: nn.Module, renderer: Renderer, requests: Sequence[Request], rows: list[_Row]
    ) -> list[_Row]:
        """Writes a batch; one for which the memory is not enough is written in halves, and so are those after it."""
        try:
            return self._generate_batch(policy, renderer, requests, rows)
        except RuntimeError as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        release_memory()
        self.batch_size = len(rows) // 2
        _log.warning(
            "Memory is short for %d responses at a time: going on with %d (TransformersEngine: batch_size)",
            len(rows), self.batch_size,
        )  # fmt: skip
        fresh = [_Row(row.request, row.sample, []) for row in rows]
        halves = fresh[: self.batch_size], fresh[self.batch_size :]
        return [row for half in halves for row in self._write(policy, renderer, requests, half)]

    def _generate_batch(
        self, policy: nn.Module, renderer: Renderer, requests: Sequence[Request], rows: list[_Row]
    ) -> list[_Row]:
        device = next(policy.parameters()).device
        numbers = list(dict.fromkeys(row.request for row in rows))
        here = [requests[number] for number in numbers]
        inputs = renderer.prompt_inputs(
            [r.prompt for r in here], prefixes=[r.prefix for r in here], show_answer=[r.show_answer for r in here]
        ).to(device)
        place = {number: position for position, number in enumerate(numbers)}
        prefix = encode_prefix(policy, inputs).spread(
            policy, torch.tensor([place[row.request] for row in rows], device=device)
        )
        # One stream of uniform numbers a row, drawn ahead: what a row draws depends on its own seed alone.
        uniforms = np.stack(
            [np.random.Generator(np.random.Philox(row.sample.seed)).random(self.max_new_tokens) for row in rows]
        )
        uniform_RT = torch.from_numpy(uniforms).to(device)
        temperature_R = torch.tensor([row.sample.temperature for row in rows], device=device, dtype=torch.float32)
        banned: Tensor | None = None
        ends = torch.tensor(renderer.end_ids, device=device)
        running = rows
        for step in range(self.max_new_tokens):
            stop_if_asked()
            logits_RV = logits_of(policy, prefix.hidden_BH)
            if banned is None:
                never = [*renderer.banned_ids, *range(renderer.vocabulary_size, logits_RV.shape[1])]
                banned = torch.tensor(never, device=device, dtype=torch.long)
            token_R, logprob_R = _draw(logits_RV, temperature_R, uniform_RT[:, step], banned)
            ended_R = torch.isin(token_R, ends)
            for row, token, logprob, ended in zip(
                running, token_R.tolist(), logprob_R.tolist(), ended_R.tolist(), strict=True
            ):
                row.tokens.append(token)
                row.logprob += logprob
                row.finished = ended
            if step + 1 == self.max_new_tokens or bool(ended_R.all()):
                break
            if bool(ended_R.any()):
                prefix, order = prefix.drop(ended_R)
                running = [running[row] for row in order]
                token_R, temperature_R, uniform_RT = token_R[order], temperature_R[order], uniform_RT[order]
            _, prefix = extend(policy, prefix, token_R[:, None], torch.ones_like(token_R[:, None]))
        return rows


def _draw(logits_RV: Tensor, temperature_R: Tensor, uniform_R: Tensor, banned: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row by inverse-CDF sampling (greedy where the temperature is 0), and its log-probability at T = 1."""
    logprobs_RV = logits_RV.log_softmax(-1)
    allowed_RV = logits_RV.index_fill(1, banned, -torch.inf)
    hot_R = temperature_R > 0
    if bool(hot_R.any()):
        token_R = _invert((allowed_RV / temperature_R.clamp(min=1e-6)[:, None]).softmax(-1), uniform_R)
        if not bool(hot_R.all()):
            token_R = torch.where(hot_R, token_R, allowed_RV.argmax(-1))
    else:
        token_R = allowed_RV.argmax(-1)
    return token_R, logprobs_RV.gather(1, token_R[:, None]).squeeze(1)


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
    found_R1 = torch.searchsorted(cumulative_RN, target_R[:, None], right=True)
    before_R = cumulative_RN.gather(1, (found_R1 - 1).clamp(min=0)).squeeze(1).where(found_R1.squeeze(1) > 0, 0.0)
    part_R = cumulative_RN.gather(1, found_R1).squeeze(1) - before_R
    return found_R1.squeeze(1), ((target_R - before_R) / part_R).clamp(0.0, 1.0)
