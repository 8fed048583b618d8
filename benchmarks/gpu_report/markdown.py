"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from benchmarks.gpu_report.catalogue import PARTS
from benchmarks.gpu_report.record import PartResult, Row, Value

__all__ = ["as_markdown"]

_MFU: Final = (
    "MFU = operations a second / the card's highest rate in dense bfloat16. Operations of a step, from the model's "
    "shape: for every weight of the language model and real token, of the head and response token, of the vision tower "
    "and patch, 2 forward, 2 for the gradient that flows on and 2 for that of the weight, where there is one; and for "
    "the language model's attention 6 x layers x width x length² a row. Neither what gradient checkpointing computes "
    "again nor padding counts."
)
_NOTES: Final = {"sft": _MFU, "lora": "MFU: as above; the gradients of frozen weights are not counted."}


def as_markdown(environment: Mapping[str, str], parts: Mapping[str, PartResult], rehearsal: bool) -> str:
    """The whole report.

    Args:
        environment: What ``machine.describe`` says.
        parts: The parts that have run, by name.
        rehearsal: Whether the sizes were tiny, so that no figure means anything.
    """
    lines = [f"# mstar on {environment['card']}, {environment['date']}", ""]
    if rehearsal:
        lines += ["**A rehearsal with tiny models: it shows that the command works. Its figures mean nothing.**", ""]
    lines += [f"- {name}: {_code(name, value)}" for name, value in environment.items() if name not in ("card", "date")]
    lines += [
        "",
        "GB are 10^9 bytes. *peak* is the largest memory of all tensors on the device while a row was measured, the "
        "model included; `mstar memory` is what that command says of the same configuration, without the CUDA context. "
        "A dash stands where there is no such figure. Models have random weights.",
        "",
        "| part | | seconds | at most | commit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for part in PARTS:
        if result := parts.get(part.name):
            state = "as it should be" if result.problem is None else f"**failed**: {_cell(result.problem)}"
            lines.append(f"| {part.title} | {state} | {result.seconds:.0f} | {part.seconds} | {result.commit} |")
    missing = [part.name for part in PARTS if part.name not in parts]
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    for part in PARTS:
        if result := parts.get(part.name):
            lines += ["", f"## {part.title}", "", part.about, ""]
            lines += _tables(result.rows)
            if part.name in _NOTES:
                lines += ["", _NOTES[part.name]]
    return "\n".join(lines) + "\n"


def _tables(rows: Sequence[Row]) -> list[str]:
    """One table for neighbours with the same figures; then what failed or was left out."""
    lines: list[str] = []
    measured = [row for row in rows if row.figures]
    for names, group in groupby(measured, key=lambda row: tuple(row.figures)):
        lines += [f"| what | {' | '.join(map(_cell, names))} |", f"|{' --- |' * (len(names) + 1)}"]
        for row in group:
            cells = [_cell(row.what), *(_figure(value) for value in row.figures.values())]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    for row in rows:
        if row.problem is not None:
            lines.append(f"- **{row.what}: {row.problem}**")
        elif row.left_out is not None:
            lines.append(f"- {row.what}: not measured; {row.left_out}")
    return lines[:-1] if lines and not lines[-1] else lines


def _figure(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return _cell(str(value)) if isinstance(value, str) else f"{value:,}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _code(name: str, value: str) -> str:
    return f"`{value}`" if name in ("command", "commit") else value
