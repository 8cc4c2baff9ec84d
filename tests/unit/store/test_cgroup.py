"""Limits of containers, from folders that look like the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sartor.store.cgroup import Limits, limits


def kernel(root: Path, membership: str, files: Mapping[str, str]) -> Limits:
    """What is found where /proc/self/cgroup and the files of /sys/fs/cgroup read so."""
    (root / "self").write_text(membership)
    for name, text in files.items():
        path = root / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return limits(root / "mount", root / "self")


def test_nothing_limits_where_nothing_is_mounted(tmp_path: Path) -> None:
    assert limits(tmp_path / "none", tmp_path / "nowhere") == Limits()


def test_version_2_inside_a_container(tmp_path: Path) -> None:
    """The hierarchy is mounted at the container's own group. File pages that can be dropped are free."""
    files = {
        "memory.max": "8000000000\n",
        "memory.current": "3000000000\n",
        "memory.stat": "anon 500000000\nfile 2500000000\ninactive_file 2000000000\n",
        "cpu.max": "150000 100000\n",
    }
    assert kernel(tmp_path, "0::/\n", files) == Limits(8_000_000_000, 7_000_000_000, 1.5)


def test_version_2_takes_the_tightest_group_on_the_way_up(tmp_path: Path) -> None:
    """A job of systemd or of a scheduler stands some levels down; a group above it may allow less."""
    files = {
        "user.slice/memory.max": "4000",
        "user.slice/memory.current": "3000",
        "user.slice/cpu.max": "max 100000",
        "user.slice/job/memory.max": "6000",
        "user.slice/job/memory.current": "1000",
        "user.slice/job/cpu.max": "300000 100000",
        "memory.max": "max",
    }
    assert kernel(tmp_path, "0::/user.slice/job\n", files) == Limits(4000, 1000, 3.0)


@pytest.mark.parametrize(
    ("limit", "expected"), [("2000", Limits(2000, 800, 0.5)), (str(2**63 - 4096), Limits(cores=0.5))]
)
def test_version_1(tmp_path: Path, limit: str, expected: Limits) -> None:
    files = {
        "memory/box/memory.limit_in_bytes": limit,
        "memory/box/memory.usage_in_bytes": "1500",
        "memory/box/memory.stat": "total_inactive_file 300\n",
        "cpu/cpu.cfs_quota_us": "50000",
        "cpu/cpu.cfs_period_us": "100000",
    }
    assert kernel(tmp_path, "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n", files) == expected


def test_version_1_without_a_quota(tmp_path: Path) -> None:
    assert kernel(tmp_path, "1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1"}) == Limits()


def test_this_machine_gives_an_answer() -> None:
    found = limits()
    assert found.cores is None or found.cores > 0
    assert found.free is None or found.memory is None or 0 <= found.free <= found.memory
