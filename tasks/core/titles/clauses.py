"""Finds clauses of speech that stand alone: main clauses that are complete and name what they are about.

A clause is taken only where the word lists of its language agree that it is whole: a missed clause costs little, a
fragment is seen by everybody.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks.core.speech.punctuation import CLAUSE_FINAL, OPENERS, QUESTION_MARKS, SENTENCE_FINAL, ends_sentence
from tasks.core.speech.terms import stem, tokens
from tasks.core.speech.wordlists import WordLists
from tasks.core.titles.boundaries import Boundaries
from tasks.core.titles.grammar import FEWEST_WORDS, contains
from tasks.core.titles.stumbles import DASHES, QUOTES, ends_clause, starts_with

MOST_WORDS = 80
"""Longer sentences are none that a person says; every start is tried with every end."""
MOST_WRITTEN = 120
"""Most words of a sentence before its fillers and repeats are taken out."""

_NOISE = re.compile(r"\[[^\]]{0,200}\]|\([^)]{0,200}\)|<[^>]{0,200}>|[\u266a\u266b*_#`~|<>\[\]{}]")
_SPEAKER = re.compile(r"^[\s>\-\u2013\u2014]*(?:[A-Z]\w*\.?(?: [A-Z0-9][\w.]*){0,2}):\s+(?=\S)")
EDGE = " \t'\u2019" + DASHES + CLAUSE_FINAL + "".join(mark for mark in SENTENCE_FINAL if mark not in QUESTION_MARKS)
"""What a title does not begin or end with."""


@dataclass(frozen=True)
class Clause:
    """Words that stand alone. `place` is the number of their sentence; `whole` says that they are all of it."""

    words: tuple[str, ...]
    place: int
    whole: bool
    asks: bool = False

    @cached_property
    def text(self) -> str:
        """The clause in sentence case, without a full stop at its end."""
        text = sentence_case(" ".join(self.words)).replace(", that ", " that ")
        return text + "?" if self.asks and text and text[-1] not in QUESTION_MARKS else text


def cleaned(text: str) -> str:
    """The text without sound labels, markup and the name of its speaker."""
    return " ".join(_SPEAKER.sub("", _NOISE.sub(" ", text)).split())


def sentence_case(text: str) -> str:
    """The text with a capital at its start and nothing but a question mark at its end."""
    asks = text.rstrip()[-1:] if text.rstrip().endswith(tuple(QUESTION_MARKS)) else ""
    bare = " ".join(text.translate(dict.fromkeys(map(ord, QUOTES), " ")).split()).strip(EDGE + QUESTION_MARKS)
    return bare[:1].upper() + bare[1:] + (asks if bare else "")


def standing_alone(sentences: Sequence[str], lists: WordLists | None) -> Iterator[Clause]:
    """The clauses of a clip's sentences that stand alone, in order.

    In a language without word lists, these are its whole sentences.
    """
    for place, text in own_sentences(sentences):
        is_cut = text[:1].islower() or not ends_sentence(text)
        if lists is None and not is_cut:
            yield from _unlisted(text, place)
        elif lists is not None and len(text) <= MOST_WRITTEN * 20 and len(words := text.split()) <= MOST_WRITTEN:
            yield from _Sentence(words, place, lists).clauses()


def own_sentences(sentences: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The places and texts of sentences that are not inside a quotation."""
    is_quoted = False
    for place, raw in enumerate(sentences):
        text = cleaned(raw)
        usable = not is_quoted and text[:1] not in OPENERS
        is_quoted ^= sum(text.count(mark) for mark in QUOTES) % 2 == 1
        if usable and not is_quoted and text:
            yield place, text


def reads_alone(title: str, lists: WordLists | None) -> bool:
    """Whether a title, by whoever, is no fragment and refers to nothing that it does not name. It may lack a verb."""
    return lists is None or _Sentence(title.split(), 0, lists).reads_alone(title.split())


def _unlisted(text: str, place: int) -> Iterator[Clause]:
    if len(tokens(text)) >= FEWEST_WORDS or not text.isascii():
        yield Clause(tuple(text.split()), place, whole=True)


