"""Rollouts with vLLM: our engine and vLLM's own ``LLM.generate`` draw K = 16 responses a prompt with the same weights.

Run ``.venv-vllm/bin/python benchmarks/rollouts_vllm.py`` (``make test-vllm`` makes that environment). Both use the same
running vLLM with the same sampling parameters and empty caches, and get the same tokens. What is timed is the whole way
from prompts with pictures to decoded responses with log-probabilities; the peer gets rendered text and loaded pictures.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, Final

from bench_model import build_model, build_processor, make_prompt
from harness import compare, report, single_thread

from mstar.generation import Request, VllmEngine, plan_samples
from mstar.generation.vllm_prompts import SampleSeeds
from mstar.rendering import Renderer

K: Final = 16
# Prompt tokens, prompts in a batch, longest response.
CASES: Final = ((30, 16, 64), (300, 8, 64), (1000, 4, 64))


def main() -> None:
    """Prints the ratios."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    single_thread()
    processor = build_processor()
    model = build_model(processor)
    renderer = Renderer(processor, [processor.tokenizer.eos_token_id])
    engine = VllmEngine(max(case[2] for case in CASES), enforce_eager=True, kv_cache_gb=2.0, progress=False)
    engine.start(model, renderer)
    from vllm import SamplingParams

    llm: Any = engine.session.llm
    for length, num_prompts, max_new_tokens in CASES:
        engine.max_new_tokens = max_new_tokens
        prompts = [make_prompt(number, length) for number in range(num_prompts)]
        requests = [Request(prompt, plan_samples(0, "bench", prompt.id, K, 1.0)) for prompt in prompts]
        inputs = [
            {"prompt": renderer.render_prompt(p), "multi_modal_data": {"image": [i.load() for i in p.images]}}
            for p in prompts
        ]
        texts: dict[str, list[str]] = {}

        def ours(requests: list[Request] = requests, texts: dict[str, list[str]] = texts) -> float:
            engine.session.reset_caches()
            written = engine.generate(requests)
            texts["ours"] = [response.text for row in written for response in row]
            return float(len(texts["ours"]))

        def theirs(
            requests: list[Request] = requests,
            inputs: list[Any] = inputs,
            longest: int = max_new_tokens,
            texts: dict[str, list[str]] = texts,
        ) -> float:
            engine.session.reset_caches()
            sampling = [
                SamplingParams(
                    n=K, temperature=1.0, seed=SampleSeeds(request.samples), max_tokens=longest, logprobs=0,
                    stop_token_ids=list(renderer.end_ids), logit_bias=dict.fromkeys(renderer.banned_ids, -float("inf")),
                )
                for request in requests
            ]  # fmt: skip
            outputs = llm.generate(inputs, sampling, use_tqdm=False)
            texts["theirs"] = [one.text for output in outputs for one in output.outputs]
            return float(len(texts["theirs"]))

        name = (
            f"rollouts with vLLM, {length} prompt tokens, K = {K}, {num_prompts} prompts, {max_new_tokens} new tokens"
        )
        report(compare(name, "samples/s", ours, theirs, target=0.95, rounds=5))
        same = sum(a == b for a, b in zip(texts["ours"], texts["theirs"], strict=True))
        sys.stdout.write(f"  the same text in {same} of {len(texts['ours'])} samples\n")
    engine.close()


if __name__ == "__main__":
    sys.exit(main())
