"""Finds clauses of speech that stand alone: main clauses that are complete and name what they are about.

Nothing here parses grammar. Word lists of the language say which words join clauses, refer back, or are finite verbs,
and a clause is taken only where they agree that it is whole: a missed clause costs little, a fragment is seen by
everybody.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks.core.choice.signals import stem, tokens
from tasks.core.speech.punctuation import CLAUSE_FINAL, OPENERS, QUESTION_MARKS, SENTENCE_FINAL, ends_sentence
from tasks.core.speech.wordlists import WordLists

FEWEST_WORDS = 3
MOST_WORDS = 80
"""Longer sentences are none that a person says; every start is tried with every end."""
LONGEST_LEAD_IN = 6
"""Most words of a phrase before the main clause, as in "in the spring of that year, ..."."""

_NOISE = re.compile(r"\[[^\]]{0,200}\]|\([^)]{0,200}\)|<[^>]{0,200}>|[\u266a\u266b*_#`~|<>\[\]{}]")
_SPEAKER = re.compile(r"^[\s>\-\u2013\u2014]*(?:[A-Z]\w*\.?(?: [A-Z0-9][\w.]*){0,2}):\s+(?=\S)")
_QUOTES = '"\u201c\u201d\u00ab\u00bb\u201e'
_DASHES = "-\u2013\u2014"
EDGE = " \t'\u2019" + _DASHES + CLAUSE_FINAL + "".join(mark for mark in SENTENCE_FINAL if mark not in QUESTION_MARKS)
"""What a title does not begin or end with."""


@dataclass(frozen=True)
class Clause:
    """Words that stand alone. `place` is the number of their sentence; `whole` says that they are all of it."""

    words: tuple[str, ...]
    place: int
    whole: bool

    @cached_property
    def text(self) -> str:
        """The clause in sentence case, without a full stop at its end."""
        return sentence_case(" ".join(self.words))


def cleaned(text: str) -> str:
    """The text without sound labels, markup and the name of its speaker."""
    return " ".join(_SPEAKER.sub("", _NOISE.sub(" ", text)).split())


def sentence_case(text: str) -> str:
    """The text with a capital at its start and nothing but a question mark at its end."""
    asks = text.rstrip()[-1:] if text.rstrip().endswith(tuple(QUESTION_MARKS)) else ""
    bare = " ".join(text.translate(dict.fromkeys(map(ord, _QUOTES), " ")).split()).strip(EDGE + QUESTION_MARKS)
    return bare[:1].upper() + bare[1:] + (asks if bare else "")


def standing_alone(sentences: Sequence[str], lists: WordLists | None) -> Iterator[Clause]:
    """The clauses of a clip's sentences that stand alone, in order.

    In a language without word lists, these are its whole sentences.
    """
    is_quoted = False
    for place, raw in enumerate(sentences):
        text = cleaned(raw)
        opens_quote = text[:1] in OPENERS
        is_cut = text[:1].islower()  # a recogniser that writes full stops writes capitals, too
        usable = ends_sentence(text) and not is_quoted and not opens_quote and not is_cut
        is_quoted ^= sum(text.count(mark) for mark in _QUOTES) % 2 == 1
        if not usable or is_quoted:
            continue
        if lists is None:
            yield from _unlisted(text, place)
        elif len(words := text.split()) <= MOST_WORDS:
            yield from _Sentence(words, place, lists).clauses()


def reads_alone(title: str, lists: WordLists | None) -> bool:
    """Whether a title, by whoever, is no fragment and refers to nothing that it does not name. It may lack a verb."""
    return lists is None or _Sentence(title.split(), 0, lists).reads_alone(title.split())


def _unlisted(text: str, place: int) -> Iterator[Clause]:
    if len(tokens(text)) >= FEWEST_WORDS or not text.isascii():
        yield Clause(tuple(text.split()), place, whole=True)


def without_openers(words: Sequence[str], lists: WordLists) -> list[str]:
    """The words of a sentence without fillers and joining words at its start."""
    rest = list(words)
    while rest and (length := _opening(rest, lists)):
        rest = rest[length:]
    return rest


def _opening(words: Sequence[str], lists: WordLists) -> int:
    """Number of words at the start that say nothing: an opener, or one that does so only before a comma."""
    spoken = [_token(word) for word in words]
    if _starts_with(spoken, lists.kept_openings):
        return 0
    if (phrase := _starts_with(spoken, lists.opening_phrases)) and _ends_clause(words[phrase - 1]):
        return phrase
    if not spoken[0] or spoken[0] in lists.openers:
        return 1
    return int(spoken[0] in lists.asides and _ends_clause(words[0]))


class _Sentence:
    """A punctuated sentence of a language with word lists."""

    def __init__(self, words: Sequence[str], place: int, lists: WordLists) -> None:
        self.words = without_openers(words, lists)
        self.spoken = [_token(word) for word in self.words]
        self.place, self.lists = place, lists
        self.is_question = bool(self.words) and self.words[-1].rstrip(_QUOTES + "'\u2019)").endswith(
            tuple(QUESTION_MARKS)
        )

    def clauses(self) -> Iterator[Clause]:
        """Every run of words that begins and ends where a main clause may, and stands alone."""
        size, opens = len(self.words), [0, *self._frames()]
        for start in self._starts():
            for end in self._ends(start):
                if self._stands_alone(start, end):
                    yield Clause(tuple(self.words[start:end]), self.place, whole=start in opens and end == size)

    def reads_alone(self, written: Sequence[str]) -> bool:
        """Whether all of it does, as it was `written`: a title has no openers."""
        end = len(self.words)
        return (
            end == len(written) > 0
            and self._opens_well(0, end)
            and self._ends_well(0, end)
            and not self._stumbles(self.spoken)
            and not any(self._dangles(0, i, end) for i in range(end))
        )

    def _starts(self) -> list[int]:
        """0, and the places after a frame ("I think that"), a lead-in, or the end of another main clause."""
        found = [0, *self._frames()]
        if lead := self._lead_in():
            found.append(lead)
        for k in range(FEWEST_WORDS, len(self.words) - FEWEST_WORDS + 1):
            joined = self.spoken[k - 1] in self.lists.joining and _ends_clause(self.words[k - 2])
            announced = self.spoken[k - 1] in self.lists.relatives and _ends_clause(self.words[k - 2])
            follows = joined or announced or _is_break(self.words[k - 1]) or self._is_splice(k)
            if follows and self._begins_with_subject(k) and self._may_be_left_out(k):
                found.append(k)
        return found

    def _frames(self) -> list[int]:
        """The places after what announces the rest: "I think that", "I said, I mean"."""
        found: list[int] = []
        at = 0
        while length := _starts_with(self.spoken[at:], self.lists.frames):
            at += length + (not self.lists.relatives.isdisjoint(self.spoken[at + length : at + length + 1]))
            found.append(at)
        return found

    def _may_be_left_out(self, k: int) -> bool:
        """Whether the words before are no condition of those after."""
        return self.spoken[0] not in self.lists.subordinators and bool(self._finite(0, k - 1))

    def _is_splice(self, k: int) -> bool:
        """Whether a main clause begins here after nothing but a comma: "the hedge is high, they can't see"."""
        return (
            _ends_clause(self.words[k - 1])
            and self._begins_with_subject(k)
            and not self.lists.finite.isdisjoint(self.spoken[k : k + 3])  # "a man named Sam" has none
        )

    def _lead_in(self) -> int:
        """Number of words before the main clause, if a short phrase without a verb is there."""
        if not self.spoken or self.spoken[0] not in self.lists.lead_ins:
            return 0
        for k, word in enumerate(self.words[:LONGEST_LEAD_IN], start=1):
            if self.spoken[k - 1] in self.lists.finite:
                return 0
            if _ends_clause(word):
                return k if self._begins_with_subject(k) else 0
        return 0

    def _begins_with_subject(self, k: int) -> bool:
        word, spoken = self.words[k], self.spoken[k]
        if _ends_clause(word):
            return False
        is_name = word[:1].isupper() and spoken not in self.lists.stop
        return spoken in self.lists.determiners or spoken.partition("'")[0] in self.lists.subjects or is_name

    def _ends(self, start: int) -> list[int]:
        """The sentence's end, and places before words that begin what may be left out."""
        if self.is_question:
            return [len(self.words)]
        return [
            len(self.words),
            *(k for k in range(start + FEWEST_WORDS, len(self.words) - 1) if self._may_end(start, k)),
        ]

    def _may_end(self, start: int, k: int) -> bool:
        """Whether what begins at this word may be left out: it explains, or is another main clause."""
        after_comma, word = _ends_clause(self.words[k - 1]), self.spoken[k]
        if _is_break(self.words[k - 1]) or word in self.lists.reasons or self._is_splice(k):
            return True
        if word in self.lists.tails:
            return after_comma
        follows = self._finite(k + 1, min(k + 7, len(self.words)))
        if word in self.lists.joining:
            has_subject = self._begins_with_subject(k + 1) or (
                self._is_content(self.spoken[k + 1]) and bool(self._finite(k + 2, min(k + 3, len(self.words))))
            )
            return after_comma and has_subject and bool(follows)
        announces = self.lists.said.intersection(self.spoken[max(k - FEWEST_WORDS, 0) : k])
        first = next((i for i in range(start, k) if _ends_clause(self.words[i])), k) + 1
        return after_comma and not announces and bool(self._finite(start, first))

    def _stands_alone(self, start: int, end: int) -> bool:
        spoken = self.spoken[start:end]
        content = {stem(word) for word in spoken if self._is_content(word) and word not in self.lists.finite}
        says_enough = len(content) > 1 or (len(content) == 1 and len(spoken) > FEWEST_WORDS + 1)
        return (
            len(spoken) >= FEWEST_WORDS
            and says_enough
            and self._opens_well(start, end)
            and self._ends_well(start, end)
            and not self._stumbles(spoken)
            and not self._quotes_somebody(spoken)
            and self._has_main_verb(start, end)
            and not any(self._dangles(start, i, end) for i in range(start, end))
            and not _contains(spoken, self.lists.promotion + self.lists.backward_phrases)
        )

    def _is_content(self, word: str) -> bool:
        return len(word) > 1 and word not in self.lists.meaningless and not word[0].isdigit()

    def _opens_well(self, start: int, end: int) -> bool:
        """Whether it begins with its subject, or with a clause that the main one follows."""
        first = self.spoken[start]
        if first in self.lists.question:
            return self.is_question or first in ("what", "how", "why")
        if first not in self.lists.subordinators:
            lacks_subject = first in self.lists.finite - self.lists.commands and not self.is_question
            continues = first in self.lists.conjunctions and not _starts_with(self.spoken, self.lists.kept_openings)
            if continues or lacks_subject or first in self.lists.pointing:  # "this machine"
                return False
        condition = next((i for i in range(start, end) if self.spoken[i] in self.lists.conditions), end)
        if condition == end:
            return first not in self.lists.subordinators
        is_reason = self.spoken[condition] in self.lists.reasons and condition > start + 1
        frame = _starts_with(self.spoken[start:end], self.lists.frames)
        if self._finite(start + frame, condition) or is_reason or first in self.lists.commands:
            return first not in self.lists.subordinators and bool(self._finite(condition + 1, end))
        return any(
            _ends_clause(self.words[k - 1]) and self._begins_with_subject(k) and self._finite(k, end)
            for k in range(condition + FEWEST_WORDS, end - 2)
        )

    def _ends_well(self, start: int, end: int) -> bool:
        """Whether it ends as its sentence does, or on a word that carries meaning."""
        if end == len(self.words):
            breaks_off = self.words[-1].endswith(("...", "\u2026", *_DASHES))
            return not breaks_off and self.spoken[-1] not in self.lists.joining
        is_half = not self.lists.halves.isdisjoint(self.spoken[start:end])
        return not is_half and self.spoken[end - 1] not in self.lists.stop

    def _quotes_somebody(self, spoken: Sequence[str]) -> bool:
        """Whether it reports what somebody says who is not named: "she says"."""
        pairs = itertools.pairwise(spoken)
        return any(before in self.lists.backward and verb in self.lists.said for before, verb in pairs)

    def _stumbles(self, spoken: Sequence[str]) -> bool:
        """Whether words are said twice in a row, as people do while they think."""
        pairs = itertools.pairwise(spoken)
        return any(a == b for a, b in pairs) or any(
            spoken[k : k + 2] == spoken[k + 2 : k + 4] for k in range(len(spoken) - 3)
        )

    def _finite(self, start: int, end: int) -> list[int]:
        """Places of words that are finite verbs, by the list or by their ending."""
        return [i for i in range(start, end) if self._is_finite(i, start)]

    def _is_finite(self, i: int, start: int) -> bool:
        word = self.spoken[i]
        if word in self.lists.finite:
            return i == start or self.spoken[i - 1] != "to"
        before = self.spoken[i - 1] if i > start else ""
        if not before or not self._is_content(word) or before in self.lists.determiners:
            return False
        if before in self._pronouns or any(word.endswith(ending) for ending in self.lists.past_endings):
            return True
        following = self.spoken[i + 1] if i + 1 < len(self.spoken) else ""
        is_present = any(word.endswith(ending) for ending in self.lists.present_endings)
        return is_present and following in self.lists.determiners and self._names(i - 1)

    @cached_property
    def _pronouns(self) -> frozenset[str]:
        """Personal pronouns: a word after one is a verb."""
        persons = self.lists.first_person | self.lists.second_person | self.lists.backward
        return (persons & self.lists.subjects) - self.lists.pointing

    def _names(self, i: int) -> bool:
        return self._is_content(self.spoken[i]) or self.spoken[i] in self.lists.subjects

    def _has_main_verb(self, start: int, end: int) -> bool:
        """Whether there is a finite verb besides those of relative clauses, or a command."""
        if self.spoken[start] in self.lists.commands:
            return True
        frame = _starts_with(self.spoken[start:end], self.lists.frames)
        explained = (
            k for k in range(start + 1, end) if self.spoken[k] in self.lists.tails and _ends_clause(self.words[k - 1])
        )
        verbs = self._finite(start + frame, next(explained, end))
        return len(verbs) > self._relative_clauses(start, end, verbs)

    def _relative_clauses(self, start: int, end: int, verbs: Sequence[int]) -> int:
        """Number of relative clauses before the main verb: "the home [that] we have known"."""
        if self.is_question or self.spoken[start] in self.lists.subordinators | self.lists.question:
            return 0
        found = 0
        for i in range(start + 1, end):
            word, before = self.spoken[i], self.spoken[i - 1]
            if (_ends_clause(self.words[i - 1]) or before in self.lists.joining) and any(verb < i for verb in verbs):
                break
            follows_noun = self._is_content(before) and (i - 1) not in verbs
            is_subject = word.partition("'")[0] in self.lists.subjects
            if (follows_noun or before in self.lists.subjects) and (is_subject or word in self.lists.relatives):
                found += 1
            elif i in verbs and not found:
                break
        return found

    def _dangles(self, start: int, i: int, end: int) -> bool:
        """Whether the word refers to something that is not named before it in the clause."""
        word = self.spoken[i]
        if word not in self.lists.backward or self._is_existential(i, end) or self._joins_clauses(start, i, end):
            return False
        return word in self.lists.pointing or not any(self._is_antecedent(start, k) for k in range(start, i))

    def _is_existential(self, i: int, end: int) -> bool:
        """Whether it stands for nothing: "there is", "it takes"."""
        return bool(_starts_with(self.spoken[i:end], self.lists.empty_subjects))

    def _joins_clauses(self, start: int, i: int, end: int) -> bool:
        """Whether it is a "that" between a word and its clause: "I know that naps help"."""
        if self.spoken[i] not in self.lists.relatives or i in (start, end - 1):
            return False
        follows = self.spoken[i - 1]
        return (self._is_content(follows) or follows in self.lists.finite) and (
            self._begins_with_subject(i + 1) or self._is_content(self.spoken[i + 1])
        )

    def _is_antecedent(self, start: int, k: int) -> bool:
        """Whether the word names what a later one refers to: a name, a noun after its determiner, or a first noun."""
        word = self.spoken[k]
        verbal = word in self.lists.finite or any(word.endswith(ending) for ending in self.lists.past_endings)
        if verbal or word in self.lists.vague or not self._is_content(word):
            return False
        before = self.spoken[k - 1] if k > start else ""
        is_name = self.words[k][:1].isupper() and k > 0
        return (
            is_name
            or k == start
            or before in self.lists.determiners | self.lists.prepositions
            or (k > start and self._is_content(before) and before not in self.lists.finite)
        )


def _token(word: str) -> str:
    return (tokens(word) or [""])[0]


def _ends_clause(word: str) -> bool:
    return word.rstrip(_QUOTES).endswith((*CLAUSE_FINAL, "\u2013", "\u2014")) or word in _DASHES


def _is_break(word: str) -> bool:
    """Whether a new main clause may begin after the word without a conjunction."""
    return word.endswith((";", "\uff1b", "\u061b", "\u2013", "\u2014")) or word in _DASHES


def _starts_with(spoken: Sequence[str], phrases: Sequence[str]) -> int:
    """Number of words of the longest phrase that the words begin with."""
    lengths = [len(parts) for phrase in phrases if list(spoken[: len(parts := phrase.split())]) == parts]
    return max(lengths, default=0)


def _contains(spoken: Sequence[str], phrases: Sequence[str]) -> bool:
    text = f" {' '.join(spoken)} "
    return any(f" {phrase} " in text for phrase in phrases)
