"""Finds what looks like a key or password, so that it is refused before it can reach a run folder, a log or a message."""

from __future__ import annotations

import re

SECRETS: dict[str, re.Pattern[str]] = {
    "an OpenAI or Anthropic key": re.compile(
        r"\bsk-(?=[\w-]{20})(?:[\w-]*[A-Za-z0-9]{16}|(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z]))[\w-]*"
    ),
    "a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    "a GitLab token": re.compile(r"\bglpat-[\w-]{16,}"),
    "a Google key": re.compile(r"\bAIza[\w-]{30,}"),
    "a Slack token": re.compile(r"\bxox[abeprs]-[\w-]{10,}"),
    "a Weights & Biases or other key": re.compile(r"(?i)(?<=key: )[\"']?[0-9a-f]{40}\b"),
    "a signed web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in an address": re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"),
}
FIX = "remove it and renew it; keep keys in environment variables"


def mask(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """(text with every secret replaced by as many x, [(start, end, what it looks like)] in order)."""
    found: list[tuple[int, int, str]] = []
    for kind, pattern in SECRETS.items():
        for match in pattern.finditer(text):
            start, end = match.span()
            found.append((start, end, kind))
            text = text[:start] + "x" * (end - start) + text[end:]
    return text, sorted(found)
