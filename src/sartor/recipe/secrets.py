"""Finds what looks like a key or password, so that it is refused before it can reach a run folder, a log or a message."""

from __future__ import annotations

import re

SECRETS: dict[str, re.Pattern[str]] = {
    "an OpenAI or Anthropic key": re.compile(r"\bsk-[\w-]{20,200}"),
    "a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    "a GitLab token": re.compile(r"\bglpat-[\w-]{16,}"),
    "a Google key": re.compile(r"\bAIza[\w-]{30,}"),
    "a Slack token": re.compile(r"\bxox[abeprs]-[\w-]{10,}"),
    "a Weights & Biases or other key": re.compile(r"(?i)(?<=key: )[\"']?[0-9a-f]{40}\b"),
    "a signed web token": re.compile(r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in an address": re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"),
}
"""Each takes time linear in the text: it starts where a word starts, and what it has tried it has consumed."""
FIX = "remove it and renew it; keep keys in environment variables"


def mask(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """(text with every secret replaced by as many x, [(start, end, what it looks like)] in order)."""
    found: list[tuple[int, int, str]] = []

    def hide(match: re.Match[str]) -> str:
        if match.group().startswith("sk-") and not _random(match.group()):
            return match.group()
        found.append((*match.span(), kind))
        return "x" * len(match.group())

    for kind, pattern in SECRETS.items():  # noqa: B007  read by `hide`
        text = pattern.sub(hide, text)
    return text, sorted(found)


def _random(text: str) -> bool:
    """Whether it is no name of words joined by hyphens, such as sk-learn-text-classification."""
    mixed = all(re.search(kind, text[3:]) for kind in ("[0-9]", "[a-z]", "[A-Z]"))
    return mixed or re.search("[A-Za-z0-9]{16}", text) is not None
