"""The import direction: who may import whom, read from the source of every module."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import mstar

ROOT = Path(mstar.__file__).parent

# From the bottom up: a component imports from its own layer and from those before it.
LAYERS = (
    {
        "types",
        "errors",
        "interruption",
        "atomic",
        "file_faults",
        "end_tokens",
        "thoughts",
        "logs",
        "packaged",
        "process_start",
    },
    {"storage", "distributed", "locking", "provenance"},
    {"models", "endpoint", "rendering", "chat_template", "prompts", "grading", "judges", "steps", "metrics"},
    {"generation", "rewards", "selection", "temperature"},
    {"iteration", "annotation", "evaluation", "memory"},
    {"datamodules", "dashboards"},
    {"modules", "peers", "export"},
    {"trainer"},
    {"callbacks"},
    {"cli"},
    {"__main__", "demo"},
    {"small"},
)
LAYER = {component: layer for layer, components in enumerate(LAYERS) for component in components}

LIGHTNING = {"lightning", "lightning_fabric", "pytorch_lightning"}
LIGHTNING_ALLOWED = ("datamodules/", "modules/", "trainer/", "callbacks/", "cli/lightning_cli.py")

HEAVY = {"torch", "transformers"} | LIGHTNING
PURE = {
    "types",
    "errors",
    "storage",
    "provenance",
    "metrics",
    "steps",
    "thoughts",
    "endpoint",
    "grading",
    "judges",
    "prompts",
    "selection",
    "temperature",
}

# Each in these files alone, and there inside functions, so that it is loaded only where it is used.
CONFINED = {
    "vllm": ("generation/vllm_session.py", "generation/weight_sender.py"),
    "bitsandbytes": ("models/quantization.py",),
    "flash_attn": ("models/attention.py",),
    "liger_kernel": ("models/token_loss.py",),
    "peft": ("models/lora.py",),
    "trackio": ("trainer/trackio_logger.py",),
}

# Packages that a declared one depends on, of whose versions nothing here needs one.
BROUGHT = {"yaml": "jsonargparse", "markupsafe": "jinja2"}


@dataclass(frozen=True)
class Import:
    """One imported module; deferred if it is imported inside a function or for type checking only."""

    target: str
    line: int
    deferred: bool


def find_imports(source: str, path: str) -> Iterator[Import]:
    """Every import of the file ``path`` (relative to the package), absolute, at any depth."""

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(alias.name, node.lineno, deferred) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parents = ["mstar", *Path(path).parent.parts] if level else []
                base = ".".join(filter(None, [*parents[: len(parents) - level + 1], module]))
                targets = {f"{base}.{alias.name}" for alias in names} if base == "mstar" else {base}
                yield from (Import(target, node.lineno, deferred) for target in sorted(targets))
            case ast.Call(func=function, args=[ast.Constant(value=str(target)), *_]):
                if ast.unparse(function) in {"importlib.import_module", "import_module", "__import__"}:
                    yield Import(target, node.lineno, deferred)
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for child in node.body:
                    yield from visit(child, deferred=True)
                for child in node.orelse:
                    yield from visit(child, deferred)
                return
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(source), deferred=False)


def violations(source: str, path: str) -> list[str]:
    """What is wrong with the imports of one file, one sentence each."""
    component = Path(path).parts[0].removesuffix(".py")
    if component == "__init__":
        component = "types"  # the package itself is as low and as light as its types
    if component not in LAYER:
        return [f"{path}: '{component}' has no place in LAYERS of tests/test_imports.py"]
    found = []
    for item in find_imports(source, path):
        where = f"{path}:{item.line}"
        top, _, rest = item.target.partition(".")
        target = rest.partition(".")[0]
        if top == "mstar" and target and target != "__version__":
            if target not in LAYER:
                found.append(f"{where}: mstar.{target} has no place in LAYERS of tests/test_imports.py")
            elif LAYER[target] > LAYER[component]:
                found.append(f"{where}: {component} imports {target}, which lies above it")
        if top in LIGHTNING and not path.startswith(LIGHTNING_ALLOWED):
            found.append(f"{where}: {component} imports {top}; only {', '.join(LIGHTNING_ALLOWED)} may")
        elif top in HEAVY and component in PURE:
            found.append(f"{where}: {component} imports {top}, and must do without")
        if top in CONFINED and path not in CONFINED[top]:
            found.append(f"{where}: only {' and '.join(CONFINED[top])} may import {top}")
        elif top in CONFINED and not item.deferred:
            found.append(f"{where}: {top} must be imported inside a function")
    return found


FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def find_circles(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports through every module that is in one."""
    circles = []
    for start in sorted(graph):
        came_from, waiting = {start: ""}, [start]
        while waiting:
            module = waiting.pop(0)
            for target in sorted(graph[module] & graph.keys()):
                if target == start:
                    path = [start]
                    while module != start:
                        path.insert(1, module)
                        module = came_from[module]
                    circles.append(" -> ".join([*path, start]))
                    waiting = []
                    break
                if target not in came_from:
                    came_from[target] = module
                    waiting.append(target)
    return circles


