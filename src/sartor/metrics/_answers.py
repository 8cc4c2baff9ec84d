"""What counts as a model's answer and as the right one."""

from __future__ import annotations

from sartor.errors import InputError, Problem
from sartor.protocols import Outcome


def text(outcome: Outcome) -> str:
    """The generated text without surrounding space; a row without one counts as an empty answer."""
    return (outcome.prediction or "").strip()


def choice(outcome: Outcome) -> str:
    """The label that scored best where labels were scored, the generated text otherwise.

    Where a row may have several labels: all that were given, as the reference lists them.
    """
    if outcome.right_labels is not None:
        given = choices(outcome)
        return right(outcome) if set(given) == set(outcome.right_labels) else ", ".join(sorted(given))
    return text(outcome) if outcome.label is None else outcome.label.strip()


def right(outcome: Outcome) -> str:
    """The reference without surrounding space."""
    return outcome.reference.strip()


def choices(outcome: Outcome) -> list[str]:
    """Every label that was given; a text lists them with commas between."""
    if outcome.right_labels is None:
        return [choice(outcome)]
    if outcome.labels is not None:
        return list(outcome.labels)
    if text(outcome) == right(outcome):
        return list(outcome.right_labels)
    return list(dict.fromkeys(part.strip() for part in text(outcome).split(",") if part.strip()))


def rights(outcome: Outcome) -> list[str]:
    """Every label that is right."""
    return [right(outcome)] if outcome.right_labels is None else list(outcome.right_labels)


def column(outcome: Outcome, name: str) -> str:
    """The text of a row in another column. Raises InputError E110 where there is none."""
    content = outcome.columns.get(name)
    if not isinstance(content, str):
        what = f"row {outcome.id} has no text in the column {name}"
        fix = f"its columns are {', '.join(sorted(outcome.columns)) or 'none'}"
        raise InputError(Problem("E110", what, fix=fix))
    return content
