"""The parts of the report: what each says, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.gpu_report.bench import Bench

__all__ = ["PARTS", "Part", "run_part"]


@dataclass(frozen=True)
class Part:
    """One part of the report.

    Attributes:
        name: Its name on the command line, and that of its file in ``parts``.
        title: Its heading in the report.
        seconds: It is stopped after so many, a start of about 20 included.
        about: What its figures are, for a reader who does not know the code.
    """

    name: str
    title: str
    seconds: int
    about: str


PARTS: Final = (
    Part(
        "equality",
        "The same as on the CPU",
        120,
        "Small models of random weights in float32 without TF32, here and on the CPU. Greedy texts must be "
        "equal; the other columns have the largest difference, and the bound that it must be within.",
    ),
    Part(
        "rollouts",
        "Rollouts",
        330,
        "`TransformersEngine.generate`: one picture and a question a prompt, 16 responses each, all as long as they "
        "may be. *ms a token* is one decoding step of all rows; *tokens/s* is rows by steps; *prefill* includes the "
        "work of the picture's processor on the CPU.",
    ),
    Part(
        "score",
        "Scores of the MPRM",
        120,
        "`MPRM.score`: one picture a prompt, 16 responses of 8 steps and about 200 tokens each.",
    ),
    Part(
        "sft",
        "Supervised fine-tuning, all weights",
        210,
        "`Trainer.fit` of the policy with gradient checkpointing and AdamW. Tokens are real ones (prompt, picture, "
        "response), padding is not counted. MFU: see below the table.",
    ),
    Part(
        "lora",
        "Fine-tuning of adapters",
        240,
        "The same with LoRA (weights in bfloat16) and QLoRA (weights in 4 bits, saved and loaded by `load_model`).",
    ),
    Part(
        "kernels",
        "Loss kernels and optimizers",
        90,
        "The loss of a batch's response tokens, forward and backward, with a head of the real width; and one step of "
        "AdamW over 2 billion weights in float32.",
    ),
    Part(
        "checkpoint",
        "Checkpoints",
        210,
        "`IterationCheckpoint` under a fit: what is written at the end of an iteration, and read to go on.",
    ),
    Part(
        "sharded",
        "FSDP2 on one device",
        120,
        "`ShardedStrategy` with one process: a fit, generation with whole weights, and a fit again.",
    ),
    Part(
        "drift",
        "A 16-bit engine after training",
        120,
        "A bfloat16 copy of the policy stands in for an engine. Mean absolute difference of a token's log-probability, "
        "in nats, against the policy: of an engine that has the present weights, and of one that has kept the first.",
    ),
    Part(
        "demo",
        "The whole demo",
        720,
        "Every stage of `make demo` on this device, seed 0; beside it what the same took and reached on two CPU cores.",
    ),
)


def run_part(name: str, bench: Bench) -> None:
    """Runs one part; one whose packages are not all installed is left out."""
    from benchmarks.gpu_report.bench import LeftOut

    with bench.row(name):
        try:
            part = import_module(f"benchmarks.gpu_report.parts.{name}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"", "mstar", "benchmarks"}:
                raise
            raise LeftOut(f"{error.name} is not installed.") from None
        part.run(bench)
