"""Rollouts: tokens a second by rows and precision."""

from __future__ import annotations

from typing import Final

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.estimates import generating_gb
from benchmarks.gpu_report.models import Policy, build_policy, endless, real_config, small_config
from benchmarks.gpu_report.precision import BFLOAT16, EXACT, MIXED, TF32, Arithmetic, computing
from benchmarks.gpu_report.prompts import make_prompts
from mstar.generation import Request, TransformersEngine, plan_samples

SAMPLES: Final = 16
# Rows in float32 without TF32 are few: they take the most time, and more rows tell nothing new.
CASES: Final[tuple[tuple[str, Arithmetic, tuple[int, ...]], ...]] = (
    ("qwen2_5_vl_7b", BFLOAT16, (32, 64, 128, 256)),
    ("qwen2_5_vl_7b", MIXED, (32, 128)),
    ("qwen2_5_vl_7b", TF32, (32, 64)),
    ("qwen2_5_vl_7b", EXACT, (32, 64)),
    ("internvl3_2b", MIXED, (64, 256)),
    ("internvl3_2b", BFLOAT16, (64, 256)),
)
SMALL: Final[tuple[tuple[str, Arithmetic, tuple[int, ...]], ...]] = (
    ("qwen2_5_vl", BFLOAT16, (32,)),
    ("qwen2_5_vl", MIXED, (16,)),
    ("internvl", EXACT, (16,)),
)


def run(bench: Bench) -> None:
    """Measures every case; models are built once for the cases beside each other."""
    policy: Policy | None = None
    built = ""
    for shape, arithmetic, row_counts in SMALL if bench.small else CASES:
        with bench.row(f"{shape}, {arithmetic.name}"):
            if shape != built or policy is None:
                policy = None
                bench.free()
                config = small_config(shape) if bench.small else real_config(shape)
                policy, built = endless(build_policy(config, arithmetic.weights, bench.device)), shape
            policy.model.to(arithmetic.weights)
        for rows in row_counts if policy is not None else ():
            with bench.row(f"{shape}, {arithmetic.name}, {rows} rows"), computing(arithmetic, bench.device):
                measure(bench, policy, f"{shape}, {arithmetic.name}, {rows} rows", rows, arithmetic.trainer_precision)


def measure(bench: Bench, policy: Policy, name: str, rows: int, precision: str) -> None:
    """Generates one token and then many: the difference is decoding alone."""
    steps = 4 if bench.small else 32
    requests = [
        Request(prompt, plan_samples(0, "report", prompt.id, SAMPLES, 1.0))
        for prompt in make_prompts(rows // SAMPLES, policy)
    ]
    seconds, peak = [], None
    halved = False
    for length in (1, 1 + steps):
        engine = TransformersEngine(length, batch_size=rows, progress=False)
        engine.start(policy.model, policy.renderer)
        if length == 1:
            engine.generate(requests[:1])
        with bench.measured() as found:
            drawn = engine.generate(requests)
        seconds.append(found.seconds)
        peak = found.peak_gb
        halved = halved or engine.batch_size != rows
        if any(response.num_tokens != length for row in drawn for response in row):
            raise RuntimeError("a response ended before its longest length.")
    decoding = (seconds[1] - seconds[0]) / steps
    bench.note(
        name,
        {
            "rows": rows,
            "ms a token": 1e3 * decoding,
            "tokens/s": rows / decoding if decoding > 0 else None,
            "prefill, s a prompt": seconds[0] / len(requests),
            "peak GB": peak,
            "`mstar memory` GB": generating_gb(
                bench,
                policy,
                [request.prompt for request in requests],
                rows=rows,
                tokens=1 + steps,
                precision=precision,
            ),
        },
        problem="memory was short, and the engine wrote fewer rows at a time." if halved else None,
    )
