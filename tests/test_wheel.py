"""The wheel, built and installed without a network: what a user has who has no clone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAST = [
    "--trainer.max_steps=1",
    "--data.train.size=8",
    "--trainer.enable_progress_bar=false",
    "--model.lr_scheduler=null",
]

Command = Callable[..., str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("mstar-*.whl")
    subprocess.run([*pip, "install", "--no-index", "--no-deps", "--no-compile", "--target", target, wheel], check=True)
    return target


@pytest.fixture
def mstar(installed: Path, tmp_path: Path) -> Command:
    """Runs the installed ``mstar`` in an empty folder, and gives what it prints."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, installed / "bin" / "mstar", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_has_the_configurations_and_no_tests(installed: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert files(installed / "mstar" / "configs") == files(ROOT / "configs")
    assert {path.name for path in installed.iterdir()} - {"bin"} == {
        "mstar",
        next(installed.glob("mstar-*.dist-info")).name,
    }
    package = {name for name in files(ROOT / "mstar") if "__pycache__" not in name}
    assert package <= set(files(installed / "mstar"))


def test_its_commands_are_there_at_once(mstar: Command) -> None:
    assert "\ntiny/evolve.yaml " in mstar("configs")
    assert mstar("configs", "show", "tiny/evolve.yaml") == (ROOT / "configs/tiny/evolve.yaml").read_text()
    assert "--output" in mstar("demo", "--help")


def test_a_configuration_is_run_by_its_name(mstar: Command, installed: Path, tmp_path: Path) -> None:
    mstar("fit", "--config", "tiny/warmup.yaml", *FAST)
    assert (tmp_path / "runs/demo/warmup/policy/model.safetensors").is_file()
    # Nothing is written beside the package.
    assert not (installed / "runs").exists()
