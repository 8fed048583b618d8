"""What may differ between the configuration that a run began with and the one that it goes on with."""

from __future__ import annotations

import io
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import redirect_stderr, suppress
from itertools import accumulate
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final

import yaml

from mstar.distributed import is_main
from mstar.errors import ConfigError
from mstar.memory.configuration import count_devices
from mstar.prompts.sources import STAGE_PARTS, unused_parts
from mstar.provenance import INCIDENTAL, flatten, hash_code
from mstar.storage import read_json

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_log = logging.getLogger(__name__)

# In the run's folder: the configuration that it began with, and the code of the user's own classes in it.
CONFIG: Final = "config.yaml"
CODE: Final = "code.json"

# Of the trainer, only what changes the updates themselves must stay.
_FIXED_OF_TRAINER: Final = re.compile(
    r"trainer\.(accumulate_grad_batches|gradient_clip_\w+|precision|limit_train_batches|fast_dev_run|"
    r"use_distributed_sampler|reload_dataloaders_every_n_epochs)\b"
)
# Rows of an optimizer step, by which processes share them: with another number of these, they may change.
_BATCH: Final = ("data.init_args.batch_size", "trainer.accumulate_grad_batches")
# What a key stands for that is not set.
_DEFAULTS: Final = {"trainer.precision": "32-true"}
# Of everything else, what changes neither the data nor the updates may change; and what is short for a part of the
# engine.
_FREE: Final = re.compile(
    r"trainer\.|ckpt_path$|weights_only$|.*\.(num_workers|progress|gradient_checkpointing)$"
    r"|data\.init_args\.(eval_batch_size|test|sources\.test)\b"
    r"|benchmark\b|model\.init_args\.(loss_kernel|max_new_tokens)$"
    r"|rollout\.init_args\.(dynamics|reward_batch_size|reward_offload|keep_iterations|reuse)$"
    r"|rollout\.init_args\.shard_size$"
    rf"|(rollout|model)\.init_args\.(engine|reward|grader)\.init_args\.({'|'.join(sorted(INCIDENTAL))})(\.|$)"
)
# By the shard, some draw more for hard prompts; and those drawn ahead are of the size that they were begun with.
_BY_SHARD: Final = re.compile(r"rollout\.init_args\.(overlap_shards|balance\.(init_args\.)?extra_samples)$")


def check_same_run(root: Path, parser: ArgumentParser, config: Namespace) -> None:
    """Makes sure that a run goes on as it began.

    Args:
        root: The run's folder; it holds the configuration that it began with, unless it was made without one.
        parser: The present configuration's.
        config: The present configuration.

    Raises:
        ConfigError: they differ in something that the outcome depends on, or the code of one's own class does.
    """
    path = root / CONFIG
    if not path.exists():
        return
    saved, text = path.read_text(encoding="utf-8"), parser.dump(config, skip_unset=False)
    before, now = _without_unused(_read(saved)), _without_unused(_read(text))
    changes = find_changes(before, _without_new(before, now, parser))
    old, new = read_json(root / CODE) if (root / CODE).exists() else {}, find_own_code(text)
    edited = [f"the code of {name} was edited." for name in sorted(old.keys() & new) if old[name] != new[name]]
    if changes := changes + edited:
        way_out = f" Where the edit changes no outcome, delete '{root / CODE}' to go on with it." if edited else ""
        if any(os.path.exists(place) for place in re.findall(r" is now '([^']+)'\.", " ".join(changes))):
            way_out += " Where only the place of a file or folder changed, leave a link to it at the old one."
        if _has_lost(before, now):
            version = re.match(r"# (mstar .+)", saved)
            way_out += (
                " What this version does not have cannot be set back: go on with the one that the run was made with"
                f"{f' ({version[1]})' if version else ''}, or export its checkpoint (mstar export) and start a new run "
                "from that (model.model_name)."
            )
        raise ConfigError(
            f"the run in '{root}' cannot go on with another configuration: {' '.join(changes)} Set this back to go on, "
            f"or choose another trainer.default_root_dir (or remove that folder) to start a new run.{way_out}"
        )


def _without_new(before: Mapping[str, Any], now: Mapping[str, Any], parser: ArgumentParser) -> Mapping[str, Any]:
    """The present configuration without options that the run's version did not have, where they have their defaults."""
    there = {key for key, value in flatten(before, unset=True) if value != {}}
    # A part that was switched off is there, too.
    values = {key: value for key, value in flatten(now) if not _is_in(key, there)}
    if not values:
        return now
    defaults: dict[str, Any] = {}
    # The parser exits where there is no default.
    with suppress(SystemExit), redirect_stderr(io.StringIO()):
        filled = parser.parse_object(_without(now, values.keys()))
        defaults = dict(flatten(_read(parser.dump(filled, skip_unset=False))))
    new = {key for key, value in values.items() if key in defaults and defaults[key] == value}
    fixed = [key.replace(".init_args", "") for key in sorted(new) if not _may_change(key, {})]
    if fixed and is_main():
        _log.info("the run began without these options, which have their defaults: %s", ", ".join(fixed))
    return _without(now, new)


