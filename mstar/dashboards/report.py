"""One run as one HTML page that loads nothing, runs only its own script, and opens anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mstar.atomic import write_text
from mstar.dashboards import sections
from mstar.dashboards.overview import headline, test_accuracies, warnings
from mstar.dashboards.page import render
from mstar.dashboards.run_data import read_run
from mstar.dashboards.run_pictures import RunPictures
from mstar.dashboards.sample_browser import browser_payload
from mstar.dashboards.training import label_chart, label_table, training
from mstar.errors import require_least


def write_report(
    run: str | Path, output: str | Path | None = None, max_prompts: int = 40, image_root: str | None = None
) -> Path:
    """Writes one run as one self-contained HTML page.

    Args:
        run: The folder of a fit (self-evolving, supervised, or of an MPRM) or of an annotation; of a staged run (``make
            demo``), the folder that holds ``evolve/`` and ``summary.json``.
        output: The page; by default ``report.html`` in the run's folder.
        max_prompts: How many prompts can be browsed on the page, each in at most eight of the iterations that it was
            sampled in; all if there are fewer.
        image_root: The folder of the picture files (of MathV360K its data_images); none takes those of the run's own
            data, as its configuration names it, or else the working directory.

    Returns:
        The page's path.

    Raises:
        ConfigError: ``max_prompts`` is negative.
        DataError: the folder is not a run, or one of its files is damaged.
    """
    require_least("", 0, max_prompts=max_prompts)
    found = read_run(Path(run), max_prompts)
    pictures = RunPictures(found.configs, image_root)
    samples = [("sample", browser_payload("Step score", found.sample.prompts, pictures))] if found.evolves else []
    for number, labels in enumerate(found.labels):
        samples.append((f"labels-{number}", browser_payload("Step label", labels.prompts, pictures)))
    page = render(
        "report.html",
        {
            "run": found,
            "now": datetime.now(UTC),
            "headline": headline,
            "warnings": warnings,
            "test_accuracies": test_accuracies,
            "numbers": sections,
            "logged": training(found),
            "label_chart": label_chart,
            "label_table": label_table,
            "samples": samples,
        },
    )
    path = Path(run, "report.html") if output is None else Path(output)
    write_text(path, page)
    return path
