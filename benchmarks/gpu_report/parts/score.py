"""Scores of the MPRM: responses a second, by precision and batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.estimates import scoring_gb
from benchmarks.gpu_report.models import build_policy, real_config, small_config
from benchmarks.gpu_report.precision import BFLOAT16, EXACT, MIXED, Arithmetic, computing
from benchmarks.gpu_report.prompts import make_prompts, make_steps
from mstar.models.step_scorer import StepScorer
from mstar.rewards import MPRM

SAMPLES: Final = 16
STEPS: Final = 8
CASES: Final[tuple[tuple[str, Arithmetic, tuple[int, ...]], ...]] = (
    ("qwen2_5_vl_7b", BFLOAT16, (16, 64)),
    ("qwen2_5_vl_7b", MIXED, (64,)),
    ("qwen2_5_vl_7b", EXACT, (16,)),
    ("internvl3_2b", BFLOAT16, (64,)),
)
SMALL: Final[tuple[tuple[str, Arithmetic, tuple[int, ...]], ...]] = (
    ("qwen2_5_vl", BFLOAT16, (32,)),
    ("internvl", EXACT, (16,)),
)


def run(bench: Bench) -> None:
    """Measures every case; models are built once for the cases beside each other."""
    scorer: StepScorer | None = None
    built = ""
    for shape, arithmetic, batches in SMALL if bench.small else CASES:
        name = f"{shape}, {arithmetic.name}"
        with bench.row(name):
            if shape != built or scorer is None:
                scorer = None
                bench.free()
                config = small_config(shape) if bench.small else real_config(shape)
                policy, built = build_policy(config, arithmetic.weights, bench.device), shape
                scorer = StepScorer(policy.model).to(bench.device).eval()
            # The head stays in float32, as ``StepScorer.load`` has it.
            scorer.backbone.to(arithmetic.weights)
        for batch in batches if scorer is not None else ():
            with bench.row(f"{name}, batches of {batch}"), computing(arithmetic, bench.device):
                groups = [
                    (prompt, [make_steps(SAMPLES * i + k, STEPS, 16 if bench.small else 200) for k in range(SAMPLES)])
                    for i, prompt in enumerate(make_prompts(batch // SAMPLES, policy))
                ]
                reward = MPRM.holding(scorer, policy.renderer, batch)
                found = bench.timed(lambda reward=reward, groups=groups: reward.score_texts(groups), rounds=2)
                scores = reward.score_texts(groups)
                if any(len(row) != STEPS for rows in scores for row in rows):
                    raise RuntimeError("a response lacks the score of a step.")
                bench.note(
                    f"{name}, batches of {batch}",
                    {
                        "responses": batch,
                        "responses/s": batch / found.seconds,
                        "s a prompt": found.seconds / len(groups),
                        "peak GB": found.peak_gb,
                        "`mstar memory` GB": scoring_gb(
                            bench,
                            policy,
                            [replace(prompt, rationale=texts[0]) for prompt, texts in groups],
                            rows=batch,
                            precision=arithmetic.trainer_precision,
                        ),
                    },
                    problem="memory was short, and fewer were scored at a time." if reward.batch_size < batch else None,
                )
