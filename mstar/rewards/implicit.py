"""The implicit MPRM as a reward: two policies, and how much likelier the trained one finds each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from mstar.errors import ConfigError, require_positive
from mstar.models.backbone import load_model, load_renderer
from mstar.models.implicit_scorer import ImplicitScorer
from mstar.models.precision import Precision, name_of
from mstar.models.response_scorer import ResponseScorer
from mstar.rendering import Renderer
from mstar.rewards.base import RewardHost
from mstar.rewards.mprm import MPRM


class Implicit(MPRM):
    """Scores every step by a policy that was trained on outcomes alone (arXiv 2412.01981), without step labels.

    A step's score is the sigmoid of beta times the log-ratio of its tokens, so that 0.5 is a step that says nothing.

    Args:
        folder: The policy that ``mstar.modules.ImplicitRewardModule`` trained.
        reference: The policy that it was trained from.
        beta: The factor that it was trained with.
        batch_size: Responses that are scored at the same time; halved where the memory is not enough.
        offload: Whether both are on the device only while they score; by default, they are where it is a GPU.
        dtype: Type of their weights while they score, as for ``MPRM``.

    Raises:
        ConfigError: a number is out of its range.
    """

    refreshable: ClassVar[bool] = False

    def __init__(
        self,
        folder: str,
        reference: str,
        beta: float = 0.05,
        batch_size: int = 64,
        offload: bool | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        super().__init__(folder, batch_size, offload, "none", dtype)
        require_positive("Implicit: ", beta=beta)
        self.reference = reference
        self.beta = beta

    def check(self) -> None:
        """Makes sure that both folders are models; no weights are read."""
        for folder in (self.folder, self.reference):
            if folder is None or not (Path(folder) / "config.json").is_file():
                raise ConfigError(f"the implicit reward needs a policy in '{folder}', but no config.json is there.")

    def open(
        self, folder: str, host: RewardHost, precision: Precision, device: torch.device
    ) -> tuple[ResponseScorer, Renderer]:
        """Loads both policies."""
        trained, reference = (
            load_model(
                path,
                dtype=name_of(precision.weights),
                compute=precision.compute,
                attention=host.attention,
                trust_remote_code=host.trust_remote_code,
                device=device,
            )
            for path in (folder, self.reference)
        )
        renderer = load_renderer(folder, trained, trust_remote_code=host.trust_remote_code)
        return ImplicitScorer(trained, reference, self.beta), renderer

    def facts(self) -> dict[str, Any]:
        """The weights of both, wherever their folders are, and what they are scored in."""
        return super().facts() | {"beta": self.beta}
