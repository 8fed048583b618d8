"""The notebook of the demo runs from top to bottom, in its short form."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "docs" / "demo.ipynb"
BOOK: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in BOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_of_format_4_5_without_outputs() -> None:
    assert (BOOK["nbformat"], BOOK["nbformat_minor"]) == (4, 5)
    assert BOOK["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in BOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in BOOK["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        assert cell["metadata"] == {}
        assert all(isinstance(line, str) for line in cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert set(cell) == {"cell_type", "id", "metadata", "source"}


@pytest.mark.timeout(300)
def test_every_cell_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[Any] = []
    names: dict[str, Any] = {"__name__": "__main__", "display": shown.append}
    for number, source in enumerate(CODE):
        # Only IPython knows lines that begin with % or !.
        plain = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
        exec(compile(ast.parse(plain), f"{NOTEBOOK.name}, code cell {number}", "exec"), names)  # noqa: S102

    assert names["SHORT"] is True
    run = tmp_path / names["RUN"]
    assert (run / "evolve" / "finished.json").is_file()
    assert (run / "evolve" / "policy" / "model.safetensors").is_file()
    assert [type(picture) for picture in shown[:3]] == [Image.Image] * 3

    table = names["table"]
    assert shown[3].equals(table.head(10))
    assert shown[4]["greedy accuracy"].to_dict() == names["accuracies"]
    # 64 prompts, of which an interval of 0.25 takes a quarter, 4 responses each.
    assert len(table) == 16 * 4
    assert table["step_scores"].map(lambda scores: scores is not None and len(scores) > 0).any()

    assert list(names["accuracies"]) == [0, 1, 2]
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in names["accuracies"].values())
    assert "Content-Security-Policy" in (tmp_path / names["page"]).read_text(encoding="utf-8")
    assert capsys.readouterr().out.count("$ mstar ") == 7
