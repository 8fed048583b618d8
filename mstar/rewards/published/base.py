"""What the adapters of published process reward models have in common: two logits a step, of which one says "right".

Shapes: N the steps of all rows in order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mstar.errors import ConfigError, require_least
from mstar.interruption import stop_if_asked
from mstar.models.backbone import find_positions
from mstar.models.fingerprint import fingerprint_model
from mstar.models.offload import on_device, within_memory
from mstar.models.precision import name_of
from mstar.rewards.base import Reward, RewardHost
from mstar.steps import split_steps
from mstar.types import PICTURE, Prompt, Response

# That of VisualPRM's training data, which are not its reader's alone: labelled steps are exported with it
# (github.com/OpenGVLab/InternVL: internvl_chat/tools/reasoning_data_pipeline/utils/constants.py).
INSTRUCTION: Final = """\
You are an advanced AI assistant, designed to serve as a process supervision model. In this task, I will provide a \
problem statement followed by the first step of the solution process. For each subsequent turn, I will give you a new \
step in the solution. Your role is to assess whether the solution process is correct up to the current step.

- In the **first round**, I will input the problem and the first step of the solution process.
- In **each subsequent round**, I will provide the next step in the solution.

For each step, you should:

- Respond with **"+"** if you believe the solution process is correct up to this step.
- Respond with **"-"** if you detect any issues or errors in the process up to this step.

Please note:
- Only respond with **"+"** or **"-"**. Do not provide any additional explanations, comments, or justifications.

Your task is to verify the accuracy and correctness of each step in the given solution process."""

# A prompt with the steps of a response to it, each with some visible text.
Chain: TypeAlias = tuple[Prompt, tuple[str, ...]]


def question_of(prompt: Prompt) -> str:
    """What a reward model without turns of its own for it reads as the question: earlier turns come first."""
    return "\n".join([*(turn.text for turn in prompt.turns), prompt.question])


def placed_question(prompt: Prompt) -> str:
    """The same, with the pictures right before it where its own text does not place them."""
    question = question_of(prompt)
    return question if PICTURE in question else PICTURE * len(prompt.images) + question


def at_places(states: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
    """The states (N, H) at some places of every row, row by row."""
    row_N = [row for row, found in enumerate(places) for _ in found]
    return states[row_N, [place for found in places for place in found]]


class PublishedReward(Reward):
    """A process reward model that others published; the adapters say how it is asked and where it answers.

    A step's score is the probability of the answer "right" where "right" and "wrong" are the only ones.

    Args:
        model: Its Hugging Face folder or id. Its weights must be safetensors.
        revision: Commit, tag or branch of an id; with trust_remote_code it must be a commit.
        batch_size: Responses that are scored at the same time; halved where the memory is not enough.
        separator: What ends a step: ``line`` (as everywhere in a run), or ``paragraph`` (a blank line, which most of
            these models were trained on).
        dtype: Type of its weights: float32, bfloat16, float16, or auto (16 bits on CUDA, else the policy's).
        offload: Whether it is on the device only while it scores; by default, it is where the device is a GPU.

    Raises:
        ConfigError: a setting is out of its range.
    """

    progress = True

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        batch_size: int = 8,
        separator: Literal["line", "paragraph"] = "line",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        offload: bool | None = None,
    ) -> None:
        require_least(f"{type(self).__name__}: ", batch_size=batch_size)
        self.model = model
        self.revision = revision
        self.batch_size = batch_size
        self.separator = separator
        self.dtype = dtype
        self.offload = offload
        self._loaded: nn.Module | None = None
        self._positions: int | None = None
        self._lengths: list[int] = []  # tokens of the rows that were read last
        self._device = torch.device("cpu")

    def check(self) -> None:
        """Makes sure that a folder that was given is there; an id is looked up when it is loaded."""
        path = Path(self.model)
        if (path.is_absolute() or self.model.startswith(".")) and not path.is_dir():
            raise ConfigError(f"{type(self).__name__}: the folder '{self.model}' does not exist; mend the path.")

    def load(self, host: RewardHost) -> None:
        """Loads the model, unless it is loaded."""
        if self._loaded is not None:
            return
        self._device = torch.device(host.device)
        away = self.offload is not False and self._device.type != "cpu"
        made = self._load(host, name_of(host.precision_of(self.dtype).weights))
        self._loaded = made.eval().requires_grad_(False)
        self._positions = find_positions(made)
        if not away:
            made.to(self._device)

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """The probability of each step to be right."""
        return self.score_steps([(prompt, [self._split(r.text) for r in responses]) for prompt, responses in groups])

    def score_steps(self, groups: Sequence[tuple[Prompt, Sequence[Sequence[str]]]]) -> list[list[tuple[float, ...]]]:
        """The same for steps that are given; equal responses to one prompt are scored once.

        Raises:
            RuntimeError: ``load`` was not called.
        """
        if self._loaded is None:
            raise RuntimeError(f"{type(self).__name__}.score was called before load.")
        steps = [[tuple(step.strip() for step in chain) for chain in chains] for _, chains in groups]
        distinct = dict.fromkeys((number, chain) for number, row in enumerate(steps) for chain in row if chain)
        # Of like lengths, so that little is padded.
        order = sorted(distinct, key=lambda key: sum(map(len, key[1])))
        bar = tqdm(total=len(order), desc="score", unit="response", disable=not self.progress, leave=False)
        found: dict[tuple[int, tuple[str, ...]], tuple[float, ...]] = {}
        with bar, on_device(self._loaded, self._device):
            chains = [(groups[number][0], chain) for number, chain in order]
            for key, scores in zip(order, self._score_chains(self._loaded, chains), strict=True):
                found[key] = scores
                bar.update()
        return [[found.get((number, chain), ()) for chain in row] for number, row in enumerate(steps)]

    @torch.inference_mode()
    def _score_chains(self, model: nn.Module, chains: Sequence[Chain]) -> Iterator[tuple[float, ...]]:
        place = longer = 0
        while place < len(chains):
            stop_if_asked()
            batch = chains[place : place + self.batch_size]
            logits_N2 = within_memory(
                partial(self._logits, model, batch), len(batch), f"{type(self).__name__}: batch_size"
            )
            if logits_N2 is None:
                self.batch_size = len(batch) // 2
                continue
            right_N = logits_N2.float().softmax(-1)[:, 0]
            for scores in torch.split(right_N, [len(steps) for _, steps in batch]):
                yield tuple(scores.tolist())
            place += len(batch)
            longer += sum(length > (self._positions or length) for length in self._lengths)
        self.tell_longer(longer, self._positions)

    def _split(self, text: str) -> tuple[str, ...]:
        if self.separator == "line":
            return split_steps(text)
        return tuple(part for part in text.split("\n\n") if part.strip())

    @abstractmethod
    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        """The model, on the CPU, with weights of this type; keeps what renders its input."""

    @abstractmethod
    def _logits(self, model: nn.Module, chains: Sequence[Chain]) -> Tensor:
        """For every step of every response the logits of "right" and of "wrong" (N, 2); notes the rows' lengths."""

    def release(self) -> None:
        """Lets go of the weights."""
        self._loaded = None

    def facts(self) -> dict[str, Any]:
        """Its weights, wherever they are, and how it is asked."""
        assert self._loaded is not None  # noqa: S101 - asked for once it is loaded
        settings: dict[str, Any] = super().facts()
        return {key: value for key, value in settings.items() if key not in ("model", "revision", "dtype")} | {
            "weights": fingerprint_model(self._loaded),
            "dtype": name_of(next(self._loaded.parameters()).dtype),
        }
