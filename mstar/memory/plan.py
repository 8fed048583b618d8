"""What of a run its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mstar.memory.optimizer_states import OptimizerCost
from mstar.memory.shape import Training

BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_16_BITS: Final = ("bf16", "16")


@dataclass(frozen=True)
class EnginePlan:
    """What draws responses.

    Attributes:
        kind: transformers, vllm, or other (by address, which takes no memory here).
        rows: Most responses at the same time; None for as many as the memory holds.
        sleep_level: What vLLM frees while the policy trains.
        kv_cache_bytes: Size of vLLM's cache where it is set.
        parallel: GPUs that share an engine.
        utilization: The Transformers engine's share of the GPU beside the weights, where ``rows`` is not given.
        merged: Whether adapters are folded into a copy of the weights while it generates.
    """

    kind: Literal["transformers", "vllm", "other"]
    max_new_tokens: int
    rows: int | None = None
    share: float = 0.4
    sleep_level: int = 2
    dtype: str = "auto"
    kv_cache_bytes: int | None = None
    parallel: int = 1
    utilization: float = 0.3
    merged: bool = True


@dataclass(frozen=True)
class RewardPlan:
    """A reward with a model of its own.

    Attributes:
        rows: Responses that are scored at the same time.
        dtype: Type of its weights; None for the default.
        offload: Whether it leaves the GPU while it is not used; None for the default.
        quantization: none or nf4; None for a reward that has no such option.
        models: Models of this shape that it has: the implicit reward has two.
    """

    model: str
    rows: int
    dtype: str | None
    offload: bool | None
    quantization: str | None
    revision: str | None = None
    models: int = 1
    name: str = "MPRM"
    keys: str = "rollout.reward_"


@dataclass(frozen=True)
class RolloutPlan:
    """Rollouts.

    Attributes:
        reward: The MPRM, or another reward with a model; None without one.
        refresh_rows: Rows in a batch of the MPRM's retraining; None without it.
        keeps_tokens: Whether responses and examples have their tokens with the log-probabilities.
        shard_size: Prompts whose responses are scored together.
        kept: Responses of a prompt that are trained on at most.
    """

    engine: EnginePlan
    num_samples: int
    reward: RewardPlan | None
    refresh_rows: int | None
    keep_iterations: int | None
    interval: float = 1.0
    shard_size: int = 256
    kept: int = 1
    refreshes: int = 0
    keeps_tokens: bool = False


@dataclass(frozen=True)
class Plan:
    """A run, as far as memory is concerned.

    Attributes:
        kind: policy, mprm, annotate, or score (a reward on step labels).
        fits: Whether anything is trained.
        dtype: Type of the stored weights; auto has 16 bits on a GPU, else float32.
        checkpointing: Whether activations are computed again.
        share_prompts: Whether an MPRM encodes a prompt once for all its responses in a batch.
        devices: GPUs (or processes) on a machine; None for all of them.
        steps_kept: Checkpoints of iterations that are kept; None for all.
        every: Iterations between two checkpoints.
        within: Whether there are some within an iteration too.
        export_dtype: Type of the exported weights; None for the stored type.
        single_file: Whether a sharded run writes its checkpoints as one file.
        max_pixels: Most pixels of a picture, where the data's settings bound them.
        evaluation: What validate, test and predict generate with.
        reward: What scores steps where that is all (``score``); None elsewhere.
    """

    kind: Literal["policy", "mprm", "annotate", "score"]
    fits: bool
    model_name: str
    trust_remote_code: bool
    revision: str | None
    dtype: str
    precision: str | None
    training: Training
    optimizer: OptimizerCost
    accelerator: str
    max_pixels: int | None
    max_prompt_tokens: int | None
    rollout: RolloutPlan | None
    checkpointing: bool = False
    rows: int = 1
    optimizer_name: str = ""
    loss: str = "chunked"
    share_prompts: bool = True
    strategy: Literal["single", "ddp", "fsdp2"] = "single"
    devices: int | None = 1
    nodes: int = 1
    steps_kept: int | None = 1
    every: int = 1
    within: bool = False
    checkpoints: bool = False
    epochs: int | None = None
    export_dtype: str | None = None
    single_file: bool = False
    max_example_tokens: int | None = None
    evaluation: EnginePlan | None = None
    reward: RewardPlan | None = None

    @property
    def sharded(self) -> bool:
        """Whether its strategy splits the weights."""
        return self.strategy == "fsdp2"

    def compute_dtype(self, on_gpu: bool) -> str:
        """What matrices are multiplied in."""
        precision = self.precision
        if precision is None:
            return "bfloat16" if on_gpu else self.dtype
        if precision.startswith(_16_BITS):
            return "bfloat16" if precision.startswith("bf16") else "float16"
        return self.dtype
