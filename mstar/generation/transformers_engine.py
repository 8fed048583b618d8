"""The Transformers engine: batched sampling in the training process, with one prefill a prompt.

Shapes: B prompts, R rows that the model computes, S samples that are written (one a row, or some of one row while they
are equal), A all samples of the batch, T new tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Final

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError, require_least, require_share
from mstar.generation.base import Engine, Request
from mstar.generation.batches import Memory, Row, fill_batches
from mstar.generation.progress import ResponseBar
from mstar.generation.sampling import Draws
from mstar.interruption import stop_if_asked
from mstar.models.ahead import Ahead
from mstar.models.decoding_weights import AdapterUse, decoding_weights
from mstar.models.finite import require_finite
from mstar.models.offload import within_memory
from mstar.models.prefix import Prefix, branch_by_token, encode_prefix, extend, logits_of
from mstar.models.sharding import whole_weights
from mstar.models.token_counter import TokenCounter
from mstar.rendering import ModelInputs, Renderer
from mstar.types import Response

# Rows at a time where the memory is not a card's.
_ROWS: Final = 64


class TransformersEngine(Engine):
    """Samples with the policy's own Transformers model.

    Image and prompt are encoded once for all the samples of a prompt; rows that have ended leave the batch. On a CPU,
    samples of a prompt are one row until they differ.

    Args:
        max_new_tokens: Longest response, in tokens.
        batch_size: Most samples that are written at the same time. By default as many as ``memory_utilization`` allows
            on a GPU, and 64 on a CPU. The responses do not depend on it beyond rounding. A prompt with more samples
            than this is encoded once for each batch of them.
        memory_utilization: Share of the GPU's whole memory for keys and values, logits, and states while prompts are
            read. Weights, the copies of them that are decoded with (see ``adapters``; with bf16-mixed, 16-bit ones of
            float32 weights), optimizer states and MPRM lie beside it. Only used where ``batch_size`` is not given. If
            it was too much, batches are halved.
        adapters: How generation uses LoRA: merged adds it to copies of the weights meanwhile, so that a token costs
            what it costs without, and what is drawn from is what an export holds: in 16-bit weights, changes of less
            than half a step of their type are rounded away. apart computes them beside the weights, as training does,
            slower and without copies. Adapters of 4-bit weights are always apart.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        max_new_tokens: int = 1024,
        batch_size: int | None = None,
        progress: bool = True,
        memory_utilization: float = 0.3,
        adapters: AdapterUse = "merged",
    ) -> None:
        require_least("TransformersEngine: ", max_new_tokens=max_new_tokens, batch_size=batch_size)
        require_share("TransformersEngine: memory_utilization", memory_utilization, "(0, 1]")
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.progress = progress
        self.memory_utilization = memory_utilization
        self.adapters: AdapterUse = adapters
        self._policy: nn.Module | None = None
        self._renderer: Renderer | None = None
        self._counter: TokenCounter | None = None
        self._reader: Renderer | None = None
        self._whole = ExitStack()
        self._checked = False

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Takes the policy itself, not a copy: its weights are always the present ones."""
        if renderer is not self._renderer:
            renderer.check_thoughts()
            self._counter, self._reader = TokenCounter(renderer), None
        self._policy, self._renderer, self._checked = policy, renderer, False

    def update_weights(self, policy: nn.Module) -> None:
        """Draws the next responses from this policy; sharded weights are put together, by all processes at once."""
        self._policy, self._checked = policy, False
        self._whole.close()
        self._whole.enter_context(whole_weights(policy))

    def rest(self) -> None:
        """Takes sharded weights apart again."""
        self._whole.close()

    def close(self) -> None:
        """Lets go of the policy."""
        self.rest()
        self._policy = self._renderer = self._counter = self._reader = None

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Draws every sample of every request; the policy's weights and training mode are as before afterwards.

        Raises:
            ConfigError: the policy's weights, or what it computes with them, are not finite numbers.
        """
        policy, _ = self._started
        if not self._checked:
            require_finite(policy.named_parameters(), "the policy cannot write responses")
            self._checked = True
        written: list[list[Response]] = [[] for _ in requests]
        was_training = policy.training
        policy.eval()
        total = sum(len(request.samples) for request in requests)
        try:
            with (
                self.counting(total) as bar,
                torch.inference_mode(),
                decoding_weights(policy, self.adapters),
                self._ahead(requests) as ahead,
            ):
                bar.look((), ())
                batches = self._batches(requests)
                later = next(batches, None)
                while (batch := later) is not None:
                    later = next(batches, None)
                    responses = self._write(requests, batch, bar, partial(ahead.take, batch, later))
                    for row, response in zip(batch, responses, strict=True):
                        written[row.request].append(response)
        finally:
            policy.train(was_training)
        return written

    @property
    def _started(self) -> tuple[nn.Module, Renderer]:
        if self._policy is None or self._renderer is None:
            raise RuntimeError("TransformersEngine.generate was called before start.")
        return self._policy, self._renderer

    def _ahead(self, requests: Sequence[Request]) -> Ahead[list[Row], ModelInputs]:
        policy, renderer = self._started
        threaded = _look_interval(next(policy.parameters()).device) > 1
        if threaded and self._reader is None:
            # Of a fast tokenizer, two threads cannot have one.
            self._reader = copy.deepcopy(renderer)
        return Ahead(partial(_encode, self._reader or renderer, requests), threaded=threaded)

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[Row]]:
        policy, _ = self._started
        memory, total = None, _card_bytes(next(policy.parameters()).device)
        lengths = [0] * len(requests)
        if self.batch_size is None and total is not None and self._counter is not None:
            memory = Memory.of(policy, int(self.memory_utilization * total), self.max_new_tokens)
            lengths = self._counter([(request.prompt, request.prefix) for request in requests])

        def fits(num_prompts: int, longest: int, num_rows: int) -> bool:
            # Asked anew every time: when memory is short, batch_size is lowered.
            if self.batch_size is None and memory is not None:
                return memory.fits(num_prompts, longest, num_rows)
            return num_rows <= (self.batch_size or _ROWS)

        return fill_batches(requests, lengths, fits)

    def _write(
        self, requests: Sequence[Request], rows: list[Row], bar: ResponseBar, inputs: Callable[[], ModelInputs]
    ) -> list[Response]:
        """Writes a batch; one for which the memory is not enough is written in halves, and so are those after it."""
        done = bar.done
        if self.batch_size is None or len(rows) <= self.batch_size:
            written = within_memory(
                lambda: self._generate_batch(requests, rows, bar, inputs),
                len(rows),
                "TransformersEngine: batch_size",
            )
            if written is not None:
                return written
            bar.take_back(done)
            self.batch_size = len(rows) // 2
        (_, renderer), size = self._started, self.batch_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [
            response
            for part in parts
            for response in self._write(requests, part, bar, partial(_encode, renderer, requests, part))
        ]

    def _generate_batch(
        self, requests: Sequence[Request], rows: list[Row], bar: ResponseBar, inputs: Callable[[], ModelInputs]
    ) -> list[Response]:
        policy, renderer = self._started
        device = next(policy.parameters()).device
        numbers = _numbers(rows)
        place = {number: position for position, number in enumerate(numbers)}
        owners, given = [place[row.request] for row in rows], inputs()
        room_B = torch.full((len(numbers),), self.max_new_tokens)
        if renderer.positions is not None:  # vLLM, too, ends a response where the model's positions do
            room_B = (renderer.positions - given.mask_BT.sum(1).cpu()).clamp(0, self.max_new_tokens)
        rooms, owner_S = room_B[owners].tolist(), torch.tensor(owners, device=device)
        draws = Draws.of([row.sample for row in rows], max(1, *rooms), device)
        prefix = encode_prefix(policy, given.to(device))
        if _look_interval(device) == 1:  # the host sees after every token which samples differ
            start, row_S = prefix.spread(policy, torch.arange(len(numbers))), owner_S
        else:
            start, row_S = prefix.spread(policy, owner_S), None
        return _responses(requests, rows, rooms, *_decode(policy, renderer, start, row_S, draws, bar), renderer)


