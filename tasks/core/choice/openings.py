"""Which sentences never begin a clip: thanks, greetings, empty replies, and answers without their question.

And which never end one: questions that another answers.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.core.speech.terms import Line
from tasks.core.titles.clauses import standing_alone

ANSWER_SECONDS = 8.0
"""A sentence that begins later than this after a question is no answer to it."""
FEWEST_WORDS = 3
"""In a language without word lists, shorter sentences count as replies."""


def may_open(lines: Sequence[Line]) -> NDArray[np.bool_]:
    """Whether a clip may begin with each sentence: (sentences,)."""
    return np.array(
        [not is_empty(line) and not (i > 0 and _lacks_question(lines[i - 1], line)) for i, line in enumerate(lines)],
        np.bool_,
    )


def may_close(lines: Sequence[Line]) -> NDArray[np.bool_]:
    """Whether a clip may end with each sentence: (sentences,). Where the speakers are not known, with any."""
    asked = [_is_answered(line, after) for line, after in pairwise(lines)]
    return np.array([*(not answered for answered in asked), True][: len(lines)], np.bool_)


def _is_answered(line: Line, after: Line) -> bool:
    """Whether a sentence asks what another speaker then answers."""
    asks = [word.speaker for word in line.sentence.words[-1:]]
    answers = [word.speaker for word in after.sentence.words[:1]]
    follows = after.sentence.start - line.sentence.end <= ANSWER_SECONDS
    return line.is_question and follows and asks != answers and None not in asks + answers


def is_empty(line: Line) -> bool:
    """Whether a sentence says nothing by itself: it thanks, greets, agrees or only announces that speech follows."""
    words, lists = line.words, line.lists
    if lists is None:
        return len(words) < FEWEST_WORDS and line.sentence.text.isascii() and not line.is_question
    openers = lists.openers | lists.discourse
    begins = next((i for i, word in enumerate(words) if word not in openers), len(words))
    texts = [f"{' '.join(words[i:])} " for i in range(begins + 1)]
    is_polite = any(text.startswith(f"{phrase} ") for text in texts for phrase in lists.courtesies)
    return is_polite or lists.replies.issuperset(words[begins:])


def _lacks_question(before: Line, line: Line) -> bool:
    """Whether a sentence answers the question before it, and does not stand alone."""
    follows = line.sentence.start - before.sentence.end <= ANSWER_SECONDS
    if not (before.is_question and follows) or line.is_question:
        return False
    return not any(clause.whole for clause in standing_alone([line.sentence.text], line.lists))
