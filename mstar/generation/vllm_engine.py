"""The vLLM engine: rollouts by vLLM in the training process, with its weights replaced after every iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from mstar.errors import MissingExtraError
from mstar.generation.base import HandOver, Request, Sample
from mstar.generation.progress import ResponseBar
from mstar.generation.vllm_base import VllmBase, tell_left_out
from mstar.generation.vllm_prompts import (
    MOST_IMAGES,
    SampleSeeds,
    equal_temperatures,
    find_fault,
    prompt_tokens,
    unwritten,
)
from mstar.generation.vllm_session import AUTO_LENGTH, VllmOptions, VllmSession
from mstar.models.ahead import Ahead
from mstar.models.finite import require_finite
from mstar.rendering import Renderer
from mstar.types import Prompt, Response

if TYPE_CHECKING:
    from PIL.Image import Image


class VllmEngine(VllmBase[VllmSession]):
    """Samples with vLLM, which runs in the training process and shares its GPU (the extra ``vllm``).

    The weights go from the trainer to vLLM without files or a restart, and every iteration proves that they arrived:
    all that vLLM holds is compared with the trainer's weights, exactly, in vLLM's type, which costs as much as handing
    them over again; and both compute the log-probabilities of a few responses (``rollout/engine_drift``). The model
    must be of a family for which vLLM is proven right; others are refused by name. Each process has an engine of its
    own for its share of the prompts; for a model that does not fit one GPU, ``tensor_parallel_size`` processes form one
    engine. A response depends on its seed alone, up to rounding: vLLM adds numbers in an order that depends on the
    batch, so where two tokens are all but equally likely, another one may be drawn.

    A 16-bit engine cannot see every update: a weight in bfloat16 changes when it has moved by about 0.2 % to 0.4 % of
    itself. Of SmolLM2-135M's weights 0.5 % had changed after 4 steps of AdamW at a learning rate of 1e-6, 1.2 % after
    16 and 7 % after about 100; before that the engine samples nearly the old policy, though its weights are the present
    ones. That is rounding, not staleness. Measured on a CPU on 2026-11-27.

    Args:
        max_new_tokens: Longest response, in tokens.
        gpu_memory_utilization: Share of the GPU's memory for vLLM's weights and cache; training needs the rest.
        tensor_parallel_size: GPUs, one a process, that share one engine. Not for validate, test and predict.
        enforce_eager: Do without CUDA graphs: slower, but starts sooner and needs less memory.
        max_model_len: Longest prompt with response, in tokens. By default ``data.max_prompt_tokens`` and
            ``max_new_tokens`` together where the data has that limit, else (and with -1) what the model allows, as far
            as the cache has room. A prompt without room for a response gets empty ones.
        max_num_seqs: Most responses that are written at the same time, as far as the cache has room. vLLM's own default
            is 1,024 on cards of 70 GB and more (but for the A100) and 256 on others.
        sleep_level: What is freed on the GPU while the policy trains: 0 nothing, 1 the cache (the weights wait in the
            main memory), 2 the weights too, which come from the policy again. By default 2, and 1 for adapters that are
            sent apart. Without effect on a CPU.
        dtype: Type of vLLM's weights; auto takes the policy's.
        kv_cache_gb: Size of the cache in GiB; by default what ``gpu_memory_utilization`` leaves (on a CPU: 1).
        adapters: How LoRA reaches vLLM: merged adds it to the weights; apart sends the adapters alone, which is less
            to send but slower to generate with, and works for adapters in the language model only.
        drift_bound: Largest mean difference to the trainer in a token's log-probability, in nats. By default 0.001 if
            both compute in float32; else the first hand-over of a process may have 0.25 (with TF32 0.05), and later
            ones three times what that had, or 0.05 (0.01) if that is more.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: a value cannot work.
        MissingExtraError: vLLM is not installed.
    """

    def __init__(
        self,
        max_new_tokens: int = 1024,
        gpu_memory_utilization: float = 0.4,
        tensor_parallel_size: int = 1,
        enforce_eager: bool = False,
        max_model_len: int | None = None,
        max_num_seqs: int = 256,
        sleep_level: Literal[0, 1, 2] | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        kv_cache_gb: float | None = None,
        adapters: Literal["merged", "apart"] = "merged",
        drift_bound: float | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(max_new_tokens, drift_bound, progress=progress)
        self.options = VllmOptions(
            gpu_memory_utilization=gpu_memory_utilization,
            tensor_parallel_size=tensor_parallel_size,
            enforce_eager=enforce_eager,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            sleep_level=sleep_level,
            dtype=dtype,
            kv_cache_gb=kv_cache_gb,
            adapters=adapters,
        )
        if find_spec("vllm") is None:
            raise MissingExtraError("vllm", "vllm", "VllmEngine")
        self.group_size = tensor_parallel_size

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Starts vLLM with the policy's weights; once for a policy."""
        running = self._session
        if running is not None and running.policy is policy and running.renderer is renderer:
            return
        self.close()
        dtype, _ = self._check(policy, renderer, self.options.dtype)
        untyped: Any = policy
        options = replace(self.options, max_model_len=self._model_len(untyped.config.get_text_config()))
        self._session = VllmSession(policy, renderer, options, dtype)
        self._warn_if_short(self._session.longest, "max_model_len")

    def _model_len(self, text_config: Any) -> int:
        """The ``max_model_len`` that vLLM is started with."""
        if self.options.max_model_len is not None or self._longest_prompt is None:
            return self.options.max_model_len or AUTO_LENGTH
        wanted = self._longest_prompt + self.max_new_tokens
        return wanted if wanted <= getattr(text_config, "max_position_embeddings", wanted) else AUTO_LENGTH

    def update_weights(self, policy: nn.Module) -> None:
        """Gives vLLM the policy's present weights, and empties every cache. Collective for a sharded policy."""
        require_finite(policy.named_parameters(), "the policy cannot write responses")
        self.session.update_weights(policy)

    def compare_weights(self, policy: nn.Module) -> HandOver:
        """Compares all weights that vLLM holds with the policy's, exactly. Collective for a sharded policy."""
        self.session.wake()
        return self.session.compare_weights(policy)

    @property
    def asleep(self) -> bool:  # type: ignore[override]
        """Whether vLLM's memory on the GPU is freed."""
        return self._session is not None and self._session.asleep

    def rest(self) -> None:
        """Frees vLLM's memory on the GPU as ``sleep_level`` says."""
        if self._session is not None:
            self._session.rest()

    def close(self) -> None:
        """Ends vLLM."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Draws every sample of every request.

        A prompt that vLLM cannot be given (too long, a chat template without a place for its pictures) gets empty,
        unfinished responses, and a warning says so. With ``tensor_parallel_size`` all processes of a group must be
        given the same requests.
        """
        session = self.session
        session.wake()
        written = [[unwritten(request, sample) for sample in request.samples] for request in requests]
        jobs: list[tuple[int, list[tuple[int, Sample]]]] = []
        with (
            session.recovering() as accepted,
            self.counting(sum(len(request.samples) for request in requests)) as bar,
            Ahead(_load_pictures, threaded=True) as pictures,
        ):
            more = self._hand_over(requests, jobs, accepted, pictures, bar)
            for job, output in session.finish(accepted, more, bar):
                number, group = jobs[job]
                for i, (place, sample) in enumerate(group):
                    drawn = output.outputs[min(i, len(output.outputs) - 1)]
                    written[number][place] = requests[number].fill(
                        sample, session.renderer.decode, list(drawn.token_ids), drawn.finish_reason == "stop",
                        float(drawn.cumulative_logprob),
                        (float(drawn.logprobs[step][token].logprob) for step, token in enumerate(drawn.token_ids)),
                    )  # fmt: skip
        return written

    def _hand_over(
        self,
        requests: Sequence[Request],
        jobs: list[tuple[int, list[tuple[int, Sample]]]],
        accepted: list[str],
        pictures: Ahead[Prompt, list[Image]],
        bar: ResponseBar,
    ) -> Iterator[bool]:
        """Hands over the requests; yields after each that vLLM has accepted, and notes in ``jobs`` what it draws."""
        session, banned = self.session, dict.fromkeys(self._banned, -float("inf"))
        for number, request in enumerate(requests):
            ids = prompt_tokens(session.renderer, request.prompt, request.prefix, show_answer=request.show_answer)
            later = requests[number + 1].prompt if number + 1 < len(requests) else None
            shown, left = pictures.take(request.prompt, later), len(request.samples)
            for temperature, group in equal_temperatures(request):
                # Greedy decoding has one outcome, however many samples want it.
                samples = [sample for _, sample in (group if temperature > 0 else group[:1])]
                if not self._enqueue(
                    request.prompt,
                    ids,
                    shown,
                    accepted,
                    n=len(samples),
                    temperature=temperature,
                    seed=SampleSeeds(samples),
                    max_tokens=self.max_new_tokens,
                    stop_token_ids=list(session.renderer.end_ids),
                    logit_bias=banned,
                    logprobs=0,
                ):
                    break
                jobs.append((number, group))
                left -= len(samples)
                yield True
            # What vLLM refuses, and what greedy decoding does not repeat, is not waited for.
            bar.skip(left)

    def response_logprobs(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> dict[str, list[list[float]]]:
        """The log-probability of each token of given responses, by vLLM's weights.

        Tokens beyond ``max_model_len`` are left out, and so are all of a prompt that vLLM cannot be given.
        """
        session = self.session
        session.wake()
        tails = session.renderer.encode_responses(responses)[0]
        scored: list[list[float]] = [[] for _ in responses]
        jobs: list[tuple[int, int]] = []
        with session.recovering() as accepted:
            for number, (prompt, tail) in enumerate(zip(prompts, tails, strict=True)):
                kept = tail[: max(session.longest - session.renderer.count_tokens(prompt) - 1, 0)]
                ids = prompt_tokens(session.renderer, prompt) + kept
                # What is scored is part of the prompt here; one more token must be drawn.
                scoring = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
                if kept and self._enqueue(prompt, ids, _load_pictures(prompt), accepted, **scoring):
                    jobs.append((number, len(kept)))
            for job, output in session.finish(accepted, iter(())):
                number, length = jobs[job]
                rows = zip(output.prompt_logprobs[-length:], output.prompt_token_ids[-length:], strict=True)
                scored[number] = [float(row[token].logprob) for row, token in rows]
        return {"": scored}

    def _enqueue(
        self, prompt: Prompt, ids: list[int], shown: list[Image], accepted: list[str], **sampling: Any
    ) -> bool:
        """Hands one prompt over with its pictures, or says why it cannot be."""
        session = self.session
        fault = find_fault(prompt, ids, max_images=MOST_IMAGES if self._pictures else 0, max_len=session.longest)
        if fault is None:
            inputs = {"prompt_token_ids": ids} | ({"multi_modal_data": {"image": shown}} if shown else {})
            fault = session.enqueue(inputs, accepted, **sampling)
        if fault is not None:
            tell_left_out(prompt.id, fault)
        return fault is None


def _load_pictures(prompt: Prompt) -> list[Image]:
    return [image.load() for image in prompt.images]
