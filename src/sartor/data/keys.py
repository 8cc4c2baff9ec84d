"""How the keys and tokens of well-known services look, as bytes of UTF-8."""

from __future__ import annotations

import re

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
