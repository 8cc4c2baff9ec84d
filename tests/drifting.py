"""A stream of requests drawn from the embedded tickets, as records or as lines of a foreign log."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from sartor.monitor.seen import Seen

Change = Callable[[Seen, random.Random], Seen]
FRENCH = "Bonjour, je n'ai toujours pas reçu ma commande et je voudrais savoir quand elle arrivera chez moi. Merci."
REFUSED = "I'm sorry, but I can't help with that."


def tickets() -> list[dict[str, str]]:
    text = resources.files("sartor.embedded").joinpath("demo", "tickets.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def stream(count: int, seed: int, *, change: Change | None = None, at: int = 0) -> Iterator[Seen]:
    """Requests drawn with replacement; from place `at` on they are changed."""
    lot, rows = random.Random(seed), tickets()
    for place in range(count):
        row = lot.choice(rows)
        seen = Seen(
            id=f"r{place}",
            time=float(1_000_000 + place),
            prompt=row["prompt"],
            answer=row["completion"],
            seconds=lot.lognormvariate(-0.5, 0.4),
            failed=lot.random() < 0.01,
            cut=False,
        )
        yield change(seen, lot) if change is not None and place >= at else seen


def longer(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, prompt=f"{seen.prompt} {seen.prompt}")


def french(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, prompt=FRENCH) if lot.random() < 0.2 else seen


def new_words(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, prompt=f"{seen.prompt} blockchain wallet staking airdrop")


def refusals(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, answer=REFUSED) if lot.random() < 0.2 else seen


def broken(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, answer=seen.answer[:-1]) if lot.random() < 0.1 else seen


def slow(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, seconds=1.5 * seen.seconds)


def failing(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, failed=lot.random() < 0.1)


def one_label(seen: Seen, lot: random.Random) -> Seen:
    answer = '{"intent":"py_twice","product":"bike","urgent":false,"contact":"any"}'
    return replace(seen, answer=answer) if lot.random() < 0.3 else seen


def repeating(seen: Seen, lot: random.Random) -> Seen:
    return replace(seen, answer=f"{seen.answer} no no no no no no no no") if lot.random() < 0.3 else seen


def write_foreign(path: Path, records: Sequence[Seen], *, mode: str = "w") -> None:
    """Lines whose columns are called otherwise."""
    with path.open(mode, encoding="utf-8") as file:
        for seen in records:
            body = {
                "key": seen.id,
                "when": seen.time,
                "in": {"text": seen.prompt},
                "out": seen.answer,
                "took": seen.seconds,
            }
            file.write(json.dumps(body) + "\n")


MAPS = ("id=key", "time=when", "prompt=in.text", "answer=out", "seconds=took")
