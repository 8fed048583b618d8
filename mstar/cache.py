"""Where things are kept that can be had again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root(cache_dir: str | None = None) -> Path:
    """The folder of all caches.

    Args:
        cache_dir: The folder itself; None is ``$MSTAR_CACHE``, else ``mstar`` in the user's cache folder.
    """
    default = os.environ.get("MSTAR_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mstar"
    )
    return Path(cache_dir or default)
