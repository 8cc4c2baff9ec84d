"""The only file that imports Pillow: looks at every image before anything is learnt from it, and opens those that were good.

A row names its images relative to its data file. Each is read and decoded once when the row is read, so that a file that is
missing, damaged, cut off, empty or enormous is told by file and line, and never met in training. Nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.formats._fields import BadRow
from sartor.data.rows import IMAGE, MARK, Image, Message, Row
from sartor.errors import DataError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST_PIXELS = 89_478_485
"""Pillow's own bound for images that are no attack: a quarter of a gigabyte in memory."""
SKIP = "mend it, or   data: {on_bad: skip}   to leave such rows out"
_SHOWS = ("messages", "prompt")
"""Fields of rows whose turns may show images,"""
_SAYS = ("chosen", "rejected", "completion")
"""and those that hold answers."""
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")


def resolved(row: Row, folder: Path) -> Row:
    """The row with its images found and looked at, each text with their marks. `folder` is that of the data file.

    Rows that show the same image stay in one part of the split, unless the user has grouped them otherwise. Raises BadRow
    D133 to D138, DataError D139.
    """
    changed: dict[str, Any] = {}
    for name in _SHOWS:
        turns = getattr(row, name, None)
        if isinstance(turns, tuple) and any(turn.images for turn in turns):
            changed[name] = located(turns, folder)
    if any(turn.images for name in _SAYS for turn in getattr(row, name, ())):
        raise BadRow("D138", "an image stands behind what the answers share", "put it into the prompt")
    if not changed:
        return row
    first = next(image for turns in changed.values() for turn in turns for image in turn.images)
    return replace(row, group=row.group or first.mark, **changed)


def located(turns: Sequence[Message], folder: Path) -> tuple[Message, ...]:
    """The turns with their images found and looked at, as `resolved` does. Raises as it does."""
    return tuple([_shown(turn, folder) if turn.images else turn for turn in turns])


def _shown(turn: Message, folder: Path) -> Message:
    """The turn with the marks of its images; they stand before or behind its text."""
    if MARK.search(turn.content):
        raise BadRow("D137", "a text holds what looks like the mark of an image", "take it out of the text")
    pieces = turn.content.split(IMAGE)
    if len(pieces) - 1 != len(turn.images):
        what = f"a turn has {len(pieces) - 1} {IMAGE} marks and {len(turn.images)} images"
        raise BadRow("D137", what, f"one {IMAGE} for each image")
    said = [at for at, piece in enumerate(pieces) if piece.strip()]
    if len(said) > 1:
        what = (
            "an image stands between two texts of one turn: templates of vision-text models do not agree where it goes"
        )
        raise BadRow("D137", what, "put the images of a turn before its text, or behind it")
    at = said[0] if said else len(turn.images)
    text = pieces[at] if said else ""
    text = text.lstrip() if at else text
    text = text.rstrip() if at < len(turn.images) else text
    found = tuple([look(image.file, folder) for image in turn.images])
    marks = [image.mark for image in found]
    return replace(turn, content="".join([*marks[:at], text, *marks[at:]]), images=found)


def look(written: str, folder: Path) -> Image:
    """The image of this name, after a look at all of it. Raises BadRow D133 to D136, DataError D139."""
    written = written.removeprefix("file://")
    if not written.strip():
        raise BadRow("D133", "an image has no name", 'write {"type": "image", "path": "photo.png"}')
    if found := _SCHEME.match(written):
        what = f'an image is named by "{found[0]}": nothing is fetched, and no image is read out of a text'
        raise BadRow("D136", what, "save it as a file, and name that")
    path = (folder / Path(written).expanduser()).absolute()
    try:
        told = path.stat()
    except OSError as fault:
        raise BadRow("D133", f'the image "{written}" is not there', f"put it at {path}, or {SKIP}") from fault
    except ValueError as fault:
        raise BadRow("D133", f"an image has a name that no file can have ({fault})", SKIP) from fault
    try:
        return _look(str(path), told.st_mtime_ns, told.st_size)
    except _Broken as broken:
        raise BadRow(broken.code, f'the image "{written}" {broken}', SKIP) from broken


def opened(image: Image) -> Picture:
    """The pixels in RGB, of a file that must be what it was. Raises DataError D134, D139."""
    import PIL.Image

    try:
        body = Path(image.file).read_bytes()
        if hashlib.sha256(body).hexdigest() == image.digest:
            return PIL.Image.open(io.BytesIO(body)).convert("RGB")
        what = "the image is not the one it was when the data was read"
    except OSError as fault:
        what = f"the image cannot be read any more ({fault.strerror or fault})"
    raise DataError(Problem("D134", what, file=image.file, fix="put it back, or start a new run"))


def blank(size: tuple[int, int]) -> Picture:
    """A black image of this width and height. Raises DataError D139."""
    _require()
    import PIL.Image

    return PIL.Image.new("RGB", size)


def noise(size: tuple[int, int], pixels: bytes) -> Picture:
    """An image of this width and height with these pixels, three bytes each."""
    import PIL.Image

    return PIL.Image.frombytes("RGB", size, pixels)


def every(turns: Sequence[Message]) -> tuple[Image, ...]:
    """The images of a conversation, in order."""
    return tuple([image for turn in turns for image in turn.images])


def _require() -> None:
    if find_spec("PIL") is None:
        what = "the rows show images, and the library that reads them, Pillow, is not installed"
        raise DataError(Problem("D139", what, fix='pip install "sartor[vision]"'))


class _Broken(Exception):
    """No image that can be learnt from."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


@lru_cache(maxsize=1 << 14)
def _look(file: str, changed: int, size: int) -> Image:
    """An image file, every byte read. `changed` and `size` tell another file of the same name."""
    _require()
    import PIL.Image

    if not size:
        raise _Broken("D134", "is an empty file")
    try:
        body = Path(file).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            picture = PIL.Image.open(io.BytesIO(body))
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise PIL.Image.DecompressionBombError
        picture.draft("RGB", (1, 1))
        picture.load()
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as fault:
        raise _Broken("D135", f"has more than {MOST_PIXELS:,} pixels") from fault
    except PIL.UnidentifiedImageError as fault:
        raise _Broken("D134", "is no image that can be read") from fault
    except (OSError, ValueError, SyntaxError, EOFError) as fault:
        raise _Broken("D134", f"is damaged or cut off ({fault})") from fault
    return Image(file, hashlib.sha256(body).hexdigest(), width, height)
