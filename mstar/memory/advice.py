"""What would make a run fit: settings that are tried one by one, and together where none is enough alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import combinations, islice
from typing import Any, Final

from mstar.memory.account import Account
from mstar.memory.optimizer_states import cost_of
from mstar.memory.plan import Plan
from mstar.models.lora import LoraSettings

_LORA: Final = LoraSettings(rank=64, alpha=64)
# Settings that are named at most, and how full a GPU may be by the estimate.
_MOST: Final = 5
_FULL: Final = 0.95
# Fewer rows in an MPRM's batch hold hardly two responses to one prompt, which it learns to compare.
_FEWEST: Final = 4


def find_remedies(plan: Plan, account_of: Callable[[Plan], Account]) -> tuple[str, ...]:
    """Changes after which a run that does not fit does so by its account, the smallest first; each is enough."""
    changes = list(_changes(plan))

    def helps(chosen: Iterable[tuple[str, Callable[[Plan], Plan]]]) -> bool:
        changed = plan
        for _, change in chosen:
            changed = change(changed)
        if changed.sharded and _is_never_split(changed):
            return False
        account = account_of(changed)
        fits = account.capacity is not None and account.peak.total <= _FULL * account.capacity
        return fits and account.fault is None

    for size in (1, 2, 3):
        found = islice(filter(helps, combinations(changes, size)), _MOST)
        if named := tuple(" with ".join(name for name, _ in chosen) for chosen in found):
            return named
    return ()


def _changes(plan: Plan) -> Iterator[tuple[str, Callable[[Plan], Plan]]]:
    """Settings that take less memory than the present ones."""
    rollout = plan.rollout
    if rollout is not None and (reward := rollout.reward) is not None:
        if reward.offload is False and reward.quantization != "nf4":
            yield f"--{reward.keys}offload true", lambda p: _rolled(p, reward=replace(reward, offload=True))
        if reward.quantization == "none":
            yield (
                f"--{reward.keys}quantization nf4",
                lambda p: _rolled(p, reward=replace(reward, quantization="nf4", offload=False)),
            )
    if rollout is not None and rollout.engine.kind == "vllm" and rollout.engine.share > 0.3:
        engine = replace(rollout.engine, share=0.3)
        yield "--rollout.engine.init_args.gpu_memory_utilization 0.3", lambda p: _rolled(p, engine=engine)
    if rollout is not None and rollout.refresh_rows is not None and rollout.refresh_rows > _FEWEST:
        yield (
            f"--rollout.refresh_reward_model.batch_size {_FEWEST}",
            lambda p: _rolled(p, refresh_rows=_FEWEST),
        )
    if not plan.fits:
        return
    if not plan.checkpointing:
        yield "--model.gradient_checkpointing true", lambda p: replace(p, checkpointing=True)
    fewest = _FEWEST if plan.kind == "mprm" else 1
    if plan.rows > fewest:
        yield (
            f"--data.batch_size {fewest} (and trainer.accumulate_grad_batches raised as much)",
            lambda p: replace(p, rows=fewest),
        )
    if plan.training.lora is None:
        if not plan.sharded and "8bit" not in plan.optimizer_name:
            yield "configs/overlays/adamw_8bit.yaml", _in_8_bits
        yield "configs/overlays/lora.yaml", lambda p: _adapted(p, _LORA)
        if not plan.sharded:
            yield (
                "configs/overlays/lora.yaml and qlora.yaml",
                lambda p: _adapted(p, replace(_LORA, quantization="nf4")),
            )
    elif plan.training.lora.quantization == "none" and not plan.sharded:
        lora = plan.training.lora
        yield "configs/overlays/qlora.yaml", lambda p: _adapted(p, replace(lora, quantization="nf4"))
    here = plan.devices or 1
    for number in (2, 4, 8):
        if number > (here if plan.sharded else 1):
            yield (
                f"configs/overlays/fsdp2.yaml on {number} GPUs",
                lambda p, n=number: replace(p, strategy="fsdp2", devices=n, precision="bf16-mixed"),  # type: ignore[misc]
            )


def _is_never_split(plan: Plan) -> bool:
    """Whether sharding is refused: of weights in 4 bits, and of what an optimizer of bitsandbytes is to move."""
    lora = plan.training.lora
    return (lora is not None and lora.quantization != "none") or plan.optimizer_name.startswith("bitsandbytes.")


def _rolled(plan: Plan, **changes: Any) -> Plan:
    assert plan.rollout is not None  # noqa: S101 - only asked for where there is one
    return replace(plan, rollout=replace(plan.rollout, **changes))


def _in_8_bits(plan: Plan) -> Plan:
    name = "bitsandbytes.optim.PagedAdamW8bit"
    return replace(plan, optimizer=cost_of(name), optimizer_name=name)


def _adapted(plan: Plan, lora: LoraSettings) -> Plan:
    return replace(plan, dtype="bfloat16", training=replace(plan.training, lora=lora))
