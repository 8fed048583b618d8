"""What a fit says of its memory before it begins, and when it does not begin."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import ConfigError
from mstar.memory import run_account
from mstar.memory.run_account import warn_before_start

SHAPE = str(Path(__file__).parents[2] / "benchmarks" / "shapes" / "internvl3_2b")


def config(**model: Any) -> dict[str, Any]:
    """A supervised fit on a CPU, as it is parsed."""
    return {
        "model": {"class_path": "mstar.modules.PolicyModule", "init_args": {"model_name": SHAPE, **model}},
        "data": {"class_path": "mstar.datamodules.PolicyDataModule", "init_args": {"batch_size": 1}},
        "trainer": {"accelerator": "cpu"},
    }


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the package logs."""
    monkeypatch.setattr(logging.getLogger("mstar"), "propagate", True)
    caplog.set_level(logging.INFO, logger="mstar")
    return caplog


def test_a_fit_that_fits_says_what_it_takes(said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_account, "machine_bytes", lambda: 100 * 10**9)
    warn_before_start(config(), None, [], None)
    [first, second] = said.messages[0].splitlines()
    # The account begins with what this process has already, up to some GB where many tests ran in it.
    assert re.match(r"memory of a process \(estimate, GB\): train [67]\d\.\d,", first)
    assert "disk" in first
    assert "assumed: prompts of" in second


def test_a_fit_whose_weights_and_states_are_too_large_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_account, "machine_bytes", lambda: 24 * 10**9)
    said = r"has 24\.0 GB, and weights, gradients and optimizer states alone take 33\.4 GB\. It would fit with .*lora"
    with pytest.raises(ConfigError, match=said):
        warn_before_start(config(), None, [], None)


def test_paged_states_are_certain_as_they_stay_once_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_account, "machine_bytes", lambda: 19 * 10**9)
    paged = config(optimizer={"class_path": "bitsandbytes.optim.PagedAdamW8bit"})
    with pytest.raises(ConfigError, match=r"weights, gradients and optimizer states alone take 2[01]\.\d GB"):
        warn_before_start(paged, None, [], None)


def test_a_fit_that_may_fit_begins_with_a_warning(
    said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_account, "machine_bytes", lambda: 36 * 10**9)
    warn_before_start(config(), None, [], None)
    assert said.messages[1].startswith("memory may be short: peak: ")


def test_a_model_that_cannot_be_counted_keeps_no_fit_from_beginning(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    warn_before_start(config(model_name=str(tmp_path)), None, [], None)
