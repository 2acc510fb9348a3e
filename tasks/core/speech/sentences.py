"""Build sentences from recognised words, in any script and with any punctuation.

Recognised words are untrusted: they may be unsorted, overlapping, empty, or have times that are not finite.
The sentences are sorted, do not overlap and are never empty.
"""

import bisect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import regex

from infra.untrusted_text import JOINERS, WORD_BREAK, harmless
from tasks.core.speech.punctuation import OPENERS, ends_sentence, final_marks
from tasks.core.speech.wordlists import abbreviations
from tasks.core.speech.writing_systems import UNSPACED, clusters, whole_letters
from tasks.core.transcript import Segment, Sentence, Word

PAUSE_SECONDS = 0.6
"""Shortest pause that ends an unpunctuated sentence."""
TURN_SECONDS = 0.2
"""Shortest pause between two words of different speakers that ends a sentence."""
BREAK_SECONDS = 2.5
"""A pause this long always ends a sentence."""
LONGEST_SECONDS = 20.0
"""Longer runs count as unpunctuated: spoken sentences last 3 to 8 seconds."""
PART_SECONDS = 12.0
"""Longest part of an unpunctuated run, short enough to give clips suitable ends."""
EDGE_SHARE = 0.25
"""An unpunctuated run without pauses is cut at its widest gap that is at least this share of it away from its ends."""

_MARK = regex.compile(r"\p{P}\Z")
_INITIALS = re.compile(r"^(?:[^\W\d_]\.)+$")


def sentences(segments: list[Segment]) -> list[Sentence]:
    """The sentences of a transcript in order; empty without speech.

    Punctuation ends a sentence, and so does a turn; without them, a pause does, or finally the maximum length.
    """
    words = ordered_words(segments)
    runs = _split(words, lambda i: ends_a_sentence(words, i) or _gap(words, i) >= BREAK_SECONDS)
    punctuated = any(ends_sentence(word.word) for word in words)
    language_at = _language_by_time(segments)
    return [_sentence(part, language_at) for run in runs for part in _split_long(run, punctuated=punctuated)]


def _language_by_time(segments: list[Segment]) -> Callable[[float], str | None]:
    """A function that returns the language of the segment at a time."""
    timed = [segment for segment in segments if math.isfinite(segment.start)]
    ordered = sorted(timed, key=lambda segment: segment.start)
    starts = [segment.start for segment in ordered]
    return lambda time: ordered[max(bisect.bisect(starts, time) - 1, 0)].language if ordered else None


def ordered_words(segments: Iterable[Segment]) -> list[Word]:
    """The words of all segments, sanitised and sorted, each ending by the start of the next."""
    raw = [word for segment in segments for word in (segment.words or _evenly_spread(segment))]
    clean = [
        w.model_copy(update={"word": text, "start": max(w.start, 0.0), "end": max(w.end, w.start, 0.0)})
        for w in raw
        if (text := _clean(w))
    ]
    clean.sort(key=lambda word: (word.start, word.end))
    merged: list[Word] = []
    for word in whole_letters(clean):
        if merged and not any(char.isalnum() for char in word.word):
            merged[-1] = merged[-1].model_copy(update={"word": merged[-1].word + word.word})
        else:
            merged.append(word)
    for i, (word, following) in enumerate(pairwise(merged)):
        if word.end > following.start:
            merged[i] = word.model_copy(update={"end": following.start})
    return merged


def join(words: Iterable[str]) -> str:
    """Join words to running text, with spaces in scripts that use them."""
    text = ""
    for word in words:
        glued = not text or (UNSPACED.match(word) and UNSPACED.search(text[-2:]))
        text += word if glued else f" {word}"
    return text


def _clean(word: Word) -> str:
    if not (math.isfinite(word.start) and math.isfinite(word.end)):
        return ""
    return " ".join(harmless(word.word, JOINERS + WORD_BREAK).split())


def _evenly_spread(segment: Segment) -> list[Word]:
    """Words of a segment that has no word times, spread over it in proportion to their length."""
    pieces: list[str] = [
        piece
        for token in segment.text.split()
        for piece in (_unspaced_pieces(token) if UNSPACED.search(token) else [token])
    ]
    if not (math.isfinite(segment.start) and math.isfinite(segment.duration)) or not pieces:
        return []
    scale = max(segment.duration, 0.0) / sum(len(piece) for piece in pieces)
    words: list[Word] = []
    start = segment.start
    for piece in pieces:
        end = start + len(piece) * scale
        words.append(Word(word=piece, start=start, end=end))
        start = end
    return words


