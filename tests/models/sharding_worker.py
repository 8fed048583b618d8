"""What two processes do with a sharded model, and a plain one beside it; process 0 writes what they find.

Started by test_sharding.py, with the environment of ``torch.distributed``:
python sharding_worker.py RESULT.json LLAVA
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from mstar.datamodules.step_batches import StepCollate
from mstar.datamodules.step_label_batches import StepLabelBatch, collate_step_labels
from mstar.distributed import gather_lists, rank, world_size
from mstar.generation import Request, TransformersEngine, plan_samples
from mstar.models.backbone import EMBEDDED_MODEL, load_model
from mstar.models.fingerprint import fingerprint_model
from mstar.models.lora import LoraSettings
from mstar.models.response_scorer import SharedInputs
from mstar.models.sharding import (
    full_state,
    gather_state,
    inside_forward,
    load_full_state,
    shard,
    whole_weights,
)
from mstar.models.step_scorer import StepScorer
from mstar.modules import ImplicitRewardModule, PolicyModule
from mstar.modules.policy_losses import Objective
from mstar.prompts import TinyDice
from mstar.rendering import ResponseInputs
from mstar.selection import PolicyGradient, SampleMethod
from mstar.trainer.sharded import load_whole_optimizer
from mstar.types import Example, Prompt, StepLabels

ROWS = list(TinyDice("seed", 16))


def policy(name: str = EMBEDDED_MODEL, **settings: Any) -> PolicyModule:
    module = PolicyModule(name, **settings)
    module.configure_model()
    return module


def pair(mesh: DeviceMesh, **settings: Any) -> tuple[PolicyModule, PolicyModule]:
    """The same policy twice: plain and sharded."""
    plain, sharded = policy(**settings), policy(**settings)
    shard(sharded.model, mesh)
    return plain, sharded


def batch(module: PolicyModule, process: int, pictures: bool = True) -> ResponseInputs:
    rows = ROWS[process * 8 : process * 8 + 8]
    shown = rows if pictures else [replace(row, images=()) for row in rows]
    return module.renderer.response_inputs(shown, [row.rationale or "" for row in rows])


def loss(module: PolicyModule, inputs: ResponseInputs) -> Tensor:
    return inside_forward(module.model, module.loss, inputs)


def worst_difference(plain: nn.Module, sharded: nn.Module) -> float:
    """The largest difference of two gradients; one that is missing counts as 0."""
    worst = largest = 0.0
    for one, other in zip(plain.parameters(), sharded.parameters(), strict=True):
        a = torch.zeros_like(one) if one.grad is None else one.grad
        grad: Any = other.grad
        b = torch.zeros_like(one) if grad is None else grad.full_tensor()
        worst, largest = max(worst, (a - b).abs().max().item()), max(largest, a.abs().max().item())
    assert largest > 1e-3, "nothing was compared"
    return worst


def gradients(plain: PolicyModule, sharded: PolicyModule, pictures: tuple[bool, bool] = (True, True)) -> float:
    """How far the gradients of one step of all processes are from those of one process with all their rows."""
    plain.model.zero_grad()
    (sum(plain.loss(batch(plain, i, pictures[i])) for i in range(2)) / 2).backward()  # type: ignore[union-attr]
    sharded.model.zero_grad()
    loss(sharded, batch(sharded, rank(), pictures[rank()])).backward()
    return worst_difference(plain.model, sharded.model)


def check_state(mesh: DeviceMesh) -> dict[str, Any]:
    plain, sharded = pair(mesh)
    state, whole = plain.model.state_dict(), dict(full_state(sharded.model))
    expected = fingerprint_model(plain.model)
    found = {
        "same_names": list(state) == [name for name in whole if name in state] and state.keys() == whole.keys(),
        "same_values": all(torch.equal(state[name], value) for name, value in whole.items()),
        "tied_is_one": whole["lm_head.weight"] is whole["model.text_model.embed_tokens.weight"],
        "gathered": len(gather_state(sharded.model)),
        "fingerprint": fingerprint_model(sharded.model) == expected,
    }
    with whole_weights(sharded.model):
        found["fingerprint_within"] = fingerprint_model(sharded.model) == expected
    mixed = policy()
    shard(mixed.model, mesh, mixed_precision=True)
    with whole_weights(mixed.model):
        found["computes_in_bfloat16"] = {p.dtype for p in mixed.model.parameters()} == {torch.bfloat16}
        found["mixed_fingerprint_within"] = fingerprint_model(mixed.model) == expected
    loss(mixed, batch(mixed, rank())).backward()
    found["mixed_gradients"] = {p.grad.dtype for p in mixed.model.parameters() if p.grad is not None} == {torch.float32}
    with torch.no_grad():
        for parameter in sharded.model.parameters():
            parameter.add_(1)
    found["changed"] = fingerprint_model(sharded.model) != expected
    load_full_state(sharded.model, state)
    found["restored"] = fingerprint_model(sharded.model) == expected
    return found


def check_gradients(mesh: DeviceMesh) -> dict[str, Any]:
    plain, sharded = pair(mesh)
    found = {
        "pictures": gradients(plain, sharded),
        "pictures_on_one": gradients(plain, sharded, (True, False)),
        "no_pictures": gradients(plain, sharded, (False, False)),
    }
    # It reads its vision tower before the last layer, so that some weights are never used.
    unused = pair(mesh, name=sys.argv[2])
    found["unused"] = gradients(*unused, (True, False))
    found["completed"] = all(parameter.grad is not None for parameter in unused[1].model.parameters())
    plain, sharded = pair(mesh, gradient_checkpointing=True)
    found["checkpointing"] = gradients(plain, sharded)
    for target, pictures in (("language", (True, True)), ("all", (False, True))):
        plain, sharded = pair(mesh, lora=LoraSettings(rank=2, target=target))
        for module in (plain, sharded):
            for name, parameter in module.model.named_parameters():
                if "lora_B" in name:
                    nn.init.constant_(parameter, 0.01)
        found[f"lora_{target}"] = gradients(plain, sharded, pictures)
    plain, sharded = pair(mesh, freeze=["language"])
    found["frozen"] = gradients(plain, sharded, (True, False))
    return found


def check_generation(mesh: DeviceMesh) -> dict[str, Any]:
    """Process 0 writes responses, process 1 none: neither may wait for the other."""
    plain, sharded = pair(mesh)
    requests = [Request(p, plan_samples(0, "test", p.id, 4, 1.0)) for p in (ROWS[:3] if rank() == 0 else [])]
    texts = []
    for module in (plain, sharded):
        engine = TransformersEngine(24, progress=False)
        engine.start(module.model, module.renderer)
        engine.update_weights(module.model)
        texts.append([response.text for row in engine.generate(requests) for response in row])
        if module is sharded:
            try:
                loss(sharded, batch(sharded, rank()))
                refused = False
            except RuntimeError:
                refused = True
        engine.rest()
    return {"texts": len(texts[0]), "same": texts[0] == texts[1], "gradients_after": gradients(plain, sharded),
            "training_refused": refused}  # fmt: skip


def check_scorer(mesh: DeviceMesh) -> dict[str, Any]:
    found = {}
    renderer = policy().renderer
    for features in (True, False):
        plain, sharded = (StepScorer(load_model(EMBEDDED_MODEL), step_logprob_features=features) for _ in range(2))
        for scorer in (plain, sharded):
            nn.init.normal_(scorer.head.output.weight, generator=torch.Generator().manual_seed(0))
        shard(sharded, mesh, backbone=sharded.backbone, exact=[sharded.head])

        def shared(process: int) -> SharedInputs:
            rows = ROWS[process * 4 : process * 4 + 4]
            return SharedInputs.render(
                renderer, rows, [0, 0, 1, 2, 3], ["a\nb", *(row.rationale or "" for row in rows)]
            )

        (sum(plain(shared(i)).logits_N.sigmoid().mean() for i in range(2)) / 2).backward()  # type: ignore[union-attr]
        sharded(shared(rank())).logits_N.sigmoid().mean().backward()
        found["features" if features else "no_features"] = worst_difference(plain, sharded)
    return found


def mean_over_processes(means: Tensor, reduce_op: str) -> Tensor:
    dist.all_reduce(means)
    return means / world_size()


class AlmostTrained:
    """What a step of training asks of a trainer."""

    strategy = SimpleNamespace(reduce=mean_over_processes)
    world_size = 2
    accumulate_grad_batches = 1
    optimizers = (SimpleNamespace(param_groups=[{"lr": 0.0}]),)


def check_weights(mesh: DeviceMesh) -> dict[str, Any]:
    """Rows of unequal weight and length, more of both in one process: the step is that of one process with all."""
    imitated = [(row, Example(row.id, "red " * (i + 1), float(1 + i % 3))) for i, row in enumerate(ROWS[:8])]
    plain, sharded = pair(mesh)
    adapted = pair(mesh, lora=LoraSettings(rank=2))
    found = {
        "imitated": step_difference(plain, sharded, imitated),
        "imitated_by_adapters": step_difference(*adapted, imitated),
    }
    sampled = []
    for i, row in enumerate(ROWS[:8]):
        tokens = tuple(plain.renderer.tokenizer("red " * (i + 1))["input_ids"])
        logprobs = tuple(-2.0 - 0.1 * (place % 5) for place in range(len(tokens)))
        sampled.append((row, Example(row.id, "", 0.5 + i % 3, 1.0 - i % 2 * 1.5, tokens, logprobs)))
    methods: tuple[SampleMethod, ...] = ("nft", "grpo")
    for method in methods:
        plain.objective = sharded.objective = Objective(method, PolicyGradient())
        found[method] = step_difference(plain, sharded, sampled)
    return found


def step_difference(plain: PolicyModule, sharded: PolicyModule, pairs: list[tuple[Prompt, Example]]) -> float:
    """How far the gradients of two processes with unequal halves of some rows are from those of one with all."""
    plain.model.zero_grad()
    [whole] = StepCollate(plain.renderer, 8, 1, sort=True)(pairs)
    plain.loss(whole).backward()
    sharded.model.zero_grad()
    [part] = StepCollate(sharded.renderer, 4, 1, sort=True)(pairs[rank() * 4 : rank() * 4 + 4])
    sharded._share_means(part)
    loss(sharded, part).backward()
    return worst_difference(plain.model, sharded.model)


def outcomes(module: ImplicitRewardModule, process: int, shared: bool) -> StepLabelBatch:
    """A right and a wrong response to each of two prompts."""
    prompts = dict(enumerate(ROWS[process * 2 : process * 2 + 2]))
    texts = [text for row in prompts.values() for text in (row.rationale or "", "0\n1")]
    steps = [tuple(text.splitlines(keepends=True)) for text in texts]
    labels = [
        StepLabels("", text, parts, (0,) * len(parts), (0,) * len(parts), i % 2 == 0, -20.0 - i)
        for i, (text, parts) in enumerate(zip(texts, steps, strict=True))
    ]
    batch = collate_step_labels(labels, prompts, [0, 0, 1, 1], module.renderer, share_prompts=shared)
    batch.counts = module.count_terms(batch)
    batch.means = tuple(map(float, batch.counts))
    return batch


def check_implicit(mesh: DeviceMesh) -> dict[str, Any]:
    """The implicit MPRM's own step of training, with each prompt once for its responses and without."""
    found = {}
    for shared in (True, False):
        plain, sharded = (ImplicitRewardModule(EMBEDDED_MODEL, share_prompts=shared) for _ in range(2))
        for module in (plain, sharded):
            module.configure_model()
        shard(sharded.model, mesh)
        steps = [plain.training_step(outcomes(plain, i, shared), 0) for i in range(2)]
        (sum(steps) / 2).backward()
        sharded.training_step(outcomes(sharded, rank(), shared), 0).backward()
        found["shared" if shared else "unshared"] = worst_difference(plain.model, sharded.model)
    return found


