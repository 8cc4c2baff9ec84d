"""Opens data files: unpacks gz, xz and zst within bounds, splits lines with a length limit, and explains wrong encodings."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

from sartor.errors import DataError, Problem

PACKED = (".gz", ".xz", ".zst")
FREE_BYTES = 16 << 20
"""Unpacked bytes up to which no ratio is asked."""
LARGEST_RATIO = 200
"""Unpacked bytes per packed byte beyond which an archive counts as a bomb."""
_CHUNK = 4096
"""Packed bytes per step: small, so that one step of a bomb unpacks to little."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _gz() -> tuple[Callable[[], _Decompressor], type[Exception]]:
    return (lambda: zlib.decompressobj(wbits=31)), zlib.error


def _xz() -> tuple[Callable[[], _Decompressor], type[Exception]]:
    return (lambda: lzma.LZMADecompressor(memlimit=256 << 20)), lzma.LZMAError


def _zst() -> tuple[Callable[[], _Decompressor], type[Exception]]:
    import zstandard

    return (lambda: zstandard.ZstdDecompressor(max_window_size=128 << 20).decompressobj()), zstandard.ZstdError


_UNPACKERS = {".gz": _gz, ".xz": _xz, ".zst": _zst}


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a packed file; several streams in a row count as one."""

    def __init__(self, packed: BinaryIO, kind: str) -> None:
        self._packed, self._kind = packed, kind
        self._start, self._error = _UNPACKERS[kind]()
        self._stream: _Decompressor | None = None
        self._left = b""
        self._pending = memoryview(b"")
        self._read = self._made = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._pending:
            chunk = self._left or self._packed.read(_CHUNK)
            if not chunk:
                if self._stream is not None and not self._stream.eof:
                    raise self._damaged("ends in the middle")
                return 0
            self._unpack(chunk)
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def _unpack(self, chunk: bytes) -> None:
        if not self._left:
            self._read += len(chunk)
        self._left = b""
        if self._stream is None or self._stream.eof:
            chunk = chunk.lstrip(b"\0") if self._stream is not None else chunk
            if not chunk:
                return
            self._stream = self._start()
        try:
            made = self._stream.decompress(chunk)
        except self._error as fault:
            raise self._damaged(f"is damaged ({fault})") from fault
        if self._stream.eof:
            self._left = self._stream.unused_data
        self._made += len(made)
        if self._made > FREE_BYTES and self._made > LARGEST_RATIO * self._read:
            raise DataError(
                Problem(
                    "S320",
                    f"unpacks to more than {LARGEST_RATIO} times its size",
                    fix="unpack it yourself if you trust it, and give the unpacked file",
                )
            )
        self._pending = memoryview(made)

    def _damaged(self, how: str) -> DataError:
        return DataError(Problem("S322", f"the {self._kind} archive {how}", fix="copy or download the file again"))


def extension(path: Path) -> str:
    """The last extension in lower case, below a packing one: ``a.JSONL.gz`` has ``.jsonl``."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in PACKED else name.suffix


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked. Raises DataError D113 when it cannot be read; reading raises S320 or S322."""
    try:
        file = path.open("rb", buffering=1 << 18)
    except (OSError, ValueError) as fault:
        raise DataError(unreadable(fault)) from fault
    with file:
        kind = path.suffix.lower()
        yield io.BufferedReader(_Unpacked(file, kind), 1 << 18) if kind in PACKED else cast(io.BufferedReader, file)


def unreadable(fault: Exception, shown: str | None = None) -> Problem:
    """D113 for a file that cannot be opened; `shown` is its name in messages."""
    return Problem("D113", f"the file cannot be read: {getattr(fault, 'strerror', None) or fault}", file=shown)


def lines(path: Path, *, max_line_bytes: int) -> Iterator[tuple[int, bytes] | Problem]:
    """1-based number and bytes of each line, its end included; D107 in place of one that is too long.

    A byte order mark of UTF-8 is dropped and noted (info D103). Raises DataError D103 for UTF-16 and UTF-32.
    """
    with opened(path) as stream:
        yield from skip_mark(stream)
        yield from _numbered(stream, 1, max_line_bytes)


def _numbered(stream: io.BufferedReader, first: int, max_line_bytes: int) -> Iterator[tuple[int, bytes] | Problem]:
    number = first - 1
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        if len(line) > max_line_bytes and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(1 << 20)
            yield too_long(number, max_line_bytes)
        else:
            yield number, line


@dataclass(frozen=True, slots=True)
class Part:
    """Some whole lines of a file."""

    begin: int
    end: int
    """Bytes begin..end-1 of the file."""
    first: int
    """1-based number of the first line."""
    count: int
    """Lines."""


def lines_of(path: Path, part: Part, *, max_line_bytes: int) -> Iterator[tuple[int, bytes] | Problem]:
    """What `lines` yields for a part of a file that is not packed."""
    coming = lines(path, max_line_bytes=max_line_bytes) if not part.begin else _lines_from(path, part, max_line_bytes)
    last = part.first + part.count - 1
    for item in coming:
        number = item[0] if isinstance(item, tuple) else item.line
        if number is not None and number > last:
            return
        yield item


def _lines_from(path: Path, part: Part, max_line_bytes: int) -> Iterator[tuple[int, bytes] | Problem]:
    with opened(path) as stream:
        stream.seek(part.begin)
        yield from _numbered(stream, part.first, max_line_bytes)


def parts(path: Path, size: int) -> Iterator[Part]:
    """A file that is not packed in parts of about `size` bytes, each of whole lines. Raises DataError D113."""
    with opened(path) as stream:
        begin, first = 0, 1
        while data := stream.read(size):
            rest = stream.readline()
            count = data.count(b"\n") + (bool(rest) or not data.endswith(b"\n"))
            yield Part(begin, begin + len(data) + len(rest), first, count)
            begin, first = begin + len(data) + len(rest), first + count


def skip_mark(stream: io.BufferedReader) -> Iterator[Problem]:
    """Moves past a UTF-8 byte order mark, noting it. Raises DataError D103 for UTF-16 and UTF-32."""
    head = stream.peek(512)[:512]
    if head.startswith(b"\xef\xbb\xbf"):
        stream.read(3)
        yield Problem("D103", "the file opens with a UTF-8 byte order mark; it is left out", line=1, level="info")
    elif wide := _wide(head):
        raise DataError(Problem("D103", f"the file is {wide}", line=1, fix=f"iconv -f {wide} -t UTF-8 {{file}}"))


def _wide(head: bytes) -> str | None:
    for mark, name in (
        (b"\xff\xfe\0\0", "UTF-32"),
        (b"\0\0\xfe\xff", "UTF-32"),
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
    ):
        if head.startswith(mark):
            return name
    for zeros, others, name in ((head[1::2], head[::2], "UTF-16LE"), (head[::2], head[1::2], "UTF-16BE")):
        if len(head) >= 4 and zeros.count(0) > 0.7 * len(zeros) and others.count(0) < 0.1 * len(others):
            return name
    return None


def too_long(line: int, max_line_bytes: int, *, fix: str = "raise data.max_line_mb, or split the record") -> Problem:
    """D107: a record larger than the limit."""
    return Problem("D107", f"the record is over {max_line_bytes / (1 << 20):.3g} MiB", line=line, fix=fix)


def not_utf8(data: bytes, fault: UnicodeDecodeError, *, line: int) -> Problem:
    """D102: which byte, where, and what the file seems to be encoded in. `line` is that of the first byte of `data`."""
    before = data[: fault.start].decode("utf-8")
    near = before[-12:].rpartition("\n")[2] + "\N{REPLACEMENT CHARACTER}"
    looks, fix = _guess(data, fault)
    return Problem(
        "D102",
        f"byte 0x{data[fault.start]:02x} is not UTF-8; {looks}",
        line=line + before.count("\n"),
        column=len(before) - before.rfind("\n"),
        excerpt=f'Near "{near}".' if near.isprintable() else None,
        fix=fix,
    )


def _guess(data: bytes, fault: UnicodeDecodeError) -> tuple[str, str]:
    rest = data[fault.start : fault.start + 4096]
    if fault.reason == "unexpected end of data" and not rest[4:].strip():
        return "the text ends in the middle of a character", "copy the file again; it seems cut off"
    if b"\0" in rest:
        return "the file is not text", "name a text file, or a supported format"
    try:
        rest.decode("cp1252")
    except UnicodeDecodeError:
        return "nor is it Windows-1252", "save the file as UTF-8"
    exact = any(0x80 <= byte < 0xA0 for byte in rest)
    name = "Windows-1252" if exact else "Windows-1252 or Latin-1"
    return f"the file looks like {name}", "iconv -f CP1252 -t UTF-8 {file}"


def sniff(path: Path) -> Literal["list", "lines", "object"] | None:
    """Whether the file begins as a JSON list, as JSON lines, as one JSON object, or as none of these.

    Raises DataError as `opened` does.
    """
    with opened(path) as stream:
        head = stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    if head.startswith("["):
        return "list"
    if not head.startswith("{"):
        return None
    first, *others = [line.strip() for line in head.split("\n") if line.strip()]
    return "lines" if first.endswith("}") and others and others[0].startswith("{") else "object"
