"""A title and a hook for a clip, taken from its words.

A title is the strongest main clause that stands alone: one that claims, asks or contrasts, with words typical of the
clip rather than of the whole talk. Where no clause stands alone, it is a label made of the clip's key phrases. Neither
is ever a fragment of a sentence.
"""

import math
from collections.abc import Sequence

from tasks.core.speech.punctuation import ends_question
from tasks.core.speech.terms import stem, tokens
from tasks.core.speech.wordlists import WordLists, word_lists
from tasks.core.titles.clauses import EDGE, Clause, cleaned, sentence_case, standing_alone
from tasks.core.titles.key_phrases import label, term_weights
from tasks.core.titles.noun_phrases import telling_phrases

MAX_TITLE_CHARS = 60
MAX_HOOK_CHARS = 120
LATER = 0.12
"""What a line loses as a hook with each sentence before it."""
GOOD_WORDS = range(5, 11)
"""Number of words in a good title: longer than a label, shorter than a paragraph."""
WEAKEST = 0.0
"""Strength below which a clause says less than a label."""
PHRASE_COST = 0.2
"""What a phrase lacks to a whole clause."""


def headline(text_sentences: Sequence[str], talk_sentences: Sequence[str], language: str) -> str:
    """A title of at most 60 characters from a clip's whole sentences, or "" if they have no words.

    `talk_sentences` are those of the whole talk; words common in it say little about the clip.
    """
    lists = word_lists(language)
    weights = term_weights(text_sentences, talk_sentences, lists)
    strength, best = next(iter(rated(text_sentences, weights, lists)), (-math.inf, ""))
    if strength >= WEAKEST or (best and lists is None):
        return best
    return label(text_sentences, weights, lists, MAX_TITLE_CHARS) or best


def rated(text_sentences: Sequence[str], weights: dict[str, float], lists: WordLists | None) -> list[tuple[float, str]]:
    """Everything that may be a title with its strength, the strongest first."""
    clauses = [clause for clause in standing_alone(text_sentences, lists) if len(clause.text) <= MAX_TITLE_CHARS]
    told = " | ".join(clause.text.casefold() for clause in clauses)
    phrases = (one for one in telling_phrases(text_sentences, lists) if one.text.casefold() not in told)
    found = [
        *((_strength(clause, weights, lists), clause.text) for clause in clauses),
        *((_strength(phrase, weights, lists) - PHRASE_COST, phrase.text) for phrase in phrases),
    ]
    return sorted(((s, text) for s, text in found if 0 < len(text) <= MAX_TITLE_CHARS), key=lambda one: -one[0])


def hook(text_sentences: Sequence[str], language: str, title: str = "") -> str:
    """A strong early line of a clip, at most 120 characters and not the one used as title; else its opening words."""
    lists = word_lists(language)
    weights = term_weights(text_sentences, text_sentences, lists)
    used = title.casefold()
    opening = next((text for raw in text_sentences if tokens(text := cleaned(raw))), "")
    best, best_strength = shorten(sentence_case(opening), MAX_HOOK_CHARS), -math.inf
    for clause in standing_alone(text_sentences, lists):
        line = clause.text
        if not line or len(line) > MAX_HOOK_CHARS or (used and (used in line.casefold() or line.casefold() in used)):
            continue
        strength = _strength(clause, weights, lists) - LATER * clause.place
        if strength > best_strength:
            best, best_strength = line, strength
    return best


def fallback_title(index: int) -> str:
    """A neutral title for a clip whose words yield none."""
    return f"Clip {index}"


def shorten(text: str, limit: int) -> str:
    """The text on one line of at most `limit` characters, cut between words and ending in an ellipsis if cut."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    head = line[: limit - 1]
    if " " in head and not line[limit - 1].isspace():
        head = head[: head.rindex(" ")]
    return head.rstrip(EDGE) + "\u2026"


def _strength(clause: Clause, weights: dict[str, float], lists: WordLists | None) -> float:
    """How good a title the clause makes: what it names and claims, less what it leaves open.

    The numbers are those of a linear fit to some hundred candidates that were judged by the rule of the tests.
    """
    words = tokens(clause.text)
    if not words:
        return -math.inf
    topical = sorted((weights.get(term, 0.0) for term in {stem(word) for word in words}), reverse=True)
    score = 0.05 * sum(topical[:3]) + 0.1 * clause.whole - 0.25 * (clause.place == 0)
    score -= 0.2 * max(GOOD_WORDS.start - len(words), 0) + 0.05 * max(len(words) - GOOD_WORDS.stop + 1, 0)
    score -= 0.17 * clause.text.count(",")
    return score if lists is None else score + _told(words, clause, lists)


def _told(words: Sequence[str], clause: Clause, lists: WordLists) -> float:
    """The part of the strength that needs word lists."""
    spoken, first = set(words), words[0].partition("'")[0]
    padded = f" {' '.join(words)} "
    telling = [word for word in words if word not in lists.meaningless | lists.finite | lists.vague and len(word) > 1]
    is_negated = any(word in lists.negations for word in words)
    counts = any(part in lists.number_words or part[:1].isdigit() for word in words for part in word.split("-"))
    score = 0.11 * min(len(telling), 6) + 0.12 * is_negated + 0.1 * counts
    score += 0.12 * min(len(lists.claim & spoken), 2) + 0.16 * any(
        f" {phrase} " in padded for phrase in lists.claim_phrases
    )
    score += 0.05 * ends_question(clause.text) + 0.05 * (
        ends_question(clause.text) and not lists.second_person.isdisjoint(spoken)
    )
    score -= 0.3 * (first in lists.second_person & lists.subjects and not ends_question(clause.text)) + 0.15 * (
        first in lists.first_person
    )
    score -= 0.1 * bool(spoken & lists.said) + 0.2 * bool(spoken & lists.referring - lists.relatives)
    score -= 0.2 * any(padded.startswith(f" {frame} ") for frame in lists.frames + lists.announcing)
    return score - 0.16 * any(padded.startswith(f" {phrase} ") for phrase in lists.empty_subjects)
