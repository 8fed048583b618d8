"""What rollouts take: the engine, the MPRM, and what lies beside them while they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mstar.memory.account import Amount, Stage, stage
from mstar.memory.activations import Types, layer_peak, logits_peak
from mstar.memory.lengths import Lengths
from mstar.memory.plan import BYTES, EnginePlan, RewardPlan
from mstar.memory.run import NF4, Run
from mstar.memory.shape import ModelShape
from mstar.models.shared_prefix import reserved
from mstar.models.token_loss import MOST_LOGITS

_FLOAT: Final = 4
# Rows that it writes at the same time on a CPU, where no memory is measured.
_CPU_ROWS: Final = 64


@dataclass(frozen=True)
class Reward:
    """A reward with a model of its own, as it is loaded.

    Attributes:
        offload: Whether it is off the GPU while it does not score.
    """

    name: str
    shape: ModelShape
    num_bytes: int
    types: Types
    offload: bool


def reward_of(run: Run, reward: RewardPlan, shape: ModelShape) -> Reward:
    """A reward as it is loaded; ``shape`` is that of its model."""
    given = reward.dtype
    dtype = given if given in BYTES else "bfloat16" if run.on_gpu else run.plan.dtype
    weights = shape.weights * BYTES[dtype]
    if reward.quantization == "nf4":
        text = shape.layer_weights * shape.text.layers
        weights = int((shape.weights - text) * BYTES[dtype] + text * NF4)
    compute = min(BYTES[run.plan.compute_dtype(run.on_gpu)], BYTES[dtype])
    offload = reward.offload is not False and reward.quantization != "nf4"
    return Reward(reward.name, shape, weights * reward.models, Types(BYTES[dtype], compute), offload and run.on_gpu)


def generation_stage(run: Run, engine: EnginePlan, num_samples: int, beside: tuple[Amount, ...]) -> Stage:
    """Drawing ``num_samples`` responses a prompt, with ``beside`` there meanwhile."""
    plan, shape, types, parts = run.plan, run.shape, run.types, run.parts
    fixed = [
        *beside,
        Amount("weights", parts.weights, certain=True),
        Amount("optimizer states", parts.states if plan.fits else 0, certain=True),
    ]
    if engine.kind == "other":
        return stage("generate", fixed)
    if engine.kind == "vllm":
        vllm = vllm_weights(run, engine) + (engine.kv_cache_bytes or 0)
        if run.capacity is not None and engine.kv_cache_bytes is None:
            # What it is given at its start is for its weights and its cache.
            vllm = max(int(run.capacity * engine.share), vllm)
        sent = (shape.layer_weights if plan.sharded else shape.largest) * _FLOAT
        fixed += [Amount("vLLM", vllm, certain=True), Amount("weights on their way to vLLM", sent)]
        return stage("generate", fixed)
    if run.is_split:
        size = types.compute if plan.precision == "bf16-mixed" else BYTES[plan.dtype]
        fixed.append(Amount("weights whole", shape.weights * size, certain=True))
    fixed.append(Amount("copies of weights to decode with", _decoding_bytes(run, engine)))
    if engine.rows is None and run.on_gpu:
        share = 0 if run.capacity is None else int(engine.utilization * run.capacity)
        return stage("generate", fixed, Amount("the engine's share of the GPU", share))
    rows = engine.rows or _CPU_ROWS
    written = rows * _row_bytes(run, engine)
    return stage(
        "generate",
        fixed,
        Amount(f"keys and values, logits of {rows} rows", written, heap=True),
        encoding(shape, types, run.lengths, max(1, -(-rows // num_samples))),
    )


def vllm_weights(run: Run, engine: EnginePlan) -> int:
    """What vLLM's own weights take on one GPU: they have 16 or 32 bits, where the policy's have 4, too."""
    return run.shape.weights * BYTES.get(engine.dtype, BYTES[run.plan.dtype]) // engine.parallel


def find_fault(run: Run) -> str | None:
    """Why the engine cannot start whatever else there is; None if nothing says so."""
    # A fit without rollouts draws with it in validation, if at all.
    engine = run.plan.evaluation if run.plan.rollout is None else run.plan.rollout.engine
    if engine is None or engine.kind != "vllm" or engine.kv_cache_bytes is not None or run.capacity is None:
        return None
    given, weights = int(run.capacity * engine.share), vllm_weights(run, engine)
    if given >= weights:
        return None
    return (
        f"vLLM's gpu_memory_utilization {engine.share:g} gives it {given / 1e9:.1f} GB, and its weights, which are "
        f"never in 4 bits, take {weights / 1e9:.1f} GB: raise it"
    )


def _decoding_bytes(run: Run, engine: EnginePlan) -> int:
    """Adapters folded into copies of the weights, or copies in 16 bits where autocast would cast for every token."""
    if run.plan.sharded:
        return 0
    shape, types = run.shape, run.types
    layers = shape.layer_weights * shape.text.layers
    if types.autocast:
        return (layers + shape.vocabulary * shape.hidden) * types.compute
    # Weights in 4 bits stay as they are, with their adapters apart.
    return layers * types.weights if shape.adapters and engine.merged and not shape.quantised else 0


def _row_bytes(run: Run, engine: EnginePlan) -> int:
    """What a row takes while it is written."""
    shape, types, prompt = run.shape, run.types, run.lengths.prompt
    # Log-probabilities, what is allowed, what is divided by the temperature and its softmax are there together.
    logits = shape.vocabulary * (5 * _FLOAT + types.compute)
    scores = (prompt + engine.max_new_tokens) * shape.text.heads * (2 * _FLOAT + types.compute)
    return shape.cache(types.compute).new_tokens(reserved(engine.max_new_tokens), prompt) + logits + scores


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
