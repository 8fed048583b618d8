"""Lets a torchvision that was built for CUDA be imported beside a CPU build of torch.

Its compiled operators cannot be loaded there, and torchvision fails while it describes their shapes. This declares
them; they cannot be called. Run as a program it installs itself into the environment, for every process that starts
there, because vLLM starts processes of its own. `make test-vllm` does so where torchvision cannot be imported as it is.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
LIBRARIES: list[Any] = []  # an operator is there for as long as its library is


class DeclareOperators(MetaPathFinder):
    """Finds nothing; declares the operators when torchvision is about to load them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision.extension" and not LIBRARIES:
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for schema in SCHEMAS:
                library.define(schema)
            LIBRARIES.append(library)
        return None


def install() -> None:
    """Copies this file into the environment, with a .pth file that imports it."""
    packages = Path(sysconfig.get_path("purelib"))
    shutil.copy(__file__, packages)
    (packages / "torchvision_operators.pth").write_text("import torchvision_operators\n", encoding="utf-8")


if __name__ == "__main__":
    install()
else:
    sys.meta_path.insert(0, DeclareOperators())
