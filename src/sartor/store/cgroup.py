"""What the control groups of this process allow: a container's limits of memory and processor time, versions 1 and 2.

A process belongs to one group of every hierarchy, named in /proc/self/cgroup; each group above it limits it as well. Inside
a container the hierarchy is often mounted at its own group, so a path that is not there stands for the mount's root.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 1 << 62
"""Version 1 writes a number near 2^63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of this process; None where nothing limits it."""

    memory: int | None = None
    """Bytes in all."""
    free: int | None = None
    """Bytes that may still be taken: the limit less what is in use, file pages that can be dropped not counted."""
    cores: float | None = None
    """Processors' worth of time."""


def limits(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Limits:
    """The tightest limits on the way from this process's groups to the roots."""
    memory: list[int] = []
    free: list[int] = []
    cores: list[float] = []
    for folder in _groups(mount, membership, ""):
        limit = _number(folder / "memory.max")
        memory += [] if limit is None else [limit]
        free += _free(folder, limit, "memory.current", "inactive_file")
        quota, _, period = (_read(folder / "cpu.max") or "max").partition(" ")
        cores += [int(quota) / int(period or 100_000)] if quota.isdigit() else []
    for folder in _groups(mount, membership, "memory"):
        limit = _number(folder / "memory.limit_in_bytes")
        memory += [] if limit is None else [limit]
        free += _free(folder, limit, "memory.usage_in_bytes", "total_inactive_file")
    for folder in _groups(mount, membership, "cpu"):
        share, period = _read(folder / "cpu.cfs_quota_us") or "-1", _read(folder / "cpu.cfs_period_us") or "100000"
        cores += [int(share) / int(period)] if share.isdigit() else []
    return Limits(min(memory, default=None), min(free, default=None), min(cores, default=None))


def _groups(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of all above it; controller "" is version 2."""
    for line in (_read(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") or (controller == "" and controllers):
            continue
        roots = [mount / controller] if controller else [mount, mount / "unified"]
        for root in roots:
            group = root / path.lstrip("/")
            while group != root:
                yield group
                group = group.parent
            yield root


def _free(folder: Path, limit: int | None, usage: str, droppable: str) -> list[int]:
    used = _number(folder / usage)
    if limit is None or used is None:
        return []
    stat = dict(line.split(" ", 1) for line in (_read(folder / "memory.stat") or "").splitlines() if " " in line)
    return [max(0, limit - max(0, used - int(stat.get(droppable, 0))))]


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text and text.isdigit() and int(text) < UNLIMITED else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
