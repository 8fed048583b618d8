"""The HTML around what a page shows: it loads nothing, runs only its own script, and opens anywhere."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

import mstar
from mstar.dashboards.markup import escape

__all__ = ["asset", "wrap_page"]


def wrap_page(
    title: str, *, label: str, kind: str, main: str, when: str = "", nav: str = "", data: str = "", script: str = ""
) -> str:
    """A whole page. All but the title are HTML.

    Args:
        title: What the page is about, as text.
        label: What stands behind it in the browser's title.
        kind: What it is, above the title.
        main: What the page shows.
        when: What stands below the title.
        nav: The links to its sections.
        data: What its script reads.
        script: Its script; without one, none may run.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    runs = f"script-src 'sha256-{digest}'; " if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {runs}base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)} · {label}</title><style>{asset('report.css')}</style></head><body>"
        f"<header><p>M-STaR · {kind}</p><h1>{escape(title)}</h1>{when}</header>"
        f"{nav}<main>{main}</main><footer>Written by mstar {escape(mstar.__version__)}.</footer>"
        f"{data}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def asset(name: str) -> str:
    """A file that pages are made of."""
    return files("mstar.dashboards").joinpath("assets", name).read_text(encoding="utf-8")
