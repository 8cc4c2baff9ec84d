"""Blind sheets that are sent to raters, and what comes back: one file for each rater, with nothing in it about models.

CSV    sheet, rater, id, question, prompt, A, B, choice     the last column is filled in: A, B, tie, both bad; or 1 to 5
JSON   {"sheet": "5f3a...", "rater": "ann", "answers": [{"id": "9c1e...", "choice": "A better"}]}    what the HTML sheet saves
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.errors import DataError, Problem
from sartor.evaluate.asking import BAD, CHOICES, KEYS, SCALE, A, Asked, B, order, sides

SHORT = {"a": A, "b": B, "bad": BAD, "neither": BAD, **{str(step): label for step, label in enumerate(SCALE, 1)}}
"""What people write in the place of a choice."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these is carried out by spreadsheets; an apostrophe is put before it."""


@dataclass(frozen=True, slots=True)
class Said:
    """One answer on a sheet."""

    id: str
    choice: str
    line: int | None
    time: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """A sheet that came back."""

    file: str
    rater: str
    answers: tuple[Said, ...]
    blank: int
    """Lines without a choice."""


def identity(asked: Asked, run: str) -> str:
    """What tells the sheets of one job from those of another; rows may be added without changing it."""
    plan = asked.plan
    parts = [run, plan.kind, plan.against, list(plan.questions), plan.seed, plan.reference]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def entries(asked: Asked, rater: str) -> Iterator[dict[str, Any]]:
    """What a rater is asked, in order, with the answers as they stand on screen."""
    for place in order(asked, rater):
        unit = asked.units[place]
        yield {
            "key": unit.item.key,
            "number": unit.item.line,
            "turns": [{"role": turn.role, "text": turn.text} for turn in unit.item.turns],
            "answers": [unit.item.answers[side].text for side in sides(unit.item, rater, asked.plan.seed)],
            "question": asked.question(unit.question),
        }


def as_csv(asked: Asked, rater: str, sheet: str) -> str:
    """The sheet as a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("A", "B") if asked.plan.kind == "pairwise" else ("answer",)
    writer.writerow(("sheet", "rater", "id", "question", "prompt", *names, "choice"))
    for entry in entries(asked, rater):
        prompt = "\n\n".join(
            f"{turn['role']}: {turn['text']}" if turn["role"] else turn["text"] for turn in entry["turns"]
        )
        cells = (entry["question"], prompt, *entry["answers"])
        writer.writerow((sheet, rater, entry["key"], *map(_harmless, cells), ""))
    return text.getvalue()


def read(content: bytes, file: str, asked: Asked, sheet: str) -> Returned:
    """A sheet that came back, as CSV or JSON.

    Raises DataError with everything that is wrong with it: E162 ids that were not asked or stand there twice, E163 no such
    sheet or one of another job, E165 choices that there are none of.
    """
    try:
        text = content.decode("utf-8-sig")
        found = _json(text) if text.lstrip().startswith("{") else _csv(text)
    except (ValueError, KeyError, TypeError, csv.Error) as fault:
        raise DataError(_no_sheet(file, f"this is no sheet that can be read: {fault}")) from fault
    of, rater, said = found
    if of != sheet:
        raise DataError(_no_sheet(file, "this sheet belongs to another run, or was made with other questions"))
    known = {unit.item.key for unit in asked.units}
    problems: list[Problem] = []
    answers: dict[str, Said] = {}
    blank = 0
    for one in said:
        if one.id not in known:
            problems.append(
                _problem("E162", f'"{one.id[:40]}" is no id of this sheet', file, one, "leave the ids as they were")
            )
        elif not one.choice.strip():
            blank += 1
        elif one.id in answers:
            problems.append(
                _problem("E162", f'"{one.id[:40]}" stands there twice', file, one, "keep one of the two lines")
            )
        elif (choice := _choice(one.choice, asked)) is None:
            fix = "write A, B, tie or both bad" if asked.plan.kind == "pairwise" else "write 1 to 5"
            problems.append(_problem("E165", f'"{one.choice[:40]}" is no choice', file, one, fix))
        else:
            answers[one.id] = Said(one.id, choice, one.line, one.time, one.seconds)
    if problems:
        raise DataError(*problems)
    return Returned(file, rater, tuple(answers.values()), blank)


def _choice(written: str, asked: Asked) -> str | None:
    kind = asked.plan.kind
    plain = " ".join(written.split()).casefold()
    known = {label.casefold(): label for label in CHOICES[kind]} | dict(KEYS[kind]) | SHORT
    label = known.get(plain.removesuffix(".0"))
    return label if label in CHOICES[kind] else None


def _json(text: str) -> tuple[str, str, list[Said]]:
    body = json.loads(text)
    said = [
        Said(str(one["id"]), str(one["choice"]), None, _number(one, "time"), _number(one, "seconds"))
        for one in body["answers"]
    ]
    return str(body["sheet"]), str(body["rater"]), said


def _number(one: Mapping[str, Any], name: str) -> float | None:
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _csv(text: str) -> tuple[str, str, list[Said]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = [(reader.line_num, line) for line in reader]
    missing = [name for name in ("sheet", "rater", "id", "choice") if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"the columns {', '.join(missing)} are missing")
    for name in ("sheet", "rater"):
        if len({line[name] for _, line in lines}) != 1:
            raise ValueError(f"the column {name} must hold the same in every line")
    said = [Said((line["id"] or "").strip(), line["choice"] or "", number) for number, line in lines]
    return str(lines[0][1]["sheet"]), str(lines[0][1]["rater"]), said


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _no_sheet(file: str, what: str) -> Problem:
    fix = "give the file that the rater saved from the sheet, or the CSV with its column choice filled in"
    return Problem("E163", what, file=file, fix=fix)


def _problem(code: str, what: str, file: str, one: Said, fix: str) -> Problem:
    return Problem(code, what, file=file, line=one.line, fix=fix)


def same_rater(returned: Sequence[Returned], there: Mapping[str, int]) -> list[Problem]:
    """E164 for each sheet of a rater who has rated already, or who has sent two."""
    problems = []
    seen: dict[str, str] = {}
    for one in returned:
        if there.get(one.rater):
            what = f'"{one.rater}" has given {there[one.rater]:,} ratings here already'
            fix = "leave the file out, or put another name into it if this is another person"
            problems.append(Problem("E164", what, file=one.file, fix=fix))
        elif one.rater in seen:
            what = f'"{one.rater}" is the rater of {seen[one.rater]} as well'
            problems.append(Problem("E164", what, file=one.file, fix="give one file for each rater"))
        seen[one.rater] = one.file
    return problems
