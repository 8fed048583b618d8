"""A stand-in for the file of handwritten digits, in its form: every digit is one pattern, with a little noise."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mstar.prompts import digits

ROWS = 1797
# Ten patterns of 4x4 blocks that are far from each other, also where one is shifted a little.
PATTERNS = np.random.default_rng(4).permuted(np.repeat([[0, 1]], 8, 1).repeat(10, 0), axis=1).reshape(10, 4, 4)


def pattern(digit: int) -> NDArray[np.int64]:
    """The 8x8 pixels of a digit, 0 to 16."""
    return 16 * PATTERNS[digit].repeat(2, 0).repeat(2, 1)


@cache
def content() -> bytes:
    digit_N = np.arange(ROWS) % 10
    clean = np.stack([pattern(digit).ravel() for digit in range(10)])[digit_N]
    noisy = np.clip(clean + np.random.default_rng(0).integers(-2, 3, clean.shape), 0, 16)
    text = io.StringIO()
    np.savetxt(text, np.column_stack([noisy, digit_N]), "%d", ",")
    return gzip.compress(text.getvalue().encode(), compresslevel=1)


def put_digits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes the file where the pictures look for it, and pins it."""
    monkeypatch.setenv("MSTAR_CACHE", str(folder))
    pinned = replace(digits.DIGITS_FILE, sha256=hashlib.sha256(content()).hexdigest())
    monkeypatch.setattr(digits, "DIGITS_FILE", pinned)
    path = digits.digits_folder() / pinned.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content())
    return path