def _without(config: Mapping[str, Any], keys: Set[str], key: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{key}.{name}".lstrip(".")
        part = _without(value, keys, path) if isinstance(value, Mapping) else value
        if path not in keys and not (part == {} and value):
            kept[name] = part
    return kept


def _has_lost(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a run began with options or classes that there are no more."""
    there = {key for key, _ in flatten(now, unset=True)}
    gone = any(not (_is_in(key, there) or _may_change(key, {})) for key, _ in flatten(before))
    return gone or not all(_can_be_found(path) for _, path in _classes(before))


def _is_in(key: str, there: Set[str]) -> bool:
    """Whether a key, or a part that it is in, is among some."""
    return not there.isdisjoint(accumulate(key.split("."), "{}.{}".format))


def _can_be_found(path: str) -> bool:
    try:
        resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return False
    return True


def find_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One sentence for every key that must be the same and is not, and for another number of rows a step."""
    old, new = dict(flatten(_without_unused(before))), dict(flatten(_without_unused(now)))
    moved, rows, rows_now = _processes(old) != _processes(new), _step_rows(old), _step_rows(new)
    free = _BATCH if moved and rows and rows_now else ()  # the rows that they make are looked at below
    changes = [
        f"{key.replace('.init_args', '')} was {_show(old, key)} and is now {_show(new, key)}."
        for key in sorted(old.keys() | new.keys())
        if old.get(key, _DEFAULTS.get(key)) != new.get(key, _DEFAULTS.get(key))
        and not _may_change(key, old)
        and key not in free
    ]
    if moved and rows and rows_now and rows != rows_now:
        said = f"an optimizer step had {rows} rows, and on {_processes(new)} devices it has {rows_now}"
        kept, rest = divmod(rows * new.get(_BATCH[1], 1), rows_now)
        if rest == 0:
            changes.append(f"{said}: trainer.accumulate_grad_batches {kept} keeps it.")
        elif is_main():
            _log.warning("%s; no trainer.accumulate_grad_batches keeps it.", said)
    return changes


def find_own_code(config: str) -> dict[str, str]:
    """The user's own classes in a configuration that the outcome depends on, each with the hash of its code."""
    named = {path for key, path in _classes(_without_unused(_read(config))) if not _may_change(key, {})}
    return {path: code for path in sorted(named) if (code := hash_code(resolve_name(path))) is not None}


def _classes(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """All class paths, with their keys; those in a list have the list's."""
    match value:
        case Mapping():
            for name, part in value.items():
                path = f"{key}.{name}".lstrip(".")
                if name == "class_path" and isinstance(part, str):
                    yield path, part
                yield from _classes(part, path)
        case list():
            for part in value:
                yield from _classes(part, key)


def _without_unused(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration without the parts of its sources that its data does not take."""
    data = config.get("data") or {}
    options = data.get("init_args") or {}
    stage = "mprm" if "labels" in options else str(options.get("stage"))
    sources = options.get("sources")
    if not isinstance(sources, Mapping) or stage not in STAGE_PARTS:
        return config
    unused = unused_parts(stage, sources)
    kept = {name: value for name, value in sources.items() if name not in unused}
    return {**config, "data": {**data, "init_args": {**options, "sources": kept}}}


def _processes(values: Mapping[str, Any]) -> int | None:
    devices = count_devices(values.get("trainer.devices", "auto"))
    return None if devices is None else devices * int(values.get("trainer.num_nodes", 1))


def _step_rows(values: Mapping[str, Any]) -> int | None:
    """Rows of an optimizer step, where the configuration says how many."""
    parts = (_processes(values), values.get(_BATCH[0]), values.get(_BATCH[1], 1))
    return None if None in parts else math.prod(parts)


def _may_change(key: str, old: Mapping[str, Any]) -> bool:
    if key == "trainer.max_epochs":
        # The unlabelled prompts are mixed in after a fraction of them, and a threshold moves over all of them.
        final = old.get("rollout.init_args.final_threshold")
        return not old.get("rollout.init_args.unlabelled_start") and final is None
    if key == "rollout.init_args.shard_size":
        return not any(value and _BY_SHARD.match(name) for name, value in old.items())
    return not _FIXED_OF_TRAINER.match(key) and _FREE.match(key) is not None


def _read(text: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(text) or {}
    return read


def _show(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"
