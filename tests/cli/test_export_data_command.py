"""The ``export-data`` command: nothing is replaced, nothing half written stays, and a large run passes through."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import yaml

from mstar.__main__ import main
from mstar.cli.export_data_command import export_data
from mstar.errors import ConfigError, DataError
from mstar.prompts import TinyDice
from mstar.storage import PromptResponses, RunDirectory, write_json, write_responses
from mstar.types import Fate, Response, ScoredResponse, Verdict, VerdictStatus

pytestmark = pytest.mark.usefixtures("own_cache")


def write_run(root: Path, prompts: int, fate: Fate = Fate.KEPT, shards: int = 1) -> Path:
    source = TinyDice("pool", prompts)
    for shard in range(shards):
        groups = []
        for prompt in list(source)[shard::shards]:
            # Long ones, so that all of them at once would show.
            text = f"{'so ' * 500}{prompt.id}\nAnswer: {prompt.answer}"
            row = (Response(prompt.id, 0, text, 3, True, 1.0, -1.0), Verdict(True, "1", VerdictStatus.GRADED))
            groups.append(PromptResponses(prompt, (ScoredResponse(*row, fate=fate),)))
        write_responses(RunDirectory(root).responses(1, shard), groups)
    train = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "pool", "size": prompts}}
    model = {"init_args": {"model_name": "HuggingFaceTB/SmolVLM-256M-Instruct"}}
    config = {"rollout": {"num_samples": 1}, "model": model, "data": {"init_args": {"train": train}}}
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return root


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = write_run(tmp_path / "run", 2), tmp_path / "out"
    arguments = ["export-data", "--run", str(run), "--to", "mpo", "--output", str(out)]
    assert main(arguments) == 0
    assert f"{out / 'sft.jsonl'}: 2 rows" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in out.rglob("*.json*")}
    assert main(arguments) == 1
    assert "holds something already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*.json*")} == before


def test_rows_with_their_pictures_go_to_the_hub_with_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed: list[tuple[object, ...]] = []

    def upload(folder: Path, name: str, *, private: bool, repo_type: str) -> str:
        pushed.append((folder, name, private, repo_type))
        return f"https://hub/{name}"

    monkeypatch.setattr("mstar.cli.export_data_command.upload", upload)
    monkeypatch.setattr("mstar.export.hub_upload.get_token", lambda: "a token")
    run, out = str(write_run(tmp_path / "run", 2)), tmp_path / "out"
    write_json(RunDirectory(tmp_path / "run").plan(1), {"policy": "0123456789abcdef"})
    # No row comes of a supervised stage.
    (tmp_path / "run/seed_sft").mkdir()
    config = (tmp_path / "run/config.yaml").read_text()
    (tmp_path / "run/seed_sft/config.yaml").write_text(config.replace("rollout", "nothing"))
    with pytest.raises(ConfigError, match="mpo names pictures by their paths"):
        export_data(run, "mpo", str(out), push="me/rows")
    assert not out.exists()
    export_data(run, "verl", str(out), push="me/rows", private=True)
    assert pushed == [(out, "me/rows", True, "dataset")]
    assert capsys.readouterr().out.endswith("https://hub/me/rows\n")
    card = (out / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert {"config_name": "sft", "data_files": "sft.parquet"} in metadata["configs"]
    assert "- `sft.parquet`: 2 rows" in card
    assert "- train (config.yaml): TinyDice, split `pool`, size `2`" in card
    assert "- config.yaml: `HuggingFaceTB/SmolVLM-256M-Instruct`, and what it became in each iteration\n" in card
    assert "- config.yaml: weights `0123456789abcdef`\n" in card
    assert "seed_sft" not in card
    assert "mstar export-data --run run --to verl --output out\n" in card


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2, Fate.NOT_SELECTED)
    with pytest.raises(DataError, match="has no row for ms-swift"):
        export_data(str(run), "ms-swift", str(tmp_path / "new/out"))
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        export_data(str(run), "trl", str(tmp_path / "file"))


def test_missing_pictures_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from PIL import Image

    from mstar.prompts import RecordPrompts

    rows = [f'{{"id": "{name}", "question": "{name}?", "answer": "1", "image": "{name}.png"}}' for name in "ab"]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    source = RecordPrompts(str(tmp_path / "rows.jsonl"))
    made = (Verdict(True, "1", VerdictStatus.GRADED),)
    groups = [
        PromptResponses(p, (ScoredResponse(Response(p.id, 0, "1", 1, True, 1.0, 0.0), *made, fate=Fate.KEPT),))
        for p in source
    ]
    write_responses(RunDirectory(tmp_path / "run").responses(1, 0), groups)
    (tmp_path / "a.png").unlink()
    export_data(str(tmp_path / "run"), "llama-factory", str(tmp_path / "out"), prompts=source)
    assert len((tmp_path / "out/sft.jsonl").read_text().splitlines()) == 1
    assert "1 rows are left out: The image" in caplog.text


@pytest.mark.parametrize("to", ["trl", "llama-factory"])
def test_rows_are_not_held(tmp_path: Path, to: str) -> None:
    """Four times the rows take no more memory than their shard."""
    run = write_run(tmp_path / "run", 2000, shards=8)
    # Every response has 1.5 kB, so that all of them would take 3 MB and a shard takes 0.4. Pictures are made before.
    export_data(str(run), to, str(tmp_path / "first"))  # type: ignore[arg-type]
    # Python's table of names doubles at some moment or other, of which the names of pictures are a part.
    assert min(_peak(run, to, tmp_path / name) for name in ("second", "third")) < 2.5e6


def _peak(run: Path, to: str, output: Path) -> int:
    tracemalloc.start()
    try:
        export_data(str(run), to, str(output))  # type: ignore[arg-type]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
