from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sartor import registry
from sartor.errors import RecipeError
from sartor.evaluate.compare import compare
from sartor.evaluate.corrections import adjusted
from sartor.evaluate.intervals import wilson
from sartor.evaluate.slices import NO_VALUE, SMALLER, Slices, cut, sentences
from sartor.evaluate.verdict import check, judge
from sartor.metrics.exact_match import METRIC
from sartor.protocols import Outcome
from sartor.recipe.schema import Gate, Slice

QUEUES = ("billing", "shipping", "returns")


def rows(right: Callable[[int], bool], count: int = 120, **columns: Callable[[int], Any]) -> list[Outcome]:
    given = columns or {"queue": lambda i: QUEUES[i % 3]}
    return [
        Outcome(f"r{i}", "q" * (i + 1), "yes", "yes" if right(i) else "no", columns={k: v(i) for k, v in given.items()})
        for i in range(count)
    ]


def models(**columns: Callable[[int], Any]) -> dict[str, list[Outcome]]:
    """Tuned is better everywhere but in returns, where it has lost most of what the base could do."""
    return {
        "base": rows(lambda i: i % 2 == 0, **columns),
        "tuned": rows(lambda i: i % 12 == 2 if i % 3 == 2 else i % 8 != 0, **columns),
    }


def sliced(*fields: str, least: int = 20, **given: Any) -> Slices:
    wanted = [Slice(field=field, least=least) for field in fields]
    return cut(given.pop("models", models()), [METRIC], wanted, **given)


def test_every_slice_is_the_comparison_of_its_rows() -> None:
    found = sliced("queue")
    assert [part.name for part in found.parts] == ["queue=billing", "queue=returns", "queue=shipping"]
    for part in found.parts:
        mine = {name: [row for row in given if row.columns["queue"] == part.value] for name, given in models().items()}
        wanted = compare(mine, [METRIC], correction="none")
        assert part.comparison.json() == wanted.json()


def test_the_worst_slice_is_named_with_an_interval_for_having_looked_at_all() -> None:
    found = sliced("queue")
    worst = found.worst("exact_match")
    assert worst is not None
    part, score = worst
    assert part.name == "queue=returns"
    assert score.value == pytest.approx(0.25)
    assert (score.low, score.high) == pytest.approx(tuple(wilson(10, 40, 1 - 0.05 / 3)))
    (told,) = sentences(found.json(), lambda value, share: f"{value:.2f}")
    assert told.startswith("worst of 3 slices in exact_match: queue=returns (40 rows) with 0.25 [")
    assert "corrected for 3 slices" in told


def test_the_worst_slice_covers_the_truth_although_it_was_chosen() -> None:
    """Eight slices that are all right on half of their rows: the plain interval of the worst misses more often than stated."""
    draw = np.random.default_rng(0)
    missed = {"plain": 0, "corrected": 0}
    for _ in range(150):
        right = draw.uniform(size=400) < 0.5
        given = {"tuned": rows(lambda i, right=right: bool(right[i]), 400, part=lambda i: i % 8)}  # type: ignore[misc]
        found = sliced("part", models=given, resamples=200)
        worst = found.worst("exact_match")
        assert worst is not None
        plain = worst[0].comparison.score("exact_match", "tuned")
        assert plain is not None
        missed["plain"] += plain.high < 0.5
        missed["corrected"] += worst[1].high < 0.5
    assert missed["plain"] / 150 > 0.1
    assert missed["corrected"] / 150 < 0.07


def test_chances_are_adjusted_over_all_slices() -> None:
    body = sliced("queue", "length").json()
    every = [slice_["metrics"][0]["differences"]["base"] for cut_ in body["fields"] for slice_ in cut_["slices"]]
    assert body["count"] == len(every) == 7
    assert [each["adjusted"] for each in every] == pytest.approx(adjusted([each["p"] for each in every], "holm"))


