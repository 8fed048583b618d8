"""docs/families.md says what is so: every cell is checked again. MSTAR_WRITE_FAMILIES=1 writes the file."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "families.md"


@pytest.fixture(scope="module")
def cells(forker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What one process and two find of every family."""
    path = tmp_path_factory.mktemp("families") / "found.json"
    forker.run([path], path.with_name("log"), seconds=900, script=HERE / "family_worker.py", path=[HERE, HERE.parent])
    found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.timeout(1800)
def test_every_cell_of_the_document_is_what_its_check_finds(
    cells: dict[str, dict[str, str]], architectures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    import family_table

    found = family_table.document(cells)
    if os.environ.get("MSTAR_WRITE_FAMILIES") == "1":
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(found, encoding="utf-8")
    written = DOCUMENT.read_text(encoding="utf-8")
    difference = "\n".join(
        difflib.unified_diff(written.splitlines(), found.splitlines(), "written", "found", "", "", 0)
    )
    assert not difference, f"docs/families.md is out of date (MSTAR_WRITE_FAMILIES=1 writes it):\n{difference}"
