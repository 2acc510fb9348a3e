"""The topics of a talk, from the words of its sentences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.choice.windows import Floats, Ints, Windows

VOCABULARY = 1500
"""Number of terms that describe topics: the most common ones that occur in at least two sentences."""
TILING_SENTENCES = 8
"""Sentences to compare on each side of a possible change of topic (TextTiling, Hearst 1997)."""


@dataclass(frozen=True)
class Topics:
    """Cumulative bags of content words: `cumulative` is (sentences + 1, terms), float32."""

    cumulative: NDArray[np.float32]
    density: Floats
    """Sum of inverse document frequencies of the words of each sentence."""

    @classmethod
    def of(cls, stems: Sequence[Sequence[str]]) -> "Topics":
        count = len(stems)
        spread = Counter(term for sentence in stems for term in set(sentence))
        weight = {term: float(np.log((count + 1) / (df + 0.5))) for term, df in spread.items()}
        terms = [term for term, df in spread.most_common(VOCABULARY * 2) if df > 1][:VOCABULARY]
        column = {term: i for i, term in enumerate(terms)}
        bags = np.zeros((count + 1, len(terms)), np.float32)
        for row, sentence in enumerate(stems, start=1):
            for term in sentence:
                if term in column:
                    bags[row, column[term]] += weight[term]
        density = np.array([sum(weight[term] for term in sentence) for sentence in stems])
        return cls(np.cumsum(bags, axis=0, dtype=np.float32), density)

    def boundaries(self) -> Floats:
        """How deep the change of topic is before each sentence and after the last: (sentences + 1,), 0 or more."""
        count = len(self.cumulative) - 1
        at = np.arange(count + 1)
        before = self.cumulative[at] - self.cumulative[np.maximum(at - TILING_SENTENCES, 0)]
        after = self.cumulative[np.minimum(at + TILING_SENTENCES, count)] - self.cumulative[at]
        similarity = _cosine(before, after)
        similarity[0] = similarity[-1] = 0.0
        reach = TILING_SENTENCES
        left = np.array([similarity[max(i - reach, 0) : i + 1].max() for i in at])
        right = np.array([similarity[i : i + reach + 1].max() for i in at])
        return left + right - 2 * similarity

    def similarity(self, windows: Windows, pick: int) -> Floats:
        """Cosine similarity of each window's words to those of window `pick`, 0 to 1."""
        vector = self.cumulative[windows.last[pick] + 1] - self.cumulative[windows.first[pick]]
        along = self.cumulative @ vector
        dots = (along[windows.last + 1] - along[windows.first]).astype(np.float64)
        norms = self.norms(windows)
        return dots / np.maximum(norms * norms[pick], 1e-9)

    def centrality(self, windows: Windows) -> Floats:
        """Cosine similarity of each window's words to those of the whole talk, 0 to 1."""
        whole = self.cumulative[-1]
        along = (self.cumulative @ whole).astype(np.float64)
        length = float(np.linalg.norm(whole))
        return (along[windows.last + 1] - along[windows.first]) / np.maximum(self.norms(windows) * length, 1e-9)

    def norms(self, windows: Windows) -> Floats:
        """Length of each window's bag of words."""
        parts = [
            np.linalg.norm(self.cumulative[last + 1] - self.cumulative[first], axis=1)
            for first, last in zip(_batches(windows.first), _batches(windows.last), strict=True)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def _batches(values: Ints, size: int = 2048) -> list[Ints]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    dots = np.einsum("ij,ij->i", a, b).astype(np.float64)
    return dots / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9)
