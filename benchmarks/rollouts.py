"""Rollouts with Transformers: our engine and TRL's GRPOTrainer draw K = 16 responses a prompt with the same model.

Run ``python benchmarks/rollouts.py``. What is timed is each side's whole way from prompts with pictures to decoded
responses: ``TransformersEngine.generate``, and ``GRPOTrainer._generate``, which training calls. Ours also returns the
log-probabilities.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from typing import Any, Final

from bench_model import build_model, build_processor, make_prompt
from harness import compare, report, single_thread

from mstar.generation import Request, TransformersEngine, plan_samples
from mstar.rendering import Renderer
from mstar.types import Prompt

K: Final = 16
# Prompt tokens, prompts in a batch, longest response, target.
CASES: Final = ((30, 4, 64, 1.5), (300, 4, 64, 3.0), (1000, 2, 64, 4.0))


def make_trainer(model: Any, processor: Any, folder: str, rows: int, max_new_tokens: int) -> Any:
    """TRL's trainer with its own generation: K responses a prompt, T = 1, without top-k or top-p."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    arguments = GRPOConfig(
        output_dir=folder, per_device_train_batch_size=rows, num_generations=K, max_completion_length=max_new_tokens,
        temperature=1.0, top_p=1.0, top_k=0, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    question = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    return GRPOTrainer(
        model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=arguments,
        train_dataset=Dataset.from_list([{"prompt": question}] * rows), processing_class=processor,
    )  # fmt: skip


def as_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as TRL takes it."""
    pictures = [{"type": "image", "image": image.load()} for image in prompt.images]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": prompt.question}]}]


def main() -> None:
    """Prints the ratios."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    single_thread()
    processor = build_processor()
    model = build_model(processor)
    renderer = Renderer(processor, [processor.tokenizer.eos_token_id])
    for length, num_prompts, max_new_tokens, target in CASES:
        rows = num_prompts * K
        prompts = [make_prompt(number, length) for number in range(num_prompts)]
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(model, processor, folder, rows, max_new_tokens)
        engine = TransformersEngine(max_new_tokens, rows, progress=False)
        engine.start(model, renderer)
        requests = [Request(prompt, plan_samples(0, "bench", prompt.id, K, 1.0)) for prompt in prompts]
        messages = [as_messages(prompt) for prompt in prompts for _ in range(K)]

        def ours(engine: TransformersEngine = engine, requests: list[Request] = requests) -> float:
            return float(sum(response.num_tokens for group in engine.generate(requests) for response in group))

        def theirs(trainer: Any = trainer, messages: list[Any] = messages) -> float:
            return float(sum(len(ids) for ids in trainer._generate(messages)[1]))

        name = f"rollouts, {length} prompt tokens, K = {K}, {num_prompts} prompts, up to {max_new_tokens} new tokens"
        report(compare(name, "generated tokens/s", ours, theirs, target=target, rounds=3))


if __name__ == "__main__":
    sys.exit(main())
