"""The account of a run: its plan, its models' shapes and its lengths, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from mstar.memory.account import Account, Amount, Stage, stage
from mstar.memory.heap import with_heap
from mstar.memory.lengths import Lengths
from mstar.memory.plan import BYTES, Plan, RolloutPlan
from mstar.memory.process import CPU_LIBRARIES, CUDA_CONTEXT
from mstar.memory.rollouts import Reward, find_fault, generation_stage, reward_of, scoring_stage
from mstar.memory.shape import ModelShape
from mstar.memory.storage_account import disk_account, host_account
from mstar.memory.training import parts_of, training_stages, weight_bytes


@dataclass(frozen=True)
class Circumstances:
    """What an account is for, beside the configuration.

    Attributes:
        capacity: Bytes of one GPU, or on a CPU of the machine for one process; None if not known.
        base: On a CPU, what the process takes without a model.
        total: Rows of the training data, where that is known.
    """

    on_gpu: bool
    capacity: int | None
    local: int
    base: int
    total: int | None = None

    def prompts(self, plan: Plan) -> int | None:
        """Prompts of an iteration with rollouts, where they are known."""
        return None if self.total is None or plan.rollout is None else ceil(self.total * plan.rollout.interval)


def estimate(
    plan: Plan, shape: ModelShape, reward: ModelShape | None, lengths: Lengths, where: Circumstances
) -> Account:
    """The account of a run; ``reward`` is the shape of the reward's model, None without one."""
    processes = where.local * plan.nodes
    plan = _bounded(plan, where)
    if plan.dtype == "auto":
        plan = replace(plan, dtype="bfloat16" if where.on_gpu else "float32")
    always = (
        Amount("CUDA context", CUDA_CONTEXT) if where.on_gpu
        else Amount("interpreter and libraries", where.base + CPU_LIBRARIES),
    )  # fmt: skip
    rollout = plan.rollout
    scored_by = plan.reward if rollout is None else rollout.reward
    mprm = None if scored_by is None or reward is None else reward_of(plan, scored_by, reward, where.on_gpu)
    waiting: tuple[Amount, ...] = ()
    if mprm is not None and not mprm.offload:
        waiting = (Amount(mprm.name, mprm.num_bytes, certain=True),)
    loaded = mprm.num_bytes if mprm is not None and plan.reward is not None else _loading(plan, shape, processes)
    stages = [stage("start", always, Amount("weights", loaded, certain=True))]
    if rollout is not None:
        stages += _rollout_stages(plan, shape, lengths, where, always, waiting, mprm)
    elif plan.evaluation is not None and not plan.fits:
        stages.append(
            generation_stage("generate", plan, plan.evaluation, shape, lengths, where.on_gpu, processes, always,
                             where.capacity, 1)
        )  # fmt: skip
    if mprm is not None and plan.reward is not None:
        stages.append(scoring_stage(plan.rows, mprm, lengths, 1, always))
    if plan.fits:
        beside = (*always, *waiting, *_asleep(rollout, stages))
        stages += training_stages(plan, shape, lengths, where.on_gpu, processes, beside)
        stages += _writing_stages(plan, shape, processes, where.on_gpu, beside)
    if not where.on_gpu:
        stages = with_heap(stages, always[0].name)
    host = host_account(plan, shape, mprm, where.local) if where.on_gpu else ()
    return Account(
        model=f"{plan.model_name}: {_billions(shape.weights)} parameters, {_billions(shape.trained)} trained"
        if plan.fits else f"{plan.model_name}: {_billions(shape.weights)} parameters",
        device="cuda" if where.on_gpu else "cpu",
        places=_places(plan, where),
        stages=tuple(stages),
        host=host,
        disk=disk_account(plan, shape, where.prompts(plan), lengths.scored),
        capacity=where.capacity,
        assumptions=_assumptions(plan, lengths, where),
        fault=find_fault(plan, shape, where.capacity),
    )  # fmt: skip


def _bounded(plan: Plan, where: Circumstances) -> Plan:
    """The plan, with batches no larger than there are rows for."""
    rollout, rows = plan.rollout, where.total
    if rollout is None:
        return plan if rows is None else replace(plan, rows=min(plan.rows, max(rows, 1)))
    prompts = where.prompts(plan)
    if prompts is None:
        return plan
    shard = min(rollout.shard_size, prompts) * rollout.num_samples
    engine = rollout.engine if rollout.engine.rows is None else replace(
        rollout.engine, rows=min(rollout.engine.rows, shard)
    )  # fmt: skip
    reward = rollout.reward and replace(rollout.reward, rows=min(rollout.reward.rows, shard))
    rollout = replace(rollout, engine=engine, reward=reward)
    return replace(plan, rollout=rollout, rows=min(plan.rows, prompts * rollout.kept))


