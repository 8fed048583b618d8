"""What rollouts take: the engine, the MPRM, and what lies beside them while they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mstar.memory.account import Amount, Stage, stage
from mstar.memory.activations import Types, layer_peak, logits_peak
from mstar.memory.lengths import Lengths
from mstar.memory.plan import BYTES, EnginePlan, Plan, RewardPlan
from mstar.memory.shape import ModelShape
from mstar.memory.training import NF4, model_types, parts_of
from mstar.models.shared_prefix import reserved
from mstar.models.token_loss import MOST_LOGITS

_FLOAT: Final = 4
# Rows that it writes at the same time on a CPU, where no memory is measured.
_CPU_ROWS: Final = 64


@dataclass(frozen=True)
class Reward:
    """A reward with a model of its own, as it is loaded.

    Attributes:
        num_bytes: Its weights.
        offload: Whether it is off the GPU while it does not score.
    """

    name: str
    shape: ModelShape
    num_bytes: int
    types: Types
    offload: bool


def reward_of(plan: Plan, reward: RewardPlan, shape: ModelShape, on_gpu: bool) -> Reward:
    """A reward as it is loaded."""
    given = reward.dtype
    dtype = given if given in BYTES else "bfloat16" if on_gpu else plan.dtype
    weights = shape.weights * BYTES[dtype]
    if reward.quantization == "nf4":
        text = shape.layer_weights * shape.text.layers
        weights = int((shape.weights - text) * BYTES[dtype] + text * NF4)
    compute = min(BYTES[plan.compute_dtype(on_gpu)], BYTES[dtype])
    offload = reward.offload is not False and reward.quantization != "nf4"
    return Reward(reward.name, shape, weights * reward.models, Types(BYTES[dtype], compute), offload and on_gpu)


def generation_stage(
    name: str,
    plan: Plan,
    engine: EnginePlan,
    shape: ModelShape,
    lengths: Lengths,
    on_gpu: bool,
    processes: int,
    beside: tuple[Amount, ...],
    capacity: int | None,
    num_samples: int,
) -> Stage:
    """Drawing ``num_samples`` responses a prompt, with ``beside`` there meanwhile."""
    parts = parts_of(plan, shape, on_gpu, processes)
    fixed = [
        *beside,
        Amount("weights", parts.weights, certain=True),
        Amount("optimizer states", parts.states if plan.fits else 0, certain=True),
    ]
    if engine.kind == "other":
        return stage(name, fixed)
    if engine.kind == "vllm":
        vllm = vllm_weights(plan, engine, shape) + (engine.kv_cache_bytes or 0)
        if capacity is not None and engine.kv_cache_bytes is None:
            # What it is given at its start is for its weights and its cache.
            vllm = max(int(capacity * engine.share), vllm)
        whole = shape.layer_weights * _FLOAT if plan.strategy.startswith("fsdp") else shape.largest * _FLOAT
        return stage(name, fixed, Amount("vLLM", vllm, certain=True), Amount("weights on their way to vLLM", whole))
    types = model_types(plan, on_gpu)
    if plan.strategy.startswith("fsdp") and processes > 1:
        size = types.compute if plan.precision == "bf16-mixed" else BYTES[plan.dtype]
        fixed.append(Amount("weights whole", shape.weights * size, certain=True))
    fixed.append(Amount("copies of weights to decode with", _decoding_bytes(plan, engine, shape, types)))
    if engine.rows is None and on_gpu:
        if capacity is not None:
            fixed.append(Amount("the engine's share of the GPU", int(engine.utilization * capacity)))
        return stage(name, fixed)
    rows = engine.rows or _CPU_ROWS
    amounts = list(encoding(shape, types, lengths, max(1, -(-rows // num_samples))))
    written = rows * _row_bytes(shape, types, engine, lengths)
    return stage(name, fixed, Amount(f"keys and values, logits of {rows} rows", written, heap=True), amounts)


def vllm_weights(plan: Plan, engine: EnginePlan, shape: ModelShape) -> int:
    """What vLLM's own weights take on one GPU: they have 16 or 32 bits, where the policy's have 4, too."""
    return shape.weights * BYTES.get(engine.dtype, BYTES[plan.dtype]) // engine.parallel


def find_fault(plan: Plan, shape: ModelShape, capacity: int | None) -> str | None:
    """Why the engine cannot start whatever else there is; None if nothing says so."""
    # A fit without rollouts draws with it in validation, if at all.
    engine = plan.evaluation if plan.rollout is None else plan.rollout.engine
    if engine is None or engine.kind != "vllm" or engine.kv_cache_bytes is not None or capacity is None:
        return None
    given, weights = int(capacity * engine.share), vllm_weights(plan, engine, shape)
    if given >= weights:
        return None
    return (
        f"vLLM's gpu_memory_utilization {engine.share:g} gives it {given / 1e9:.1f} GB, and its weights, which are "
        f"never in 4 bits, take {weights / 1e9:.1f} GB: raise it"
    )


def _decoding_bytes(plan: Plan, engine: EnginePlan, shape: ModelShape, types: Types) -> int:
    """Adapters folded into copies of the weights, or copies in 16 bits where autocast would cast for every token."""
    if plan.strategy.startswith("fsdp"):
        return 0
    layers = shape.layer_weights * shape.text.layers
    if types.autocast:
        return (layers + shape.vocabulary * shape.hidden) * types.compute
    # Weights in 4 bits stay as they are, with their adapters apart.
    return layers * types.weights if shape.adapters and engine.merged and not shape.quantised else 0


def _row_bytes(shape: ModelShape, types: Types, engine: EnginePlan, lengths: Lengths) -> int:
    """What a row takes while it is written."""
    cache = shape.cache(types.compute)
    # Log-probabilities, what is allowed, what is divided by the temperature and its softmax are there together.
    logits = shape.vocabulary * (5 * _FLOAT + types.compute)
    scores = (lengths.prompt + engine.max_new_tokens) * shape.text.heads * (2 * _FLOAT + types.compute)
    return cache.new_tokens(reserved(engine.max_new_tokens), lengths.prompt) + logits + scores


def encoding(shape: ModelShape, types: Types, lengths: Lengths, prompts: int) -> Iterator[Amount]:
    """Prompts that are read: their keys and values, and what a layer takes meanwhile."""
    tokens = prompts * lengths.prompt
    cache = shape.cache(types.compute)
    yield Amount("keys and values of prompts", prompts * cache.row(lengths.prompt), heap=True)
    peak = layer_peak(shape.text, types, tokens, masked=lengths.prompt)
    if shape.vision is not None:
        peak = max(peak, layer_peak(shape.vision, types, prompts * lengths.patches))
        yield Amount("pictures", 2 * prompts * lengths.pixel_bytes, heap=True)
    yield Amount("one layer's work", peak, heap=True)


def scoring_stage(rows: int, reward: Reward, lengths: Lengths, num_samples: int, beside: tuple[Amount, ...]) -> Stage:
    """Scoring ``rows`` responses at a time; ``beside`` is there meanwhile, the reward's own weights left out."""
    types, shape = reward.types, reward.shape
    prompts = max(1, -(-rows // num_samples))
    cache = shape.cache(types.compute)
    whole = lengths.prompt + lengths.scored
    # The prompt's part once for every response, and a layer's that is put together with the new tokens.
    kept = rows * cache.row(whole) + rows * whole * 2 * (shape.text.queries + shape.text.keys) * types.compute
    work = layer_peak(shape.text, types, rows * lengths.scored, masked=whole)
    return stage(
        "score",
        beside,
        Amount(reward.name, reward.num_bytes, certain=True),
        encoding(shape, types, lengths, prompts),
        Amount(f"keys and values of {rows} responses", kept, heap=True),
        Amount("one layer's work on responses", work, heap=True),
        Amount("logits", logits_peak(shape, types, rows * lengths.scored, budget=MOST_LOGITS)),
    )
