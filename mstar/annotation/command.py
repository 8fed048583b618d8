"""``python -m mstar annotate``: step labels for the MPRM from a policy's folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mstar.annotation.annotator import Annotation, annotate
from mstar.annotation.settings import AnnotationSettings
from mstar.generation import Engine, TransformersEngine
from mstar.grading import AnswerGrader, Grader
from mstar.models.backbone import load_model, load_renderer
from mstar.models.fingerprint import fingerprint_model
from mstar.prompts import PromptSource

__all__ = ["annotate_policy"]


def annotate_policy(
    policy: str,
    prompts: PromptSource,
    output: str,
    engine: Engine | None = None,
    grader: Grader | None = None,
    settings: AnnotationSettings = AnnotationSettings(),  # noqa: B008 - frozen, so sharing it is safe
    dtype: str = "float32",
    device: str = "cpu",
) -> Annotation:
    """Samples responses from a policy and labels their steps by Monte-Carlo continuation.

    Args:
        policy: The policy's Hugging Face folder or id.
        prompts: The prompts; each must have a gold answer.
        output: Folder for the label shards; an interrupted annotation goes on there.
        engine: Draws the responses; None is the Transformers engine with its defaults.
        grader: Grades final answers; None is the general grader.
        settings: How the labels are made.
        dtype: Of the policy: float32, bfloat16 or float16.
        device: Where the policy runs, e.g. ``cuda``.

    Raises:
        ConfigError: the policy cannot be loaded, or ``output`` belongs to another annotation.
        DataError: a prompt cannot be used, or no response has more than one step.
    """
    model = load_model(policy, dtype=dtype).to(device)  # type: ignore[arg-type]
    renderer = load_renderer(policy, model)
    engine = engine if engine is not None else TransformersEngine()
    engine.start(model, renderer)
    began = time.perf_counter()
    try:
        made = annotate(
            prompts,
            engine,
            grader if grader is not None else AnswerGrader(),
            settings,
            Path(output),
            policy=fingerprint_model(model),
        )
    finally:
        engine.close()
    sys.stdout.write(
        f"{output}: {len(made.labels)} responses to {made.num_prompts} prompts ({made.share_correct:.1%} right), "
        f"{made.num_prefixes} prefixes continued {settings.num_continuations} times, {made.num_steps} step labels; "
        f"{made.num_tokens} tokens in {time.perf_counter() - began:.0f} s\n"
    )
    return made
