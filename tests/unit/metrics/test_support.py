"""What of an answer a context supports."""

from __future__ import annotations

import pytest
from measured import made

from sartor.errors import InputError
from sartor.metrics._support import Context, sentences
from sartor.protocols import Detailed, Outcome

TOWER = (
    "The Eiffel Tower in Paris was built by Gustave Eiffel's company between 1887 and 1889. "
    "It is 330 metres tall and was visited by 1,000 people. A ticket costs 3.50 euros."
)
BILL = (
    "Die Rechnung wird innerhalb von 14 Tagen per E-Mail verschickt. Der Kunde kann sie im Kundenkonto herunterladen."
)


@pytest.mark.parametrize(
    ("context", "answer", "missing"),
    [
        (TOWER, "It is 330 metres tall and stands in Paris.", None),
        (TOWER, "The company built it in 1889.", None),
        (TOWER, "1000 people visited it; tickets cost 3,5 euros.", None),
        (TOWER, "It costs 30 euros.", "number 30"),
        (TOWER, "The tower was built in London.", "name London"),
        (TOWER, "It was painted green by sailors.", "words painted, green, sailors"),
        (BILL, "Rechnungen werden binnen 14 Tagen per E-Mail versendet.", None),
        (BILL, "Die Rechnung kommt nach 30 Tagen mit der Post.", "number 30; words kommt, post"),
        ("La facture arrive en 14 jours.", "Les factures arrivent en 14 jours.", None),
    ],
)
def test_a_sentence_is_held_against_the_context(context: str, answer: str, missing: str | None) -> None:
    (found,) = Context(context).check(answer)
    assert found.supported(0.6) == (missing is None)
    assert missing is None or found.told == missing


def test_sentences_that_say_nothing_do_not_count() -> None:
    assert Context(TOWER).check("Yes. It is. That was it!") == []


def test_sentences_are_cut_where_they_end() -> None:
    assert sentences("Dr. Who paid 3.50. He left!\n\n# Title\n- one\n2. two") == [
        "Dr. Who paid 3.50.", "He left!", "Title", "one", "two",
    ]  # fmt: skip


def test_the_score_is_the_share_of_sentences_and_each_other_one_is_named() -> None:
    rows = [
        Outcome("1", "", "", "It is 330 metres tall. It costs 30 euros.", columns={"context": TOWER}),
        Outcome("2", "", "", "", columns={"context": TOWER}),
        Outcome("3", "", "", "It was built in Rome.", columns={"context": TOWER}),
    ]
    judge = made("groundedness", {})
    assert judge.stats(rows)[:, 0].tolist() == [0.5, 1, 0]
    assert isinstance(judge, Detailed)
    (table,) = judge.details(rows, 0.95)
    assert table.rows == (
        ("1", "It costs 30 euros.", "number 30"),
        ("3", "It was built in Rome.", "name Rome"),
    )


def test_the_context_may_be_the_prompt_and_must_be_there() -> None:
    row = Outcome("7", TOWER, "", "It is 330 metres tall.")
    assert made("groundedness", {"column": "prompt"}).stats([row])[0, 0] == 1
    with pytest.raises(InputError, match=r"E110: row 7 has no text in the column context"):
        made("groundedness", {}).stats([row])
