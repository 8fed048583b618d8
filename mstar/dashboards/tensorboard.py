"""TensorBoard: the layout that opens on the dynamics, and samples with their pictures, verdicts and step scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mstar.dashboards.wording import describe_outcome, distinct_responses, scored_steps, visible
from mstar.errors import DataError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from mstar.storage import PromptResponses

# The longest side of a picture that is logged, in pixels.
_LARGEST: Final = 512
# Distinct responses to a prompt that are logged.
_RESPONSES: Final = 4
# The dashboard's charts: category -> chart title -> the scalar tags that are drawn in it.
# ``K`` stands for any number (``dynamics/pass@16``): TensorBoard joins the layouts of all runs, and charts for each K
# would stand there once a K, empty but for its own runs.
CHARTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "Dynamics": {
        "Accuracy and Pass@K": ("dynamics/greedy_accuracy", "dynamics/pass@K"),
        "Room to explore (Pass@K - accuracy)": ("dynamics/pass@K_gap",),
        "Reward-Pass@2": ("dynamics/reward_pass@2",),
        "Temperature": ("dynamics/temperature",),
    },
    "Funnel": {
        "Responses": tuple(f"funnel/{name}" for name in ("generated", "parsed", "correct", "unique", "kept")),
    },
    "Rollout": {
        "Tokens": ("rollout/tokens",),
        "Cut off at the length limit": ("rollout/truncated_fraction",),
        "Tokens per second": ("rollout/tokens_per_second",),
        "Prompts with a choice": ("rollout/choice_fraction",),
        "Entropy (nats a token)": ("rollout/entropy",),
        "Length (tokens)": ("rollout/response_length",),
    },
    "MPRM": {
        "AUC": ("mprm/auc_within", "mprm/likelihood_auc_within", "mprm/auc"),
        "Voting": ("mprm/best_of_n", "mprm/majority", "mprm/weighted_vote"),
    },
    "Training": {
        "Loss": ("train/loss", "val/loss"),
        "Learning rate": ("train/lr",),
        "Divergence (nats a token)": ("train/kl",),
        "Ratio of probabilities": ("train/ratio",),
        "Clipped": ("train/clipped_fraction",),
    },
    "Time": {
        "Seconds": tuple(
            f"time/{name}" for name in ("refresh", "sweep", "generate", "grade", "score", "train", "dynamics")
        ),
    },
}


def log_layout(writer: SummaryWriter) -> None:
    """Writes the layout of the Custom Scalars tab (``http://localhost:6006/#custom_scalars``), once a run."""
    # TensorBoard takes these as regular expressions that match a tag's beginning; pass@16 would match pass@16_gap too.
    writer.add_custom_scalars(
        {
            category: {title: ["Multiline", [_expression(tag) for tag in tags]] for title, tags in charts.items()}
            for category, charts in CHARTS.items()
        }
    )


def _expression(tag: str) -> str:
    return f"^{re.escape(tag).replace('@K', '@[0-9]+')}$"


def log_samples(writer: SummaryWriter, groups: Sequence[PromptResponses], step: int, max_prompts: int = 4) -> None:
    """Writes the first prompts with their responses: pictures ``samples/0`` ... and texts of the same names."""
    for number, group in enumerate(groups[:max_prompts]):
        picture = first_picture(group)
        if picture is not None:
            writer.add_image(f"samples/{number}", picture, step, dataformats="HWC")
        writer.add_text(f"samples/{number}", _markdown(group), step)


def first_picture(group: PromptResponses) -> NDArray[np.uint8] | None:
    """The prompt's first picture, of shape (height, width, 3); None without one, or if it cannot be read."""
    try:
        picture = group.prompt.images[0].load().convert("RGB")
    except (IndexError, DataError):
        return None
    picture.thumbnail((_LARGEST, _LARGEST))
    return np.asarray(picture)


def _markdown(group: PromptResponses) -> str:
    asked, gold = group.prompt.conversation, group.prompt.answer or "-"
    parts = ["**Question**", _verbatim(asked), "**Gold answer**", _verbatim(gold)]
    for scored, *_ in distinct_responses(group.responses)[:_RESPONSES]:
        steps = [step if score is None else f"{score:.2f}  {step}" for step, score in scored_steps(scored)]
        parts += [f"**{describe_outcome(scored)}**", _verbatim("\n".join(steps))]
    return "\n\n".join(parts)


def _verbatim(text: str) -> str:
    # An indented block is the one form of Markdown that no text can break out of, since every line is indented.
    return "\n".join(f"    {line}" for line in visible(text).split("\n"))
