"""Says the same of another group of people: "she lost her card" becomes "he lost his card", under the same label.

    augment: [counterfactual]
    augment: [{counterfactual: {attribute: religion, answers: true}}]

Source: counterfactual data augmentation with grammatical pairs and names, Lu et al. 2020, "Gender Bias in Neural Natural
Language Processing", section 5, and Maudslay et al. 2019, "It's All in the Name", section 3. Of a row that mentions a group
every mention is swapped, with pronouns and case, and names (ours are paired); where a word has no counterpart the row is
left alone, as is a row whose answer mentions a group unless `answers` are swapped as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Annotated, ClassVar

from pydantic import Field

from sartor.data.making import Bench, Made, Seeded, learnt, prompts, with_prompts
from sartor.data.outcome import with_texts
from sartor.data.rows import Example, Row
from sartor.data.terms import Terms, known
from sartor.errors import DataError, Problem
from sartor.recipe.schema import Section

__all__ = ["Options", "files", "make"]


class Options(Section):
    """Which groups, and where they are swapped."""

    main: ClassVar[str] = "attribute"

    attribute: Annotated[str, Field(min_length=1)] = "gender"
    """gender, origin, religion, age, ability, orientation, or that of a list of yours."""
    language: Annotated[str, Field(min_length=2)] = "en"
    """ISO 639 code of the list."""
    terms: str | None = None
    """Path of a YAML list of yours: attribute, language, groups, terms."""
    answers: bool = False
    """Also swap in answers; never in labels."""


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """Rows about another group."""
    terms = _list(options, bench.root)
    for seeded in rows:
        made = _swapped(seeded.row, terms, options, seeded.random)
        if made is not None:
            yield seeded, made


def files(options: Options, root: Path) -> list[Path]:
    """What is read."""
    return [] if options.terms is None else [root / Path(options.terms).expanduser()]


def _list(options: Options, root: Path) -> Terms:
    """Raises DataError D198 where there is no list for this."""
    lists = known([] if options.terms is None else [options.terms], root)
    for terms in lists:
        if (terms.attribute, terms.language) == (options.attribute, options.language) and terms.swap:
            return terms
    having = ", ".join(f"{terms.attribute} ({terms.language})" for terms in lists if terms.swap)
    what = f"there is no list of {options.attribute} in {options.language} whose words can be swapped"
    raise DataError(Problem("D198", what, file=options.terms, fix=f"there are {having}; or name your own by   terms:"))


def _swapped(row: Row, terms: Terms, options: Options, random: Random) -> Row | None:
    asked = sorted(terms.mentions("\n".join(prompts(row))))
    said = terms.mentions("\n".join(learnt(row)))
    labelled = isinstance(row, Example) and row.label is not None
    swaps_answers = options.answers and not labelled
    if not asked or (said and not swaps_answers):
        return None
    one = random.choice(asked)
    other = random.choice([group for group in range(len(terms.groups)) if group != one])
    lost = False

    def change(text: str) -> str:
        nonlocal lost
        swapped = terms.swapped(text, one, other)
        lost = lost or swapped is None
        return text if swapped is None else swapped

    made = with_texts(row, change) if swaps_answers else with_prompts(row, change)
    return None if lost or made is row else made
