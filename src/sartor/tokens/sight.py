"""How images stand in a row of tokens: the template writes one placeholder for each, which becomes as many as the model sees.

How many, and which, is the model's own affair (`Sight`); that their number is right and that they carry no loss is proven here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sartor.data.rows import MARK, Image, Message
from sartor.tokens.layout import Fault
from sartor.tokens.template import AROUND

if TYPE_CHECKING:
    from sartor.tokens.batch import Rendered


class Sight(Protocol):
    """What a vision-text model makes of images, as tokens."""

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides it."""
        ...

    @property
    def placeholder(self) -> int:
        """Id that the template writes once for each image."""
        ...

    def tokens(self, image: Image) -> np.ndarray:
        """[k] int32, what the placeholder of this image becomes."""
        ...


def turn_of(message: Message, turn: Mapping[str, Any]) -> dict[str, Any]:
    """The turn of a message with images: its text without their marks, and where they stand.

    Raises:
        Fault: T241, a mark is gone or has changed, or does not stand before or behind the text.
    """
    pieces = MARK.split(message.content)
    said = [at for at, piece in enumerate(pieces) if piece.strip()]
    if MARK.findall(message.content) != [image.mark for image in message.images] or len(said) > 1:
        what = "the marks of the images of a turn are no longer where they were: something has rewritten its text"
        raise Fault("T241", what, fix="leave out the stage of data.clean or the way of data.augment that did")
    at = said[0] if said else len(message.images)
    return {**turn, "content": pieces[at] if said else "", AROUND: [at, len(message.images) - at]}


def expanded(ids: np.ndarray, images: Sequence[Image], sight: Sight) -> tuple[np.ndarray, np.ndarray]:
    """The ids with each placeholder as the model sees its image, and for each of them where it comes from, -1 for those.

    Raises:
        Fault: T242, the template does not write one placeholder for each image.
    """
    places = np.flatnonzero(ids == sight.placeholder)
    if len(places) != len(images):
        what = f"the chat template writes {len(places)} placeholders for {len(images)} images"
        raise Fault("T242", what, fix="base.template: one that writes a placeholder for every image")
    made, origin, done = list[np.ndarray](), list[np.ndarray](), 0
    for place, image in zip(places.tolist(), images, strict=True):
        seen = sight.tokens(image)
        made += [ids[done:place], seen]
        origin += [np.arange(done, place), np.full(len(seen), -1)]
        done = place + 1
    made.append(ids[done:])
    origin.append(np.arange(done, len(ids)))
    return np.concatenate(made).astype(np.int32), np.concatenate(origin)


def shown(rendered: Rendered, images: Sequence[Image], sight: Sight) -> Rendered:
    """The row with its images in it, which carry no loss. Raises Fault T242."""
    ids, origin = expanded(rendered.ids, images, sight)
    weight = np.where(origin >= 0, rendered.weight[origin], 0).astype(np.float32)
    return replace(rendered, ids=ids, weight=weight, images=tuple(images))
