"""Files of sources that a configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.__main__ import main
from mstar.cli.config_files import check_config_files
from mstar.cli.shipped_configs import SHIPPED
from mstar.errors import ConfigError


@pytest.mark.parametrize("name", ["evolve/mathv360k_continuous.yaml", "annotate/paper.yaml"])
def test_a_copy_finds_the_file_of_sources_that_it_names(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["configs", "show", name]) == 0
    mine = tmp_path / "mine.yaml"
    mine.write_text(capsys.readouterr().out)
    check_config_files(["--config", str(mine)])
    assert f"sources: {(SHIPPED / 'data/mathv360k.yaml').resolve()}\n" in mine.read_text()


def test_sources_that_are_not_there_are_named_with_the_place(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("data:\n  init_args:\n    sources: ../data/none.yaml\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 3: there is no file '\.\./data/none\.yaml' for sources"):
        check_config_files(["--config", str(mine)])