def _numbers(rows: Sequence[Row]) -> list[int]:
    """The requests of some rows, each once."""
    return list(dict.fromkeys(row.request for row in rows))


def _encode(renderer: Renderer, requests: Sequence[Request], rows: Sequence[Row]) -> ModelInputs:
    """The prompts of some rows, each once, with what is given of the responses."""
    here = [requests[number] for number in _numbers(rows)]
    return renderer.prompt_inputs(
        [r.prompt for r in here], prefixes=[r.prefix for r in here], show_answer=[r.show_answer for r in here]
    )


def _decode(
    policy: nn.Module, renderer: Renderer, prefix: Prefix, row_S: Tensor | None, draws: Draws, bar: ResponseBar
) -> tuple[Tensor, Tensor]:
    """Writes all samples to their ends.

    The host waits for the device only where it looks which have ended. Until then these go on, for nothing.

    Args:
        row_S: The prefix's row of every sample, where equal samples are one; None where each has its own.

    Returns:
        The tokens of every sample (T, A), and their log-probabilities; what follows an end token means nothing.
    """
    num_samples, num_tokens = draws.uniform_RT.shape
    device = draws.uniform_RT.device
    token_TA = torch.zeros(num_tokens, num_samples, dtype=torch.long, device=device)
    # With trainer.precision bf16-true the default type is not float32.
    logprob_TA = torch.zeros(num_tokens, num_samples, dtype=torch.float32, device=device)
    sample_S = torch.arange(num_samples, device=device)
    ended_S = torch.zeros(num_samples, dtype=torch.bool, device=device)
    ends = torch.tensor(renderer.end_ids, device=device)
    banned: Tensor | None = None
    interval = _look_interval(device)
    for step in range(num_tokens):
        stop_if_asked()
        logits_RV = logits_of(policy, prefix.hidden_BH)
        if banned is None:
            never = [*renderer.banned_ids, *range(renderer.vocabulary_size, logits_RV.shape[1])]
            banned = torch.tensor(never, device=device, dtype=torch.long)
        token_S, logprob_S = draws.tokens(logits_RV if row_S is None else logits_RV[row_S], step, banned)
        token_TA[step].index_copy_(0, sample_S, token_S)
        logprob_TA[step].index_copy_(0, sample_S, logprob_S)
        if step + 1 == num_tokens:
            break
        ended_S |= torch.isin(token_S, ends)
        if (step + 1) % interval == 0:
            ended = ended_S.tolist()
            num_ended = sum(ended)
            bar.look([step + 1] * num_ended, [step + 1] * (len(ended) - num_ended))
            if num_ended == len(ended):
                return token_TA, logprob_TA
            if num_ended:
                if row_S is None:
                    prefix, order = prefix.branch([int(not gone) for gone in ended])
                else:
                    order = [place for place, gone in enumerate(ended) if not gone]
                order_S = torch.tensor(order, device=device)
                draws = draws.keep(order, order_S)
                sample_S, ended_S, token_S = sample_S[order_S], ended_S[order_S], token_S[order_S]
                row_S = None if row_S is None else row_S[order_S]
        token_R = token_S
        if row_S is not None:
            prefix, row_S, token_R = branch_by_token(prefix, row_S, token_S)
        _, prefix = extend(policy, prefix, token_R[:, None], torch.ones_like(token_R[:, None]))
    bar.look([num_tokens] * len(sample_S), ())
    return token_TA, logprob_TA


