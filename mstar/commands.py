"""The commands beside LightningCLI's: plain typed functions, whose arguments and docstrings are the options' help."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from mstar.annotation import annotate_policy
from mstar.callbacks.export import export_atomically
from mstar.dashboards.report import write_report
from mstar.errors import ConfigError
from mstar.evaluation.leakage import check_leakage
from mstar.grading.command import grade_file
from mstar.modules import MPRMModule, PolicyModule

__all__ = ["annotate_policy", "check_leakage", "export_checkpoint", "grade_file", "write_run_report"]


def export_checkpoint(checkpoint: str, output: str) -> None:
    """Writes a Lightning checkpoint as a folder: a policy for Transformers and vLLM, an MPRM for mstar.

    Args:
        checkpoint: The checkpoint, e.g. ``runs/demo/evolve/checkpoints/last.ckpt``.
        output: The folder to write; one that exists is replaced.

    Raises:
        ConfigError: the file is missing, or is not a checkpoint of mstar.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise ConfigError(f"checkpoint '{checkpoint}' is not a file.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"checkpoint '{checkpoint}' cannot be read as a checkpoint of tensors: {reason}") from error
    facts = content.get("mstar") if isinstance(content, dict) else None
    if not isinstance(facts, dict):
        raise ConfigError(f"checkpoint '{checkpoint}' was not written by mstar, so its model is not known.")
    settings = {name: value for name, value in facts.items() if name != "kind"}
    module = MPRMModule(**settings) if facts["kind"] == "mprm" else PolicyModule(**settings)
    module.configure_model()
    module.load_state_dict(content["state_dict"])
    export_atomically(module, Path(output))
    sys.stdout.write(f"{output}\n")


def write_run_report(run: str, output: str | None = None, max_prompts: int = 40) -> None:
    """Writes one run as one self-contained HTML page.

    Args:
        run: The run's folder.
        output: The page; by default ``report.html`` in the run's folder.
        max_prompts: Most prompts that can be browsed on the page.

    Raises:
        DataError: the folder is not a run.
    """
    page = write_report(Path(run), Path(output) if output is not None else None, max_prompts=max_prompts)
    sys.stdout.write(f"{page}\n")
