"""A tiny training loop in the real run folder, and faults at its file operations. A script: jobs as JSON lines in, results out.

    {"folder": ..., "fault": "kill", "at": 17, "steps": 3}   ->   {"exit": -9, "operations": ["mkdir", "create", ...], "error": null}

Every job runs in a forked process of its own. Operation number `at` under `folder` is met by the fault:

    none         nothing; lists the operations
    kill         SIGKILL before it
    torn         a write stops half-way, then SIGKILL
    power        SIGKILL, and every byte and every name that was not synced is gone
    power_data   SIGKILL, and every byte that was not synced is gone, while names are kept
    enospc       the disk is full from here on
    enospc_once  the disk is full this once
    eio          an input/output error this once

fsync is not really done, only remembered: the faults are simulated, and the loop is fast.
"""

from __future__ import annotations

import builtins
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

GROWING = ("create", "write", "mkdir", "rename")
real_open = builtins.open
real = {
    name: getattr(os, name) for name in ("open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir", "ftruncate")
}


class Disk:
    """Counts operations below a folder, meets one of them with the fault, and knows what a power cut would take."""

    def __init__(self, folder: Path, fault: str, at: int) -> None:
        self.folder, self.fault, self.at, self.count = str(folder), fault, at, 0
        self.kinds: list[str] = []
        self.stash = tempfile.mkdtemp(dir=folder.parent, prefix="stash-")
        self.unsynced: dict[tuple[int, int], tuple[str, int]] = {}
        self.names: list[tuple[str, str, str]] = []

    def mine(self, path: str) -> bool:
        return path == self.folder or path.startswith(self.folder + "/")

    def meet(self, kind: str, path: str) -> bool:
        """Before an operation. True when a write is to stop half-way."""
        if not self.mine(path):
            return False
        self.count += 1
        self.kinds.append(kind)
        if self.count == self.at:
            if self.fault == "torn" and kind == "write":
                return True
            if self.fault in ("kill", "torn", "power", "power_data"):
                self.die()
            if self.fault == "eio":
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        full = {"enospc": self.count >= self.at, "enospc_once": self.count == self.at}
        if kind in GROWING and full.get(self.fault):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return False

    def die(self) -> None:
        try:
            if self.fault in ("power", "power_data"):
                self.lose_bytes()
            if self.fault == "power":
                self.lose_names()
        except OSError as fault:  # must not be taken for a fault of the disk
            raise AssertionError(traceback.format_exc()) from fault
        os.kill(os.getpid(), signal.SIGKILL)

    def lose_bytes(self) -> None:
        for root, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(root, name)
                found = os.stat(path)
                if (found.st_dev, found.st_ino) in self.unsynced:
                    os.truncate(path, self.unsynced[found.st_dev, found.st_ino][1])

    def lose_names(self) -> None:
        for kind, path, other in reversed(self.names):
            if kind == "made":
                shutil.rmtree(path) if os.path.isdir(path) else real["unlink"](path)
            elif os.path.isdir(os.path.dirname(path)):  # else its folder has gone for good
                real["rename"](other, path)

    def keep(self, path: str) -> str:
        """Move what is about to go out of sight, so that a power cut can bring it back."""
        place = os.path.join(self.stash, str(len(os.listdir(self.stash))))
        real["rename"](path, place)
        return place


def where(path: object, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    if dir_fd is not None:
        return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fspath(path))
    return os.path.abspath(os.fspath(path))


