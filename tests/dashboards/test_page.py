"""The page is one file: well-formed, nothing is loaded, and no text of a run becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from mstar.dashboards.report import write_report
from mstar.storage import write_json, write_step_labels
from mstar.types import Prompt, StepLabels

from .conftest import Page  # type: ignore[import-not-found]


def test_the_page_is_well_formed_and_loads_nothing(run: Path, hostile: str) -> None:
    (run / "config.yaml").write_text(f"engine: |\n  {hostile}\n")
    path = write_report(run)
    page = Page(path)
    assert path == run / "report.html"
    assert page.open == []
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not {"link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
        assert (attributes.get("href") or "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    # The only address is the one in the hostile text, which is text in the config and in the sample.
    assert set(re.findall(r"https?://[^\s\"'\\]+", page.source)) == {"https://evil.example/x.png"}


def test_hostile_text_is_never_markup(run: Path, hostile: str) -> None:
    (run / "config.yaml").write_text(f"engine: |\n  {hostile}\n")
    write_json(run / "summary.json", {"warmup_accuracy": 0.5, "notes": [hostile], "stage_seconds": {hostile: 3}})
    page = Page(write_report(run))
    assert "<script>alert" not in page.source
    assert "<img" not in page.source
    assert not [c for c in page.source if c in "\x00\u202e\u2028"]
    assert page.text.count("<script>alert(1)</script>") == 3
    assert page.text.count("\\u0000 \\u202egnp.exe \\u2028") == 3
    assert "<" not in page.scripts[0]
    steps = [step[0] for p in page.sample["prompts"] for r in p["responses"] for step in r["steps"]]
    assert any("</script><script>alert(1)</script><img src=x" in s and "\\u0000 \\u202egnp" in s for s in steps)


def test_only_the_page_s_own_script_may_run(run: Path) -> None:
    page = Page(write_report(run))
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    assert directives["script-src"] == f"'sha256-{digest}'"


def test_json_in_a_script_survives_a_round_trip(tmp_path: Path) -> None:
    answer = "</script><!-- & \t é"
    labels = [StepLabels("p", "a\nb", ("a\n", "b"), (1, 1), (4, 1), True)]
    write_step_labels(tmp_path / "labels-00000.parquet", labels, [Prompt("p", "?", (), answer)])
    page = Page(write_report(tmp_path))
    assert not set(page.scripts[0]) & set("<>&\u2028\u2029")
    assert page.sample["prompts"][0]["answer"] == answer
