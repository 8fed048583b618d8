"""Qwen-VL-PRM-3B and -7B (Ong et al. 2025, arXiv 2509.23250).

Read as their authors do (github.com/theogbrand/vlprm: ``eval/tts_eval/reward_guided_search/VisualPRMv2.py`` and
``prompts.py``). What they make of the probability to guide their search, by length, is theirs and left out.
"""

from __future__ import annotations

from mstar.rewards.published.judged_turns import JudgedTurns


class QwenVLPRM(JudgedTurns):
    """Qwen-VL-PRM: Qwen2.5-VL, one step a turn. The authors' pictures have 200,704 to 1,003,520 pixels."""

    system = """\
**You are a process supervision model for visual reasoning tasks. You will receive an image and an image-based problem \
statement, followed by solution steps to evaluate.**

First round: problem statement and first solution step.  \n\
Subsequent rounds: one new step per round.

Assess the cumulative correctness of the entire solution up to each step.

## Evaluation Criteria:

1. **Visual Accuracy**: Are visual elements from the image correctly identified (shapes, colors, positions, \
quantities, spatial relationships)?

2. **Logical Validity**: Do all inferences and calculations follow correctly from the image and previous steps?

## Response:
- **"+"** if correct up to this step
- **"-"** if any error exists up to this step

Only respond with "+" or "-". No explanations.

An error in any step invalidates all subsequent steps."""
