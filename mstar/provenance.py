"""What an artefact depends on: descriptions, fingerprints, and the claim of a folder. The only home of all three.

A folder of artefacts has a JSON file with its facts, that is all that they depend on. Whoever is about to use the
folder compares its own facts with those: what was made from something else is never taken for one's own.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import math
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from mstar.errors import ConfigError
from mstar.storage import read_json, write_json
from mstar.types import ImageReference, Prompt

# Settings of engines, graders and rewards that change how fast and in how much memory they work, not what they make
# (beyond rounding).
INCIDENTAL: Final = frozenset(
    {
        "address",
        "addresses",
        "answer_timeout",
        "batch_size",
        "cache",
        "concurrency",
        "drift_bound",
        "enforce_eager",
        "gpu_memory_utilization",
        "key_variable",
        "kv_cache_gb",
        "max_num_seqs",
        "memory_utilization",
        "offload",
        "patience",
        "progress",
        "shared_folder",
        "shared_folder_on_servers",
        "sleep_level",
        "tensor_parallel_size",
        "traffic",
        "transfer",
        "trust_remote_code",
    }
)
_PLAIN: Final = (bool, int, str, type(None))
# Folders of installed packages, and that of Python's own modules.
_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
_STANDARD: Final = Path(sysconfig.get_path("stdlib")).resolve()
_MSTAR: Final = Path(__file__).resolve().parent
# Facts shown in a sentence; a change of class brings a line for each of its settings.
_SHOWN: Final = 6


def describe(value: object) -> Any:
    """A setting as plain JSON values, which are equal where the settings are.

    A dataclass is described by its fields. Any other object is by its class and what its constructor takes, as the
    object keeps it: under the same name, with an underscore before it, or in a dataclass called ``options``. If it
    keeps an argument under none of them, all its attributes with plain values count. ``INCIDENTAL`` settings of such
    objects are left out. A user's own class is described by its code, too, and a grader by that of mstar's rules, so
    that what they made before they were mended is not taken for what they make now.
    """
    if type(value) in _PLAIN:
        return value
    match value:
        case Enum():
            return value.value
        case float():
            return value if math.isfinite(value) else str(value)
        case Path():
            return str(value)
        case Mapping():
            return {str(key): describe(item) for key, item in value.items()}
        case Set():
            return sorted((describe(item) for item in value), key=_canonical)
        case bytes():
            return hashlib.blake2b(value, digest_size=8).hexdigest()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Sequence):
        return [describe(item) for item in value]
    if isinstance(value, partial):
        # What the command line makes of an optimizer that is still to be given its weights. From Python 3.14 on it
        # passes for a routine, too.
        return {"call": describe([value.func, *value.args]), **{key: describe(v) for key, v in value.keywords.items()}}
    if isinstance(value, type) or inspect.isroutine(value):
        return _name(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return _class(value) | fields
    if type(value).__module__.partition(".")[0] == "torch":
        # Types and devices; nothing else of torch is a setting.
        return str(value)
    return _class(value) | {name: describe(item) for name, item in _settings(value)}


def _class(value: object) -> dict[str, Any]:
    described = {"class": _name(type(value))}
    if (code := hash_code(type(value))) is not None:
        described["class_code"] = code
    if any(part.__module__.startswith("mstar.grading.") for part in type(value).__mro__):
        described["rules_code"] = hash_rules(_MSTAR / "grading", _MSTAR / "thoughts.py")
    return described


@cache
def hash_rules(folder: Path, *more: Path) -> str:
    """A short hash of the code by which graders judge, the same in all versions of Python.

    It is that of the lines of all files in a folder and of more files, without docstrings and lines of comments.
    """
    files = [*sorted(folder.rglob("*.py")), *more]
    return _hash(line for path in files for line in _code_lines(path.read_text(encoding="utf-8")))


def _code_lines(source: str) -> list[str]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() if ast.get_docstring(node, clean=False) is not None:
                for place in range(node.body[0].lineno - 1, node.body[0].end_lineno or 0):
                    lines[place] = ""
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def hash_code(thing: type | Callable[..., object]) -> str | None:
    """A short hash of the user's own modules that a class, with its parents, or a function is in; None without any."""
    modules = sorted({part.__module__ for part in getattr(thing, "__mro__", (thing,))})
    code = [source for module in modules if (source := _own_source(module)) is not None]
    return _hash(code) if code else None


@cache
def _own_source(module: str) -> str | None:
    """The text of a user's own module, as it was when it was first asked for; None of any other.

    Those of Python, of installed packages and of mstar change with their versions alone. What is written in a notebook
    has no file to read, and a module that the user's own one imports is not followed: there it is on the user.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not is_own(path := Path(file).resolve()):
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def is_own(path: Path) -> bool:
    """Whether a file is a module of the user's own: not Python's, not of an installed package, and not mstar's."""
    others = path.is_relative_to(_STANDARD) or path.is_relative_to(_MSTAR) or _PACKAGES.intersection(path.parts)
    return not others and path.suffix == ".py" and path.is_file()


