from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.recipe.node import Place, Source, compose, lift, resolve
from sartor.recipe.writing import inline


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-0.1", -0.1), ("+3", 3), ("012", 12), ("0x1F", 31),
        ("0o17", 15), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("1_000", "1_000"), ("12:30", "12:30"),
        ("0b1", "0b1"), (".inf", ".inf"), (".nan", ".nan"), ("1e", "1e"), ("2026-01-01", "2026-01-01"), ("tRue", "tRue"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


def test_quoted_scalars_are_text() -> None:
    node, problems = compose("a: '1'\nb: \"true\"\nc: |\n  7\n", "f")
    assert node is not None
    assert node.plain() == {"a": "1", "b": "true", "c": "7\n"}
    assert problems == []


def test_every_key_and_value_knows_its_place() -> None:
    node, _ = compose("# first\na:\n  - x\n  - {b: yes, cc: 'd e'}\n", "f.yaml")
    assert node is not None
    places = {path: (child.place.line, child.place.column, child.place.width) for path, child in node.walk()}
    assert places == {
        ("a",): (3, 3, 1),
        ("a", 0): (3, 5, 1),
        ("a", 1): (4, 5, 1),
        ("a", 1, "b"): (4, 9, 3),
        ("a", 1, "cc"): (4, 18, 5),
    }
    key = node.value["a"].value[1].value["cc"].key
    assert (key.line, key.column, key.width, key.excerpt) == (4, 14, 2, "  - {b: yes, cc: 'd e'}")


def test_a_long_line_is_not_shown_whole() -> None:
    source = Source("f", "a: " + "x" * 1000 + " y\nb")
    near = source.place(0, 1)
    assert near.excerpt is not None
    assert (near.width, len(near.excerpt)) == (1, 161)
    far = source.place(1000, 1001)
    assert (far.line, far.column, far.width, far.excerpt) == (1, 1001, 0, None)


def test_characters_that_hide_are_not_shown() -> None:
    assert Source("f", "a\u202eb\tc").place(0, 1).excerpt == "a b c"


def test_lift_keeps_nodes_and_places_what_is_new() -> None:
    node, _ = compose("[a, b]", "f")
    assert node is not None
    lifted = lift({"sources": tuple(node.value)}, Place("g"))
    assert lifted.plain() == {"sources": ["a", "b"]}
    assert lifted.value["sources"].place.file == "g"
    assert lifted.value["sources"].value[0].place.file == "f"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)))
def test_what_is_written_reads_back(value: Any) -> None:
    node, problems = compose(f"value: {inline(value)}\n", "f")
    assert node is not None
    assert problems == [problem for problem in problems if problem.code == "R109"]
    if not problems:
        assert node.plain() == {"value": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_numbers_in_yaml_1_1_too(value: float) -> None:
    import yaml

    assert math.isclose(yaml.safe_load(inline(value)), value, rel_tol=0, abs_tol=0)
