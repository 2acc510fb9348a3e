"""The words of a source by time."""

from collections.abc import Sequence

from tasks.core.transcript import Word


def words_between(words: Sequence[Word], start: float, end: float) -> tuple[int, Sequence[Word]]:
    """Consecutive words that contain all those heard between two times, in seconds, and the place of the first.

    A document names words by their place, so words are not left out even if their times are out of order.
    """
    heard = [place for place, word in enumerate(words) if word.end > start and word.start < end]
    if not heard:
        return next((place for place, word in enumerate(words) if word.start >= start), len(words)), []
    return heard[0], words[heard[0] : heard[-1] + 1]
