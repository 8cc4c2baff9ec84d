"""Files and folders that are either whole or not there, whatever happens in between.

A file is written beside its place, synced, and renamed over it. A folder is written as ``.tmp-<name>``, every file in it
synced and hashed into ``COMPLETE`` (written last), then renamed. A folder is removed by renaming it to ``.del-<name>``
first, and replaced by way of ``.old-<name>``. So after a kill or a power cut every plain name is whole, and `tidy` clears
what starts with a dot.

    COMPLETE   {"files": {name: {"size": bytes, "sha256": hex}}, "about": {...}, "sha256": hash of the other two}

Faults of the disk raise SartorError (exit 3): F130 when it is full, F131 for anything else it refuses.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sartor.errors import Problem, SartorError
from sartor.protocols import Saver
from sartor.store.ranks import ONE, Ranks

COMPLETE = "COMPLETE"
TEMPORARY, DELETED, OLD = ".tmp-", ".del-", ".old-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
_UNREADABLE = frozenset({errno.ENOENT, errno.EIO, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path`: the old content or the new one is there at any moment. Missing folders are made."""
    make_folder(path.parent)
    temporary = path.with_name(TEMPORARY + path.name)
    with coded(path, needs=len(content)):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            _forget(temporary)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON. Raises ValueError for a NaN or an infinity, which are not JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def publish(
    folder: Path,
    writers: Mapping[str, Saver],
    *,
    about: Mapping[str, Any] | None = None,
    needs: int = 0,
    ranks: Ranks = ONE,
) -> None:
    """Make `folder` from `writers` (name -> writes a file or folder there), whole or not at all; an older one is replaced.

    `about` is any JSON object to keep in COMPLETE. With `needs` (bytes) the disk is asked for room before anything is
    written. Several `ranks` write, sync and hash their own files, of different names, and rank 0 seals them all. Raises
    SartorError F130 or F131; nothing but the older folder is left then.
    """
    for name in writers:
        if not name or Path(name).name != name or name.startswith(".") or name == COMPLETE:
            raise ValueError(f"{name!r} cannot be the name of a file in a published folder")
    temporary = folder.with_name(TEMPORARY + folder.name)
    try:
        ranks.lead(lambda: _begin(folder, temporary, needs))
        written = ranks.each(lambda: _write(folder, temporary, writers, needs))
        files = {name: entry for part in written for name, entry in part.items()}
        ranks.lead(lambda: _finish(folder, temporary, files, about or {}, needs))
    except BaseException:
        if ranks.first:
            _forget(temporary)
            _settle(folder)
        raise


def verify(folder: Path) -> list[str]:
    """What is wrong with a published folder, one sentence each; empty when every byte is as it was written.

    Raises SartorError F131 when the reason lies with this process or its rights and not with the folder.
    """
    with coded(folder, verb="read"):
        try:
            files = _files(seal(folder))
        except ValueError as fault:
            return [str(fault)]
        found = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
        found.pop(COMPLETE, None)
        problems = [f"{name} is missing" for name in sorted(files.keys() - found.keys())]
        problems += [f"{name} does not belong to it" for name in sorted(found.keys() - files.keys())]
        for name in sorted(files.keys() & found.keys()):
            problems += _difference(name, found[name], files[name])
        return problems


def seal(folder: Path) -> dict[str, Any]:
    """The content of COMPLETE, checked against its own hash. Raises ValueError where it is missing or damaged."""
    with coded(folder, verb="read"):
        try:
            sealed = json.loads(_regular(folder / COMPLETE).read_bytes())
        except OSError as fault:
            if fault.errno not in _UNREADABLE:
                raise
            what = "is missing" if fault.errno == errno.ENOENT else f"cannot be read: {fault.strerror}"
            raise ValueError(f"{COMPLETE} {what}") from fault
        except ValueError as fault:
            raise ValueError(f"{COMPLETE} is damaged") from fault
    if not isinstance(sealed, dict) or sealed.get("sha256") != _own_hash(sealed):
        raise ValueError(f"{COMPLETE} is damaged")
    return sealed


def remove(folder: Path) -> None:
    """Remove a published folder; a kill half-way never leaves a part of it under its name."""
    with coded(folder, verb="remove"):
        gone = folder.with_name(DELETED + folder.name)
        _erase(gone)
        os.rename(folder, gone)
        sync_folder(folder.parent)
        _erase(gone)


def rename(old: Path, new: Path) -> None:
    """Rename and sync the folder both lie in."""
    with coded(old, verb="rename"):
        os.rename(old, new)
        sync_folder(new.parent)


def tidy(folder: Path) -> None:
    """Clear what a killed process left in `folder`: unfinished, half-replaced and half-removed files and folders."""
    with coded(folder, verb="clear"):
        for path in sorted(folder.glob(f"{OLD}*")):
            restore(path.with_name(path.name.removeprefix(OLD)))
        for path in [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"{DELETED}*")]:
            _erase(path)


def restore(folder: Path) -> None:
    """Finish or undo a replacement of `folder` that was killed half-way."""
    old = folder.with_name(OLD + folder.name)
    if not old.exists():
        return
    if folder.exists():
        _erase(old)
    else:
        os.rename(old, folder)
        sync_folder(folder.parent)


