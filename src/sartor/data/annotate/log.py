"""One annotator's log: JSON lines, only ever appended to, each on the disk before the next row is shown."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sartor.data.annotate.marks import Mark
from sartor.errors import DataError, Problem

NAME = re.compile(r"\w[\w.@+-]{0,63}")


class Log:
    """The log at `path`, held by this process until `close`.

    A last line torn by a kill is cut off when the log is opened. Raises DataError A104 where another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take()
            self._mend()
            _sync_folder(path.parent)
        except BaseException:
            os.close(self._handle)
            raise

    def append(self, mark: Mark) -> None:
        """Write one mark; it survives a power cut when this returns. Raises OSError; no part of the line is left then."""
        content = json.dumps(mark.json(), ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._handle).st_size
        try:
            while content:
                content = content[os.write(self._handle, content) :]
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, size)
            raise

    def close(self) -> None:
        """Let other processes write here. Closing twice does no harm."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            if fault.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            what = f'"{self.path.stem}" is annotating here already, in another process'
            fix = "end that one first, or answer under another name"
            raise DataError(Problem("A104", what, file=str(self.path), fix=fix)) from None

    def _mend(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._handle, whole)
            os.fsync(self._handle)


class Follower:
    """Reads a log that another process may be writing, whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset, self._line = path, 0, 0

    def new(self) -> Iterator[Mark]:
        """The marks since the last call. Raises DataError A106 for a line that is no mark."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        for line in content.splitlines():
            self._line += 1
            yield self._mark(line)

    def _mark(self, line: bytes) -> Mark:
        try:
            return Mark.of_json(json.loads(line))
        except (ValueError, TypeError, KeyError) as fault:
            what = "this line of an annotator's log is damaged"
            fix = "restore the file from a copy, or remove the line if what it says is lost anyway"
            raise DataError(Problem("A106", what, file=str(self.path), line=self._line, fix=fix)) from fault


def read(path: Path) -> list[Mark]:
    """All marks of a log. Raises DataError A106."""
    return list(Follower(path).new())


def named(annotator: str) -> str:
    """The name, which is also that of a file. Raises DataError A105."""
    if not NAME.fullmatch(annotator):
        what = f'"{annotator}" cannot be the name of an annotator'
        fix = "use letters, digits and . _ @ + - only, at most 64, beginning with a letter or digit"
        raise DataError(Problem("A105", what, fix=fix))
    return annotator


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
