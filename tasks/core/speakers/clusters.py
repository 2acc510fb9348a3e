"""Groups voice prints into speakers."""

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.4
"""Least mean cosine of two groups that are one speaker. On nine recordings, pieces of three seconds of one speaker
have 0.44 to 0.93, those of two at most 0.24."""
LEAST_SECONDS = 3.0
"""A group that speaks for less joins the one that it is most like: laughter and crosstalk are nobody's voice."""
MOST_SPEAKERS = 20
"""Groups that speak for less than these join others too: four hours take 17 MB of memory a speaker."""
_AT_ONCE = 200
"""Prints that are grouped at once. The groups of all such parts are then grouped themselves."""

Prints = NDArray[np.float32]
"""Unit vectors, shape (prints, length)."""


def speakers(prints: Prints, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The speaker of each print, from 0: the one who speaks longest. `seconds` is how long each voice speaks."""
    labels = np.empty(len(prints), np.int64)
    groups = 0
    for begin in range(0, len(prints), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        found = _grouped(prints[part], seconds[part])
        labels[part] = groups + found
        groups += int(found.max(initial=-1)) + 1
    if len(prints) > _AT_ONCE:
        lengths = np.bincount(labels, seconds).astype(np.float64)
        labels = _grouped(_means(prints, seconds, labels), lengths)[labels]
    return _by_length(_without_small(prints, seconds, labels), seconds)


def _grouped(prints: Prints, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Average linkage: the two most similar groups become one until none are ALIKE."""
    labels, weights, similar = np.arange(len(prints)), seconds.copy(), prints @ prints.T
    np.fill_diagonal(similar, -np.inf)
    while len(prints) > 1:
        one, other = np.unravel_index(int(similar.argmax()), similar.shape)
        if similar[one, other] < ALIKE:
            break
        joined = (weights[one] * similar[one] + weights[other] * similar[other]) / (weights[one] + weights[other])
        similar[one], similar[:, one] = joined, joined
        similar[other], similar[:, other], similar[one, one] = -np.inf, -np.inf, -np.inf
        weights[one] += weights[other]
        labels[labels == other] = one
    return np.unique(labels, return_inverse=True)[1]


def _means(prints: Prints, seconds: NDArray[np.float64], labels: NDArray[np.int64]) -> Prints:
    """The mean print of each group, as a unit vector."""
    sums = np.zeros((int(labels.max(initial=-1)) + 1, prints.shape[1]))
    np.add.at(sums, labels, prints * seconds[:, None])
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def _without_small(prints: Prints, seconds: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    lengths = np.bincount(labels, seconds)
    longest = np.argsort(-lengths, kind="stable")[:MOST_SPEAKERS]
    large = np.sort(longest[lengths[longest] >= LEAST_SECONDS])
    if not len(large):
        return np.zeros_like(labels)
    means = _means(prints, seconds, labels)
    nearest = large[(means @ means[large].T).argmax(axis=1)]
    return np.where(np.isin(labels, large), labels, nearest[labels])


def _by_length(labels: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    kept, inverse = np.unique(labels, return_inverse=True)
    order = np.argsort(-np.bincount(inverse, seconds, minlength=len(kept)), kind="stable")
    return np.argsort(order)[inverse]
