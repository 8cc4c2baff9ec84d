"""Rows as records that other tools read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.rows import Example, Message, Preference, Row
from sartor.data.writing import as_ours

PREFERRED, OTHER = "preferred_output", "non_preferred_output"
"""The keys of the two answers in OpenAI's preference files."""


def plain(row: Row) -> dict[str, Any]:
    """The row in the columns that Sartor and others recognise: text and label, messages, text, or preference."""
    body = as_ours(row)
    if isinstance(row, Example) and row.label is not None and len(row.messages) == 2 and not row.tools:
        del body["messages"]
        body = {"text": row.prompt_text(), "label": row.label} | body
    identity = {} if row.id is None or row.id == str(row.origin) or "id" in body else {"id": row.id}
    return identity | body | ({} if row.parent is None else {"parent": row.parent})


def openai(row: Row) -> dict[str, Any] | None:
    """The row as OpenAI's fine-tuning reads it: a chat, or a preference; None for a row that has no such form.

    Weights other than 0 and 1 do not exist there, nor does reasoning: rows that have them are refused as well.
    """
    match row:
        case Example():
            if any(turn.reasoning is not None or turn.weight not in (None, 0.0, 1.0) for turn in row.messages):
                return None
            body: dict[str, Any] = {"messages": [_turn(turn) for turn in row.conversation().messages]}
            return body | ({"tools": [dict(tool) for tool in row.tools]} if row.tools else {})
        case Preference():
            if len(row.chosen) != 1 or len(row.rejected) != 1:
                return None
            prompt, chosen, rejected = (list(map(_turn, part)) for part in (row.prompt, row.chosen, row.rejected))
            return preference(prompt, chosen, rejected)
    return None


def preference(
    prompt: list[dict[str, Any]], better: list[dict[str, Any]], worse: list[dict[str, Any]]
) -> dict[str, Any]:
    """A record of OpenAI's preference fine-tuning."""
    asked = {"messages": prompt, "tools": [], "parallel_tool_calls": True}
    return {"input": asked, PREFERRED: better, OTHER: worse}


def _turn(turn: Message) -> dict[str, Any]:
    body: dict[str, Any] = turn.template()
    return body if turn.weight is None else body | {"weight": int(turn.weight)}


def card(name: str, files: Mapping[str, str], counts: Mapping[str, int], version: str, columns: list[str]) -> str:
    """The README of a data set on the hub: the files of its splits for the viewer, and what it is made of."""
    splits = "\n".join(f"  - split: {part}\n    path: {file}" for part, file in files.items())
    lines = "\n".join(f"| {part} | {counts[part]:,} |" for part in files)
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}\nlicense: unknown\n---\n"
        f"# {name}\n\n| split | rows |\n|---|---|\n{lines}\n\nColumns: {', '.join(f'`{column}`' for column in columns)}.\n\n"
        f"Divided so that rows which say the same are in one split. Version `{version}` (sha256 over rows, order, splits and "
        "transforms), written by `sartor data export`. Set the licence before you publish it.\n"
    )
