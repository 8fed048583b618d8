"""A folder of a run or of a model, given where the other is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.dashboards.run_data import read_run
from mstar.errors import ConfigError, DataError
from mstar.models.backbone import find_model_type
from mstar.models.step_scorer import check_step_scorer


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
