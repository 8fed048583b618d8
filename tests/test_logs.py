"""What a person is told, and where."""

from __future__ import annotations

import logging

import pytest

from mstar.logs import start_logging, take_quiet


@pytest.mark.parametrize(("quiet", "told"), [(False, "half done\nmstar: look\n"), (True, "mstar: look\n")])
def test_quiet_leaves_the_warnings(quiet: bool, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(quiet=quiet)
    log = logging.getLogger("mstar.somewhere")
    log.info("half %s", "done")
    log.warning("look")
    assert capsys.readouterr() == ("", told)


def test_quiet_is_taken_out_wherever_it_stands() -> None:
    assert take_quiet(["--quiet", "fit", "--config", "a"]) == (["fit", "--config", "a"], True)
    assert take_quiet(["fit", "--rollout.quiet"]) == (["fit", "--rollout.quiet"], False)


def test_advice_of_others_is_silenced_once(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    start_logging()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    assert len([known for known in logger.filters if getattr(known, "words", "") == "litlogger"]) == 1
