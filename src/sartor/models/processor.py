"""The only file that names transformers' processors: what a vision-text model makes of images, as tokens and as pixels.

Nothing about a family is known here. How many tokens an image of some size becomes is asked of the model's own processor, once
for each size, with a blank image beside the placeholder alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sartor.data.images import blank, noise, opened
from sartor.data.rows import Image
from sartor.errors import ModelError, Problem
from sartor.tokens.batch import Batch, Rendered, collate

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = ("preprocessor_config.json", "processor_config.json", "chat_template.json")
"""Files that decide what a processor does, beside the tokenizer's."""
TOKENS = frozenset({"input_ids", "attention_mask"})
"""What a processor gives that we make ourselves."""
SIZE = (64, 48)
"""Width and height in pixels of the image a processor is tried with."""
KEPT = 32
"""Sets of images whose pixels are kept: the answers to one prompt, or a loss and a validation, see the same."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What a processor made of one image beside its placeholder."""

    ids: np.ndarray
    """[k] int32"""
    kinds: Mapping[str, np.ndarray]
    """Name of an input that says something of every token -> [k] what it says of these."""
    names: frozenset[str]
    """Of the other inputs."""


class Processor:
    """Implements `Sight`, and makes the inputs that a model takes beside the ids.

    Raises:
        ModelError: M118 transformers has no processor for this folder; M119 it is of a form that is not known here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = _open(folder)
        self._sizes: dict[tuple[int, int], _Tried] = {}
        self._seen: OrderedDict[tuple[str, ...], dict[str, torch.Tensor]] = OrderedDict()
        self.token, self.placeholder = self._find()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the files that decide it."""
        files = [path for name in FILES if (path := self.folder / name).is_file()]
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()

    def tokens(self, image: Image) -> np.ndarray:
        """[k] int32, what the placeholder of this image becomes."""
        return self._tried((image.width, image.height)).ids

    def inputs(self, images: Sequence[Image], ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the model takes beside `ids` [1, T], in which the images stand, on the same device.

        Raises DataError where an image is no longer what it was.
        """
        if not images:
            return self._kinds((), ids)
        key = tuple(image.digest for image in images)
        if key not in self._seen:
            self._seen[key] = self._pixels([opened(image) for image in images])
            if len(self._seen) > KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return {name: tensor.to(ids.device) for name, tensor in self._seen[key].items()} | self._kinds(images, ids)

    def trial(self, vocabulary: int) -> list[Batch]:
        """A row with an image, and the same row with another image: both of one batch each."""
        draw = np.random.default_rng(0)
        tried = self._tried(SIZE)
        others = np.setdiff1d(np.arange(3, vocabulary), tried.ids)
        ids = np.concatenate([draw.choice(others, 3), tried.ids, draw.choice(others, 5)]).astype(np.int32)
        row = collate([Rendered(ids, np.ones(len(ids), np.float32), 0)])
        made = []
        for _ in range(2):
            picture = noise(SIZE, draw.bytes(3 * SIZE[0] * SIZE[1]))
            kinds = self._kinds([Image("", width=SIZE[0], height=SIZE[1])], row.ids)
            made.append(replace(row, inputs=self._pixels([picture]) | kinds))
        return made

    def _pixels(self, pictures: list[Any]) -> dict[str, torch.Tensor]:
        found = self._own(text=[self.token * len(pictures)], images=pictures, return_tensors="pt")
        return {name: value for name, value in found.items() if name in self._tried(SIZE).names}

    def _kinds(self, images: Sequence[Image], ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Inputs that say of every token whether it is one of an image's, and of which kind."""
        made = {name: torch.zeros_like(ids) for name in self._tried(SIZE).kinds}
        for image in images:
            tried = self._tried((image.width, image.height))
            for name, kinds in tried.kinds.items():
                for kind in np.unique(kinds[kinds != 0]).tolist():
                    own = torch.from_numpy(np.unique(tried.ids[kinds == kind]).astype(np.int64)).to(ids.device)
                    made[name][torch.isin(ids, own)] = kind
        return made

    def _find(self) -> tuple[str, int]:
        """The placeholder that the processor replaces, as text and as id: of those it names, the one that works."""
        faults = []
        for name in ("boi_token", "image_token"):
            token = getattr(self._own, name, None)
            if not isinstance(token, str):
                continue
            self._sizes.clear()
            self.token, self.placeholder = token, int(self._own.tokenizer.convert_tokens_to_ids(token))
            try:
                self._tried(SIZE)
            except ModelError as fault:
                faults.append(fault)
            else:
                return self.token, self.placeholder
        if faults:
            raise faults[0]
        raise self._strange("it names no token that stands for an image")

    def _tried(self, size: tuple[int, int]) -> _Tried:
        if size not in self._sizes:
            self._sizes[size] = self._try(size)
        return self._sizes[size]

    def _try(self, size: tuple[int, int]) -> _Tried:
        try:
            found = self._own(text=[self.token], images=[blank(size)], return_tensors="pt", add_special_tokens=False)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as fault:
            raise self._strange(str(fault)) from fault
        ids = found["input_ids"][0]
        others = {name: value for name, value in found.items() if name not in TOKENS}
        if not all(isinstance(value, torch.Tensor) for value in others.values()):
            raise self._strange("it gives inputs that are no tensors")
        beside = {name for name, value in others.items() if "pixel" not in name and value.shape[:2] == (1, len(ids))}
        kinds = {name: others[name][0].numpy() for name in beside if name.endswith("token_type_ids")}
        if beside - kinds.keys():
            raise self._strange(f"{', '.join(sorted(beside - kinds.keys()))} belongs to every token")
        return _Tried(ids.numpy().astype(np.int32), kinds, frozenset(others.keys() - beside))

    def _strange(self, why: str) -> ModelError:
        what = f"{type(self._own).__name__} does not work as processors of other vision-text models do: {why}"
        fix = "a model that puts images into its text: LLaVA, Idefics3, SmolVLM, Qwen2-VL, Gemma 3 ..."
        return ModelError(Problem("M119", what, file=str(self.folder), fix=fix))


@lru_cache(maxsize=4)
def processor_of(folder: Path) -> Processor:
    """The processor of a model folder; renderer and policy share it."""
    return Processor(folder)


def _open(folder: Path) -> Any:
    try:
        with _quiet():
            from transformers import AutoProcessor

            found = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (AttributeError, ImportError, OSError, ValueError, KeyError, TypeError) as fault:
        what = f"transformers cannot open the processor of this model: {str(fault).strip().splitlines()[0]}"
        fix = 'copy the files of its processor here; pip install "sartor[vision]", and torchvision where it asks for it'
        raise ModelError(Problem("M118", what, file=str(folder), fix=fix)) from fault
    if not hasattr(found, "image_processor"):
        what = "the files of this model say nothing of how it takes images"
        fix = "copy preprocessor_config.json and processor_config.json of the model here"
        raise ModelError(Problem("M118", what, file=str(folder), fix=fix))
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' word on which of its two image libraries is there."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
