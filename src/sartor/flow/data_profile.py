"""Prints what rows are like: one line for each distribution."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from sartor.console import BLOCKS, PLAIN_BLOCKS, printable
from sartor.data.language import name_of
from sartor.data.profile import Histogram, Profile

if TYPE_CHECKING:
    from rich.console import Console

LISTED = 4
"""Labels, languages and topics that are named."""


def render_profile(console: Console, profile: Profile) -> None:
    """A name, a figure, and what it means, line by line."""
    from rich.text import Text

    encoding = (getattr(console.file, "encoding", None) or sys.getdefaultencoding()).lower().replace("-", "")
    for name, told in _lines(profile, BLOCKS if encoding == "utf8" else PLAIN_BLOCKS):
        console.print(Text(f" {name:<9}", "dim").append(printable(told), ""), soft_wrap=True)


def _lines(profile: Profile, blocks: str) -> Iterator[tuple[str, str]]:
    for name, lengths in profile.lengths.items():
        if profile.labels and name == "answer":
            continue
        yield name, _length(lengths, blocks)
    if profile.labels:
        whole = sum(count for _, count in profile.labels) + profile.other_labels
        more = "" if not profile.other_labels else " and more"
        yield "labels", f"{len(profile.labels)}{more}   {_named(profile.labels, whole)}"
    for whose, counts in profile.languages.items():
        clear = {name_of(code): count for code, count in counts.items() if code}
        if clear:
            yield "language", f"{whose}s: {_named(clear.items(), sum(clear.values()))}"
    if profile.topics:
        named = [f"{' '.join(topic['words'][:3])} {_share(topic['rows'], profile.sampled)}" for topic in profile.topics]
        more = f"   and {len(named) - LISTED} more" if len(named) > LISTED else ""
        yield "topics", "   ".join(named[:LISTED]) + more
    if profile.variety and not profile.labels:
        yield "variety", _variety(profile.variety)
    if profile.copies["rows"]:
        yield "copies", f"{profile.copies['rows']:,} rows repeat others, in {profile.copies['groups']:,} groups"
    doubtful = sum(bool(row["suspected"]) for row in profile.suspects)
    if doubtful:
        more = " or more" if doubtful == len(profile.suspects) else ""
        yield "doubtful", f"{doubtful:,}{more} label{'' if doubtful == 1 else 's'}"
    if profile.difficulty:
        told = profile.difficulty
        above = f"{told['above_one']:,} of {told['rows']:,} rows at 1 or more: their prompt does not help"
        yield "IFD", f"median {told['histogram']['median']:.2f}   {above}"


def _length(lengths: Histogram, blocks: str) -> str:
    figures = (
        f"median {lengths.median:,.0f}   95 % up to {lengths.p95:,.0f}   longest {lengths.largest:,.0f} {lengths.unit}"
    )
    return f"{bars(lengths.counts, blocks)}   {figures}" if len(lengths.counts) > 1 else figures


def bars(counts: Iterable[int], blocks: str) -> str:
    """A bar for each count; the lowest one is for any count above 0, a blank for 0."""
    counts = list(counts)
    top = max(counts, default=0)
    steps = len(blocks) - 1
    return "".join(blocks[round(steps * count / top)] if count else " " for count in counts)


def _named(counts: Iterable[tuple[str, int]], whole: int) -> str:
    listed = list(counts)
    told = "   ".join(f"{name} {_share(count, whole)}" for name, count in listed[:LISTED])
    return f"{told}   and {len(listed) - LISTED} more" if len(listed) > LISTED else told


def _variety(variety: Mapping[str, float]) -> str:
    names = {"distinct_1": "words", "distinct_2": "pairs", "distinct_3": "threes"}
    return "different among all:   " + "   ".join(f"{names[name]} {share:.0%}" for name, share in variety.items())


def _share(part: int, whole: int) -> str:
    share = 100 * part / max(1, whole)
    return f"{share:.0f} %" if share >= 9.5 else f"{share:.1f} %"