def import_graph() -> dict[str, set[str]]:
    """Who imports whom, file by file, in functions and for types too."""
    names = {path: ".".join(["mstar", *Path(path).with_suffix("").parts]).removesuffix(".__init__") for path in FILES}
    graph = {}
    for path, name in names.items():
        targets = {item.target for item in find_imports((ROOT / path).read_text(encoding="utf-8"), path)}
        # What is imported from a module is no module.
        graph[name] = {t if t in names.values() else t.rpartition(".")[0] for t in targets} - {name}
    return graph


def test_no_import_goes_in_a_circle() -> None:
    """Not even for types or in a function: two files that need each other are one."""
    assert find_circles(import_graph()) == []


def test_a_circle_is_found() -> None:
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b -> c -> b", "c -> b -> c"]
    assert find_circles({"a": {"b", "d"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", FILES)
def test_file_keeps_the_import_direction(path: str) -> None:
    assert violations((ROOT / path).read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("types.py", "import mstar.cli", "lies above"),
        ("types.py", "from mstar.storage import write", "lies above"),
        ("types.py", "from mstar import errors, cli", "lies above"),
        ("storage/tables.py", "from .. import iteration", "lies above"),
        ("prompts/base.py", "from ..generation.base import Engine", "lies above"),
        ("generation/base.py", "if TYPE_CHECKING:\n    from mstar.iteration.iteration import run", "lies above"),
        ("__init__.py", "from mstar.models import tiny", "lies above"),
        ("helpers.py", "", "no place in LAYERS"),
        ("cli/commands.py", "from mstar.helpers import f", "no place in LAYERS"),
        ("cli/parsing.py", "def f():\n    import lightning", "imports lightning"),
        ("models/tiny.py", "import lightning", "imports lightning"),
        ("iteration/iteration.py", "def f():\n    from pytorch_lightning import Trainer", "imports pytorch_lightning"),
        ("metrics.py", "import torch.nn as nn", "must do without"),
        ("grading/texts.py", "class A:\n    def f(self):\n        import transformers", "must do without"),
        ("selection/rules.py", "import importlib\nimportlib.import_module('torch')", "must do without"),
        ("rewards/mprm.py", "def f():\n    import vllm", "only generation/vllm_session.py"),
        ("models/tiny.py", "def f():\n    from peft import LoraConfig", "only models/lora.py"),
        ("generation/vllm_session.py", "try:\n    import vllm\nexcept ImportError:\n    pass", "inside a function"),
        ("models/quantization.py", "from bitsandbytes import nn", "inside a function"),
        ("models/attention.py", "import flash_attn", "inside a function"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str, complaint: str) -> None:
    found = violations(source, path)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/lightning_cli.py", "from mstar import __version__\nfrom lightning.pytorch.cli import LightningCLI"),
        ("__main__.py", "def main():\n    from mstar.cli.commands import run"),
        ("generation/base.py", "from .greedy import f\nfrom mstar.rewards import outcome\nimport torch"),
        ("generation/vllm_session.py", "def f():\n    from vllm import LLM"),
        ("models/lora.py", "if TYPE_CHECKING:\n    import peft\nasync def f():\n    import peft.utils"),
    ],
)
def test_a_right_import_passes(path: str, source: str) -> None:
    assert violations(source, path) == []


def test_what_is_imported_is_declared() -> None:
    """Else its version is whatever another package's range leaves."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", line)[0].replace("_", "-") for line in project["dependencies"]}
    known = packages_distributions()
    missing = {
        f"{path}: {top}"
        for path in FILES
        for item in find_imports((ROOT / path).read_text(encoding="utf-8"), path)
        if (top := item.target.partition(".")[0]) not in {"mstar", *sys.stdlib_module_names, *BROUGHT}
        and not item.deferred
        and not {name.lower().replace("_", "-") for name in known[top]} & declared
    }
    assert missing == set()