def check_optimizer(mesh: DeviceMesh) -> dict[str, Any]:
    """A plain optimizer's state goes into one of sharded weights; the frozen part makes their numbers differ."""
    plain, sharded = pair(mesh, freeze=["vision"])
    optimizers = [
        torch.optim.AdamW([p for p in module.model.parameters() if p.requires_grad], lr=1e-2, eps=1e-3)
        for module in (plain, sharded)
    ]
    one, other = optimizers
    for _ in range(2):
        gradients(plain, sharded)
        one.step()
    load_full_state(sharded.model, plain.model.state_dict())
    load_whole_optimizer(other, deepcopy(one.state_dict()))
    gradients(plain, sharded)
    for optimizer in optimizers:
        optimizer.step()
    whole = dict(full_state(sharded.model))
    difference = max((value - whole[name]).abs().max().item() for name, value in plain.model.state_dict().items())
    return {"step": difference}


CHECKS: dict[str, Callable[[DeviceMesh], dict[str, Any]]] = {
    "state": check_state,
    "gradients": check_gradients,
    "generation": check_generation,
    "scorer": check_scorer,
    "optimizer": check_optimizer,
    "weights": check_weights,
    "implicit": check_implicit,
}

if __name__ == "__main__":
    torch.manual_seed(0)
    PolicyModule.trainer = AlmostTrained()
    PolicyModule.log = lambda *_, **__: None
    dist.init_process_group("gloo")
    device_mesh = init_device_mesh("cpu", (world_size(),), mesh_dim_names=("data_parallel",))
    results = gather_lists([{name: CHECKS[name](device_mesh) for name in CHECKS}])
    if rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(results), encoding="utf-8")
    dist.destroy_process_group()
