"""What must be the same on the CPU and here: greedy texts, log-probabilities, step scores, the losses of a fit."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.models import FAMILIES, Policy, build_policy, small_config
from benchmarks.gpu_report.precision import EXACT, computing
from benchmarks.gpu_report.prompts import Rows, make_prompts, make_steps
from benchmarks.gpu_report.training import GivenPolicy, StepClock, make_trainer
from mstar.datamodules import PolicyDataModule
from mstar.generation import Request, Sample, TransformersEngine
from mstar.generation.drift import trainer_logprobs
from mstar.models.prefix import encode_prefix, logits_of
from mstar.models.step_scorer import StepScorer
from mstar.rewards import MPRM

PROMPTS: Final = 8
TOKENS: Final = 24
STEPS: Final = 4
# Float32 sums in another order, through layers whose weights are ten times as large as usual.
BOUNDS: Final = {"logits": 5e-3, "log-probabilities": 5e-3, "step scores": 1e-3, "losses": 2e-3}


@dataclass(frozen=True)
class Findings:
    """What one device computes."""

    texts: list[str]
    values: dict[str, torch.Tensor]


def run(bench: Bench) -> None:
    """Compares every family."""
    for family in FAMILIES:
        with bench.row(f"small {family}"), computing(EXACT, bench.device):
            policy = build_policy(small_config(family), torch.float32, "cpu")
            ours, theirs = (find(bench.on(device), policy) for device in (bench.device, "cpu"))
            equal = sum(a == b for a, b in zip(ours.texts, theirs.texts, strict=True))
            worst = {name: float((ours.values[name] - theirs.values[name]).abs().max()) for name in BOUNDS}
            beyond = [name for name, bound in BOUNDS.items() if not worst[name] <= bound]
            if equal < PROMPTS:
                beyond.append("greedy texts")
            bench.note(
                f"small {family}",
                {"equal greedy texts": f"{equal} of {PROMPTS}"}
                | {f"{name} (at most {BOUNDS[name]:g})": value for name, value in worst.items()},
                problem=f"not as on the CPU: {', '.join(beyond)}." if beyond else None,
            )


def find(bench: Bench, policy: Policy) -> Findings:
    """Computes everything on one device, with copies of the same weights."""
    here = Policy(copy.deepcopy(policy.model).to(bench.device), policy.renderer)
    prompts = make_prompts(PROMPTS, here)
    engine = TransformersEngine(TOKENS, progress=False)
    engine.start(here.model, here.renderer)
    drawn = engine.generate([Request(prompt, (Sample(0, 0.0, 0),)) for prompt in prompts])
    texts = [make_steps(i, 4, 24) for i in range(PROMPTS)]
    with torch.inference_mode():
        logits = logits_of(
            here.model, encode_prefix(here.model, here.renderer.prompt_inputs(prompts).to(bench.device)).hidden_BH
        )
    rows = trainer_logprobs(here.model, here.renderer, prompts, texts)
    scorer = StepScorer(copy.deepcopy(here.model)).to(bench.device).eval()
    with torch.no_grad():
        weight = scorer.head.output.weight
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    scores = MPRM.holding(scorer, here.renderer).score_texts(
        [(prompt, [text, texts[0]]) for prompt, text in zip(prompts, texts, strict=True)]
    )
    clock = StepClock(bench)
    data = PolicyDataModule(Rows(4 * STEPS, here, 8), batch_size=4)
    module = GivenPolicy(here, lr=1e-3)
    make_trainer(bench, STEPS, bench.scratch, clock, precision="32-true").fit(module, datamodule=data)
    return Findings(
        [row[0].text for row in drawn],
        {
            "logits": logits.cpu(),
            "log-probabilities": torch.tensor([value for row in rows for value in row]),
            "step scores": torch.tensor([value for group in scores for row in group for value in row]),
            "losses": torch.tensor(clock.losses),
        },
    )
