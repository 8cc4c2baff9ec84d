"""What counts as a model's answer and as the right one."""

from __future__ import annotations

from sartor.protocols import Outcome


def text(outcome: Outcome) -> str:
    """The generated text without surrounding space; a row without one counts as an empty answer."""
    return (outcome.prediction or "").strip()


def choice(outcome: Outcome) -> str:
    """The label that scored best where labels were scored, the generated text otherwise."""
    return text(outcome) if outcome.label is None else outcome.label.strip()


def right(outcome: Outcome) -> str:
    """The reference without surrounding space."""
    return outcome.reference.strip()
