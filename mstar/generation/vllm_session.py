"""A running vLLM in the training process: its start and end, its weights, its caches, its memory."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mstar.distributed import world_size
from mstar.errors import ConfigError, require_least, require_positive, require_share
from mstar.generation.base import HandOver
from mstar.generation.progress import ResponseBar
from mstar.generation.vllm_comparison import HeldWeights, compare_adapters, compare_named
from mstar.generation.vllm_process import (
    keeping_process_group,
    keeping_process_state,
    prepare_environment,
    require_same_device,
    work_off,
)
from mstar.generation.vllm_prompts import processor_options
from mstar.generation.vllm_weights import checkpoint_weights, trains_base_weights, write_description
from mstar.models.families import family_of
from mstar.models.lora import has_lora, save_adapter
from mstar.models.precision import name_of
from mstar.models.sharding import full_state
from mstar.rendering import Renderer

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.lora.request import LoRARequest

_log = logging.getLogger(__name__)

# As max_model_len: what the model allows, as far as the cache has room for one request.
AUTO_LENGTH: Final = -1

# The ranks that vLLM's LoRA kernels have.
_LORA_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class VllmOptions:
    """How vLLM is started; the arguments of ``VllmEngine``, which describes them."""

    gpu_memory_utilization: float
    tensor_parallel_size: int
    enforce_eager: bool
    max_model_len: int | None
    max_num_seqs: int
    sleep_level: Literal[0, 1, 2] | None
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    kv_cache_gb: float | None
    adapters: Literal["merged", "apart"]

    def __post_init__(self) -> None:
        require_least(
            "VllmEngine: ",
            tensor_parallel_size=self.tensor_parallel_size,
            max_model_len=None if self.max_model_len == AUTO_LENGTH else self.max_model_len,
            max_num_seqs=self.max_num_seqs,
        )
        require_share("VllmEngine: gpu_memory_utilization", self.gpu_memory_utilization, "(0, 1]")
        require_positive("VllmEngine: ", kv_cache_gb=self.kv_cache_gb)


class VllmSession:
    """Starts vLLM with the policy's weights.

    Raises:
        ConfigError: the processes cannot be grouped for ``tensor_parallel_size``, or adapters that are not in the
            language model are to be sent apart.
    """

    def __init__(self, policy: nn.Module, renderer: Renderer, options: VllmOptions, dtype: torch.dtype) -> None:
        if world_size() % options.tensor_parallel_size:
            raise ConfigError(
                f"VllmEngine: tensor_parallel_size is {options.tensor_parallel_size}, but {world_size()} processes "
                "cannot be put into groups of that size: start one process a GPU, and a multiple of it."
            )
        self.policy, self.renderer, self.options, self.dtype = policy, renderer, options, dtype
        self.lora: LoRARequest | None = None
        self.asleep = False
        self._pushes = 0
        self._stale: tuple[str, ...] = ()
        self._apart = options.adapters == "apart" and has_lora(policy)
        # Weights that are handed over anyway need not wait in the main memory.
        self.sleep_level = options.sleep_level if options.sleep_level is not None else 1 if self._apart else 2
        self._group_is_trainers = dist.is_initialized()
        self._folder = TemporaryDirectory(prefix="mstar-vllm-")
        prepare_environment()
        require_same_device(next(policy.parameters()).device)
        with keeping_process_state():
            self.llm = self._load()
        self.longest = int(self.llm.llm_engine.model_config.max_model_len)
        try:
            self.update_weights(policy)
        except BaseException:
            self.close()
            raise

    def _load(self) -> LLM:
        from vllm import LLM
        from vllm.platforms import current_platform

        options, on_cpu = self.options, current_platform.is_cpu()
        cache = 1.0 if options.kv_cache_gb is None and on_cpu else options.kv_cache_gb
        special: dict[str, Any] = {}
        if on_cpu:
            # vLLM 0.32 fails on a CPU when a sample with a seed begins in two parts ("does not use offset").
            special["enable_chunked_prefill"] = False
        if self._apart:
            special |= _adapter_options(self.policy)
        if world_size() > 1:
            # The processes are there already; vLLM makes its groups of them.
            special["distributed_executor_backend"] = "external_launcher"
        return LLM(
            model=write_description(self.policy, self.renderer, Path(self._folder.name)),
            load_format="dummy",  # the weights come from the policy
            dtype=name_of(self.dtype),
            tensor_parallel_size=options.tensor_parallel_size,
            gpu_memory_utilization=options.gpu_memory_utilization,
            kv_cache_memory_bytes=None if cache is None else int(cache * 2**30),
            enforce_eager=options.enforce_eager,
            max_model_len=options.max_model_len,
            max_num_seqs=options.max_num_seqs,
            # What a prompt never has would else be profiled too, and take memory.
            limit_mm_per_prompt={"video": 0, "audio": 0},
            # Pixels are normalised by the processor: vLLM would do it with buffers that no checkpoint has, which
            # load_format dummy fills with noise.
            mm_device_do_normalize=False,
            # vLLM would take torchvision where the trainer's processor takes Pillow, and the pixels differ.
            mm_processor_kwargs=processor_options(self.renderer.processor),
            enable_prefix_caching=True,
            enable_sleep_mode=self.sleep_level > 0 and not on_cpu,
            logprobs_mode="raw_logprobs",  # of the policy itself, at temperature 1
            generation_config="vllm",  # no sampling defaults from the model's folder
            **special,
        )

    # Weights and caches.

    def update_weights(self, policy: nn.Module) -> None:
        """Gives vLLM the policy's present weights, and empties every cache of what the old ones made.

        Collective for a sharded policy.
        """
        self.policy = policy
        # The cache comes back after the weights, so that it is not there beside two copies of them.
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        lost = self._pushes == 0 or (self.asleep and self.sleep_level == 2)
        if not self._apart or lost or trains_base_weights(policy):
            self._push_weights()
        if self._apart:
            self._push_adapter()
        self._pushes += 1
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        self.reset_caches()
        self._stale = self._find_stale()

    def compare_weights(self, policy: nn.Module) -> HandOver:
        """Compares what vLLM holds with the policy's weights; says too what it kept of the old ones at the hand-over.

        Collective for a sharded policy.
        """
        [model] = self.llm.collective_rpc(lambda worker: worker.get_model())
        held = HeldWeights(model, self.dtype)
        compared, different = compare_named(held, self._weights_of(policy))
        if unread := held.unread():
            _log.debug("not compared with the trainer's: %s", ", ".join(unread))
        if self._apart:
            adapters, wrong = compare_adapters(held, policy)
            compared, different = compared + adapters, different + wrong
        return HandOver(compared, tuple(different), self._stale)

    def _find_stale(self) -> tuple[str, ...]:
        """What the caches still have, right after they were emptied."""
        scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        [features] = self.llm.collective_rpc(lambda worker: len(worker.model_runner.encoder_cache or ()))
        counted = {
            "cached image features of {} pictures": max(
                features, len(getattr(scheduler.encoder_cache_manager, "cached", ()))
            ),
            "{} blocks of the prefix cache": len(scheduler.kv_cache_manager.block_pool.cached_block_hash_to_block),
        }
        return tuple(words.format(number) for words, number in counted.items() if number)

    def _push_weights(self) -> None:
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": self._weights_of(self.policy)})

    def _weights_of(self, policy: nn.Module) -> Iterator[tuple[str, Tensor]]:
        return checkpoint_weights(policy, merge=not self._apart, dtype=self.dtype)

    def _push_adapter(self) -> None:
        from vllm.lora.request import LoRARequest

        folder = Path(self._folder.name) / f"adapter-{self._pushes}"
        save_adapter(self.policy, folder, {name: v for name, v in full_state(self.policy) if ".lora_" in name})
        earlier = self.lora
        # A new number each time: vLLM keeps what it has loaded under a number, and what it has cached for it.
        self.lora = LoRARequest(folder.name, self._pushes + 1, str(folder))
        self.llm.llm_engine.add_lora(self.lora)
        if earlier is not None:
            # vLLM has read the new one, and holds one at a time; a file may have hundreds of megabytes.
            shutil.rmtree(earlier.lora_path, ignore_errors=True)

    def reset_caches(self) -> None:
        """Empties the caches: keys and values of prompts, processed pictures, and the vision tower's features.

        Raises:
            RuntimeError: vLLM did not empty a cache.
        """
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache: some request is still being written.")
        self.llm.reset_mm_cache()
        # vLLM keeps features for the next prompt with the same picture: a trained vision tower makes others.
        self.llm.llm_engine.reset_encoder_cache()

    # Requests.

    def enqueue(self, inputs: Any, accepted: list[str], **sampling: Any) -> str | None:
        """Hands one prompt over.

        Returns:
            Why vLLM refuses the prompt; None if it does not.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError

        # Flat: of a long response, the log-probabilities are a few lists in place of thousands of objects.
        params = SamplingParams(detokenize=False, flat_logprobs=True, **sampling)
        try:
            accepted += self.llm.enqueue([inputs], params, lora_request=self.lora, use_tqdm=False)
        except VLLMClientError as error:  # a boundary: only vLLM knows how many tokens a picture becomes
            # It counts the picture as sent, and would not send it with the next prompt that shows it.
            self.llm.reset_mm_cache()
            return str(error).splitlines()[0].rstrip(".")
        return None

    def finish(
        self, accepted: Sequence[str], more: Iterator[bool], bar: ResponseBar | None = None
    ) -> Iterator[tuple[int, RequestOutput]]:
        """Runs what was handed over, and ``more``; see ``work_off``."""
        # The processes of a group go step by step together: none may leave the others.
        may_stop = self.options.tensor_parallel_size == 1
        return work_off(
            self.llm.llm_engine, accepted, more, bar, max_num_seqs=self.options.max_num_seqs, may_stop=may_stop
        )

    @contextmanager
    def recovering(self) -> Iterator[list[str]]:
        """Leaves vLLM idle and its caches empty if something fails, so that the next call starts from nothing.

        Yields:
            A list for the numbers of the requests that are handed over.
        """
        accepted: list[str] = []
        try:
            with self._own_types():
                yield accepted
        except BaseException:
            self.llm.llm_engine.abort_request(accepted, internal=True)
            while self.llm.llm_engine.has_unfinished_requests():
                self.llm.llm_engine.step()
            self.reset_caches()
            raise

    def _own_types(self) -> AbstractContextManager[object]:
        """Keeps the autocast away that the trainer computes under: vLLM and its weights have a type of their own."""
        return torch.autocast(next(self.policy.parameters()).device.type, enabled=False)

    # Memory.

    def rest(self) -> None:
        """Frees memory on the GPU as ``sleep_level`` says, which also empties the caches; on a CPU, nothing."""
        if self.llm.llm_engine.model_config.enable_sleep_mode and not self.asleep:
            self.llm.sleep(level=self.sleep_level)
            self.asleep = True

    def wake(self) -> None:
        """Takes the memory again; weights that were let go come from the policy."""
        if not self.asleep:
            return
        if self.sleep_level == 2:
            with self._own_types():
                self.update_weights(self.policy)
        else:
            self.llm.wake_up()
            self.asleep = False

    def close(self) -> None:
        """Ends vLLM."""
        with keeping_process_group(self._group_is_trainers):
            self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        self._folder.cleanup()
        gc.collect()


def _adapter_options(policy: nn.Module) -> dict[str, Any]:
    """How vLLM is started for adapters beside its weights.

    Raises:
        ConfigError: they are not in the language model.
    """
    adapted: dict[str, Any] = {name: module for name, module in policy.named_modules() if hasattr(module, "lora_A")}
    family = family_of(policy)
    outside = next((name for name in adapted if family.part_of(f"{name}.weight") != "language"), None)
    if outside is not None:
        # vLLM would end over names that it doesn't know, or leave them out.
        raise ConfigError(
            f"VllmEngine: adapters that are not in the language model ('{outside}') cannot be sent apart: set "
            "adapters: merged, or model.lora.target to language or attention."
        )
    largest = max(r for module in adapted.values() for r in module.r.values())
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": min(r for r in _LORA_RANKS if r >= largest),
        # Else it gives the head adapters too, and then fails on the log-probabilities of a prompt (0.32, CPU).
        "lora_target_modules": sorted({path.rpartition(".")[2] for path in adapted}),
    }
