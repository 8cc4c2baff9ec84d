from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from sartor.errors import SartorError
from sartor.protocols import Saver
from sartor.store import atomic


def put(content: bytes) -> Saver:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def fails(number: int) -> Saver:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number), str(path))

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    atomic.write_json(path, {"ä": 1})
    atomic.write_json(path, {"ä": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 2}
    assert names(tmp_path) == ["new/folder/file.json"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.write_json(tmp_path / "file.json", float("nan"))
    assert names(tmp_path) == []


def test_a_published_folder_is_whole_and_verified(tmp_path: Path) -> None:
    def deep(path: Path) -> None:
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "b").write_bytes(b"22")

    folder = tmp_path / "published"
    atomic.publish(folder, {"a": put(b"1"), "d": deep}, about={"step": 3})
    assert names(folder) == ["COMPLETE", "a", "d/inner/b"]
    sealed = atomic.seal(folder)
    assert sealed["about"] == {"step": 3}
    assert {name: entry["size"] for name, entry in sealed["files"].items()} == {"a": 1, "d/inner/b": 2}
    assert atomic.verify(folder) == []


def test_a_published_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    atomic.publish(folder, {"a": put(b"1"), "b": put(b"2")})
    atomic.publish(folder, {"a": put(b"3")})
    assert names(tmp_path) == ["published/COMPLETE", "published/a"]
    assert (folder / "a").read_bytes() == b"3"


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (errno.ENOSPC, "F130", "the disk is full: published needs at least 6 bytes, "),
        (errno.EDQUOT, "F130", "the disk is full"),
        (errno.EIO, "F131", "cannot write published: Input/output error"),
        (errno.EROFS, "F131", "cannot write published: Read-only file system"),
    ],
)
def test_a_failed_writer_leaves_the_older_folder(tmp_path: Path, number: int, code: str, says: str) -> None:
    folder = tmp_path / "published"
    atomic.publish(folder, {"a": put(b"1")})
    with pytest.raises(SartorError) as caught:
        atomic.publish(folder, {"a": put(b"2"), "b": fails(number)})
    (problem,) = caught.value.problems
    assert (problem.code, caught.value.exit_code) == (code, 3)
    assert problem.what.startswith(says)
    assert names(tmp_path) == ["published/COMPLETE", "published/a"]
    assert (folder / "a").read_bytes() == b"1"
    assert atomic.verify(folder) == []


def test_a_writer_with_a_fault_of_its_own_leaves_nothing(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic.publish(tmp_path / "published", {"a": broken})
    assert list(tmp_path.iterdir()) == []


def test_safetensors_reporting_a_full_disk_is_understood(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    def full(path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(SartorError, match="F130"):
        atomic.publish(tmp_path / "published", {"a": full})


def test_room_is_asked_for_before_writing(tmp_path: Path) -> None:
    def never(path: Path) -> None:
        pytest.fail("nothing may be written")

    with pytest.raises(
        SartorError, match=r"F130: the disk is full: published needs at least 1,000,000,000,000,000,000"
    ):
        atomic.publish(tmp_path / "published", {"a": never}, needs=10**18)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "COMPLETE", "", ".."])
def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        atomic.publish(tmp_path / "published", {name: put(b"1")})


def test_each_kind_of_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    atomic.publish(folder, {name: put(b"content of " + name.encode()) for name in "abcd"})
    (folder / "a").unlink()
    (folder / "b").write_bytes(b"content of B")
    (folder / "c").write_bytes(b"content")
    (folder / "d").unlink()
    (folder / "d").symlink_to("/etc/hostname")
    (folder / "e").write_bytes(b"")
    assert atomic.verify(folder) == [
        "a is missing",
        "e does not belong to it",
        "b has changed since it was written",
        "c has 7 bytes instead of 12",
        "d is not a plain file",
    ]
    (folder / "COMPLETE").write_text((folder / "COMPLETE").read_text().replace('"size": 12', '"size": 7', 1))
    assert atomic.verify(folder) == ["COMPLETE is damaged"]
    (folder / "COMPLETE").unlink()
    assert atomic.verify(folder) == ["COMPLETE is missing"]
    assert atomic.verify(tmp_path / "nowhere") == ["COMPLETE is missing"]


def test_tidy_clears_what_a_kill_left(tmp_path: Path) -> None:
    for name in (".tmp-a", ".del-b", ".old-c", ".old-d", "c"):
        atomic.publish(tmp_path / "made", {"a": put(name.encode())})
        (tmp_path / "made").rename(tmp_path / name)
    (tmp_path / ".tmp-file").write_text("half")
    (tmp_path / "kept").write_text("whole")
    atomic.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "d", "kept"]
    assert (tmp_path / "c" / "a").read_bytes() == b"c"
    assert (tmp_path / "d" / "a").read_bytes() == b".old-d"


def test_remove_leaves_nothing(tmp_path: Path) -> None:
    atomic.publish(tmp_path / "published", {"a": put(b"1")})
    atomic.remove(tmp_path / "published")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SartorError, match="F131: cannot write below: Not a directory"):
        atomic.write_text(tmp_path / "file" / "below", "x")


@pytest.mark.parametrize("number", [1, 2])
def test_a_replacement_that_fails_half_way_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever of the two renames the disk refuses, the older folder is in its place and nothing beside it."""
    folder = tmp_path / "published"
    atomic.publish(folder, {"a": put(b"1")})
    real, count = os.rename, 0

    def refuse(old: Path, new: Path) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(old))
        real(old, new)

    monkeypatch.setattr(atomic.os, "rename", refuse)
    with pytest.raises(SartorError, match="F131"):
        atomic.publish(folder, {"a": put(b"2")})
    assert names(tmp_path) == ["published/COMPLETE", "published/a"]
    assert (folder / "a").read_bytes() == b"1"
