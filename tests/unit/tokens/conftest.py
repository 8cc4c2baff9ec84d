"""Tiny models of every family, made once."""

from __future__ import annotations

from functools import cache

import pytest
from unit.tokens.families import FAMILIES, Model, load, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """model(kind, family name) -> Model; kinds: bytes, unigram, fallback, legacy."""

    @cache
    def make(kind: str, name: str) -> Model:
        return load(write_model(tmp_path_factory.mktemp(f"{name}-{kind}"), kind, FAMILIES[name]), FAMILIES[name])

    return make
