"""Hands weights over to vLLM three times, proves each, and writes nothing: it ends well or with an error.

Started by test_vllm.py, since vLLM's sleep mode serves one engine a process:
python vllm_worker.py FOLDER DTYPE SLEEP_LEVEL
"""

from __future__ import annotations

import sys

import torch

from mstar.generation import Request, Sample, TransformersEngine, VllmEngine
from mstar.generation.drift import DriftCheck
from mstar.models.backbone import load_model, load_renderer
from mstar.prompts import TinyDice

PROMPTS = list(TinyDice("validation", 8))
GREEDY = (Sample(index=0, temperature=0.0, seed=0),)


def main(folder: str, dtype: str, sleep_level: int) -> None:
    model = load_model(folder, dtype=dtype).to("cuda").eval()
    renderer = load_renderer(folder, model)
    engine = VllmEngine(24, gpu_memory_utilization=0.2, sleep_level=sleep_level, progress=False)  # type: ignore[arg-type]
    engine.start(model, renderer)
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
            assert check.measure(engine, model, renderer) is not None
            written = [row[0].text for row in engine.generate(requests)]
            if dtype == "float32":
                reference = TransformersEngine(24, progress=False)
                reference.start(model, renderer)
                assert written == [row[0].text for row in reference.generate(requests)]
            engine.rest()
            assert [row[0].text for row in engine.generate(requests)] == written
    finally:
        engine.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
