"""What a process sets for itself: freed memory is used again without a call to the system, bars in files are short."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

# Blocks are taken, written and freed, twice; what counts is the pages that the second time has to be given.
AGAIN = """
import resource
from mstar.process_start import prepare_process

prepare_process()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"1") * 2**23 for _ in range(16)]
    del blocks
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 16 * 2**23 // 4096


def count_pages(environment: dict[str, str]) -> list[int]:
    """How many pages the first time and the second time had to be given."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", AGAIN]
    done = subprocess.run(command, env=cleared | environment, capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    return [first, second]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise() -> None:
    first, second = count_pages({})
    assert first > PAGES / 2
    assert second < PAGES / 20
    assert count_pages({"MALLOC_TRIM_THRESHOLD_": str(2**17)})[1] > PAGES / 2


# A bar that is moved for half a second.
BAR = """
import time
from mstar.process_start import prepare_process

prepare_process()
from tqdm.auto import tqdm

for _ in tqdm(range(50)):
    time.sleep(0.01)
"""


def test_a_bar_in_a_file_is_drawn_seldom_unless_the_environment_says_otherwise() -> None:
    def count(environment: dict[str, str]) -> int:
        done = subprocess.run([sys.executable, "-c", BAR], env=os.environ | environment, capture_output=True, text=True)
        return done.stderr.count("%|")

    # At the beginning and at the end, and a newer tqdm may do so once more.
    assert count({}) <= 3
    assert count({"TQDM_MININTERVAL": "0.01"}) > 10
