"""How much memory there is for a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.memory.process import machine_bytes


@pytest.mark.parametrize(
    ("groups", "file", "limit"),
    [
        ("0::/job/step\n", "job/step/memory.max", "4096\n"),
        ("0::/job/step\n", "job/memory.max", "4096\n"),
        ("0::/\n", "memory.max", "4096\n"),
        ("5:cpu,cpuacct:/job\n4:memory:/job/step\n0::/\n", "memory/job/step/memory.limit_in_bytes", "4096\n"),
        # In a container without names of its own.
        ("4:memory:/docker/0123\n", "memory/memory.limit_in_bytes", "4096\n"),
        ("0::/job\n", "job/memory.max", "max\n"),
        ("0::/job\n", "other/memory.max", "4096\n"),
    ],
)
def test_the_limit_is_that_of_the_control_group_or_of_one_above_it(
    groups: str, file: str, limit: str, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    path = tmp_path / "sys/fs/cgroup" / file
    path.parent.mkdir(parents=True)
    path.write_text(limit)
    machine = machine_bytes(tmp_path / "nowhere")
    assert machine > 1 << 20
    assert machine_bytes(tmp_path) == (machine if limit == "max\n" or file.startswith("other") else 4096)
