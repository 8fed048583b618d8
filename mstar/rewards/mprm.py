"""The MPRM as a reward: an exported folder, loaded when it is first needed and let go of for the next one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from tqdm.auto import tqdm

from mstar.errors import ConfigError, require_least
from mstar.interruption import stop_if_asked
from mstar.models.ahead import Ahead
from mstar.models.attention import announce, kernel_of
from mstar.models.fingerprint import fingerprint_model
from mstar.models.offload import on_device, within_memory
from mstar.models.precision import Precision, name_of
from mstar.models.response_scorer import ResponseScorer, SharedInputs
from mstar.models.step_scorer import StepScorer, check_step_scorer
from mstar.rendering import Renderer
from mstar.rewards.base import Reward, RewardHost
from mstar.types import Prompt, Response

# The number of a group, and a response of it.
_Asked: TypeAlias = tuple[int, str]


class MPRM(Reward):
    """Scores every step of a response by a process reward model (M-STaR: the MPRM).

    Args:
        folder: The exported MPRM; None waits for one that is trained within the run (``refresh_reward_model``).
        batch_size: Most responses that are scored at the same time. Memory grows with it; scores do not depend on it
            beyond rounding. Where the memory is not enough, it is halved, for all that follows too.
        offload: Whether it is on the device only while it scores, which costs about a second a shard; by default, it
            is where the device is a GPU and the MPRM is not quantised.
        quantization: nf4 loads its language model in 4 bits; needs the extra ``qlora``.
        dtype: Type of its weights while it scores: float32, bfloat16, float16, or auto (16 bits on CUDA, else the type
            of the policy's).

    Raises:
        ConfigError: a number is out of its range, or one in 4 bits is to be offloaded.
    """

    progress = True
    refreshable: ClassVar[bool] = True

    def __init__(
        self,
        folder: str | None = None,
        batch_size: int = 64,
        offload: bool | None = None,
        quantization: Literal["none", "nf4"] = "none",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        require_least("MPRM: ", batch_size=batch_size)
        if offload and quantization != "none":
            raise ConfigError("an MPRM in 4 bits stays on its device: switch off the quantisation or the offloading.")
        self.folder = folder
        self.batch_size = batch_size
        self.offload = offload
        self.quantization: Literal["none", "nf4"] = quantization
        self.dtype = dtype
        self._loaded: tuple[ResponseScorer, Renderer] | None = None
        # Where it computes, if that is not where its weights are.
        self._place: torch.device | None = None
        self._loaded_from: str | None = None
        self._retrained: Path | None = None
        self._weights = ""

    @classmethod
    def holding(cls, scorer: ResponseScorer, renderer: Renderer, batch_size: int = 64) -> MPRM:
        """One with a scorer that is loaded already, and computes where it is."""
        reward = cls(batch_size=batch_size)
        reward.progress = False
        reward._loaded = scorer, renderer
        return reward

    def check(self) -> None:
        """Makes sure that the folder is there and whole; no weights are read."""
        if self.folder is not None:
            check_step_scorer(Path(self.folder))

    @property
    def ready(self) -> bool:
        """Whether it is loaded."""
        return self._loaded is not None

    def load(self, host: RewardHost) -> None:
        """Loads the folder, or the one that was retrained from it, unless it is loaded."""
        folder = self.folder if self._retrained is None else str(self._retrained)
        if folder == self._loaded_from:
            return
        self.release()
        if folder is None:
            return
        precision = host.precision_of(self.dtype)
        place = torch.device(host.device)
        away = self.offload is not False and self.quantization == "none" and place.type != "cpu"
        scorer, renderer = self.open(folder, host, precision, torch.device("cpu") if away else place)
        scorer.eval().requires_grad_(False)
        self._loaded, self._place = (scorer, renderer), place
        self._loaded_from, self._weights = folder, name_of(precision.weights)
        backbone: Any = scorer.backbone
        announce("MPRM in rollouts", precision, kernel_of(backbone))

    def open(
        self, folder: str, host: RewardHost, precision: Precision, device: torch.device
    ) -> tuple[ResponseScorer, Renderer]:
        """Loads a folder, in a precision, to a device."""
        return StepScorer.load(
            folder,
            dtype=name_of(precision.weights),
            compute=precision.compute,
            attention=host.attention,
            trust_remote_code=host.trust_remote_code,
            quantization=self.quantization,
            device=device,
        )

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """The probability of each step to be right; see ``score_texts``."""
        return self.score_texts([(prompt, [r.text for r in responses]) for prompt, responses in groups])

    def score_texts(self, groups: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[tuple[float, ...]]]:
        """Scores every step of every response; equal responses of one prompt are scored once.

        Returns:
            For every group and response, the probability of each step to be right; ``()`` for a response without
            steps.

        Raises:
            RuntimeError: ``load`` was not called, or there is no folder yet.
        """
        if self._loaded is None:
            raise RuntimeError("MPRM.score was called before load.")
        scorer, renderer = self._loaded
        prompts = [prompt for prompt, _ in groups]
        texts = [(number, text) for number, (_, row) in enumerate(groups) for text in row if text.strip()]
        distinct = list(dict.fromkeys(texts))
        found: dict[_Asked, tuple[float, ...]] = {}
        longer = 0
        was_training = scorer.training
        scorer.eval()
        bar = tqdm(total=len(distinct), desc="score", unit="response", disable=not self.progress, leave=False)
        device = self._place or next(scorer.parameters()).device
        preparing = Ahead(partial(_render, scorer, renderer, prompts), threaded=_computes_apart(device))
        try:
            with bar, nullcontext() if self._place is None else on_device(scorer, self._place), preparing as ahead:
                while len(found) < len(distinct):
                    stop_if_asked()
                    batch = self._next_batch(distinct, len(found))
                    later = self._next_batch(distinct, len(found) + len(batch))
                    inputs = ahead.take(batch, later or None)
                    score = partial(scorer.score_inputs, inputs)
                    scored = within_memory(score, len(batch), "MPRM: batch_size")
                    if scored is None:
                        self.batch_size = len(batch) // 2
                        continue
                    found.update(zip(batch, (tuple(map(_sigmoid, row)) for row in scored), strict=True))
                    longer += sum(length > (renderer.positions or length) for length in inputs.lengths())
                    bar.update(len(batch))
        finally:
            scorer.train(was_training)
        self.tell_longer(longer, renderer.positions)
        return [[found.get((number, text), ()) for text in row] for number, (_, row) in enumerate(groups)]

    def _next_batch(self, distinct: Sequence[_Asked], begin: int) -> Sequence[_Asked]:
        """Whole groups in order, for each of which the prompt is read once; one that no batch holds is split."""
        end = begin + self.batch_size
        if end < len(distinct):
            first = next(place for place in range(begin, end + 1) if distinct[place][0] == distinct[end][0])
            end = first if first > begin else end
        return distinct[begin:end]

    def refresh(self, folder: Path | None) -> None:
        """Goes on with the MPRM in another folder; None for its own."""
        self._retrained = folder

    def release(self) -> None:
        """Lets go of the weights; the memory is the next one's."""
        self._loaded = self._loaded_from = None

    def facts(self) -> dict[str, Any]:
        """Its weights, wherever their folder is, and what they are scored in."""
        assert self._loaded is not None  # noqa: S101 - asked for once it is loaded
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "weights": fingerprint_model(self._loaded[0]),
            "dtype": self._weights,
            "quantization": self.quantization,
        }


def _render(
    scorer: ResponseScorer, renderer: Renderer, prompts: Sequence[Prompt], batch: Sequence[_Asked]
) -> SharedInputs:
    texts: dict[int, list[str]] = {}
    for number, text in batch:
        texts.setdefault(number, []).append(text)
    return scorer.render(renderer, [prompts[number] for number in texts], list(texts.values()))


def _computes_apart(device: torch.device) -> bool:
    """Whether a device computes while the processor does something else."""
    return device.type != "cpu"


def _sigmoid(logit: float) -> float:
    if math.isinf(logit):
        return math.nan  # no probability, and refused as such
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))
