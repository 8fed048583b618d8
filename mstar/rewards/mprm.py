"""The MPRM as a reward: an exported folder, loaded when it is first needed and let go of for the next one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import torch

from mstar.errors import ConfigError, require_least
from mstar.models.attention import announce, kernel_of
from mstar.models.fingerprint import fingerprint_model
from mstar.models.precision import Precision, name_of
from mstar.models.response_scorer import ResponseScorer
from mstar.models.step_scorer import StepScorer, check_step_scorer
from mstar.rendering import Renderer
from mstar.rewards.base import Reward, RewardHost
from mstar.rewards.process import ProcessReward
from mstar.types import Prompt, Response

# What a name on a hub looks like; a path in two parts does, too.
_HUB_ID: Final = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class MPRM(Reward):
    """Scores every step of a response by a process reward model (M-STaR: the MPRM).

    Args:
        folder: The exported MPRM; None waits for one that is trained within the run (``refresh_reward_model``).
        batch_size: Responses that are scored at the same time; halved where the memory is not enough.
        offload: Whether it is on the device only while it scores, which costs about a second a shard; by default, it
            is where the device is a GPU and the MPRM is not quantised.
        quantization: nf4 loads its language model in 4 bits; needs the extra ``qlora``.
        dtype: Type of its weights while it scores: float32, bfloat16, float16, or auto (16 bits on CUDA, else the type
            of the policy's).
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: a number is out of its range, or one in 4 bits is to be offloaded.
    """

    refreshable: ClassVar[bool] = True

    def __init__(
        self,
        folder: str | None = None,
        batch_size: int = 64,
        offload: bool | None = None,
        quantization: Literal["none", "nf4"] = "none",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        progress: bool = True,
    ) -> None:
        require_least("MPRM: ", batch_size=batch_size)
        if offload and quantization != "none":
            raise ConfigError("an MPRM in 4 bits stays on its device: switch off the quantisation or the offloading.")
        self.folder = folder
        self.batch_size = batch_size
        self.offload = offload
        self.quantization: Literal["none", "nf4"] = quantization
        self.dtype = dtype
        self.progress = progress
        self._loaded: ProcessReward | None = None
        self._loaded_from: str | None = None
        self._weights = ""

    def check(self) -> None:
        """Makes sure that the folder is there and whole; no weights are read."""
        if self.folder is None:
            return
        place = Path(self.folder)
        if not (place / "mprm.json").is_file() and (place.is_dir() or _HUB_ID.fullmatch(self.folder)):
            if "mstar-prm" in self.folder.lower():
                raise ConfigError(
                    f"'{self.folder}' is the M-STaR authors' own PRM, of which nothing public says how it is asked and "
                    "where it answers, so that it cannot be read: train an MPRM (configs/mprm), or take one of "
                    "mstar.rewards.published."
                )
            if not place.is_dir():
                raise ConfigError(
                    f"MPRM folder '{self.folder}' does not exist: mend the path. A PRM that others published is named "
                    "by its class, such as mstar.rewards.published.QwenMathPRM, and its model "
                    f"(--reward.model {self.folder} where score is asked)."
                )
        check_step_scorer(place)

    @property
    def ready(self) -> bool:
        """Whether it is loaded."""
        return self._loaded is not None

    def load(self, host: RewardHost) -> None:
        """Loads the folder, unless it is loaded."""
        if self.folder is None or self.folder == self._loaded_from:
            return
        self.release()
        precision = host.precision_of(self.dtype)
        place = torch.device(host.device)
        away = self.offload is not False and self.quantization == "none" and place.type != "cpu"
        scorer, renderer = self.open(self.folder, host, precision, torch.device("cpu") if away else place)
        scorer.eval().requires_grad_(False)
        self._loaded = ProcessReward(scorer, renderer, self.batch_size, self.progress, place)
        self._loaded_from, self._weights = self.folder, name_of(precision.weights)
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
        """The probability of each step to be right.

        Raises:
            RuntimeError: ``load`` was not called, or there is no folder yet.
        """
        if self._loaded is None:
            raise RuntimeError("MPRM.score was called before load.")
        return self._loaded.score([(prompt, [r.text for r in responses]) for prompt, responses in groups])

    def refresh(self, folder: Path) -> None:
        """Goes on with the MPRM in another folder."""
        self.folder = str(folder)

    def release(self) -> None:
        """Lets go of the weights; the memory is the next one's."""
        if self._loaded is not None:
            # What the memory was found to be enough for holds for the next one too.
            self.batch_size = self._loaded.batch_size
        self._loaded = self._loaded_from = None

    def facts(self) -> dict[str, Any]:
        """Its weights, wherever their folder is, and what they are scored in."""
        assert self._loaded is not None  # noqa: S101 - asked for once it is loaded
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "weights": fingerprint_model(self._loaded.scorer),
            "dtype": self._weights,
            "quantization": self.quantization,
        }
