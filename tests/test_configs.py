"""Every YAML file in configs/ is accepted by the parser that it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.__main__ import main

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
# What an overlay is laid on.
BASE = CONFIGS / "tiny/evolve.yaml"


def command_of(config: dict[str, Any]) -> list[str]:
    """The command that a file is for: training, annotation, or training on top of another file."""
    if "policy" in config and "output" in config:
        return ["annotate"]
    return ["fit"] if "model" in config else ["fit", "--config", str(BASE)]


def test_there_are_configs() -> None:
    assert {"tiny/warmup.yaml", "tiny/evolve.yaml"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_config_is_accepted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = CONFIGS / name
    given = yaml.safe_load(path.read_text())
    with pytest.raises(SystemExit) as end:
        main([*command_of(given), "--config", str(path), "--print_config"])
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    parsed = yaml.safe_load(captured.out)
    rollout = given.get("rollout", {})
    if rollout:
        read = parsed["rollout"]["init_args"]
        for key, value in rollout.get("init_args", rollout).items():
            assert isinstance(value, dict) or read[key] == value, key