def _settings(component: object) -> Iterator[tuple[str, object]]:
    holders = [holder for holder in (getattr(component, "options", None), component) if holder is not None]
    forgotten = False
    for name in arguments_of(type(component)):
        if name in INCIDENTAL:
            continue
        kept = [(holder, key) for key in (name, f"_{name}") for holder in holders if hasattr(holder, key)]
        if kept:
            yield name, getattr(*kept[0])
        else:
            forgotten = True
    if forgotten:
        yield from ((key, item) for key, item in sorted(vars(component).items()) if isinstance(item, (*_PLAIN, float)))


def arguments_of(cls: type, *, typed: bool = False) -> dict[str, inspect.Parameter]:
    """What a class's constructor takes, its parents' included where it hands the rest on to them.

    Args:
        typed: Whether the types are looked up, which fails with those that are imported for type checking alone.
    """
    found: dict[str, inspect.Parameter] = {}
    for parent in cls.__mro__:
        if "__init__" not in vars(parent) or parent is object:
            continue
        parameters = list(inspect.signature(parent.__init__, eval_str=typed).parameters.values())[1:]  # type: ignore[misc]
        found = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} | found
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _canonical(described: object) -> str:
    return json.dumps(described, sort_keys=True, ensure_ascii=False, allow_nan=False)


def fingerprint(*values: object) -> str:
    """A short hash of some settings, stable over processes and machines."""
    return _hash([_canonical(describe(value)) for value in values])


def fingerprint_each(values: Iterable[object]) -> str:
    """The same of any number of settings, one of which is in memory at a time."""
    return _hash(_canonical(describe(value)) for value in values)


def fingerprint_prompt(prompt: Prompt) -> str:
    """A short hash of a prompt: of all its fields, and of its pictures' names, pixel limits and sizes in bytes.

    No picture is decoded or read, because that takes too long for a whole data set.
    """
    fields = {field.name: getattr(prompt, field.name) for field in dataclasses.fields(prompt)}
    pictures = [_describe_picture(image) for image in prompt.images]
    return _hash([_canonical(describe(fields | {"images": pictures}))])


def fingerprint_prompts(prompts: Iterable[Prompt]) -> str:
    """A short hash of some prompts in their order."""
    return _hash(fingerprint_prompt(prompt) for prompt in prompts)


def identify_file(path: Path) -> str:
    """Place, size and time of a file, which change when its content does."""
    facts = path.stat()
    return f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"


def _describe_picture(image: ImageReference) -> list[object]:
    # Where it is (the folder, the place in a file) is left out: data may be moved.
    return [image.uri, getattr(image, "limits", None), getattr(image, "num_bytes", None)]


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode("utf-8", errors="surrogatepass") + b"\0")
    return digest.hexdigest()


def flatten(value: object, key: str = "", separator: str = ".", unset: bool = False) -> Iterator[tuple[str, Any]]:
    """Nested mappings as (dotted key, value); with or without keys that are not set."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from flatten(part, f"{key}{separator}{name}" if key else str(name), separator, unset)
    elif unset or value is not None:
        # A key that is new in this version, with nothing as its default, is no difference.
        yield key, value


def find_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs between two folders' facts, in one clause; None if nothing does."""
    if before.get("format") != now.get("format"):
        return "an earlier version, which did not write down all that they depend on"
    old, new = dict(flatten(before)), dict(flatten(now))
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    if not names:
        return None
    shown = [f"{name} {old.get(name, 'not set')} (now {new.get(name, 'not set')})" for name in names[:_SHOWN]]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + more


def claim(folder: Path, facts: Mapping[str, Any], *, what: str, pattern: str) -> None:
    """Writes a folder's facts, or makes sure that those that are there are the same.

    Args:
        facts: All that its artefacts depend on, as JSON values.
        what: What the artefacts are called, e.g. "step labels".
        pattern: What their files are called, e.g. ``labels-*.parquet``.

    Raises:
        ConfigError: the artefacts that are there were made from something else, or it is not known from what.
    """
    path = folder / "manifest.json"
    if not path.exists():
        if any(folder.glob(pattern)):
            raise ConfigError(f"'{folder}' holds {what} but no {path.name}: choose another output folder.")
        write_json(path, facts)
        return
    change = find_change(read_json(path), facts)
    if change is not None:
        raise ConfigError(
            f"the {what} in '{folder}' were made with {change}: choose another output folder, delete that one, or go "
            "back to its settings and code."
        )
