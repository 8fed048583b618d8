"""What a file is that cannot be read as what it should be: told before, or instead of, what its reader makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LOOKED_AT: Final = 1 << 16
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_ANNEX: Final = b"/annex/objects/"
_PAGES: Final = (b"<!doctype html", b"<html")
_ZIP: Final = b"PK\x03\x04"
_PACKED: Final = {b"\x1f\x8b": "gzip", _ZIP: "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
# Zip files themselves.
_TORCH: Final = (".ckpt", ".pt")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
# What a model's folder is read from.
_MODEL_FILES: Final = ("*.json", "*.safetensors", "*.model", "*.jinja")


def find_fault(path: Path) -> str | None:
    """What is wrong with a file whatever it should hold, as the rest of a sentence that its name begins.

    Returns:
        That it cannot be opened, is empty, stands for another file (Git LFS, git-annex), is a web page, is packed, or
        is UTF-16 text; None if it is nothing of these.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
    except OSError as error:
        return f"cannot be read ({os.strerror(error.errno or 0)})"
    if not head:
        return "is an empty file"
    if not head.strip():
        return "is a file of nothing but white space"
    if not head.strip(b"\0"):
        return "is a file of nothing but zero bytes, which a full disk or a crash may leave: get it again"
    if head.startswith(_LFS):
        return "is a Git LFS pointer, not the file that it stands for: run 'git lfs pull' in its repository"
    if head.startswith(_ANNEX):
        return "is a git-annex pointer, not the file that it stands for: run 'git annex get' in its repository"
    if head.lstrip().lower().startswith(_PAGES):
        return "is a web page (HTML), which a download that failed may leave: get it again"
    if path.suffix == ".safetensors" and head.startswith(_ZIP):
        return "is no safetensors file but a zip file, which torch.save writes: convert it with safetensors.torch"
    for magic, name in _PACKED.items():
        if head.startswith(magic) and path.suffix not in _TORCH:
            return f"is packed ({name}): unpack it"
    return "is UTF-16 text: convert it to UTF-8" if head.startswith(_UTF16) else None


def find_folder_fault(folder: Path) -> str | None:
    """The first such fault of a model's folder or of a file in it, as a whole clause; None if there is none."""
    if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
        return f"'{folder}' cannot be read (Permission denied)"
    for path in sorted(path for pattern in _MODEL_FILES for path in folder.glob(pattern) if path.is_file()):
        if (fault := find_fault(path)) is not None:
            return f"'{path}' {fault}"
    return None
