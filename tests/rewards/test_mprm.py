"""The MPRM as a reward: when it is loaded, and what its scores depend on."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mstar.callbacks.rollout_stages import RolloutStages
from mstar.errors import ConfigError
from mstar.models.step_scorer import StepScorer
from mstar.rewards import MPRM, RewardHost
from mstar.storage import RunDirectory


def test_a_new_mprm_takes_the_place_of_the_old_one(
    warm_mprm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = MPRM(str(warm_mprm))
    assert not reward.ready
    reward.load(RewardHost())
    first = reward._loaded
    assert first is not None
    reward.refresh(warm_mprm)
    reward.load(RewardHost())
    assert reward._loaded is first
    # The memory was found to be enough for so many.
    reward.batch_size = 5
    gone = weakref.ref(first[0])
    del first
    shutil.copytree(warm_mprm, tmp_path / "next")
    load = StepScorer.load.__func__  # type: ignore[attr-defined]

    def load_alone(cls: type, *arguments: Any, **options: Any) -> Any:
        assert gone() is None
        return load(cls, *arguments, **options)

    monkeypatch.setattr(StepScorer, "load", classmethod(load_alone))
    before = reward.facts()
    reward.refresh(tmp_path / "next")
    reward.load(RewardHost())
    assert reward.batch_size == 5
    # The same weights in another folder.
    assert reward.facts() == before
    assert before["dtype"] == "float32"


@pytest.mark.parametrize("waits", [False, True])
def test_in_a_run_that_retrained_none_it_is_the_first_one_again(warm_mprm: Path, tmp_path: Path, waits: bool) -> None:
    """A rollout callback may have retrained it for another trainer before."""
    shutil.copytree(warm_mprm, tmp_path / "mprm/0002/model")
    reward = MPRM(None if waits else str(warm_mprm))
    policy = SimpleNamespace(
        device="cpu", compute_precision=RewardHost().precision, attention=None, trust_remote_code=False
    )
    stages: Any = SimpleNamespace(settings=SimpleNamespace(reward=reward), policy=policy, run=RunDirectory(tmp_path))
    RolloutStages.load_reward(stages, "mprm/0002/model")
    assert reward.ready
    shutil.rmtree(tmp_path / "mprm")
    RolloutStages.load_reward(stages, None)
    assert (reward.ready, reward._loaded_from) == ((False, None) if waits else (True, str(warm_mprm)))
    reward.check()


def test_one_without_a_folder_waits(tmp_path: Path) -> None:
    reward = MPRM()
    reward.check()
    reward.load(RewardHost())
    assert not reward.ready
    with pytest.raises(ConfigError, match="missing"):
        MPRM(str(tmp_path / "missing")).check()


def test_a_published_prm_is_no_folder_of_an_mprm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"named by its class, such as .*\(--reward\.model Qwen/Qwen2\.5-Math-PRM-7B"):
        MPRM("Qwen/Qwen2.5-Math-PRM-7B").check()
    own = tmp_path / "mstar-prm-8b-v1.0"
    own.mkdir()
    for name in ("hkust-nlp/mstar-prm-8b-v1.0", str(own)):
        with pytest.raises(ConfigError, match=r"nothing public says how it is asked .*configs/mprm"):
            MPRM(name).check()
