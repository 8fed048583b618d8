"""One run as one HTML page that loads nothing, runs only its own script, and opens anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mstar.atomic import write_text
from mstar.dashboards import sections
from mstar.dashboards.markup import format_count
from mstar.dashboards.overview import overview
from mstar.dashboards.page import asset, wrap_page
from mstar.dashboards.run_config import image_roots
from mstar.dashboards.run_data import RunData, read_run
from mstar.dashboards.sample_browser import escape_json, label_payload, sample_payload
from mstar.dashboards.stored_pictures import StoredPictures
from mstar.dashboards.training import step_labels, training
from mstar.errors import ConfigError

__all__ = ["render_page", "write_report"]

_NO_SCRIPT: Final = '<noscript><p class="missing">This part needs JavaScript.</p></noscript>'


def write_report(
    run: str | Path, output: str | Path | None = None, max_prompts: int = 40, image_root: str | None = None
) -> Path:
    """Writes one run as one self-contained HTML page.

    Args:
        run: The folder of a fit (self-evolving, supervised, or of an MPRM) or of an annotation; of a staged run (``make
            demo``), the folder that holds ``evolve/`` and ``summary.json``.
        output: The page; by default ``report.html`` in the run's folder.
        max_prompts: How many prompts can be browsed on the page, each in every iteration that it was sampled in; all if
            there are fewer.
        image_root: The folder of the picture files (of MathV360K its data_images); none is where the run's own
            configuration says that they are, or else the working directory.

    Returns:
        The page's path.

    Raises:
        ConfigError: ``max_prompts`` is negative.
        DataError: the folder is not a run, or one of its files is damaged.
    """
    if max_prompts < 0:
        raise ConfigError(f"max_prompts is {max_prompts}, but it is a number of prompts; choose 0 or more.")
    page = render_page(read_run(Path(run), max_prompts), image_root)
    path = Path(run, "report.html") if output is None else Path(output)
    write_text(path, page)
    return path


def render_page(run: RunData, image_root: str | None = None) -> str:
    """The whole page as a string; see ``write_report``."""
    everything = list(_sections(run))
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in everything)
    body = "".join(f'<section id="{anchor}"><h2>{title}</h2>{part}</section>' for anchor, title, part in everything)
    kind = "self-evolving run" if run.evolves else "step labels" if run.labels else "training run"
    samples = "".join(
        f'<script type="application/json" id="{name}">{escape_json(sample)}</script>'
        for name, sample in _samples(run, image_root)
    )
    return wrap_page(
        run.name,
        label="M-STaR run",
        kind=kind,
        when=_when(run),
        nav=f'<nav aria-label="Sections">{links}</nav>',
        main=f'<section id="overview">{overview(run)}</section>{body}',
        data=samples,
        script=asset("report.js"),
    )


def _sections(run: RunData) -> Iterator[tuple[str, str, str]]:
    """Anchor, title and content of every section after the first; of a page, those that its kind of run can have."""
    if run.evolves:
        yield "dynamics", "Dynamics", sections.dynamics(run)
        yield "funnel", "Funnel", sections.funnel(run) + sections.judge(run) + sections.groups(run)
        yield "temperature", "Temperature", sections.sweeps(run)
        yield "mprm", "Process reward model", sections.mprm(run)
    logged = training(run)
    if logged:
        yield "training", "Training", logged
    if run.labels:
        yield "labels", "Step labels", _NO_SCRIPT + step_labels(run)
    if run.evolves:
        yield "samples", "Samples", _browser(run)
        yield "time", "Time", sections.times(run)
    yield "config", "Config", sections.configs(run)


def _samples(run: RunData, image_root: str | None) -> Iterator[tuple[str, Any]]:
    """What the page's script is given, by the names that its elements ask for."""
    roots = image_roots(run.configs) if image_root is None else (image_root,)
    stored = StoredPictures(run.configs)
    if run.evolves:
        yield "sample", sample_payload(run.sample.prompts, roots, stored)
    for number, labels in enumerate(run.labels):
        yield f"labels-{number}", label_payload(labels.prompts, roots, stored)


def _when(run: RunData) -> str:
    now = f"page written {_date(datetime.now(UTC))}"
    if run.started is None or run.ended is None:
        return f'<p class="when">{now}</p>'
    return f'<p class="when">iterations ran {_date(run.started)} to {_date(run.ended)} · {now}</p>'


def _date(moment: datetime) -> str:
    return f'<time datetime="{moment:%Y-%m-%dT%H:%MZ}">{moment:%Y-%m-%d %H:%M} UTC</time>'


def _browser(run: RunData) -> str:
    sample = run.sample
    if not sample.prompts:
        return '<p class="missing">There is no response to show.</p>'
    return (
        f'<p class="lead">{sample.num_shown} of {format_count(sample.num_prompts)} prompts, taken evenly over '
        "iterations and categories, whatever came of them, and shown in every iteration that they were sampled in. "
        "Identical responses of a prompt are shown once, with their number."
        f'</p>{_NO_SCRIPT}<div class="browser" data-sample="sample"></div>'
    )