class _Sentence(Boundaries):
    """A sentence of a language with word lists."""

    def clauses(self) -> Iterator[Clause]:
        """Every run of words that begins and ends where a clause may, and stands alone."""
        size, opens = len(self.words), {0, *self._frames(0)}
        if size > MOST_WORDS:
            return
        for start in self._starts():
            for end in self._ends(start):
                if self._stands_alone(start, end):
                    is_whole = start in opens and end == size and not self.begins_late
                    yield Clause(tuple(self.words[start:end]), self.place, is_whole, self._is_question(start, end))

    def reads_alone(self, written: Sequence[str]) -> bool:
        """Whether all of it does, as it was `written`: a title has no openers."""
        end = len(self.words)
        return (
            end == len(written) > 0
            and self._opens_well(0, end)
            and self._ends_well(0, end)
            and not self._stumbles(0, end)
            and not any(self.dangles(0, i, end) for i in range(end))
        )

    def _lacks_verb(self, start: int, end: int) -> bool:
        """Whether it ends within a clause: "something that the board"."""
        joins = self.lists.relatives | self.lists.subordinators
        opened = next((i for i in range(end - 1, start, -1) if self.spoken[i] in joins), start)
        is_phrase = self.spoken[opened] in self.lists.prepositions or not self.begins_with_subject(
            min(opened + 1, end - 1)
        )
        return opened > start and not is_phrase and not self.finite(opened + 1, end)

    def _stands_alone(self, start: int, end: int) -> bool:
        spoken = self.spoken[start:end]
        content = {stem(word) for word in spoken if self.is_content(word) and word not in self.lists.finite}
        says_enough = len(content) > 1 or (len(content) == 1 and len(spoken) > FEWEST_WORDS + 1)
        return (
            len(spoken) >= FEWEST_WORDS
            and says_enough
            and self._opens_well(start, end)
            and self._ends_well(start, end)
            and not self._stumbles(start, end)
            and not self._lacks_verb(start, end)
            and not (spoken[-1] in self.lists.auxiliaries and len(spoken) <= FEWEST_WORDS + 1)
            and not self._counts_unnamed(start, end)
            and not self._quotes_somebody(spoken)
            and self._has_main_verb(start, end)
            and not any(self.dangles(start, i, end) for i in range(start, end))
            and not contains(spoken, self.lists.promotion + self.lists.backward_phrases)
        )

    def _opens_well(self, start: int, end: int) -> bool:
        """Whether it begins with its subject, or with a clause that the main one follows."""
        first = self.spoken[start]
        if self._is_question(start, end):
            return True
        if first.partition("'")[0] in self.lists.question:
            explains = first in ("what", "how", "why") and len(self.finite(start, end)) > 1
            return explains and not self.is_question
        if first not in self.lists.subordinators and self._lacks_subject(start):
            return False
        condition = next((i for i in range(start, end) if self.spoken[i] in self.lists.conditions), end)
        if condition == end:
            return first not in self.lists.subordinators
        return self._keeps_condition(start, condition, end)

    def _lacks_subject(self, start: int) -> bool:
        """Whether it begins with a verb that is no command, goes on from before, or points to what is not named."""
        first, lists = self.spoken[start], self.lists
        has_subject = first.partition("'")[0] in lists.subjects or first in lists.commands
        is_verb = first in lists.finite or any(first.endswith(ending) for ending in lists.past_endings)
        is_adverb = first in lists.before_verbs or first.endswith("ly")
        begins_late = (is_verb and not has_subject) or (is_adverb and self._is_verb(start + 1))
        is_kept = starts_with(self.spoken[start : start + 8], lists.kept_openings)
        continues = first in lists.conjunctions and not is_kept
        return continues or (begins_late and not self.is_command(start)) or first in lists.pointing  # "this machine"

    def _keeps_condition(self, start: int, condition: int, end: int) -> bool:
        """Whether a clause with a condition has what the condition is for."""
        first, before = self.spoken[start], self.spoken[condition - 1] if condition > start else ""
        if before in self.lists.relatives | self.lists.joining and not self._goes_on(condition, end):
            return False  # "the trick is that if you wait"
        is_reason = self.spoken[condition] in self.lists.reasons and condition > start + 1
        if self.finite(self._after_frames(start), condition) or is_reason or first in self.lists.commands:
            return first not in self.lists.subordinators and bool(self.finite(condition + 1, end))
        return self._goes_on(condition, end)

    def _ends_well(self, start: int, end: int) -> bool:
        """Whether it ends as its sentence does, or on a word that carries meaning."""
        last = self.spoken[end - 1]
        if end == len(self.words):
            breaks_off = self.words[-1].endswith(("...", "\u2026", *DASHES))
            return not breaks_off and last not in self.lists.joining
        if not self.lists.halves.isdisjoint(self.spoken[start:end]):
            return False
        if self._is_question(start, end):
            return True
        if not self._cuts_well(start, end):
            return False
        if ends_clause(self.words[end - 1]):
            return last not in self._open_words
        return last not in self.lists.stop

    def _cuts_well(self, start: int, end: int) -> bool:
        """Whether the words up to a place within the sentence say something without those after it."""
        last, lists = self.spoken[end - 1], self.lists
        group = next((i for i in range(end - 1, start, -1) if ends_clause(self.words[i - 1])), start)
        first = group + (self.spoken[group] in lists.joining)
        said = next((i for i in range(end - 1, start, -1) if self.spoken[i] in lists.said), end)
        counts = last in lists.number_words or last[:1].isdigit()
        goes_on = counts and (self.spoken[end] in lists.number_words or self.spoken[end][:1].isdigit())
        return not (
            goes_on
            or last in lists.prepositions | lists.linking | lists.leads_on | lists.said
            or (
                self.spoken[end - 2] in self.pronouns | lists.relatives and last in lists.finite
            )  # "and I thought, ..."
            or (group > start and (end - group < 2 or self.spoken[first] in lists.conditions))
            or (first > group and not self.finite(first, end))
            or (said < end and ends_clause(self.words[end - 1]) and not self.finite(said + 1, end))
        )

    def _counts_unnamed(self, start: int, end: int) -> bool:
        """Whether a number stands for what it counts: "the worst of the three"."""
        return any(
            self.spoken[i] in self.lists.articles
            and self.spoken[i + 1] in self.lists.number_words
            and (i + 2 >= end or not (self.is_content(self.spoken[i + 2]) or self.spoken[i + 2] in self.lists.vague))
            for i in range(start, end - 1)
        )

    def _quotes_somebody(self, spoken: Sequence[str]) -> bool:
        """Whether it reports what somebody says who is not named: "she says"."""
        pairs = itertools.pairwise(spoken)
        return any(before in self.lists.backward and verb in self.lists.said for before, verb in pairs)

    def _stumbles(self, start: int, end: int) -> bool:
        """Whether words are said twice in a row, or its speaker breaks off or corrects themselves."""
        spoken = self.spoken[start:end]
        twice = any(a == b for a, b in itertools.pairwise(spoken))
        breaks = any(
            ends_clause(self.words[i])
            and self.spoken[i] in (self._open_words - self.lists.relatives) | self.lists.linking
            for i in range(start, end - 1)
        )
        return twice or breaks or any(spoken[k : k + 2] == spoken[k + 2 : k + 4] for k in range(len(spoken) - 3))
