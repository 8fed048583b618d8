"""How vLLM is started in the training process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mstar.errors import require_least, require_positive, require_share

# As max_model_len: what the model allows, as far as the cache has room for one request.
AUTO_LENGTH: Final = -1


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
    model_folder: str | None
    trust_remote_code: bool

    def __post_init__(self) -> None:
        require_least(
            "VllmEngine: ",
            tensor_parallel_size=self.tensor_parallel_size,
            max_model_len=None if self.max_model_len == AUTO_LENGTH else self.max_model_len,
            max_num_seqs=self.max_num_seqs,
        )
        require_share("VllmEngine: gpu_memory_utilization", self.gpu_memory_utilization, "(0, 1]")
        require_positive("VllmEngine: ", kv_cache_gb=self.kv_cache_gb)
