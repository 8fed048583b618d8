"""The Transformers engine: batched sampling in the training process, with one prefill a prompt.

Shapes: B prompts, R running rows (one a sample), S samples of the batch, T new tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError, require_least, require_share
from mstar.generation.base import Engine, Request
from mstar.generation.batches import Memory, Row, fill_batches
from mstar.generation.progress import ResponseBar
from mstar.generation.sampling import Draws
from mstar.interruption import stop_if_asked
from mstar.models.decoding_weights import AdapterUse, decoding_bytes, decoding_weights
from mstar.models.finite import require_finite
from mstar.models.out_of_memory import within_memory
from mstar.models.prefix import Prefix, encode_prefix, extend, logits_of
from mstar.models.sharding import whole_weights
from mstar.models.token_counter import TokenCounter
from mstar.rendering import Renderer
from mstar.types import Response

# Rows at a time where the memory is not a card's.
_ROWS: Final = 64


class TransformersEngine(Engine):
    """Samples with the policy's own Transformers model.

    Image and prompt are encoded once for all the samples of a prompt; rows that have ended leave the batch.

    Args:
        max_new_tokens: Longest response, in tokens.
        batch_size: Most samples that are written at the same time. By default as many as ``memory_utilization`` allows
            on a GPU, and 64 on a CPU. The responses do not depend on it beyond rounding. A prompt with more samples
            than this is encoded once for each batch of them.
        memory_utilization: Share of the GPU's whole memory for what generation needs beside the weights, optimizer
            states and MPRM that are there anyway: keys and values, logits, states while prompts are read, and copies
            of weights. Only used where ``batch_size`` is not given. If it was too much, batches are halved.
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
        if adapters not in ("merged", "apart"):
            raise ConfigError(f"TransformersEngine: adapters is '{adapters}', but it must be merged or apart.")
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.progress = progress
        self.memory_utilization = memory_utilization
        self.adapters: AdapterUse = adapters
        self._policy: nn.Module | None = None
        self._renderer: Renderer | None = None
        self._counter: TokenCounter | None = None
        self._whole = ExitStack()
        self._checked = False

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Takes the policy itself, not a copy: its weights are always the present ones."""
        if renderer is not self._renderer:
            self._counter = TokenCounter(renderer)
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
        self._policy = self._renderer = self._counter = None

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Draws every sample of every request; the policy's weights and training mode are as before afterwards.

        Raises:
            ConfigError: the policy's weights, or what it computes with them, are not finite numbers.
            RuntimeError: ``start`` was not called.
        """
        if self._policy is None or self._renderer is None:
            raise RuntimeError("TransformersEngine.generate was called before start.")
        policy, renderer = self._policy, self._renderer
        if not self._checked:
            require_finite(policy.named_parameters(), "the policy cannot write responses")
            self._checked = True
        written: list[list[Response]] = [[] for _ in requests]
        was_training = policy.training
        policy.eval()
        total = sum(len(request.samples) for request in requests)
        try:
            with self.counting(total) as bar, torch.inference_mode(), decoding_weights(policy, self.adapters):
                bar.look((), ())
                for batch in self._batches(policy, requests):
                    responses = self._write(policy, renderer, requests, batch, bar)
                    for row, response in zip(batch, responses, strict=True):
                        written[row.request].append(response)
        finally:
            policy.train(was_training)
        return written

    def _batches(self, policy: nn.Module, requests: Sequence[Request]) -> Iterator[list[Row]]:
        memory = self._memory(policy)
        lengths = [0] * len(requests)
        if memory is not None and self._counter is not None:
            lengths = self._counter([(request.prompt, request.prefix) for request in requests])

        def fits(num_prompts: int, longest: int, num_rows: int) -> bool:
            # Asked anew every time: when memory is short, batch_size is lowered.
            if self.batch_size is None and memory is not None:
                return memory.fits(num_prompts, longest, num_rows)
            return num_rows <= (self.batch_size or _ROWS)

        return fill_batches(requests, lengths, fits)

    def _memory(self, policy: nn.Module) -> Memory | None:
        """What a GPU's memory allows; None where a number of rows was given, or there is no GPU."""
        total = _card_bytes(next(policy.parameters()).device)
        if self.batch_size is not None or total is None:
            return None
        available = int(self.memory_utilization * total) - decoding_bytes(policy, self.adapters)
        return Memory.of(policy, available, self.max_new_tokens)

    def _write(
        self, policy: nn.Module, renderer: Renderer, requests: Sequence[Request], rows: list[Row], bar: ResponseBar
    ) -> list[Response]:
        """Writes a batch; one for which the memory is not enough is written in halves, and so are those after it."""
        done = bar.done
        written = within_memory(
            lambda: self._generate_batch(policy, renderer, requests, rows, bar),
            len(rows),
            "TransformersEngine: batch_size",
        )
        if written is not None:
            return written
        bar.take_back(done)
        self.batch_size = len(rows) // 2
        halves = rows[: self.batch_size], rows[self.batch_size :]
        return [response for half in halves for response in self._write(policy, renderer, requests, half, bar)]

    def _generate_batch(
        self, policy: nn.Module, renderer: Renderer, requests: Sequence[Request], rows: list[Row], bar: ResponseBar
    ) -> list[Response]:
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
        draws = Draws.of([row.sample for row in rows], self.max_new_tokens, device)
        return _responses(requests, rows, *_decode(policy, renderer, prefix, draws, bar), renderer)


