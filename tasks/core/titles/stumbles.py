"""Takes out of a sentence what its speaker would not have written: fillers, repeats, and asides between commas."""

from collections.abc import Sequence
from functools import cache

from tasks.core.speech.punctuation import CLAUSE_FINAL, SENTENCE_FINAL
from tasks.core.speech.terms import tokens
from tasks.core.speech.wordlists import WordLists

LONGEST_REPEAT = 4
"""Most words that are said again in a row: "there was a, there was a time"."""
LONGEST_ASIDE = 4
"""Most words of an aside between commas: "you know", "to be honest"."""
DASHES = "-\u2013\u2014"
QUOTES = '"\u201c\u201d\u00ab\u00bb\u201e'


def token_of(word: str) -> str:
    """The first token of a written word, or "" if it has none."""
    return (tokens(word) or [""])[0]


def ends_clause(word: str) -> bool:
    """Whether a comma, another mark between clauses, or a dash follows the word."""
    return word.rstrip(QUOTES).endswith((*CLAUSE_FINAL, "\u2013", "\u2014")) or (word != "" and word in DASHES)


@cache
def _by_first(phrases: tuple[str, ...]) -> dict[str, list[tuple[str, ...]]]:
    """The words of phrases, by the first of them."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in phrases:
        parts = tuple(phrase.split())
        found.setdefault(parts[0], []).append(parts)
    return found


def starts_with(spoken: Sequence[str], phrases: Sequence[str]) -> int:
    """Number of words of the longest phrase that the words begin with."""
    first = spoken[0] if spoken else ""
    lengths = [len(parts) for parts in _by_first(tuple(phrases)).get(first, ()) if tuple(spoken[: len(parts)]) == parts]
    return max(lengths, default=0)


def fluent(words: Sequence[str], lists: WordLists) -> list[str]:
    """The words of a sentence without fillers, asides, and what is said twice because the speaker began anew."""
    kept = [word for word in _without_asides(words, lists) if token_of(word) not in lists.sounds]
    return _without_repeats(kept, lists)


def _without_asides(words: Sequence[str], lists: WordLists) -> list[str]:
    kept: list[str] = []
    was_aside = False
    for group in _groups(words):
        phrase = " ".join(token for word in group for token in tokens(word))
        is_aside = bool(kept) and len(group) <= LONGEST_ASIDE and _is_aside(phrase, lists)
        if not is_aside:
            if was_aside and _leads_on(kept[-1], group[0], lists):
                kept[-1] = kept[-1].rstrip(CLAUSE_FINAL)  # "it was, you know, empty"
            kept += group
        elif not ends_clause(group[-1]):
            kept[-1] = kept[-1].rstrip(CLAUSE_FINAL) + group[-1][len(group[-1].rstrip(SENTENCE_FINAL)) :]
        was_aside = is_aside
    return kept


def _leads_on(before: str, after: str, lists: WordLists) -> bool:
    """Whether a word belongs to the one after an aside, and its speaker has not begun anew."""
    verb = token_of(after)
    if verb in lists.finite or any(verb.endswith(ending) for ending in lists.past_endings):
        return True  # "nobody, and I mean nobody, stayed"
    begins = verb.partition("'")[0] in lists.first_person | lists.second_person | lists.backward
    return token_of(before) in lists.function_words | lists.finite and not begins


def _is_aside(phrase: str, lists: WordLists) -> bool:
    if any(phrase.startswith(f"{opening} ") for opening in lists.insisting):
        return True
    return (
        phrase in lists.sounds
        or phrase in lists.asides_between
        or phrase in lists.opening_phrases
        or phrase in lists.discourse
    )


def _groups(words: Sequence[str]) -> list[list[str]]:
    """The words between commas."""
    groups: list[list[str]] = [[]]
    for word in words:
        groups[-1].append(word)
        if ends_clause(word):
            groups.append([])
    return [group for group in groups if group]


def _without_repeats(words: Sequence[str], lists: WordLists) -> list[str]:
    kept: list[str] = []
    for word in words:
        kept.append(word)
        for length in range(min(LONGEST_REPEAT, len(kept) // 2), 0, -1):
            is_tag = length == 1 and token_of(kept[-3] if len(kept) > 2 else "") in lists.auxiliaries
            if not is_tag and _is_repeat(kept[-2 * length : -length], kept[-length:], lists):
                del kept[-2 * length : -length]
                break
    return kept


def _is_repeat(before: Sequence[str], after: Sequence[str], lists: WordLists) -> bool:
    """Whether words are said twice by mistake. A verb, or "that", may follow itself: "what it is is a gift"."""
    spoken = [token_of(word) for word in after]
    if not all(spoken) or [token_of(word) for word in before] != spoken:
        return False
    if len(spoken) > 1:
        return True
    begun_anew = before[0].endswith((",", "\u2026", "...", *DASHES))
    may_double = spoken[0] in lists.finite | lists.relatives
    return spoken[0] in lists.function_words and (begun_anew or not may_double)


def without_openers(words: Sequence[str], lists: WordLists) -> list[str]:
    """The words of a sentence without fillers and joining words at its start."""
    rest = list(words)
    while rest and (length := _opening(rest, lists)):
        rest = rest[length:]
    return rest


def _opening(words: Sequence[str], lists: WordLists) -> int:
    """Number of words at the start that say nothing: an opener, or one that does so only before a comma."""
    spoken = [token_of(word) for word in words[:8]]
    if starts_with(spoken, lists.kept_openings):
        return 0
    phrase = max(starts_with(spoken, lists.opening_phrases), starts_with(spoken, lists.asides_between))
    if phrase and ends_clause(words[phrase - 1]):
        return phrase
    if not spoken[0] or spoken[0] in lists.openers:
        return 1
    return int(spoken[0] in lists.asides and ends_clause(words[0]))
