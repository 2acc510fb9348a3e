"""Differences between writing systems: combining marks, line breaks, direction."""

import unicodedata
from collections.abc import Sequence
from itertools import accumulate, pairwise

import regex

from tasks.core.speech.punctuation import CLAUSE_FINAL, SENTENCE_FINAL
from tasks.core.transcript import Word

RIGHT_TO_LEFT = frozenset(("ar", "fa", "he", "ps", "sd", "ur", "yi"))
"""Whisper's right-to-left languages."""
UNSPACED = regex.compile(
    r"[\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Tibetan}\p{Han}\p{Hiragana}\p{Katakana}\u3001-\u303f]"
)
"""A character in a script without spaces between words."""
TOKEN = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*(?:['\u2019-][\p{L}\p{N}][\p{L}\p{N}\p{M}]*)*")
"""A word: letters and digits with their combining marks, which `\\w` does not match."""

_RIGHT_TO_LEFT_MARK, _LEFT_TO_RIGHT_MARK = "\u200f", "\u200e"
# UAX 29 ends a cluster before these, but a line must not begin with them: spacing vowels (Burmese ones are marks),
# Thai and Lao vowels and signs that follow their consonant, small kana, Burmese finals, closing punctuation.
_TAIL = regex.compile(
    r"[\p{M}\u0e30\u0e32\u0e33\u0e45\u0e46\u0e2f\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6\u0eaf\u200c\u200d]"
    r"|[\u1000-\u1021]\u103a|[ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶー々]"
    rf"|[\p{{Pe}}\p{{Pf}}{SENTENCE_FINAL}{CLAUSE_FINAL}．・%\u0f0b]"  # noqa: RUF001 of Japanese
)
# A line must not end with these: Thai and Lao vowels written before their consonant, stackers, opening punctuation.
_HEAD = regex.compile(r"[\u0e40-\u0e44\u0ec0-\u0ec4\u1039\u17d2\u200d\p{Ps}\p{Pi}]$")
# These continue a letter: marks, Thai and Lao am, joiners, skin tones, tags, Korean vowels and finals.
_INSIDE = regex.compile(r"[\p{M}\u0e33\u0eb3\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u1160-\u11ff]")
_OPEN = regex.compile(r"[\u200d\u1039\u17d2]$")
_FLAG = regex.compile(r"\p{Regional_Indicator}")
_HALF_A_FLAG = regex.compile(r"(?<!\p{Regional_Indicator})(?:\p{Regional_Indicator}{2})*\p{Regional_Indicator}$")
_GREEK, _CASED = regex.compile(r"\p{Greek}"), regex.compile(r"[\p{Latin}\p{Cyrillic}\p{Armenian}]")
_DOTTED_I = ("az", "tr")
_WRITTEN = regex.compile(r"[\p{L}\p{N}]")


def clusters(text: str) -> list[str]:
    """Split text into the smallest pieces between which a line may break: letters with their marks and punctuation."""
    found: list[str] = []
    for cluster in regex.findall(r"\X", text):
        if found and (_TAIL.match(cluster) or _HEAD.search(found[-1])):
            found[-1] += cluster
        else:
            found.append(cluster)
    return found


def continues(before: str, after: str) -> bool:
    """Whether `after` continues the last letter of `before`: Whisper's tokens are bytes and may split a letter."""
    if not before or not after or before[-1].isspace():
        return False
    return bool(_INSIDE.match(after) or _OPEN.search(before) or (_FLAG.match(after) and _HALF_A_FLAG.search(before)))


def whole_letters(words: Sequence[Word]) -> list[Word]:
    """Join words that were split within a letter."""
    whole: list[Word] = []
    for word in words:
        if whole and continues(whole[-1].word, word.word):
            before = whole[-1]
            joined = {"word": before.word + word.word, "end": max(word.end, before.end)}
            whole[-1] = before.model_copy(update=joined)
        else:
            whole.append(word)
    return whole


def one_byte_per_letter(text: str) -> bytes:
    """The text as one byte per character, to make lengths comparable between scripts."""
    return bytes(ord(c) & 0xFF for c in text)


def regroup(words: Sequence[Word], pieces: Sequence[str]) -> list[Word]:
    """Regroup the text of `words` into `pieces`, each with the times of its letters, and whoever speaks the first.

    Args:
        words: in order; their joined texts equal the joined pieces.
        pieces: none empty.
    """
    letters = [(word, start, end) for word in words for start, end in _letter_times(word)]
    edges = [0, *accumulate(len(piece) for piece in pieces)]
    return [
        letters[a][0].model_copy(update={"word": piece, "start": letters[a][1], "end": letters[b - 1][2]})
        for piece, (a, b) in zip(pieces, pairwise(edges), strict=True)
    ]


def _letter_times(word: Word) -> list[tuple[float, float]]:
    """Start and end of each character, assuming equal durations."""
    step = (word.end - word.start) / len(word.word)
    return [(word.start + i * step, word.start + (i + 1) * step) for i in range(len(word.word))]


def runs_right_to_left(text: str, language: str) -> bool:
    """Whether a line in this language runs from right to left.

    In a right-to-left language, one right-to-left letter is enough; in any other, most letters must be.
    """
    kinds = [unicodedata.bidirectional(c) for c in text]
    right, left = sum(kind in ("R", "AL") for kind in kinds), kinds.count("L")
    return right > 0 if language in RIGHT_TO_LEFT else right > left


def direction_mark(line: str, *, right_to_left: bool) -> str:
    """An invisible mark if the line's first letter would give it the wrong direction, else ""."""
    first = next((kind for c in line if (kind := unicodedata.bidirectional(c)) in ("L", "R", "AL")), None)
    if first is None or (first != "L") == right_to_left:
        return ""
    return _RIGHT_TO_LEFT_MARK if right_to_left else _LEFT_TO_RIGHT_MARK


def capitals(text: str, language: str) -> str:
    """The text in capitals, in scripts that are written in them. Georgian has them, but no line of text uses them.

    Turkic languages keep the dot of their i; Greek capitals have no accent.
    """
    if language in _DOTTED_I:
        text = text.replace("i", "\u0130")
    return "".join(_capital(c) for c in text)


def _capital(letter: str) -> str:
    if _GREEK.match(letter):
        return unicodedata.normalize("NFC", unicodedata.normalize("NFD", letter).replace("\u0301", "")).upper()
    return letter.upper() if _CASED.match(letter) else letter


def has_letters(text: str) -> bool:
    """Whether the text contains a letter or digit."""
    return bool(_WRITTEN.search(text))
