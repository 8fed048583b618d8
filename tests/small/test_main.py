"""The command: its choices are those of the stages, and what a user can mend is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.small import __main__ as command
from mstar.small.run import ARMS, FURTHER, SHARED
from mstar.small.tasks import TASKS


def test_the_choices_are_the_stages_in_their_order() -> None:
    # Written down again there, so that --help and a wrong word need no torch.
    assert (*SHARED, *ARMS) == command._STAGES
    assert (tuple(ARMS), FURTHER) == ((*command._ARMS, *command._FURTHER), command._FURTHER)
    assert tuple(TASKS) == command._TASKS


def test_a_stage_before_its_time_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--output", str(tmp_path), "--seed", "5", "--stages", "mprm"]) == 1
    told = capsys.readouterr().err
    assert told == f"small: error: the stage warmup, which makes '{tmp_path}/seed-5/warmup/policy', is not done: " \
        "run that first.\n"  # fmt: skip


def test_an_unknown_arm_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--arms", "top_9"])
    assert end.value.code == 2
    assert "mprm_top_1" in capsys.readouterr().err
