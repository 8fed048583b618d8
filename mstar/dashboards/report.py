"""One run as one HTML page that loads nothing, runs only its own script, and opens anywhere."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

import mstar
from mstar.atomic import atomic_path
from mstar.dashboards import sections
from mstar.dashboards.markup import escape
from mstar.dashboards.overview import overview
from mstar.dashboards.run_data import RunData, read_run
from mstar.dashboards.sample_browser import escape_json, sample_payload
from mstar.errors import ConfigError

__all__ = ["render_page", "write_report"]

_SECTIONS: Final = (
    ("dynamics", "Dynamics", sections.dynamics),
    ("funnel", "Funnel", sections.funnel),
    ("temperature", "Temperature", sections.sweeps),
    ("mprm", "Process reward model", sections.mprm),
)
_END_SECTIONS: Final = (
    ("time", "Time", sections.times),
    ("config", "Config", sections.configs),
)


def write_report(
    run: Path, output: Path | None = None, *, max_prompts: int = 40, image_root: Path | None = None
) -> Path:
    """Writes the HTML report of a run.

    Args:
        run: The run's folder; of a staged run (``make demo``), the folder that holds ``evolve/`` and ``summary.json``.
        output: The page to write; ``<run>/report.html`` if None.
        max_prompts: How many prompts are shown, with all their responses and pictures.
        image_root: The folder that pictures given by a relative path are in; the working directory if None.

    Returns:
        The page's path.

    Raises:
        ConfigError: ``max_prompts`` is negative.
        DataError: ``run`` is not the folder of a run, or one of its files is damaged.
    """
    if max_prompts < 0:
        raise ConfigError(f"max_prompts is {max_prompts}, but it is a number of prompts; choose 0 or more.")
    page = render_page(read_run(run, max_prompts), None if image_root is None else str(image_root))
    path = run / "report.html" if output is None else output
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render_page(run: RunData, image_root: str | None = None) -> str:
    """The whole page as a string; see ``write_report``."""
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    before = [(anchor, title, render(run)) for anchor, title, render in _SECTIONS]
    after = [(anchor, title, render(run)) for anchor, title, render in _END_SECTIONS]
    everything = [*before, ("samples", "Samples", _samples(run)), *after]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in everything)
    body = "".join(f'<section id="{anchor}"><h2>{title}</h2>{part}</section>' for anchor, title, part in everything)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(run.name)} · M-STaR run</title><style>{style}</style></head><body>"
        f"<header><p>M-STaR · self-evolving run</p><h1>{escape(run.name)}</h1>{_when(run)}</header>"
        f'<nav aria-label="Sections">{links}</nav><main><section id="overview">{overview(run)}</section>'
        f"{body}</main><footer>Written by mstar {escape(mstar.__version__)}.</footer>"
        f'<script type="application/json" id="sample">{escape_json(sample_payload(run.prompts, image_root))}</script>'
        f"<script>{script}</script></body></html>\n"
    )


def _when(run: RunData) -> str:
    now = f"page written {_date(datetime.now(UTC))}"
    if run.started is None or run.ended is None:
        return f'<p class="when">{now}</p>'
    return f'<p class="when">iterations ran {_date(run.started)} to {_date(run.ended)} · {now}</p>'


def _date(moment: datetime) -> str:
    return f'<time datetime="{moment:%Y-%m-%dT%H:%MZ}">{moment:%Y-%m-%d %H:%M} UTC</time>'


def _samples(run: RunData) -> str:
    if not run.prompts:
        return '<p class="missing">There is no response to show.</p>'
    return (
        f'<p class="lead">{len(run.prompts)} of {run.num_prompts} prompts, taken evenly over iterations and '
        "categories, whatever came of them. Identical responses of a prompt are shown once, with their number."
        '</p><noscript><p class="missing">This part needs JavaScript.</p></noscript>'
        '<div id="browser"></div>'
    )


def _asset(name: str) -> str:
    return files("mstar.dashboards").joinpath("assets", name).read_text(encoding="utf-8")
