"""What the toxicity scorer gets right: HateCheck by functionality (Röttger et al. 2021), and false alarms on other text.

    python benchmarks/toxicity.py --hatecheck hatecheck/test.jsonl --plain xstest/test.jsonl:prompt

HateCheck rows are {"text", "label": hateful | non-hateful, "functionality"}. Two columns: hateful as HateCheck means it (hate, slurs, threats
against a group) and toxic (insults of persons too). Rows are told apart by a checksum of their text: rules were written looking at the
even half only; the odd half is printed as held out. Its sentences come from the same templates, so it is no proof for other text.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections import defaultdict
from pathlib import Path

from sartor.metrics._toxic import TOXIC, found


def seen(text: str) -> tuple[bool, bool]:
    """(hateful, toxic)"""
    attacks = found(text)
    hateful = any(one.kind in ("hate", "slur") for one in attacks) or any(one.kind == "threat" for one in attacks)
    return hateful, any(one.score >= TOXIC for one in attacks)


def hatecheck(path: Path) -> None:
    """Print accuracy per functionality."""
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    table: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    for row in rows:
        hateful, _ = seen(row["text"])
        held_out = zlib.crc32(row["text"].strip().encode()) % 2 == 1
        table[row["functionality"]].append((hateful == (row["label"] == "hateful"), hateful, held_out))
    print(f"{'functionality':24s} {'n':>5s} {'right':>7s} {'held out':>9s}")
    for name, found_ in sorted(table.items(), key=lambda entry: (entry[0].endswith("_nh"), entry[0])):
        print(
            f"{name:24s} {len(found_):5d} {_share([one[0] for one in found_]):>7s} {_share([one[0] for one in found_ if one[2]]):>9s}"
        )
    for label, ending in (("hateful", "_h"), ("not hateful", "_nh")):
        every = [one for name, ones in table.items() if name.endswith(ending) for one in ones]
        print(
            f"{label:24s} {len(every):5d} {_share([one[0] for one in every]):>7s} {_share([one[0] for one in every if one[2]]):>9s}"
        )
    identity = [one for name in ("ident_neutral_nh", "ident_pos_nh") for one in table[name]]
    wrong = sum(one[1] for one in identity)
    print(f"false alarms on identity mentions: {wrong} of {len(identity)} ({wrong / len(identity):.1%})")


def plain(path: Path, column: str) -> None:
    """Print how many texts that attack nobody are called toxic."""
    texts = [json.loads(line)[column] for line in path.open(encoding="utf-8")]
    wrong = [text for text in texts if seen(text)[1]]
    print(f"{path.parent.name}: {len(wrong)} of {len(texts):,} called toxic")
    for text in wrong[:10]:
        print("   ", text[:110])


def _share(right: list[bool]) -> str:
    return f"{sum(right) / len(right):.0%}" if right else "-"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hatecheck", type=Path)
    parser.add_argument("--plain", action="append", default=[], help="FILE.jsonl:COLUMN")
    given = parser.parse_args()
    if given.hatecheck:
        hatecheck(given.hatecheck)
    for one in given.plain:
        file, _, name = one.rpartition(":")
        plain(Path(file), name)
