"""The account of a run on a CPU is as much as the process really takes, within 15 %."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mstar.prompts import TinyDice
from mstar.storage import write_step_labels
from mstar.types import StepLabels

CONFIGS = Path(__file__).parents[2] / "configs" / "tiny"
TOLERANCE = 0.15
# A process of its own, that makes the account, runs, and says in its last line what it took at most: VmHWM, because
# ru_maxrss begins with what the process that started it took.
RUN = (
    "import re, sys\nfrom mstar.__main__ import main\naccount, *config = sys.argv[1:]\n"
    "status = main(['memory', *config, '--json', account]) or main(['fit', *config])\n"
    "print(status, re.search('VmHWM:\\\\s+(\\\\d+)', open('/proc/self/status').read())[1])"
)
# Random weights answer nothing rightly, so that nothing would be trained on.
LENIENT = """
from mstar.grading import Grader
from mstar.types import Verdict, VerdictStatus

class Lenient(Grader):
    def grade(self, prompt, response):
        return Verdict(True, "7", VerdictStatus.GRADED)
"""


@dataclass(frozen=True)
class Size:
    """How large a model is."""

    hidden: int = 640
    inner: int = 2048
    layers: int = 9
    kv_heads: int = 5
    words: int = 0
    tied: bool = True


def write_model(folder: Path, size: Size) -> str:
    """An Idefics3 with random weights and the embedded model's tokenizer."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    from mstar.models.tiny import build_tiny_processor

    processor = build_tiny_processor()
    tokenizer = processor.tokenizer
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=size.tied,
        scale_factor=2,
        vision_config={
            "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 32, "patch_size": 8,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer) + size.words, "hidden_size": size.hidden,
            "intermediate_size": size.inner, "num_hidden_layers": size.layers, "num_attention_heads": 10,
            "num_key_value_heads": size.kv_heads, "max_position_embeddings": 256, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": size.tied,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    # Many tokens end a response: one that does not end is not kept, and nothing would be trained on.
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(100, 200)]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def write_labels(folder: Path) -> str:
    """Step labels of two responses to each of 24 prompts."""
    labels = []
    for prompt in TinyDice("annotation", 24):
        text = prompt.rationale or "red = 1\nAnswer: 3"
        steps = tuple(text.splitlines(keepends=True))
        for number in range(2):
            counts = tuple((place + number) % 3 for place in range(len(steps) - 1))
            labels.append(
                StepLabels(prompt.id, text, steps, (*counts, number), (*(2 for _ in counts), 1), bool(number), -2.0)
            )
    folder.mkdir()
    write_step_labels(folder / "labels-00000.parquet", labels)
    return str(folder)


def compare(folder: Path, *arguments: str) -> dict[str, Any]:
    """Makes the account of a fit and runs it, and demands that they agree."""
    config = [*arguments, "--trainer.default_root_dir", str(folder / "run"), "--trainer.enable_progress_bar", "false"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "memory.json"), *config], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, kilobytes = done.stdout.split()[-2:]
    assert status == "0"
    found: dict[str, Any] = json.loads((folder / "memory.json").read_text())
    real = int(kilobytes) * 1024
    sys.stdout.write(f"estimate {found['peak_bytes'] / 1e6:.0f} MB ({found['peak_stage']}), real {real / 1e6:.0f} MB\n")
    assert found["peak_bytes"] == pytest.approx(real, rel=TOLERANCE)
    return found


def sft(model: str, batch: int, *more: str) -> list[str]:
    """The arguments of a supervised fit of a few steps."""
    return [
        "--config", str(CONFIGS / "warmup.yaml"), "--model.model_name", model, "--model.lr_scheduler", "null",
        "--data.batch_size", str(batch), "--data.train.init_args.size", "64", "--trainer.max_steps", "3", *more,
    ]  # fmt: skip


def mprm(model: str, labels: str, batch: int, *more: str) -> list[str]:
    """The arguments of an MPRM's fit of a few steps."""
    return [
        "--config", str(CONFIGS / "mprm.yaml"), "--model.model_name", model, "--model.lr_scheduler", "null",
        "--data.labels", labels, "--data.prompts.init_args.size", "24", "--data.batch_size", str(batch),
        "--data.validation_share", "0", "--trainer.max_epochs", "1", *more,
    ]  # fmt: skip


def rollouts(model: str, *more: str) -> list[str]:
    """The arguments of two iterations with rollouts."""
    return [
        "--config", str(CONFIGS / "evolve.yaml"), "--model.model_name", model, "--model.lr_scheduler", "null",
        "--data.train.init_args.size", "8", "--data.validation", "null", "--data.batch_size", "8",
        "--rollout.interval", "0.5", "--rollout.num_samples", "4", "--rollout.top_k", "2",
        "--rollout.temperature", "1.0", "--rollout.refresh_reward_model", "null",
        "--rollout.engine.init_args.max_new_tokens", "16", "--rollout.engine.init_args.batch_size", "16",
        "--rollout.grader", "lenient.Lenient", "--trainer.max_epochs", "2", *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "batch", "more"),
    [
        pytest.param(Size(), 12, [], id="all weights"),
        pytest.param(Size(words=12000, layers=6, kv_heads=10), 4, ["--model.lora.rank", "16"], id="lora"),
        pytest.param(Size(layers=6, tied=False), 2, ["--trainer.precision", "bf16-mixed"], id="16 bits"),
    ],
)
def test_supervised_training(size: Size, batch: int, more: list[str], tmp_path: Path) -> None:
    compare(tmp_path, *sft(write_model(tmp_path / "model", size), batch, *more))


def test_training_an_mprm_and_rollouts_with_it(tmp_path: Path) -> None:
    (tmp_path / "lenient.py").write_text(LENIENT)
    model = write_model(tmp_path / "model", Size())
    first = tmp_path / "mprm"
    first.mkdir()
    compare(first, *mprm(model, write_labels(tmp_path / "labels"), 12))
    second = tmp_path / "evolve"
    second.mkdir()
    (second / "lenient.py").write_text(LENIENT)
    compare(second, *rollouts(model, "--rollout.reward_model", str(first / "run" / "mprm")))
