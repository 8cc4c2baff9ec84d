"""Answers that must be valid by a JSON schema. The only file that imports llguidance.

Before each token is chosen, those that no valid answer goes on with are ruled out, so a finished answer is always valid.
"""

from __future__ import annotations

import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sartor.errors import InputError, Problem

if TYPE_CHECKING:
    from sartor.tokens.render import Renderer

WRITTEN = {"whitespace_pattern": "[ \\n]?"}
"""One space or line end at most between two parts, so that no answer is made of spaces."""


def _library() -> ModuleType:
    try:
        import llguidance
        import llguidance.numpy
    except ModuleNotFoundError as error:
        what = "answers by a schema need llguidance, which is not installed"
        raise InputError(Problem("V110", what, fix='pip install "sartor[serve]"')) from error
    return llguidance


class Grammars:
    """Makes a constraint for each answer; the tokenizer is read once."""

    def __init__(self, renderer: Renderer, vocabulary: int) -> None:
        self._library = _library()
        self._size = vocabulary
        ends = sorted(renderer.stop_ids)
        self._ends = np.array(ends, dtype=np.int64)
        self._tokens = self._library.LLTokenizer(
            renderer.vocabulary.tokenizer_with(()).to_str(), n_vocab=vocabulary, eos_token=ends
        )

    def constraint(self, schema: str) -> Constraint:
        """Raises InputError V111 for a schema that is none, or that holds what cannot be followed."""
        try:
            grammar = self._library.LLMatcher.grammar_from_json_schema(json.loads(schema), defaults=WRITTEN)
        except ValueError as error:
            raise InputError(Problem("V111", f"this is no JSON schema: {error}")) from error
        matcher = self._library.LLMatcher(self._tokens, grammar)
        if matcher.is_error():
            raise InputError(Problem("V111", f"the schema cannot be followed: {matcher.get_error().splitlines()[0]}"))
        return Constraint(self._library, matcher, self._size, self._ends)


class Constraint:
    """What one answer may go on with.

    Args:
        library: llguidance.
        matcher: of the grammar, where the answer stands.
        size: of the vocabulary.
        ends: tokens that end an answer. Where a tokenizer does not call them special they are text to the grammar, which would let them
            into the middle of a string; so they are ruled out until the answer may be over.
    """

    def __init__(self, library: ModuleType, matcher: Any, size: int, ends: np.ndarray) -> None:
        self._matcher, self._tools, self._size, self._ends = matcher, library.numpy, size, ends
        self._mask: np.ndarray = library.numpy.allocate_token_bitmask(1, size)

    def rule_out(self, logits: torch.Tensor) -> None:
        """Set the logits [V] of tokens that may not come to -inf, in place."""
        self._tools.fill_next_token_bitmask(self._matcher, self._mask, 0)
        bits = np.unpackbits(self._mask[0].view(np.uint8), bitorder="little")[: self._size]
        if not self._matcher.is_accepting():
            bits[self._ends] = 0
        logits.masked_fill_(torch.from_numpy(bits == 0).to(logits.device), float("-inf"))

    def take(self, token: int) -> None:
        """The token that was chosen."""
        self._matcher.consume_token(token)