def _decode(
    policy: nn.Module, renderer: Renderer, prefix: Prefix, draws: Draws, bar: ResponseBar
) -> tuple[Tensor, Tensor]:
    """Writes all rows to their ends.

    The host waits for the device only where it looks which rows have ended. Until then these go on, for nothing.

    Returns:
        The tokens of every row (T, S), and their log-probabilities; what follows a row's end token means nothing.
    """
    num_rows, num_tokens = draws.uniform_RT.shape
    device = draws.uniform_RT.device
    token_TS = torch.zeros(num_tokens, num_rows, dtype=torch.long, device=device)
    # With trainer.precision bf16-true the default type is not float32.
    logprob_TS = torch.zeros(num_tokens, num_rows, dtype=torch.float32, device=device)
    row_R = torch.arange(num_rows, device=device)
    ended_R = torch.zeros(num_rows, dtype=torch.bool, device=device)
    ends = torch.tensor(renderer.end_ids, device=device)
    banned: Tensor | None = None
    interval = _look_interval(device)
    for step in range(num_tokens):
        stop_if_asked()
        logits_RV = logits_of(policy, prefix.hidden_BH)
        if banned is None:
            never = [*renderer.banned_ids, *range(renderer.vocabulary_size, logits_RV.shape[1])]
            banned = torch.tensor(never, device=device, dtype=torch.long)
        token_R, logprob_R = draws.tokens(logits_RV, step, banned)
        token_TS[step].index_copy_(0, row_R, token_R)
        logprob_TS[step].index_copy_(0, row_R, logprob_R)
        if step + 1 == num_tokens:
            break
        ended_R |= torch.isin(token_R, ends)
        if (step + 1) % interval == 0:
            ended = ended_R.tolist()
            num_ended = sum(ended)
            bar.look([step + 1] * num_ended, [step + 1] * (len(ended) - num_ended))
            if num_ended == len(ended):
                return token_TS, logprob_TS
            if num_ended:
                prefix, order = prefix.drop(ended)
                order_R = torch.tensor(order, device=device)
                draws = draws.keep(order, order_R)
                row_R, ended_R, token_R = row_R[order_R], ended_R[order_R], token_R[order_R]
        _, prefix = extend(policy, prefix, token_R[:, None], torch.ones_like(token_R[:, None]))
    bar.look([num_tokens] * len(row_R), ())
    return token_TS, logprob_TS


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
    requests: Sequence[Request], rows: Sequence[Row], token_TS: Tensor, logprob_TS: Tensor, renderer: Renderer
) -> list[Response]:
    """Each row up to its end token, that one included; its log-probability is summed in the order of the tokens."""
    responses, ends = [], set(renderer.end_ids)
    for row, tokens, logprobs in zip(rows, token_TS.T.tolist(), logprob_TS.T.tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))
        # Not sum(), whose rounding depends on the version of Python.
        total = 0.0
        for logprob in logprobs[:length]:
            total += logprob
        if math.isnan(total):
            raise ConfigError(
                "the policy's logits are not finite numbers although its weights are: what it computes leaves the "
                "range of its type; compute in bfloat16 or float32 (trainer.precision bf16-mixed or 32-true)."
            )
        request, finished = requests[row.request], tokens[length - 1] in ends
        responses.append(
            Response(
                prompt_id=request.prompt.id,
                sample_index=row.sample.index,
                text=request.prefix + renderer.decode(tokens[: length - finished]),
                num_tokens=length,
                finished=finished,
                temperature=row.sample.temperature,
                logprob=total,
                tokens=tuple(tokens[:length]) if request.keep_tokens else (),
                logprobs=tuple(logprobs[:length]) if request.keep_tokens else (),
            )
        )
    return responses
