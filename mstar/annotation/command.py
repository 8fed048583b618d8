"""``python -m mstar annotate``: step labels for the MPRM from a policy's folder."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from mstar.annotation.annotation import Annotation
from mstar.annotation.annotator import annotate
from mstar.annotation.label_table import load_step_labels
from mstar.annotation.settings import AnnotationSettings
from mstar.atomic import require_writable
from mstar.distributed import find_device, is_main, joined_processes, refuse_lone_tasks, sum_all
from mstar.errors import ConfigError, counted
from mstar.evaluation.prompt_survey import summarise
from mstar.generation import Engine, TransformersEngine
from mstar.grading import AnswerGrader, Grader
from mstar.judges.steps import Agreement, StepJudge
from mstar.locking import hold_folder
from mstar.models.attention import announce, kernel_of
from mstar.models.backbone import load_model, load_renderer
from mstar.models.fingerprint import fingerprint_model
from mstar.models.precision import Precision, allow_tensor_cores, resolve_dtype, warn_of_emulation
from mstar.models.step_scorer import refuse_step_scorer
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.prompt_check import PromptCheck

_log = logging.getLogger(__name__)


def annotate_policy(
    policy: str | None,
    prompts: PromptSource | None,
    output: str,
    engine: Engine | None = None,
    grader: Grader | None = None,
    settings: AnnotationSettings = AnnotationSettings(),  # noqa: B008 - frozen, so sharing it is safe
    dtype: str = "auto",
    device: str = "auto",
    max_prompt_tokens: int | None = None,
    max_bad_share: float | None = None,
    attention: str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    sources: DataSources | None = None,
    responses: str | None = None,
    judge: StepJudge | None = None,
    claimed: Callable[[], None] | None = None,
) -> Annotation:
    """Samples responses from a policy and labels their steps by Monte-Carlo continuation.

    With ``torchrun --nproc_per_node N -m mstar annotate ...`` the processes share the prompts out, one device each.

    Args:
        policy: The policy's Hugging Face folder or id; null with an engine whose model has an address of its own
            (``OpenAIEngine``).
        prompts: The prompts; each must have a gold answer. None takes those of ``sources``.
        output: Folder for the label shards; an interrupted annotation goes on there.
        engine: Draws the responses; None is the Transformers engine with its defaults.
        grader: Grades final answers; None is the general grader.
        settings: How the labels are made.
        dtype: Of the policy: float32, bfloat16, float16, or auto (16 bits on CUDA, else float32).
        device: Where the policy runs: auto (a GPU where there is one), cpu, cuda, cuda:1.
        max_prompt_tokens: Longest prompt, the tokens of its pictures included; longer ones are put aside.
        max_bad_share: If more than this share of the prompts cannot be shown to the policy, it is an error; None allows
            5 %, and of a few up to 10, but not more than a quarter.
        attention: Attention kernel: auto, sdpa, eager, flash_attention_2, flash_attention_4.
        trust_remote_code: Run Python code that comes with the policy; read it first.
        revision: Commit, tag or branch of a model id; with trust_remote_code it must be a commit.
        sources: The data set whose part ``annotation`` (or ``train``) is annotated, most often a file
            (``--sources configs/data/mathv360k.yaml``).
        responses: Folder of step labels by another policy, of the same prompts: the steps of its responses are labelled
            again by this policy, in place of responses of its own (``data.diet.agree`` takes the labels on which both
            agree).
        judge: A model by address that judges the steps, too (``mstar.judges.StepJudge``): alone, or in consensus
            with the continuations.
        claimed: As for ``annotate``.

    Raises:
        ConfigError: there are no prompts or no such device, the policy cannot be loaded, or ``output`` belongs to
            another annotation.
        DataError: a prompt cannot be used, or no response has more than one step.
    """
    refuse_lone_tasks()
    require_writable(Path(output))
    engine = engine if engine is not None else TransformersEngine()
    grader = grader if grader is not None else AnswerGrader()
    if (policy is None) != (engine.own_model is not None):
        own = "needs a policy: set policy." if policy is None else f"asks '{engine.own_model}': set policy to null."
        raise ConfigError(f"{type(engine).__name__} {own}")
    if policy is not None:
        refuse_step_scorer(policy)
    else:
        engine.expect(engine.own_model or "")
    if judge is not None:
        judge.check()
    place = find_device(device)
    if prompts is None:
        if sources is None:
            raise ConfigError("there are no prompts to annotate: set prompts or sources.")
        prompts = sources.require("annotation", "sources")
    elif sources is not None and is_main():
        _log.warning("prompts takes the place of the part 'annotation' of sources; to use that, set prompts to null")
    if is_main() and _log.isEnabledFor(logging.INFO):
        _log.info("%s", "\n".join(summarise("prompts", prompts)))
    reader, made_by, computed_in = None, f"by address: {engine.own_model}", ""
    # An engine asks at its start which processes there are.
    with joined_processes():
        try:
            if policy is not None:
                allow_tensor_cores(place)
                dtype = resolve_dtype(dtype, place)
                warn_of_emulation("dtype", dtype, "auto", place)
                model = load_model(
                    policy, dtype=dtype, attention=attention, trust_remote_code=trust_remote_code, revision=revision
                ).to(place)  # type: ignore[arg-type]
                precision = Precision.of("32-true", model.dtype)
                announce("policy", precision, kernel_of(model))
                reader = load_renderer(policy, model, trust_remote_code=trust_remote_code, revision=revision)
                longest = None if max_prompt_tokens is None else max_prompt_tokens + engine.max_new_tokens
                engine.expect(model.config.model_type, longest)
                engine.start(model, reader)
                made_by, computed_in = fingerprint_model(model), str(precision)
            engine.work_in(Path(output))
            began = time.perf_counter()
            with hold_folder(Path(output)) if is_main() else nullcontext():
                made = annotate(
                    prompts,
                    engine,
                    grader,
                    settings,
                    Path(output),
                    policy=made_by,
                    computed_in=computed_in,
                    check=PromptCheck(reader, max_prompt_tokens, max_bad_share=max_bad_share),
                    responses=None if responses is None else load_step_labels(Path(responses)),
                    claimed=claimed,
                    judge=judge,
                )
            judged = sum_all(grader.judged())
        finally:
            engine.close()
    if is_main():
        alone = judge is not None and judge.use == "alone"
        times = f"{'' if settings.continuing == 'all' else 'at most '}{settings.num_continuations} times"
        continued = "" if alone else f"{made.num_prefixes:,} prefixes continued {times}, "
        sys.stdout.write(
            f"{output}: {counted(made.num_responses, 'response')} to {counted(made.num_prompts, 'prompt')} "
            f"({made.num_right / made.num_responses:.1%} right), "
            f"{continued}{counted(made.num_steps, 'step label')}; "
            f"{made.num_tokens:,} tokens in {time.perf_counter() - began:.0f} s\n"
        )
        agreement = Agreement.read(Path(output))
        if agreement is not None:
            sys.stdout.write(f"{agreement.describe()}\n")
        for note in judged.notes():
            sys.stdout.write(f"{note}\n")
    return made