def install(disk: Disk) -> None:
    def create(path: str) -> None:
        if not os.path.exists(path):
            disk.meet("create", path)
            if disk.mine(path):
                disk.names.append(("made", path, ""))

    def written(handle: int) -> None:
        found = os.fstat(handle)
        disk.unsynced.setdefault((found.st_dev, found.st_ino), ("", found.st_size))

    def os_open(path, flags, mode=0o777, *, dir_fd=None):
        if flags & os.O_CREAT:
            create(where(path, dir_fd))
        return real["open"](path, flags, mode, dir_fd=dir_fd)

    def os_write(handle, content):
        torn = disk.meet("write", where(handle))
        written(handle)
        done = real["write"](handle, content[: len(content) // 2] if torn else content)
        if torn:
            disk.die()
        return done

    def os_ftruncate(handle, size):
        disk.meet("truncate", where(handle))
        real["ftruncate"](handle, size)

    def os_fsync(handle):
        path = where(handle)
        disk.meet("fsync", path)
        found = os.fstat(handle)
        disk.unsynced.pop((found.st_dev, found.st_ino), None)
        if os.path.isdir(path):
            disk.names = [entry for entry in disk.names if os.path.dirname(entry[1]) != path]

    def os_rename(old, new, *, src_dir_fd=None, dst_dir_fd=None):
        old, new = where(old, src_dir_fd), where(new, dst_dir_fd)
        disk.meet("rename", old)
        if disk.mine(old):
            if os.path.isfile(new):
                disk.names.append(("gone", new, disk.keep(new)))
            disk.names.append(("moved", old, new))
        real["rename"](old, new)

    def os_mkdir(path, mode=0o777, *, dir_fd=None):
        path = where(path, dir_fd)
        if not os.path.exists(path):
            disk.meet("mkdir", path)
            if disk.mine(path):
                disk.names.append(("made", path, ""))
        real["mkdir"](path, mode)

    def leave(path, dir_fd, check):
        path = where(path, dir_fd)
        disk.meet("remove", path)
        check(path)
        if disk.mine(path):
            disk.names.append(("gone", path, disk.keep(path)))
            return True
        return False

    def os_unlink(path, *, dir_fd=None):
        if not leave(path, dir_fd, os.lstat):
            real["unlink"](path, dir_fd=dir_fd)

    def os_rmdir(path, *, dir_fd=None):
        def empty(path: str) -> None:
            if os.listdir(path):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)

        if not leave(path, dir_fd, empty):
            real["rmdir"](path, dir_fd=dir_fd)

    class Raw(io.FileIO):
        def write(self, content):
            torn = disk.meet("write", where(self.fileno()))
            written(self.fileno())
            done = super().write(bytes(content)[: len(content) // 2] if torn else content)
            if torn:
                disk.die()
            return done

    def faulty_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if not set(mode) & set("wax+") or isinstance(file, int):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        create(where(file))
        buffered = io.BufferedWriter(Raw(file, mode.replace("b", "").replace("t", "")))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)

    os.open, os.write, os.fsync, os.ftruncate = os_open, os_write, os_fsync, os_ftruncate
    os.rename = os.replace = os_rename
    os.mkdir, os.unlink, os.remove, os.rmdir = os_mkdir, os_unlink, os_unlink, os_rmdir
    builtins.open = io.open = faulty_open


def weights(step: int) -> bytes:
    """What the loop holds after `step`: each depends on all before."""
    state = b""
    for number in range(1, step + 1):
        state = hashlib.sha256(state + str(number).encode()).digest()
    return state * 100


def adapter(step: int):
    def save(path: Path) -> None:
        path.mkdir()
        (path / "adapter.bin").write_bytes(weights(step))
        (path / "config.json").write_text(json.dumps({"step": step}))

    return save


def train(folder: Path, steps: int) -> None:
    """One session: resume from the newest checkpoint, save every step, mark every second one best, finish."""
    from sartor.events import Started, Stepped, Validated
    from sartor.store.checkpoint import Checkpoints
    from sartor.store.run import Run

    with Run.into(folder, "loop", "ab" * 32) as run:
        if run.state == "finished":
            return
        run.mark("running")
        checkpoints = Checkpoints(folder / "checkpoints", run.log, owner=run.digest)
        newest = checkpoints.newest()
        done = 0
        if newest is not None:  # its own state says whether it is the best: a kill may have come before the mark
            done = json.loads((newest / "adapter" / "config.json").read_bytes())["step"]
            assert (newest / "adapter" / "adapter.bin").read_bytes() == weights(done)
            if done % 2 == 0:
                checkpoints.mark_best(done)
        run.log(Started(done, steps, 1.0, 1, 1))
        for step in range(done + 1, steps + 1):
            run.log(Stepped(step, steps, 0.0, 1.0, 0.1, 1.0, 1, 1, 0.1, 0))
            run.log(Validated(step, 0.0, {"loss": 1.0}, 1.0))
            checkpoints.save(step, {"adapter": adapter(step), "state.bin": lambda path: path.write_bytes(b"s")}, keep=1)
            if step % 2 == 0:
                checkpoints.mark_best(step)
        run.write_json("verdict.json", {"pass": True})
        run.mark("finished")


def main() -> None:
    import sartor.store.checkpoint
    import sartor.store.run  # noqa: F401  imported once, before the forks
    from sartor.errors import SartorError

    for line in sys.stdin:
        job = json.loads(line)
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            disk = Disk(Path(job["folder"]), job["fault"], job["at"])
            answer = {"error": None}
            install(disk)
            try:
                train(Path(job["folder"]), job["steps"])
            except SartorError as fault:
                answer["error"] = fault.problems[0].code
            except Exception:  # noqa: BLE001  whatever it is, the test must see it
                answer["error"] = traceback.format_exc()
            real["write"](writable, json.dumps({**answer, "operations": disk.kinds}).encode())
            os._exit(0)
        os.close(writable)
        with real_open(readable, "rb") as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"exit": status, **json.loads(said or b"{}")}), flush=True)


if __name__ == "__main__":
    main()
