"""Prompts with pictures of about a megapixel, and responses of a given length; small ones for a rehearsal."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.bench_model import Picture, make_text
from benchmarks.gpu_report.models import Policy
from mstar.prompts import PromptSource
from mstar.types import Prompt

__all__ = ["Rows", "make_prompts", "make_steps", "picture_edge"]

_QUESTION = 64


def picture_edge(config: Any) -> int:
    """The edge of a picture that is 1,296 tokens for Qwen2.5-VL, 1,280 for InternVL, and few for a tiny model."""
    vision = config.vision_config
    if config.model_type == "qwen2_5_vl":
        patch = int(vision.patch_size * vision.spatial_merge_size)
        return patch * (36 if config.get_text_config().hidden_size > 64 else 4)
    size = vision.image_size
    return 2 * int(size[0] if isinstance(size, (list, tuple)) else size)


def make_prompts(num: int, policy: Policy) -> list[Prompt]:
    """Prompts with a picture and a question of 64 tokens each."""
    edge = picture_edge(policy.model.config)
    return [Prompt(f"p{i}", make_text(i, _QUESTION), (Picture(i, edge),), answer="1") for i in range(num)]


def make_steps(seed: int, num_steps: int, tokens: int) -> str:
    """A response of so many steps and about so many tokens."""
    return "\n".join(make_text(1000 * (seed + 1) + step, max(tokens // num_steps - 1, 1)) for step in range(num_steps))


class Rows(PromptSource):
    """A prompt source of rows with rationales whose lengths are log-normal, as those of reasoning data are.

    Args:
        num: How many.
        policy: Whose pictures they have.
        median: Median length of a rationale in tokens; a tenth is beyond 2.5 times as long.
        pictures: Whether there are pictures; without them, padding is most of a batch of unlike rows.
    """

    def __init__(self, num: int, policy: Policy, median: int, pictures: bool = True) -> None:
        draw = random.Random(0)
        self.prompts = []
        for prompt in make_prompts(num, policy):
            length = max(1, min(round(median * draw.lognormvariate(0.0, 0.7)), 5 * median))
            rationale = make_steps(len(self.prompts), min(8, length), length)
            images = prompt.images if pictures else ()
            self.prompts.append(Prompt(prompt.id, prompt.question, images, answer="1", rationale=rationale))

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]

    def index_of(self, prompt_id: str) -> int | None:
        """The row of a prompt."""
        return int(prompt_id[1:])