def _unspaced_pieces(token: str) -> list[str]:
    """Split scripts without spaces into single letters; keep everything else whole."""
    pieces: list[str] = []
    for cluster in clusters(token):
        if pieces and not UNSPACED.search(pieces[-1]) and not UNSPACED.match(cluster):
            pieces[-1] += cluster
        else:
            pieces.append(cluster)
    return pieces


def _gap(words: Sequence[Word], i: int) -> float:
    return words[i + 1].start - words[i].end if i + 1 < len(words) else 0.0


def ends_a_sentence(words: Sequence[Word], i: int) -> bool:
    """Whether a sentence ends with the word: unlike "Mr." before a name, and "2." before "5"."""
    if ends_turn(words, i):
        return True
    text = words[i].word
    found = final_marks(text)
    if not found:
        return False
    following = words[i + 1].word if i + 1 < len(words) else ""
    marks = found["marks"]
    if marks != found[0].rstrip() and following[:1].islower():
        return False  # "Is it so?" he asked.
    if marks in ("…", "...", ".."):
        return not following[:1].islower()
    if marks != ".":
        return True
    return not _is_inner_stop(text[: found.start()].strip(OPENERS).casefold(), following, _gap(words, i))


def ends_turn(words: Sequence[Word], i: int) -> bool:
    """Whether another speaks next, after a mark or a pause: in the middle of a phrase, the voice was misjudged."""
    if (
        i + 1 == len(words)
        or words[i].speaker == words[i + 1].speaker
        or None in (words[i].speaker, words[i + 1].speaker)
    ):
        return False
    return _gap(words, i) >= TURN_SECONDS or _MARK.search(words[i].word) is not None


def sentence_starts(words: Sequence[Word]) -> list[float]:
    """When sentences begin among words in their order."""
    return [word.start for i, word in enumerate(words) if not i or ends_a_sentence(words, i - 1)]


def _is_inner_stop(stem: str, following: str, gap: float) -> bool:
    """Whether the full stop between `stem` and `following`, `gap` seconds later, does not end a sentence."""
    known = abbreviations()
    if stem in known.never_last:
        return bool(following)
    if stem in known.before_number or stem[-1:].isdigit():
        return following[:1].isdigit() and gap < 0.1
    if len(stem) == 1 and stem.isalpha() and stem != "i":
        return bool(following) and gap < 0.25
    if stem in known.before_capital or _INITIALS.match(f"{stem}."):
        return following[:1].islower()
    return False


def _split(words: list[Word], ends_after: Callable[[int], bool]) -> list[list[Word]]:
    runs: list[list[Word]] = []
    start = 0
    for i in range(len(words)):
        if i + 1 == len(words) or ends_after(i):
            runs.append(words[start : i + 1])
            start = i + 1
    return runs


def _split_long(run: list[Word], *, punctuated: bool) -> list[list[Word]]:
    """Split a run that is too long in spite of punctuation, or any run if there is no punctuation."""
    if punctuated and run[-1].end - run[0].start <= LONGEST_SECONDS:
        return [run]
    return [part for phrase in _split(run, lambda i: _gap(run, i) >= PAUSE_SECONDS) for part in _split_at_gaps(phrase)]


def _split_at_gaps(run: list[Word]) -> list[list[Word]]:
    """Split a run at its widest gaps until every part is short enough. Iterative, because runs have no length limit."""
    done: list[list[Word]] = []
    todo = [run]
    while todo:
        part = todo.pop()
        if part[-1].end - part[0].start <= PART_SECONDS or len(part) < 2:
            done.append(part)
            continue
        edge = int(len(part) * EDGE_SHARE)
        inner = range(edge, max(len(part) - 1 - edge, edge + 1))
        middle = len(part) / 2
        cut = max(inner, key=lambda i: (round(_gap(part, i), 3), -abs(i + 1 - middle)))
        todo += [part[cut + 1 :], part[: cut + 1]]
    return done


def _sentence(words: list[Word], language_at: Callable[[float], str | None]) -> Sentence:
    text = join(word.word for word in words)
    language = language_at(words[len(words) // 2].middle)
    return Sentence(text=text, start=words[0].start, end=words[-1].end, words=words, language=language)
