"""Finds personal data and keys in a text: what looks like one, and passes the test that such a number has.

    "Mail bob@example.com or call +41 44 668 18 00"  ->  email "bob@example.com", phone "+41446681800"

This is the only file that imports python-stdnum and phonenumbers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sartor.data.keys import KEYS

Kind = Literal["email", "phone", "iban", "card", "ip", "url", "ssn", "key"]
WORDS: dict[str, str] = {
    "email": "an e-mail address",
    "phone": "a phone number",
    "iban": "a bank account (IBAN)",
    "card": "a card number",
    "ip": "an IP address",
    "url": "a web address",
    "ssn": "a social security number",
    "key": "a key or token",
}
URL = re.compile(
    r"(?:https?|ftp)://[^\s<>\"'`{}|\\^\[\]]+|(?<![\w@.])www\.[A-Za-z0-9-]+\.[^\s<>\"'`{}|\\^\[\]]+", re.IGNORECASE
)
URL_END = ".,;:!?)"
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9@-])"
)
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
CARD = re.compile(r"(?<![\w.+-])[3-6]\d(?:[ -]?\d){11,17}(?![\w]|[.,-]\d)")
CARD_BRANDS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
"""Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay."""
IP4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
VERSION = re.compile(r"(?:\bv|version|release|\bver\.?|build|section|§)\s*$", re.IGNORECASE)
IP6 = re.compile(
    r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:|:(?=:)){2,7}(?::|[0-9a-fA-F]{0,4})(?:[0-9a-fA-F]{1,4})?(?![\w:]|\.\d)"
)
SSN = {
    "us.ssn": re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    "ch.ssn": re.compile(r"(?<![\w.])756\.?\d{4}\.?\d{4}\.?\d{2}(?![\w.]*\d)"),
    "fr.nir": re.compile(r"(?<!\w)[12][ ]?\d{2}[ ]?[01]\d[ ]?\d[\dAB][ ]?\d{3}[ ]?\d{3}[ ]?\d{2}(?!\w)"),
    "es.dni": re.compile(r"(?<!\w)\d{8}-?[A-Z](?!\w)"),
    "it.codicefiscale": re.compile(r"(?<!\w)[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z](?!\w)"),
}
"""Module of python-stdnum -> how such a number is written."""
KEY = re.compile("|".join(pattern.decode() for pattern in KEYS.values()), re.ASCII)
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]{2,9} )?(?:ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END (?:[A-Z]{2,9} )?(?:ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
DIGITS = re.compile(r"(?:\d[^\d\n]{0,3}){6}\d")
PLACEHOLDER = re.compile(r"\[(?:EMAIL|PHONE|IBAN|CARD|IP|URL|SSN|KEY)_[0-9a-f]{6,16}\]")
"""What stands in place of a value."""


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a text."""

    begin: int
    end: int
    kind: str
    value: str
    """In one form for all ways to write it."""


Finder = Callable[[str], Iterator[Found]]


def finder(kinds: tuple[Kind, ...], regions: tuple[str, ...]) -> Callable[[str], list[Found]]:
    """A function that finds values of these kinds in a text, ascending; where two overlap, the one that begins first.

    `regions` are the countries (ISO 3166) whose phone numbers are found without their country code.
    """
    made: dict[str, Finder] = {
        "key": _keys,
        "url": _urls,
        "email": _emails,
        "iban": _ibans,
        "card": _cards,
        "ssn": _ssns,
        "ip": _ips,
        "phone": _phones(regions),
    }
    chosen = [made[kind] for kind in made if kind in kinds]

    def find(text: str) -> list[Found]:
        taken = [found.span() for found in PLACEHOLDER.finditer(text)]
        result: list[Found] = []
        for each in chosen:
            for found in each(text):
                if all(found.end <= begin or end <= found.begin for begin, end in taken):
                    taken.append((found.begin, found.end))
                    result.append(found)
        return sorted(result, key=lambda found: found.begin)

    return find


def _keys(text: str) -> Iterator[Found]:
    for pattern in (PRIVATE_KEY, KEY):
        yield from (Found(*found.span(), "key", found[0]) for found in pattern.finditer(text))


def _urls(text: str) -> Iterator[Found]:
    for found in URL.finditer(text):
        address = found[0].rstrip(URL_END)
        if found[0][len(address) :].startswith(")") and "(" in address:
            address += ")"
        yield Found(found.start(), found.start() + len(address), "url", address)


def _emails(text: str) -> Iterator[Found]:
    if "@" in text:
        yield from (Found(*found.span(), "email", found[0].lower()) for found in EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[Found]:
    at = 0
    while found := IBAN.search(text, at):
        from stdnum import iban

        # What follows an account number, such as a word in capitals, may look like a part of it.
        words = found[0].split(" ")
        beginnings = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        written = next((each for each in beginnings if iban.is_valid(each)), None)
        at = found.start() + len(written or words[0])
        if written is not None:
            yield Found(found.start(), at, "iban", iban.compact(written))


def _cards(text: str) -> Iterator[Found]:
    for found in CARD.finditer(text):
        from stdnum import luhn

        number = re.sub(r"\D", "", found[0])
        if CARD_BRANDS.fullmatch(number) and luhn.is_valid(number):
            yield Found(*found.span(), "card", number)


def _ssns(text: str) -> Iterator[Found]:
    for module, pattern in SSN.items():
        for found in pattern.finditer(text):
            from stdnum.util import get_cc_module

            country, name = module.split(".")
            rule = get_cc_module(country, name)
            if rule is not None and rule.is_valid(found[0]):
                yield Found(*found.span(), "ssn", rule.compact(found[0]))


def _ips(text: str) -> Iterator[Found]:
    for pattern in (IP4, IP6):
        for found in pattern.finditer(text):
            if VERSION.search(text, max(0, found.start() - 12), found.start()):
                continue
            try:
                address = ipaddress.ip_address(found[0])
            except ValueError:
                continue
            if address.is_global:
                yield Found(*found.span(), "ip", str(address))


def _phones(regions: tuple[str, ...]) -> Finder:
    """Numbers that can be dialled: with a country code, or written in the groups of a region."""

    def find(text: str) -> Iterator[Found]:
        if not DIGITS.search(text):
            return
        import phonenumbers
        from phonenumbers import Leniency, PhoneNumberFormat

        searches = [(None, Leniency.VALID), *((region, Leniency.STRICT_GROUPING) for region in regions)]
        for region, leniency in searches:
            if region is None and "+" not in text:
                continue
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency):
                written = match.raw_string
                grouped = written.startswith("+") or re.search(r"\d[^\d]+\d", written)
                if grouped and re.search(r"[\w.]$", text[: match.start]) is None:
                    value = phonenumbers.format_number(match.number, PhoneNumberFormat.E164)
                    opened = written.startswith("(") and ")" not in written
                    yield Found(match.start + opened, match.end, "phone", value)

    return find
