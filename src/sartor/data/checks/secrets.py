"""A key in the training data is a key in the model, and anyone can ask for it.

train.jsonl:40: error S301: an AWS key (AKIA..., 20 characters).
train.jsonl:7: warning S302: e-mail addresses (31 rows).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sartor.data.checks._sightings import Sightings
from sartor.data.dataset import Dataset
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

KEYS = {
    "an AWS key": rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "a GitHub token": rb"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,255})",
    "an Anthropic key": rb"(?<![A-Za-z0-9])sk-ant-[A-Za-z0-9_-]{20,255}",
    "an OpenAI key": rb"(?<![A-Za-z0-9])sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,255}|[A-Za-z0-9]{32,64}(?![A-Za-z0-9_-]))",
    "a Hugging Face token": rb"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,64}(?![A-Za-z0-9])",
    "a Google key": rb"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
    "a Slack token": rb"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{10,255}",
    "a private key": rb"-----BEGIN (?:[A-Z]{2,9} )?(?:ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----",
}
KEY = re.compile(b"|".join(b"(%s)" % pattern for pattern in KEYS.values()))
BEGINNINGS = (
    *(b"AKIA", b"ASIA", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"sk-", b"hf_", b"AIza"),
    *(b"xoxa-", b"xoxb-", b"xoxp-", b"xoxr-", b"xoxs-", b"-----BEGIN "),
)
"""How a key can begin: a row without any of these has none."""
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
