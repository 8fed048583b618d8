"""``python -m mstar report``: one run as one page."""

from __future__ import annotations

import sys
from pathlib import Path

from mstar.dashboards.report import write_report

__all__ = ["write_run_report"]


def write_run_report(run: str, output: str | None = None, max_prompts: int = 40, image_root: str | None = None) -> None:
    """Writes one run as one self-contained HTML page.

    Args:
        run: The folder of a fit (self-evolving, supervised, or of an MPRM) or of an annotation.
        output: The page; by default ``report.html`` in the run's folder.
        max_prompts: How many prompts can be browsed on the page, each in every iteration that it was sampled in; all if
            there are fewer.
        image_root: The folder of the picture files (of MathV360K its data_images); none is where the run's own
            configuration says that they are, or else the working directory.

    Raises:
        DataError: the folder is not a run.
    """
    page = write_report(
        Path(run),
        Path(output) if output is not None else None,
        max_prompts=max_prompts,
        image_root=Path(image_root) if image_root is not None else None,
    )
    sys.stdout.write(f"{page}\n")
