"""Pages of HTML: they load nothing, run only their own script, and open anywhere. Every text in them is escaped.

The cards of exports, which are Markdown, are made by the same templates' rules, without that.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mstar import __version__
from mstar.dashboards.wording import format_count, format_percent, visible


def render(template: str, values: Mapping[str, Any]) -> str:
    """The page that a template makes of some values."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("mstar.dashboards"),
        autoescape=select_autoescape(disabled_extensions=("md",), default=True),
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals |= {"asset": _asset, "version": __version__}
    made.filters |= {"digest": _digest, "thousands": format_count, "percent": format_percent}
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return made


def _show(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """A file that pages are made of."""
    return Markup(files("mstar.dashboards").joinpath("templates", name).read_text(encoding="utf-8"))  # noqa: S704 - ours


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