def forget(path: Path) -> None:
    """Remove a file, so that it stays removed after a power cut. It may be missing."""
    with coded(path, verb="remove"):
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make `folder` and its missing parents, so that they survive a power cut."""
    with coded(folder, verb="make"):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, where the file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


class Room:
    """The room a write needs on its disk."""

    def __init__(self, path: Path, needs: int) -> None:
        self.path, self.needs, self.written = path, needs, 0

    def check(self) -> None:
        """Raise ENOSPC before the first byte where the disk cannot hold what is needed."""
        if self.needs > self._free():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def problem(self) -> Problem:
        """F130 with bytes needed and free."""
        needed = max(self.needs, self.written + 1)
        return Problem(
            "F130",
            f"the disk is full: {self.path.name} needs at least {needed:,} bytes, {self._free():,} are free",
            file=str(self.path),
            fix="make room and run the same command again; what was saved before is untouched",
        )

    def _free(self) -> int:
        place = next(path for path in (self.path.parent, *self.path.parent.parents) if path.exists())
        try:
            disk = os.statvfs(place)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize


@contextmanager
def coded(path: Path, *, needs: int = 0, verb: str = "write") -> Iterator[Room]:
    """Turns an OSError, or safetensors' wrapping of one, into SartorError F130 or F131 about `path`."""
    room = Room(path, needs)
    try:
        yield room
    except OSError as fault:
        raise SartorError(_problem(fault.errno, fault.strerror or str(fault), room, verb)) from fault
    except SafetensorError as fault:
        found = re.search(r"\b(?:os error|code:) (\d+)", str(fault))
        if found is None:
            raise
        number = int(found[1])
        raise SartorError(_problem(number, os.strerror(number), room, verb)) from fault


def _problem(number: int | None, reason: str, room: Room, verb: str) -> Problem:
    if number in _FULL:
        return room.problem()
    return Problem(
        "F131",
        f"cannot {verb} {room.path.name}: {reason}",
        file=str(room.path),
        fix="mend the disk or the rights of the folder, then run the same command again",
    )


def _begin(folder: Path, temporary: Path, needs: int) -> None:
    make_folder(folder.parent)
    with coded(folder, needs=needs) as room:
        restore(folder)
        room.check()
        _erase(temporary)
        temporary.mkdir()


def _write(folder: Path, temporary: Path, writers: Mapping[str, Saver], needs: int) -> dict[str, dict[str, Any]]:
    """Call the writers, sync what they wrote; name -> size and hash of every file."""
    with _counted(folder, temporary, needs):
        for name, write in writers.items():
            write(temporary / name)
        return _hashes(temporary, writers)


def _finish(folder: Path, temporary: Path, files: Mapping[str, Any], about: Mapping[str, Any], needs: int) -> None:
    with _counted(folder, temporary, needs):
        _seal(temporary, files, about)
        _put(temporary, folder)


@contextmanager
def _counted(folder: Path, temporary: Path, needs: int) -> Iterator[None]:
    """`coded`, with what was written so far in the message of a full disk."""
    with coded(folder, needs=needs) as room:
        try:
            yield
        except BaseException:
            room.written = _size(temporary)
            raise


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    files = {}
    for path in [inner for name in names for inner in _files_at(folder / name)]:
        with open(_regular(path), "rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[path.relative_to(folder).as_posix()] = {"size": file.tell(), "sha256": digest}
    return files


def _files_at(path: Path) -> list[Path]:
    return _walk(path) if path.is_dir() and not path.is_symlink() else [path]


def _seal(folder: Path, files: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    sealed: dict[str, Any] = {"files": dict(sorted(files.items())), "about": dict(about)}
    sealed["sha256"] = _own_hash(sealed)
    with open(folder / COMPLETE, "w", encoding="utf-8") as file:
        json.dump(sealed, file, ensure_ascii=False, allow_nan=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for inner, _, _ in os.walk(folder, topdown=False, onerror=_give_up):
        sync_folder(Path(inner))


def _put(temporary: Path, folder: Path) -> None:
    old = folder.with_name(OLD + folder.name)
    if folder.exists():
        os.rename(folder, old)
    os.rename(temporary, folder)
    sync_folder(folder.parent)
    _erase(old)


def _own_hash(sealed: Mapping[str, Any]) -> str:
    content = {key: value for key, value in sealed.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(sealed: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    files = sealed.get("files")
    if not isinstance(files, dict):
        raise ValueError(f"{COMPLETE} lists no files")
    return files


def _difference(name: str, path: Path, expected: Mapping[str, Any]) -> list[str]:
    if path.is_symlink() or not path.is_file():
        return [f"{name} is not a plain file"]
    try:
        size = path.stat().st_size
        if size != expected["size"]:
            return [f"{name} has {size:,} bytes instead of {expected['size']:,}"]
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                return [f"{name} has changed since it was written"]
    except OSError as fault:
        if fault.errno not in _UNREADABLE:
            raise
        return [f"{name} cannot be read: {fault.strerror}"]
    return []


def _regular(path: Path) -> Path:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path.name} is not a plain file")
    return path


def _walk(folder: Path) -> list[Path]:
    """Everything below that is not a folder. An unreadable folder is an error here, never an empty one."""
    found = []
    for root, folders, files in os.walk(folder, onerror=_give_up):
        found += [Path(root, name) for name in files]
        found += [Path(root, name) for name in folders if Path(root, name).is_symlink()]
    return found


def _give_up(fault: OSError) -> None:
    raise fault


def _size(folder: Path) -> int:
    try:
        return sum(path.lstat().st_size for path in _walk(folder))
    except OSError:
        return 0


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _forget(path: Path) -> None:
    """Remove what a failed write left; when the disk refuses that as well, `tidy` does it later."""
    try:
        _erase(path)
    except OSError:
        pass


def _settle(folder: Path) -> None:
    """Bring the older folder back after a failed replacement; `tidy` does it later when the disk refuses that as well."""
    try:
        restore(folder)
    except OSError:
        pass
