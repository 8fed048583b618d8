"""The engine by address: rollouts by one or more ``vllm serve``, on other GPUs or machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from mstar.generation.base import HandOver, Request
from mstar.generation.server_drawing import draw
from mstar.generation.server_pool import Job
from mstar.generation.vllm_base import VllmBase, tell_left_out
from mstar.generation.vllm_prompts import (
    find_fault,
    generate_bodies,
    prompt_tokens,
    read_logprobs,
    read_response,
    unwritten,
)
from mstar.generation.vllm_server_session import Proof, ServerOptions, ServerSession, Transfer
from mstar.models.finite import require_finite
from mstar.rendering import Renderer
from mstar.types import Prompt, Response


class VllmServerEngine(VllmBase[ServerSession]):
    """Samples with ``vllm serve`` processes, by their addresses: on other GPUs, on other machines.

    The prompts are shared among the servers. What a lost server had goes to the others, and a server that comes back
    gets the present weights before it is used again; if none is left, the run waits for ``patience`` seconds. What is
    drawn depends on each response's seed alone, and not on which server drew it, up to rounding as for ``VllmEngine``.

    The weights are written to a folder that the servers see, and each server says of all that it holds whether it is
    equal to them, exactly; then each computes the log-probabilities of a few responses (``rollout/engine_drift`` is the
    worst server's). Every answer names the weights that it was drawn with, and others are thrown away. The model must
    be of a family for which vLLM is proven right; others are refused by name.

    A server is started so, with vLLM 0.32 and mstar installed (``docs/scale.md``):
    ``VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --dtype bfloat16 --no-mm-device-do-normalize
    --worker-extension-cls mstar.generation.vllm_server_worker.WeightExtension``. Its routes for weights have no
    password: whoever reaches the port can change them, so it belongs into a closed network. ``VLLM_API_KEY``, if it is
    set, is sent along.

    Args:
        addresses: The servers: a list, or one text with commas between them (``http://gpu-7:8000,http://gpu-8:8000``).
        shared_folder: Folder for the weights, which all servers see unless ``transfer`` is nccl; it needs room for them
            twice.
        max_new_tokens: Longest response, in tokens.
        shared_folder_on_servers: Where the servers see ``shared_folder``, if that is not the same path.
        dtype: Type of the servers' weights; auto takes the policy's. It must be the servers' own ``--dtype``.
        concurrency: Responses that each process gives a server to write at the same time. Fewer in all than the server
            can write (its ``--max-num-seqs``) leave its GPU idle.
        answer_timeout: Seconds that a server may take for one answer or one hand-over; then it counts as lost.
        patience: Seconds to wait for a server while none answers.
        transfer: How the servers get the weights: folder, or nccl: from the main process's GPU to theirs, by vLLM's own
            routes, for which they are started with ``--weight-transfer-config '{"backend": "nccl"}'``, and vLLM is
            installed here, too.
        drift_bound: As for ``VllmEngine``.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: a value cannot work.
    """

    elsewhere = True

    def __init__(
        self,
        addresses: list[str] | str,
        shared_folder: str,
        max_new_tokens: int = 1024,
        shared_folder_on_servers: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        concurrency: int = 256,
        answer_timeout: float = 600.0,
        patience: float = 300.0,
        transfer: Transfer = "folder",
        drift_bound: float | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(max_new_tokens, drift_bound, progress=progress)
        named = addresses.split(",") if isinstance(addresses, str) else addresses
        self.options = ServerOptions(
            tuple(address.strip().rstrip("/").removesuffix("/v1") for address in named),
            *(shared_folder, shared_folder_on_servers, dtype, concurrency, answer_timeout, patience, transfer),
        )
        self._keeps = False

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Hands the servers the policy's weights; once for a policy."""
        running = self._session
        if running is not None and running.policy is policy and running.given_renderer is renderer:
            return
        self._open(policy, renderer)

    def keep_weights(self, keep: bool = True) -> Path | None:
        """Has ``close`` leave the present weights in ``shared_folder``, until the next hand-over; or not."""
        self._keeps = keep
        return None if self._session is None else self._session.weights

    def hand_over_again(self, policy: nn.Module, renderer: Renderer, weights: Path) -> bool:
        """Hands the servers weights that an earlier process left in ``shared_folder``."""
        self._keeps = True
        return self._open(policy, renderer, weights)

    def _open(self, policy: nn.Module, renderer: Renderer, kept: Path | None = None) -> bool:
        self.close()
        dtype, bound = self._check(policy, renderer, self.options.dtype)
        session = self._session = ServerSession(policy, renderer, self.options, dtype, kept)
        session.drift_bound = bound
        if kept is None:
            session.hand_over(policy)
        elif not session.hand_over_kept():
            self._session, self._keeps = None, False
            return False
        self._warn_if_short(session.facts.longest, "the servers' --max-model-len")
        return True

    def update_weights(self, policy: nn.Module) -> None:
        """Gives every server the policy's present weights. Collective for several processes."""
        require_finite(policy.named_parameters(), "the policy cannot write responses")
        self.session.hand_over(policy)
        self._keeps = False

    def compare_weights(self, policy: nn.Module) -> HandOver | None:
        """Says what the servers compared at the hand-over, which ends with an error if anything was not equal."""
        return self.session.compared

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Draws every sample of every request.

        A prompt that vLLM cannot be given (too long, too many pictures) gets empty, unfinished responses, and a warning
        says so.
        """
        session, renderer = self.session, self.session.renderer
        written = [[unwritten(request, sample) for sample in request.samples] for request in requests]
        given: dict[Job, int] = {}
        common = {"max_tokens": self.max_new_tokens, "stop_token_ids": list(renderer.end_ids), "logprobs": 0}
        for number, request in enumerate(requests):
            ids = prompt_tokens(renderer, request.prompt, request.prefix, show_answer=request.show_answer)
            sampling = [{"temperature": s.temperature, "seed": s.seed, **common} for s in request.samples]
            job = self._job(request.prompt, ids, sampling)
            if job is not None:
                given[job] = number
        total = sum(len(request.samples) for request in requests)
        with self.counting(total) as bar:
            bar.skip(total - sum(job.size for job in given))
            bar.look((), ())

            def done(job: Job) -> None:
                if job.refused is not None:
                    tell_left_out(job.name, job.refused)
                    bar.skip(job.size)
                    return
                request, row = requests[given[job]], written[given[job]]
                for place, sample in enumerate(request.samples):
                    row[place] = read_response(job.answers[place], request, sample, renderer)
                bar.look([response.num_tokens for response in row], ())

            session.pool.run(lambda: draw(session.pool, given, done))
        return written

    def response_logprobs(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> dict[str, list[list[float]]]:
        """The log-probability of each token of given responses, by the weights of every server that can be used.

        Tokens beyond a server's ``--max-model-len`` are left out.
        """
        session, renderer = self.session, self.session.renderer
        asked: list[tuple[int, Job, list[int]]] = []
        for number, (prompt, tail) in enumerate(zip(prompts, renderer.encode_responses(responses)[0], strict=True)):
            kept = tail[: max(session.facts.longest - renderer.count_tokens(prompt) - 1, 0)]
            # What is scored is part of the prompt here; one more token must be drawn.
            sampling = [{"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}]
            job = self._job(prompt, prompt_tokens(renderer, prompt) + kept, sampling) if kept else None
            if job is not None:
                asked.append((number, job, kept))
        found = session.pool.run(lambda: session.pool.ask_each([job for _, job, _ in asked]))
        scored: dict[str, list[list[float]]] = {}
        for address, answers in found.items():
            scored[address] = [[] for _ in responses]
            for (number, _, kept), answer in zip(asked, answers, strict=True):
                scored[address][number] = read_logprobs(answer, kept) if answer is not None else []
        rows = next(iter(scored.values()))
        session.proofs = tuple(Proof(job, tuple(kept), tuple(rows[n])) for n, job, kept in asked if rows[n])
        return scored

    def _job(self, prompt: Prompt, ids: list[int], sampling: list[dict[str, Any]]) -> Job | None:
        """The requests for a prompt; None, with a warning, if vLLM cannot be given it."""
        facts = self.session.facts
        fault = find_fault(prompt, ids, max_images=facts.images if self._pictures else 0, max_len=facts.longest)
        if fault is not None:
            tell_left_out(prompt.id, fault)
            return None
        return Job(prompt.id, lambda: generate_bodies(prompt, ids, sampling, self._banned), len(sampling))

    def close(self) -> None:
        """Deletes the weights in ``shared_folder``, unless they are kept; the servers go on with those they have."""
        if self._session is not None:
            (self._session.leave if self._keeps else self._session.close)()
        self._session = None
