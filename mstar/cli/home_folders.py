"""``~/`` in front of a path means the user's folder, in files and behind ``=``, where no shell expands it."""

from __future__ import annotations

import os
from typing import Any

from jsonargparse import Namespace


def expand_homes(value: Any, name: str = "") -> Any:
    """A parsed configuration with the user's folder in place of every leading ``~/``.

    In ``trainer.default_root_dir`` variables are expanded, too: Lightning's logger does that, and its trainer does not.
    """
    match value:
        case str():
            if name == "default_root_dir":
                value = os.path.expandvars(value)
            return os.path.expanduser(value) if value.startswith("~/") else value
        case list():
            return [expand_homes(part) for part in value]
        case dict():
            return {name: expand_homes(part) for name, part in value.items()}
        case Namespace():
            vars(value).update({name: expand_homes(part, name) for name, part in vars(value).items()})
    return value
