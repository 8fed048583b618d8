"""What a process that computes sets for itself before torch is imported, and how long one of several stays."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from contextlib import suppress
from threading import Thread
from typing import Final

# Larger blocks are mapped, and given back when they are freed (glibc's DEFAULT_MMAP_THRESHOLD_MAX).
LARGEST_BLOCK: Final = 2**25
# How much free memory at its end the heap keeps.
_KEPT: Final = 2**30
# Names in glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# Seconds between two drawings of a progress bar in a file.
_BAR_PAUSE: Final = "30"
# Seconds for which a process that has lost the one that started it may end by itself.
_ORDERLY_END: Final = 10
_SET_BY_USER: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def prepare_process() -> None:
    """Has threads wait without spinning, the heap keep what is freed, and bars in a file draw seldom.

    What the environment says goes before.

    OpenMP threads that wait for each other spin by default; on a shared machine, where one of them may not be running,
    that makes training up to 30 times slower.

    A forward pass frees its activations, and the next one needs as much again. In between, glibc gives a part of it
    back to the system, which then clears every page anew.

    A bar redraws itself ten times a second: of a rollout of hours, the log of a batch job had nothing but bars.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.stderr.isatty():
        # tqdm looks when it is imported.
        os.environ.setdefault("TQDM_MININTERVAL", _BAR_PAUSE)
    # Only glibc has it.
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None and not any(name in os.environ for name in _SET_BY_USER):
        set_option(_M_TRIM_THRESHOLD, _KEPT)
        # To set the first ends glibc's own adjustment of the second.
        set_option(_M_MMAP_THRESHOLD, LARGEST_BLOCK)


def end_with_parent(parent: int) -> None:
    """Has this process end with the one that started it, which may be killed: else it goes on, or waits, for hours.

    Args:
        parent: The number of that one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        # One that waits for the other notices by itself, and ends in order.
        time.sleep(_ORDERLY_END)
        os.write(2, b"mstar: the process that had started this one has ended, and so does this one\n")
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def allow_files(number: int) -> int:
    """Lets this process have so many files open, as far as it may, and says how many that are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in (resource.RLIM_INFINITY, hard) and soft < number:
        wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
        # macOS says that there is no limit, and has one.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return number if soft == resource.RLIM_INFINITY else soft