def _card_bytes(device: torch.device) -> int | None:
    """All of a GPU's memory, used or not; None for what is no GPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _look_interval(device: torch.device) -> int:
    """After how many tokens the host looks which rows have ended.

    On a GPU to look is to wait for all that it still has to do, and to leave rows out is to start hundreds of small
    copies; on a CPU a row that has ended costs as much as any other.
    """
    return 1 if device.type == "cpu" else 8


def _responses(
    requests: Sequence[Request], rows: Sequence[Row], rooms: Sequence[int], token_TS: Tensor, logprob_TS: Tensor,
    renderer: Renderer,
) -> list[Response]:  # fmt: skip
    """Each row up to its end token, that one included, or its room; log-probabilities are summed in tokens' order."""
    responses, ends = [], set(renderer.end_ids)
    decode = cache(renderer.decode)  # many samples are equal
    for row, room, tokens, logprobs in zip(rows, rooms, token_TS.T.tolist(), logprob_TS.T.tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(tokens[:room]) if token in ends), room)
        # Not sum(), whose rounding depends on the version of Python.
        total = 0.0
        for logprob in logprobs[:length]:
            total += logprob
        if math.isnan(total):
            raise ConfigError(
                "the policy's logits are not finite numbers although its weights are: what it computes leaves the "
                "range of its type; compute in bfloat16 or float32 (trainer.precision bf16-mixed or 32-true)."
            )
        finished, request = not ends.isdisjoint(tokens[:length]), requests[row.request]
        responses.append(request.fill(row.sample, decode, tokens[:length], finished, total, logprobs[:length]))
    return responses
