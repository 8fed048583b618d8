"""The account of a run: its stages one after another, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mstar.memory.account import Account, Amount, Stage, stage
from mstar.memory.plan import BYTES, Plan, RolloutPlan
from mstar.memory.process import CPU_LIBRARIES, CUDA_CONTEXT, with_heap
from mstar.memory.rollouts import Reward, find_fault, generation_stage, reward_of, scoring_stage
from mstar.memory.run import Run
from mstar.memory.shape import ModelShape
from mstar.memory.storage_account import disk_account, host_account
from mstar.memory.training import training_stages


def estimate(run: Run, reward: ModelShape | None) -> Account:
    """The account of a run; ``reward`` is the shape of the reward's model, None without one."""
    plan = _bounded(run)
    if plan.dtype == "auto":
        plan = replace(plan, dtype="bfloat16" if run.on_gpu else "float32")
    run = replace(run, plan=plan)
    always = (
        Amount("CUDA context", CUDA_CONTEXT) if run.on_gpu
        else Amount("interpreter and libraries", run.base + CPU_LIBRARIES),
    )  # fmt: skip
    rollout = plan.rollout
    scored_by = plan.reward if rollout is None else rollout.reward
    mprm = None if scored_by is None or reward is None else reward_of(run, scored_by, reward)
    waiting: tuple[Amount, ...] = ()
    if mprm is not None and not mprm.offload:
        waiting = (Amount(mprm.name, mprm.num_bytes, certain=True),)
    # Weights are loaded whole but where they are split.
    loaded = mprm.num_bytes if mprm is not None and plan.reward is not None else run.parts.weights
    stages = [stage("start", always, Amount("weights", loaded, certain=True))]
    if rollout is not None:
        stages += _rollout_stages(run, rollout, always, waiting, mprm)
    elif plan.evaluation is not None and not plan.fits:
        stages.append(generation_stage(run, plan.evaluation, 1, always))
    if mprm is not None and plan.reward is not None:
        stages.append(scoring_stage(plan.rows, mprm, run.lengths, 1, always))
    if plan.fits:
        beside = (*always, *waiting, *_asleep(rollout, stages))
        stages += training_stages(run, beside)
        stages += _writing_stages(run, beside)
    if not run.on_gpu:
        stages = with_heap(stages, always[0].name)
    said = f"{plan.model_name}: {_billions(run.shape.weights)} parameters"
    return Account(
        model=f"{said}, {_billions(run.shape.trained)} trained" if plan.fits else said,
        device="cuda" if run.on_gpu else "cpu",
        places=_places(run),
        stages=tuple(stages),
        host=host_account(run, mprm) if run.on_gpu else (),
        disk=disk_account(run),
        capacity=run.capacity,
        assumptions=_assumptions(run),
        fault=find_fault(run),
    )


def _bounded(run: Run) -> Plan:
    """The plan, with batches no larger than there are rows for."""
    plan, rollout, rows, prompts = run.plan, run.plan.rollout, run.total, run.prompts
    if rollout is None:
        return plan if rows is None else replace(plan, rows=min(plan.rows, max(rows, 1)))
    if prompts is None:
        return plan
    shard = min(rollout.shard_size, prompts) * rollout.num_samples
    engine = rollout.engine if rollout.engine.rows is None else replace(
        rollout.engine, rows=min(rollout.engine.rows, shard)
    )  # fmt: skip
    reward = rollout.reward and replace(rollout.reward, rows=min(rollout.reward.rows, shard))
    rollout = replace(rollout, engine=engine, reward=reward)
    return replace(plan, rollout=rollout, rows=min(plan.rows, prompts * rollout.kept))


def _rollout_stages(
    run: Run, rollout: RolloutPlan, always: tuple[Amount, ...], waiting: tuple[Amount, ...], mprm: Reward | None
) -> list[Stage]:
    reading = run
    if run.plan.kind == "annotate" or rollout.refresh_rows is not None:
        # Step labels come from responses that are continued: the engine reads what there is of them, too.
        prompt = run.lengths.prompt + rollout.engine.max_new_tokens
        reading = replace(run, lengths=replace(run.lengths, prompt=prompt))
    stages = [generation_stage(reading, rollout.engine, rollout.num_samples, (*always, *waiting))]
    if mprm is not None and rollout.reward is not None:
        # The engine holds whole weights of a sharded policy from the first shard to the last; its rows are gone.
        held = tuple(
            amount
            for amount in stages[0].amounts
            if amount.name in {"weights", "optimizer states", "weights whole", "vLLM", always[0].name}
        )
        stages.append(scoring_stage(rollout.reward.rows, mprm, run.lengths, rollout.num_samples, held))
    if rollout.refresh_rows is not None:
        again = replace(
            run.plan, kind="mprm", rows=rollout.refresh_rows, strategy="single", share_prompts=True, rollout=None
        )
        # The MPRM before it is let go.
        beside = (*always, *_asleep(rollout, stages), Amount("policy", run.parts.weights, certain=True),
                  Amount("policy's optimizer states", run.parts.states))  # fmt: skip
        refresh, _ = training_stages(replace(run, plan=again).alone, beside)
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


def _writing_stages(run: Run, beside: tuple[Amount, ...]) -> list[Stage]:
    """Checkpoints are written from where the tensors are; what an export makes of them depends on the weights."""
    plan, shape, there = run.plan, run.shape, run.parts.held()
    stages = [stage("checkpoint", beside, there)] if plan.checkpoints else []
    merged = 0
    if shape.adapters:
        # On a GPU one weight with its adapter, which then goes to the main memory; a layer in float32 is about what
        # its making takes. On a CPU all of them, beside those without.
        size = 4 if shape.quantised else BYTES[plan.dtype]
        merged = 4 * shape.layer_weights if run.on_gpu else shape.weights * size
    stages.append(stage("export", beside, there, Amount("merged weights", merged)))
    return stages


def _places(run: Run) -> str:
    one, several = ("GPU", "GPUs") if run.on_gpu else ("process", "processes")
    each = f"{run.local} {one if run.local == 1 else several}"
    machines = f" on each of {run.plan.nodes} machines" if run.plan.nodes > 1 else ""
    how = {"single": "", "ddp": ", DDP", "fsdp2": ", FSDP2"}[run.plan.strategy]
    return each + machines + (how if run.plan.fits else "")


def _assumptions(run: Run) -> tuple[str, ...]:
    plan, said = run.plan, [run.lengths.said]
    if plan.fits:
        said.append(f"batches of {plan.rows} rows, all of them as long as the longest")
    if not plan.optimizer.known:
        said.append(f"{plan.optimizer_name} is not known here: its states are counted as AdamW's")
    if run.capacity is None:
        said.append("the GPU's memory is not known: --gpu_memory_gb says it")
    engine = plan.rollout.engine if plan.rollout else None
    if engine is not None and engine.kind == "vllm" and engine.kv_cache_bytes is None and run.capacity is None:
        said.append("vLLM's share of the GPU is not counted without its size")
    return tuple(said)


def _billions(number: int) -> str:
    return f"{number / 1e9:.3f} B" if number >= 1e8 else f"{number / 1e6:.2f} M"
