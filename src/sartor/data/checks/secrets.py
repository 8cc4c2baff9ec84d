"""A key in the training data is a key in the model, and anyone can ask for it.

train.jsonl:40: error S301: an AWS key (AKIA..., 20 characters).
train.jsonl:7: warning S302: e-mail addresses (31 rows).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sartor.data.checks._sightings import Sightings
from sartor.data.dataset import Dataset
from sartor.data.keys import BEGINNINGS, KEY, KEYS
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

LOCAL = re.compile(rb"[A-Za-z0-9._%+-]{1,64}$")
DOMAIN = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9@])")


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """S301 (an error) for each kind of key, S302 for e-mail addresses, one for each file. A key is never shown in full."""
    keys, addresses = Sightings(dataset), Sightings(dataset)
    names = list(KEYS)
    for block in dataset.blocks():
        for place in block.having(*BEGINNINGS).tolist():
            told = set()
            for found in KEY.finditer(block.line(place)):
                name = names[(found.lastindex or 1) - 1]
                if name not in told:
                    told.add(name)
                    keys.add(block.first + place, name, _hidden(found[0]))
        for place in block.having(b"@").tolist():
            if _has_address(block.line(place)):
                addresses.add(block.first + place, "e-mail addresses")
    yield from keys.problems(
        "S301", "error", "remove it from the file, and revoke it: whoever had the file has the key"
    )
    yield from addresses.problems("S302", "warning", "replace them where the model need not know them")


def _hidden(key: bytes) -> str:
    return f"{key[:4].decode()}... ({len(key)} characters)" if not key.startswith(b"-") else key.decode()


def _has_address(line: bytes) -> bool:
    at = line.find(b"@")
    while at >= 0:
        if LOCAL.search(line, max(0, at - 64), at) and DOMAIN.match(line, at + 1):
            return True
        at = line.find(b"@", at + 1)
    return False
