"""Finds phrases in scripts without spaces with BudouX: units that should stay on one line."""

import functools
from collections.abc import Callable, Sequence

import budoux
import regex

from tasks.core.speech.writing_systems import clusters, regroup, whole_letters
from tasks.core.transcript import Word

PAUSE = 0.6
"""Shortest silence in seconds that always ends a phrase."""

_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_UNSPACED_RUN = regex.compile(r"[\p{Thai}\p{Han}\p{Hiragana}\p{Katakana}\p{M}、。，．！？：；「」『』・ー]+")  # noqa: RUF001
_SCRIPTS = regex.compile(r"(?P<thai>\p{Thai})|(?P<han>[\p{Han}\p{Hiragana}\p{Katakana}])")


def reading_phrases(words: Sequence[Word]) -> list[Word]:
    """Join Thai, Chinese and Japanese words into phrases, because the recogniser returns tokens for those scripts.

    Words in other scripts stay unchanged. A phrase keeps the times of its characters.
    """
    whole = whole_letters(words)
    read: list[Word] = []
    begin = 0
    while begin < len(whole):
        end = begin + 1
        while end < len(whole) and _same_run(whole[end - 1], whole[end]):
            end += 1
        read += _phrases(whole[begin:end])
        begin = end
    return read


def _same_run(before: Word, after: Word) -> bool:
    return _is_unspaced(before) and _is_unspaced(after) and after.start - before.end < PAUSE


def _is_unspaced(word: Word) -> bool:
    return bool(_UNSPACED_RUN.fullmatch(word.word))


def _phrases(run: Sequence[Word]) -> list[Word]:
    if not _is_unspaced(run[0]):
        return list(run)
    text = "".join(word.word for word in run)
    phrases: list[str] = []
    for phrase in _parser(text)(text):
        if phrases and not _may_separate(phrases[-1], phrase):
            phrases[-1] += phrase
        else:
            phrases.append(phrase)
    return regroup(run, phrases)


def _may_separate(before: str, after: str) -> bool:
    return len(clusters(before[-1] + after[0])) > 1


def _parser(text: str) -> Callable[[str], list[str]]:
    found = _SCRIPTS.search(text)
    if found is None:
        return lambda whole: [whole]
    return _model("thai" if found["thai"] else "japanese" if _KANA.search(text) else "chinese").parse


@functools.cache
def _model(name: str) -> budoux.Parser:
    return {
        "thai": budoux.load_default_thai_parser,
        "japanese": budoux.load_default_japanese_parser,
        "chinese": budoux.load_default_simplified_chinese_parser,
    }[name]()
