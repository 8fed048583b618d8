"""What a run takes beside its devices: the memory of a machine, and the disk."""

from __future__ import annotations

from typing import Final

from mstar.memory.account import Amount, Stage, stage
from mstar.memory.plan import BYTES, RolloutPlan
from mstar.memory.rollouts import Reward, vllm_weights
from mstar.memory.run import Run

_FLOAT: Final = 4
# Interpreter, libraries and CUDA's part of a process in main memory.
_PROCESS: Final = 3 * 10**9
# Of a response in a run's files, compressed: what is said of it, and a token's text, and its id with the
# log-probability. Measured with responses of 2,000 tokens.
_ROW: Final = 200
_TEXT: Final = 1.7
_TOKEN: Final = 7.2


def _checkpoint_bytes(run: Run) -> int:
    """One checkpoint of the whole run: what is trained, and the optimizer's states."""
    whole = run.alone.parts
    adapters_alone = run.plan.training.lora is not None and not run.plan.sharded
    return (run.shape.trained * _FLOAT if adapters_alone else whole.weights) + whole.states


def host_account(run: Run, reward: Reward | None) -> tuple[Stage, ...]:
    """The main memory of one machine with its GPUs."""
    plan, shape, local = run.plan, run.shape, run.local
    process = Amount("processes", local * _PROCESS)
    loading = run.alone.parts.weights
    held: list[Amount] = []
    if reward is not None and reward.offload:
        held = [Amount(f"{reward.name} while it is off the GPUs", local * reward.num_bytes)]
    rollout = plan.rollout
    if plan.fits and plan.kind == "policy" and plan.training.lora is not None:
        held.append(Amount("adapters as they were at first", local * shape.trained * _FLOAT))
    if rollout is not None and rollout.engine.kind == "vllm" and rollout.engine.sleep_level == 1:
        held.append(Amount("vLLM's weights while it sleeps", local * vllm_weights(run, rollout.engine)))
    stages = [stage("start", process, Amount("policy while it is loaded", loading)), stage("run", process, held)]
    if plan.fits:
        if plan.sharded:
            # Lightning copies each process's part here even where a folder gets it.
            written = _checkpoint_bytes(run) // (1 if plan.single_file else plan.nodes)
            stages.append(stage("checkpoint", process, held, Amount("what a checkpoint gets from here", written)))
            stages.append(stage("export", process, held, Amount("the weights, put together", 2 * loading)))
        elif plan.training.lora is not None:
            stages.append(stage("export", process, held, Amount("merged weights", shape.weights * _FLOAT)))
    return tuple(stages)


def disk_account(run: Run) -> tuple[Amount, ...]:
    """What a run leaves on the disk."""
    plan, shape = run.plan, run.shape
    if not plan.fits:
        return ()
    amounts = []
    mprms = 0 if plan.rollout is None else plan.rollout.refreshes
    if plan.checkpoints:
        each = _checkpoint_bytes(run)
        # The latest and the one before it share their content with those of the last two iterations, unless there are
        # some within an iteration; one is being written.
        kept = max(1, (plan.epochs or 1) // plan.every) if plan.steps_kept is None else plan.steps_kept
        total = (kept + 2 if plan.within else max(kept, 2)) + 1
        amounts.append(Amount(f"{total} checkpoints of {each / 1e9:.1f} GB, one of them while it is written",
                              total * each))  # fmt: skip
        # As long as there may be a checkpoint of their iterations, and one that is being made.
        mprms = min(mprms, max(kept, 2) * plan.every + 1)
    if mprms:
        each = shape.weights * BYTES[plan.dtype]
        amounts.append(Amount(f"{mprms} retrained MPRMs of {each / 1e9:.1f} GB", mprms * each))
    # Whole weights, adapters folded in.
    amounts.append(Amount("export", shape.weights * BYTES.get(plan.export_dtype or plan.dtype, BYTES[plan.dtype])))
    if plan.rollout is not None and run.prompts is not None:
        amounts += _responses(plan.rollout, run.prompts, plan.epochs or 1, run.lengths.scored)
    return tuple(amounts)


def _responses(rollout: RolloutPlan, prompts: int, iterations: int, tokens: int) -> tuple[Amount, ...]:
    each = _ROW + round(tokens * (_TEXT + _TOKEN * rollout.keeps_tokens))
    kept = min(rollout.keep_iterations or iterations, iterations)
    # Examples with their tokens go with the responses, but for those that a checkpoint may need.
    trained_on = min(max(kept, 2), iterations) if rollout.keeps_tokens else iterations
    return (
        Amount(f"responses of {tokens:,} tokens", kept * prompts * rollout.num_samples * each),
        Amount("examples", trained_on * prompts * rollout.kept * each),
    )
