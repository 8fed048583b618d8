"""vLLM beside the trainer on a CUDA device: memory that is given back, and 16 bits; skipped without either."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any, Literal

import pytest
import torch

from mstar.generation import Request, Sample, TransformersEngine, VllmEngine
from mstar.generation.drift import DriftCheck
from mstar.prompts import TinyDice

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

PROMPTS = list(TinyDice("validation", 8))
GREEDY = (Sample(index=0, temperature=0.0, seed=0),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sleep_level", [0, 1, 2])
def test_every_sync_is_proven(trained: Any, sleep_level: Literal[0, 1, 2], dtype: torch.dtype) -> None:
    model = copy.deepcopy(trained.model).to("cuda", dtype)
    engine = VllmEngine(24, gpu_memory_utilization=0.2, sleep_level=sleep_level, progress=False)
    engine.start(model, trained.renderer)
    check = DriftCheck(PROMPTS)
    requests = [Request(prompt, GREEDY) for prompt in PROMPTS]
    try:
        for _ in range(3):
            check.prepare(engine)
            awake = torch.cuda.mem_get_info()[0]
            engine.rest()
            if sleep_level > 0:
                assert torch.cuda.mem_get_info()[0] > awake
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * torch.randn_like(parameter)
            engine.update_weights(model)
            drift = check.measure(engine, model, trained.renderer)
            assert drift is not None
            written = [row[0].text for row in engine.generate(requests)]
            if dtype == torch.float32:
                reference = TransformersEngine(24, progress=False)
                reference.start(model, trained.renderer)
                assert written == [row[0].text for row in reference.generate(requests)]
            engine.rest()
            assert [row[0].text for row in engine.generate(requests)] == written
    finally:
        engine.close()
