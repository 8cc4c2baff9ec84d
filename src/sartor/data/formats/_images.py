"""Images that records name: as parts of a message, or in the columns `image` and `images` beside the texts.

    {"image": "digits/7.png", "question": "What digit is shown?", "answer": "seven"}
    {"images": ["a.png", "b.png"], "conversations": [{"from": "human", "value": "<image><image>Which is larger?"}, ...]}

`<image>` marks in the texts say where the images of the columns stand; without any mark they stand before the first text of
the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sartor.data.formats._fields import BadRow, kind
from sartor.data.rows import IMAGE, Image, Message

COLUMNS = ("image", "images")
"""Fields of every format that takes images beside its texts."""
_KEYS = ("image", "path", "url", "image_url")
_FIX = 'write {"type": "image", "path": "photo.png"}'


def image_of(part: Mapping[str, Any], where: str) -> str:
    """The file that a part of a message names; empty where it names none and a column does. Raises BadRow D111."""
    found = next((part[key] for key in _KEYS if part.get(key) is not None), "")
    return _file(found, where)


def with_images(turns: Sequence[Message], record: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns with the images of the record's columns. Raises BadRow D111, D137."""
    files = _files(record)
    if not files:
        return tuple(turns)
    if any(image.file for turn in turns for image in turn.images):
        raise BadRow("D137", "images are named in the messages and in a column as well", "name them in one place")
    marks = sum(turn.content.count(IMAGE) for turn in turns if turn.role != "assistant")
    if not marks:
        return _first(turns, files)
    if marks != len(files):
        what = f"the texts hold {marks} {IMAGE} marks, the record has {len(files)} images"
        raise BadRow("D137", what, "one mark for each image, or none: then they stand before the first text")
    coming = iter(files)
    return tuple(
        turn
        if turn.role == "assistant"
        else replace(turn, images=tuple([Image(next(coming)) for _ in range(turn.content.count(IMAGE))]))
        for turn in turns
    )


def _first(turns: Sequence[Message], files: Sequence[str]) -> tuple[Message, ...]:
    """The images before the first text of the user."""
    asks = next((at for at, turn in enumerate(turns) if turn.role == "user"), None)
    if asks is None:
        raise BadRow("D137", "there is no turn of the user that could show the image", "add one")
    turn = turns[asks]
    shows = replace(turn, content=IMAGE * len(files) + turn.content, images=tuple([Image(file) for file in files]))
    return (*turns[:asks], shows, *turns[asks + 1 :])


def _files(record: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for column in COLUMNS:
        value = record.get(column)
        entries = value if isinstance(value, list) else [value]
        found += [_file(entry, f'"{column}"') for entry in entries if entry is not None and entry != ""]
    return found


def _file(value: Any, where: str) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("path", "url") if value.get(key)), value)
    if not isinstance(value, str):
        raise BadRow("D111", f"{where} is {kind(value)} (the path of an image needed)", _FIX)
    return value