def _loading(plan: Plan, shape: ModelShape, processes: int) -> int:
    """The whole weights, which are split after they are loaded, or adapters' base."""
    if plan.strategy.startswith("fsdp") and processes > 1:
        return parts_of(plan, shape, True, processes).weights
    return weight_bytes(shape, plan.dtype)


def _rollout_stages(
    plan: Plan,
    shape: ModelShape,
    lengths: Lengths,
    where: Circumstances,
    always: tuple[Amount, ...],
    waiting: tuple[Amount, ...],
    mprm: Reward | None,
) -> list[Stage]:
    rollout = plan.rollout
    assert rollout is not None  # noqa: S101 - the caller has looked
    processes = where.local * plan.nodes
    read = lengths
    if plan.kind == "annotate" or rollout.refresh_rows is not None:
        # Step labels come from responses that are continued: the engine reads what there is of them, too.
        read = replace(lengths, prompt=lengths.prompt + rollout.engine.max_new_tokens)
    stages = [
        generation_stage("generate", plan, rollout.engine, shape, read, where.on_gpu, processes, (*always, *waiting),
                         where.capacity, rollout.num_samples)
    ]  # fmt: skip
    if mprm is not None and rollout.reward is not None:
        # The engine holds whole weights of a sharded policy from the first shard to the last; its rows are gone.
        held = tuple(
            amount
            for amount in stages[0].amounts
            if amount.name in {"weights", "optimizer states", "weights whole", "vLLM", always[0].name}
        )
        stages.append(scoring_stage(rollout.reward.rows, mprm, lengths, rollout.num_samples, held))
    if rollout.refresh_rows is not None:
        again = replace(
            plan, kind="mprm", rows=rollout.refresh_rows, strategy="single", nodes=1, share_prompts=True, rollout=None
        )  # fmt: skip
        parts = parts_of(plan, shape, where.on_gpu, processes)
        # The MPRM before it is let go.
        beside = (*always, *_asleep(rollout, stages), Amount("policy", parts.weights, certain=True),
                  Amount("policy's optimizer states", parts.states))  # fmt: skip
        refresh, _ = training_stages(again, shape, lengths, where.on_gpu, 1, beside)
        stages.append(Stage("refresh", refresh.amounts))
    return stages


def _asleep(rollout: RolloutPlan | None, stages: Iterable[Stage]) -> Iterator[Amount]:
    """What vLLM keeps while something is trained: what it has in ``stages``, where it does not sleep."""
    if rollout is None or rollout.engine.kind != "vllm":
        return
    if rollout.engine.sleep_level == 0:
        yield from (
            amount for one in stages if one.name == "generate" for amount in one.amounts if amount.name == "vLLM"
        )
    else:
        # Its own context, graphs and what never sleeps; an estimate.
        yield Amount("vLLM asleep", 2_200 * 10**6)


def _writing_stages(
    plan: Plan, shape: ModelShape, processes: int, on_gpu: bool, beside: tuple[Amount, ...]
) -> list[Stage]:
    """Checkpoints are written from where the tensors are; what an export makes of them depends on the weights."""
    there = parts_of(plan, shape, on_gpu, processes).held()
    stages = [stage("checkpoint", beside, there)] if plan.checkpoints else []
    merged = 0
    if shape.adapters:
        # On a GPU one weight with its adapter, which then goes to the main memory; a layer in float32 is about what
        # its making takes. On a CPU all of them, beside those without.
        merged = 4 * shape.layer_weights if on_gpu else shape.weights * (4 if shape.quantised else BYTES[plan.dtype])
    stages.append(stage("export", beside, there, Amount("merged weights", merged)))
    return stages


def _places(plan: Plan, where: Circumstances) -> str:
    kind = "GPU" if where.on_gpu else "process"
    plural = kind + ("s" if kind == "GPU" else "es")
    each = f"{where.local} {kind if where.local == 1 else plural}"
    machines = f" on each of {plan.nodes} machines" if plan.nodes > 1 else ""
    how = {"single": "", "ddp": ", DDP", "fsdp2": ", FSDP2"}[plan.strategy]
    return each + machines + (how if plan.fits else "")


def _assumptions(plan: Plan, lengths: Lengths, where: Circumstances) -> tuple[str, ...]:
    said = [lengths.said]
    if plan.fits:
        said.append(f"batches of {plan.rows} rows, all of them as long as the longest")
    if not plan.optimizer.known:
        said.append(f"{plan.optimizer_name} is not known here: its states are counted as AdamW's")
    if where.capacity is None:
        said.append("the GPU's memory is not known: --gpu_memory_gb says it")
    engine = plan.rollout.engine if plan.rollout else None
    if engine is not None and engine.kind == "vllm" and engine.kv_cache_bytes is None and where.capacity is None:
        said.append("vLLM's share of the GPU is not counted without its size")
    return tuple(said)


def _billions(number: int) -> str:
    return f"{number / 1e9:.3f} B" if number >= 1e8 else f"{number / 1e6:.2f} M"
