"""Which texts of a collection answer a question, by the words they share: Okapi BM25.

    score(q, d) = sum over words w of q:  idf(w) * f(w, d) * (k1 + 1) / (f(w, d) + k1 * (1 - b + b * |d| / mean |d|))
    idf(w) = log(1 + (N - n(w) + 0.5) / (n(w) + 0.5))

N texts, n(w) of them with the word; f how often it stands in d, |d| words in d. Robertson and Zaragoza 2009, "The Probabilistic
Relevance Framework: BM25 and Beyond", equation 3.15, with the idf that is never negative. Words as `data/features.words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sartor.data.features import words

K1, B = 1.2, 0.75


class Index:
    """A collection that can be asked.

    Args:
        texts: the collection, N of them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        places: dict[str, list[int]] = {}
        counts: dict[str, list[int]] = {}
        lengths = np.zeros(len(texts))
        for place, text in enumerate(texts):
            said = words(text)
            lengths[place] = len(said)
            for word, count in Counter(said).items():
                places.setdefault(word, []).append(place)
                counts.setdefault(word, []).append(count)
        self._size = len(texts)
        self._norm = K1 * (1 - B + B * lengths / max(float(lengths.mean()) if len(texts) else 0.0, 1e-12))
        self._places = {word: np.array(found, np.int64) for word, found in places.items()}
        self._counts = {word: np.array(found, np.float64) for word, found in counts.items()}

    def scores(self, question: str) -> NDArray[np.float64]:
        """[N] the score of each text; a word that the question has twice counts twice."""
        found = np.zeros(self._size)
        for word, times in Counter(words(question)).items():
            places = self._places.get(word)
            if places is None:
                continue
            often = self._counts[word]
            idf = np.log(1 + (self._size - len(places) + 0.5) / (len(places) + 0.5))
            found[places] += times * idf * often * (K1 + 1) / (often + self._norm[places])
        return found

    def best(self, question: str, k: int) -> list[int]:
        """Places of the k best texts, the best first; only those that share a word, the earlier one of equals first."""
        scores = self.scores(question)
        order = np.argsort(-scores, kind="stable")[:k]
        return [int(place) for place in order if scores[place] > 0]
