"""A title and a hook for a clip, taken from its words.

A title is the strongest main clause that stands alone: one that claims, asks or contrasts, with words typical of the
clip rather than of the whole talk. Where no clause stands alone, it is a label made of the clip's key phrases. Neither
is ever a fragment of a sentence.
"""

import math
from collections.abc import Sequence

from tasks.core.choice.clauses import EDGE, Clause, cleaned, sentence_case, standing_alone
from tasks.core.choice.key_phrases import label, term_weights
from tasks.core.choice.signals import stem, tokens
from tasks.core.speech.punctuation import ends_question
from tasks.core.speech.wordlists import WordLists, word_lists

MAX_TITLE_CHARS = 60
MAX_HOOK_CHARS = 120
GOOD_WORDS = range(4, 11)
"""Number of words in a good title: longer than a label, shorter than a paragraph."""
WEAKEST = 1.0
"""Strength below which a clause says less than a label."""


def headline(text_sentences: Sequence[str], talk_sentences: Sequence[str], language: str) -> str:
    """A title of at most 60 characters from a clip's whole sentences, or "" if they have no words.

    `talk_sentences` are those of the whole talk; words common in it say little about the clip.
    """
    lists = word_lists(language)
    weights = term_weights(text_sentences, talk_sentences, lists)
    count = len(text_sentences)
    rated = [
        (_strength(clause, count, weights, lists), clause.text)
        for clause in standing_alone(text_sentences, lists)
        if 0 < len(clause.text) <= MAX_TITLE_CHARS
    ]
    strength, best = max(rated, key=lambda one: one[0], default=(-math.inf, ""))
    if strength >= WEAKEST or (best and lists is None):
        return best
    return label(text_sentences, weights, lists, MAX_TITLE_CHARS) or best


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
        strength = _strength(clause, len(text_sentences), weights, lists) - 0.6 * clause.place
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


def _strength(clause: Clause, sentences: int, weights: dict[str, float], lists: WordLists | None) -> float:
    words = tokens(clause.text)
    if not words:
        return -math.inf
    topical = sorted((weights.get(term, 0.0) for term in {stem(word) for word in words}), reverse=True)
    score = sum(topical[:3]) * 0.5 + 0.3 * clause.place / max(sentences - 1, 1) + 1.0 * clause.whole
    score -= 1.5 * (clause.place == 0)
    score += 1.0 if ends_question(clause.text) else 0.0
    score -= 1.0 * max(GOOD_WORDS.start - len(words), 0) + 0.2 * max(len(words) - GOOD_WORDS.stop + 1, 0)
    if lists is None:
        return score
    padded = f" {' '.join(words)} "
    score += 0.8 * min(len(lists.claim.intersection(words)), 2)
    score += 0.8 * any(f" {phrase} " in padded for phrase in lists.claim_phrases)
    score += 0.4 * bool(lists.contrast.intersection(words)) + 0.4 * bool(lists.second_person.intersection(words))
    score -= 1.5 * any(padded.startswith(f" {frame} ") for frame in lists.frames)
    score -= 1.2 * bool(lists.backward.intersection(words)) + 1.0 * bool(lists.said.intersection(words))
    return score
