"""Languages of texts."""

from __future__ import annotations

import pytest

from sartor.data.language import READ, UNKNOWN, identify

SAID = {
    "en": "The parcel has not arrived yet, and nobody answers the telephone.",
    "de": "Das Paket ist noch nicht angekommen, und niemand geht ans Telefon.",
    "fr": "Le colis n'est pas encore arrivé et personne ne répond au téléphone.",
    "es": "El paquete todavía no ha llegado y nadie contesta al teléfono.",
    "ru": "Посылка ещё не пришла, и никто не отвечает на звонки.",
    "zh": "包裹还没有到，也没有人接电话。",
    "ja": "荷物はまだ届いていませんし、誰も電話に出ません。",
}


@pytest.mark.parametrize("code", SAID)
def test_languages_are_told_apart(code: str) -> None:
    ((found, confidence),) = identify([SAID[code]])
    assert found == code
    assert 0.5 < confidence <= 1


def test_every_text_has_an_answer_in_its_place() -> None:
    found = identify(["", "  \n", "12 + 30 = 42", SAID["de"], "\ud7ff", "{}", SAID["en"].upper()])
    assert [code for code, _ in found[:4]] == [UNKNOWN, UNKNOWN, UNKNOWN, "de"]
    assert len(found) == 7
    assert found[-1][0] == "en"


def test_links_numbers_and_line_ends_do_not_count() -> None:
    text = f"https://example.org/the/english/path\n{SAID['fr']}\n12345 info@example.org"
    assert identify([text])[0][0] == "fr"


def test_a_long_text_is_read_in_part() -> None:
    assert identify([SAID["de"] * (READ // 20) + SAID["en"] * 1000])[0][0] == "de"
