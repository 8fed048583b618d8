"""Supervised fine-tuning: real tokens a second of our training and of TRL's SFTTrainer, both by their trainers' fit.

Run ``python benchmarks/sft.py``. The same rows with pictures, 64 an optimizer step in batches of 8, AdamW, float32; the
loss on the responses alone. Real tokens are those of prompts, pictures and responses, without padding. A row has 80
tokens (the marks around the picture and 16 of it included) and a question and a response whose lengths are log-normal.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import tempfile
import warnings
from typing import Any, Final

from bench_model import IMAGE_TOKENS, build_model, build_processor, make_prompt, make_text
from harness import compare, report, single_thread
from lightning.pytorch import Trainer

from mstar.datamodules import PolicyDataModule
from mstar.modules import PolicyModule
from mstar.prompts import PromptSource
from mstar.rendering import Renderer
from mstar.types import Prompt

ROWS_PER_BATCH: Final = 8
BATCHES_PER_STEP: Final = 8
ROWS: Final = ROWS_PER_BATCH * BATCHES_PER_STEP


class Rows(PromptSource):
    """A prompt source of rows with lengths as in reasoning data: median 40 and 80 tokens, 10 % beyond 100 and 200."""

    def __init__(self) -> None:
        draw = random.Random(0)
        self.prompts = []
        for number in range(ROWS):
            question = min(round(math.exp(draw.gauss(math.log(40), 0.7))), 300)
            response = min(round(math.exp(draw.gauss(math.log(80), 0.7))), 600)
            prompt = make_prompt(number, question + IMAGE_TOKENS + 4)
            text = make_text(1000 + number, response)
            self.prompts.append(Prompt(prompt.id, prompt.question, prompt.images, answer="1", rationale=text))

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]

    def index_of(self, prompt_id: str) -> int | None:
        """The row of a prompt."""
        return int(prompt_id[1:])


class Policy(PolicyModule):
    """The policy with a model that exists already."""

    def __init__(self, model: Any, renderer: Renderer) -> None:
        super().__init__("benchmark", lr=1e-6)
        self.model, self._renderer = model, renderer


def main() -> None:
    """Prints the ratios."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    single_thread()
    processor = build_processor()
    model = build_model(processor)
    renderer = Renderer(processor, [processor.tokenizer.eos_token_id])
    rows = Rows()
    real_tokens = float(
        sum(renderer.count_tokens(row) + renderer.count_response_tokens(row.rationale or "") for row in rows)
    )
    dataset = make_dataset(rows)

    def ours() -> float:
        data = PolicyDataModule(rows, batch_size=ROWS_PER_BATCH)
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, accumulate_grad_batches=BATCHES_PER_STEP, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(Policy(model.train(), renderer), datamodule=data)
        return real_tokens

    def theirs() -> float:
        make_trainer(model.train(), processor, dataset, folder).train()
        return real_tokens

    with tempfile.TemporaryDirectory() as folder:
        name = f"SFT, {ROWS} rows a step in batches of {ROWS_PER_BATCH}, {real_tokens / ROWS:.0f} tokens a row"
        report(compare(name, "real tokens/s", ours, theirs, target=1.6, rounds=3))


def make_dataset(rows: Rows) -> Any:
    """The rows as TRL takes them."""
    from datasets import Dataset

    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row.question}],
                "completion": [{"role": "assistant", "content": row.rationale}],
                "images": [image.load() for image in row.images],
            }
            for row in rows
        ]
    )


def make_trainer(model: Any, processor: Any, dataset: Any, folder: str) -> Any:
    """TRL's trainer with its own collator for vision-language models."""
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=folder, per_device_train_batch_size=ROWS_PER_BATCH, gradient_accumulation_steps=BATCHES_PER_STEP,
        num_train_epochs=1, learning_rate=1e-6, max_length=None, report_to=[], use_cpu=True, bf16=False,
        gradient_checkpointing=False, save_strategy="no", disable_tqdm=True, logging_steps=1000, max_grad_norm=0.0,
    )  # fmt: skip
    return SFTTrainer(model, args=arguments, train_dataset=dataset, processing_class=processor)


if __name__ == "__main__":
    sys.exit(main())
