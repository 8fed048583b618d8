"""Where a run's files are, and a folder of a run or of a model, given where the other is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar import storage
from mstar.dashboards.run_data import read_run
from mstar.errors import ConfigError, DataError
from mstar.models.backbone import find_model_type
from mstar.models.step_scorer import check_step_scorer
from mstar.storage import RunDirectory


def test_layout_of_a_run_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.iterations == []
    assert run.responses(3, 12) == tmp_path / "iterations" / "0003" / "responses-00012.parquet"
    assert run.examples(3) == tmp_path / "iterations" / "0003" / "examples.parquet"
    assert run.report(3) == tmp_path / "iterations" / "0003" / "report.json"
    for index in (12, 3):
        storage.write_json(run.report(index), {})
    (tmp_path / "iterations" / "0004-old").mkdir()
    assert run.iterations == [3, 12]
    for shard in (11, 2):
        storage.write_responses(run.responses(3, shard), [])
    assert run.response_shards(3) == [run.responses(3, 2), run.responses(3, 11)]
    assert run.response_shards(12) == []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has exported a policy and an MPRM."""
    run = tmp_path / "run"
    for name in ("policy", "mprm", "checkpoints"):
        (run / name).mkdir(parents=True)
        (run / name / "config.json").write_text("{}") if name != "checkpoints" else None
    (run / "config.yaml").write_text("{}")
    return run


def test_the_model_in_a_run_is_offered(run: Path) -> None:
    for given in (run, run / "checkpoints"):
        with pytest.raises(ConfigError, match=f"did you mean '{run}/policy'"):
            find_model_type(str(given))
    for given in (run, run / "policy"):
        with pytest.raises(ConfigError, match=f"did you mean '{run}/mprm'"):
            check_step_scorer(given)
    # One that was retrained within the run lies deeper.
    (run / "mprm/config.json").unlink()
    for name in ("0003-x", "0005-y"):
        (run / "mprm" / name / "model").mkdir(parents=True)
        (run / "mprm" / name / "model/config.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"did you mean '{run}/mprm/0005-y/model'"):
        check_step_scorer(run / "mprm")
    (run / "config.yaml").unlink()  # then it is a folder like any other, with a model among what it has
    for given in (run.parent, run / "checkpoints"):
        with pytest.raises(ConfigError) as error:
            find_model_type(str(given))
        assert "did you mean" not in str(error.value)


def test_the_run_of_a_model_is_offered(run: Path) -> None:
    with pytest.raises(DataError, match=f"did you mean the run that exported it, '{run}'"):
        read_run(run / "policy", 0)