def test_lengths_are_cut_in_quarters() -> None:
    found = sliced("length")
    assert [part.value for part in found.parts] == ["1 to 30", "31 to 60", "61 to 90", "91 to 120"]
    assert {part.comparison.rows for part in found.parts} == {30}


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (lambda i: i * 0.5, ["0 to 14.5", "15 to 29.5", "30 to 44.5", "45 to 59.5"]),
        (lambda i: i % 3, ["0", "1", "2"]),
        (lambda i: None if i % 4 == 0 else "x", ["x", NO_VALUE]),
        (lambda i: "rare" + str(i) if i < 30 else "often", ["often", SMALLER]),
        (lambda i: ["a", "b"] if i % 2 else ["c"], ["a, b", "c"]),
    ],
)
def test_columns_of_every_kind(column: Callable[[int], Any], names: list[str]) -> None:
    assert [part.value for part in sliced("kind", models=models(kind=column)).parts] == names


def test_rows_of_rare_values_are_counted() -> None:
    found = sliced("kind", models=models(kind=lambda i: "rare" if i < 5 else "often"))
    assert [part.value for part in found.parts] == ["often"]
    assert found.left_out == {"kind": 5}
    alike = sliced("kind", models=models(kind=lambda i: "same"))
    assert (alike.parts, alike.alike) == ((), ("kind",))
    assert alike.json()["count"] == 0


def test_topics_are_those_of_the_words() -> None:
    money = [
        "invoice",
        "payment",
        "amount",
        "refund",
        "credit",
        "charge",
        "bank",
        "card",
        "account",
        "balance",
        "receipt",
        "tax",
    ]
    parcels = [
        "parcel",
        "courier",
        "delivery",
        "address",
        "customs",
        "tracking",
        "carrier",
        "depot",
        "label",
        "driver",
        "van",
        "weight",
    ]
    draw = np.random.default_rng(0)
    prompts = [" ".join(draw.choice(money if i < 60 else parcels, 3, replace=False)) for i in range(120)]
    given = {name: [replace(row, prompt=prompts[i]) for i, row in enumerate(found)] for name, found in models().items()}
    found = sliced("topic", models=given)
    assert [part.comparison.rows for part in found.parts] == [60, 60]
    told = [set(part.value.split(", ")) for part in found.parts]
    assert any(words < set(money) for words in told)
    assert any(words < set(parcels) for words in told)


def test_a_field_that_no_row_has_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no test row has the column colour") as caught:
        sliced("colour")
    assert "length, queue, topic" in str(caught.value)


def gate(**rule: Any) -> Gate:
    return Gate.model_validate({"metric": "exact_match", **rule})


def test_gates_of_slices() -> None:
    whole, found = compare(models(), [METRIC]), sliced("queue")
    decided = {
        name: judge([gate(**rule)], whole, slices=found).gates[0]
        for name, rule in {
            "whole": {"drop_at_most": 0.02},
            "all": {"drop_at_most": 0.02, "slice": "all"},
            "good": {"drop_at_most": 0.02, "slice": "queue=billing"},
            "wide": {"drop_at_most": 0.9, "slice": "all"},
            "least": {"at_least": 0.1, "slice": "all"},
            "none": {"at_least": 0.1, "slice": "queue=nowhere"},
        }.items()
    }
    assert {name: one.passed for name, one in decided.items()} == {
        "whole": True, "all": False, "good": True, "wide": True, "least": True, "none": False,
    }  # fmt: skip
    assert decided["all"].note.startswith("1 of 3 slices fail; queue=returns: ")
    assert decided["all"].rule == "drop_at_most 0.02 in every slice"
    assert decided["wide"].note.startswith("all 3 slices; nearest queue=returns: ")
    assert decided["good"].rule == "drop_at_most 0.02 where queue=billing"
    assert decided["none"].note == "no slice queue=nowhere was measured"


def test_gates_need_slices_that_are_made() -> None:
    for rule, fields, problems in (
        ({"slice": "all"}, [], 1),
        ({"slice": "all"}, ["queue"], 0),
        ({"slice": "queue=billing"}, ["length"], 1),
        ({"slice": "queue=billing"}, ["queue"], 0),
    ):
        found = check([gate(at_least=0.1, **rule)], against=["base"], metrics=["exact_match"], slices=fields)
        assert [problem.code for problem in found] == ["R145"] * problems


def test_a_baseline_is_kept() -> None:
    assert registry.component("metric", "exact_match").METRIC is METRIC
    body = sliced("queue", baseline="base").json()
    assert body["baseline"] == "base"
    assert set(body["fields"][0]["slices"][0]["metrics"][0]["differences"]) == {"tuned"}
