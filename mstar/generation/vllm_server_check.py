"""What ``vllm serve`` must have been started with, so that it computes what the trainer computes."""

from __future__ import annotations

from typing import Any

import torch

from mstar.generation.vllm_prompts import processor_options
from mstar.generation.vllm_server import ServerFacts, WronglyStartedError
from mstar.generation.vllm_server_worker import model_sizes
from mstar.rendering import Renderer


def require_alike(
    facts: ServerFacts, other: ServerFacts | None, policy: Any, renderer: Renderer, dtype: torch.dtype, transfer: str
) -> None:
    """Makes sure that a server computes what the trainer and the other servers compute.

    Raises:
        WronglyStartedError: it does not.
    """
    own, options = model_sizes(policy.config), processor_options(renderer.processor)
    if facts.model != own:
        raise WronglyStartedError(f"it serves another model ({dict(facts.model)}) than the policy ({own})")
    if getattr(torch, facts.dtype, None) != dtype:
        name = str(dtype).removeprefix("torch.")
        raise WronglyStartedError(f"it computes in {facts.dtype}, but dtype is {name}: start it with --dtype {name}")
    if dict(facts.processor) != options:
        wanted = "without it" if not options else f"""with '{{"backend": "{options["backend"]}"}}'"""
        raise WronglyStartedError(
            f"its --mm-processor-kwargs are {dict(facts.processor)}, which make other pixels than the trainer has: "
            f"start it {wanted}"
        )
    if facts.normalizes or facts.logprobs != "raw_logprobs":
        raise WronglyStartedError("start it with --no-mm-device-do-normalize and --logprobs-mode raw_logprobs")
    if transfer != "folder" and facts.transfer != transfer:
        raise WronglyStartedError(
            f"it takes no weights by {transfer}: start it with --weight-transfer-config "
            f"""'{{"backend": "{transfer}"}}', or set transfer to folder"""
        )
    if other is not None and (facts.longest, facts.images) != (other.longest, other.images):
        raise WronglyStartedError(
            f"its --max-model-len and --limit-mm-per-prompt are {facts.longest} and {facts.images}, but those of "
            f"another server are {other.longest} and {other.images}: start them alike"
        )
