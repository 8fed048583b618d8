"""The report in a real browser: what a model wrote is shown and never runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mstar.dashboards.report import write_report
from mstar.storage import RunDirectory, write_responses

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
ATTACK = (
    "</script><script>document.title = 'OWNED'</script><img src=x onerror=\"document.title = 'OWNED'\">"
    "<svg onload=\"document.title = 'OWNED'\"></svg> seen-by-a-reader\nAnswer: 5"
)

pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed")


def rendered(page: Path, profile: Path) -> str:
    """The document as it stands after the browser has run what it would run."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--disable-dev-shm-usage", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def title(document: str) -> str:
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_attack_works_on_a_page_that_does_not_escape_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><head><title>report</title></head><body>{ATTACK}</body></html>")
    assert title(rendered(page, tmp_path / "profile")) == "OWNED"


def test_nothing_that_a_model_wrote_runs(tmp_path: Path, run: Path, make_group: Any) -> None:
    for iteration in (1, 2):
        for shard in (0, 1):
            group = make_group(10 * iteration + shard, ATTACK)
            write_responses(RunDirectory(run).responses(iteration, shard), [group])
    (run / "config.yaml").write_text(f"engine: |\n  {ATTACK.splitlines()[0]}\n")
    document = rendered(write_report(run), tmp_path / "profile")
    assert "OWNED" not in title(document)
    # The sample browser, which is built by the page's own script, shows the response as text.
    body = re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
    assert "&lt;svg onload=" in body
    assert body.count("seen-by-a-reader") >= 2
    assert '<img src="x"' not in body
