"""What word lists tell about the words of a sentence: which are finite verbs, begin a clause, or refer back.

Nothing here parses grammar. Lists and neighbours decide, and where they disagree a word is taken for none.
"""

from collections.abc import Sequence
from functools import cached_property

from tasks.core.speech.wordlists import WordLists
from tasks.core.titles.stumbles import DASHES, ends_clause, starts_with, token_of

FEWEST_WORDS = 3
"""Fewest words of a clause."""
LONGEST_QUESTION_PHRASE = 5
"""Most words before the verb of a question: "how many of those"."""


def contains(spoken: Sequence[str], phrases: Sequence[str]) -> bool:
    """Whether one of the phrases is said."""
    text = f" {' '.join(spoken)} "
    return any(f" {phrase} " in text for phrase in phrases)


def is_break(word: str) -> bool:
    """Whether a new main clause may begin after the word without a conjunction."""
    return word.endswith((";", "\uff1b", "\u061b", "\u2013", "\u2014")) or word in DASHES


class Spoken:
    """Words of a sentence, as they are written and as they are said."""

    def __init__(self, words: Sequence[str], lists: WordLists) -> None:
        self.words = list(words)
        self.spoken = [token_of(word) for word in self.words]
        self.lists = lists
        self._verbs: dict[tuple[int, int], bool] = {}

    def is_content(self, word: str) -> bool:
        """Whether the word says something by itself."""
        if len(word) < 2 or word in self.lists.meaningless or word[0].isdigit():
            return False
        return "'" not in word or word.partition("'")[0] not in self.lists.subjects

    def finite(self, start: int, end: int) -> list[int]:
        """Places of words that are finite verbs, by the list or by their ending."""
        return [i for i in range(start, min(end, len(self.words))) if self.is_finite(i, start)]

    def is_finite(self, i: int, start: int) -> bool:
        """Whether the word is a finite verb of the clause that begins at `start`."""
        if (i, start) not in self._verbs:
            self._verbs[i, start] = self._stands_as_verb(i, start)
        return self._verbs[i, start]

    def _stands_as_verb(self, i: int, start: int) -> bool:
        word, before = self.spoken[i], self._verb_neighbour(i, start)
        is_name = i > start and self.words[i][:1].isupper() and word.partition("'")[0] not in self.lists.subjects
        if is_name or before == "to" or before in self.lists.determiners - self.lists.subjects:
            return False
        if word in self.lists.finite or self._is_contraction(word):
            return True
        no_verb = before in self.lists.determiners - self.pronouns or not self.is_content(word)
        if no_verb or not before:
            return False
        return self._follows_subject(i, start, before) or self._ends_as_verb(i, before)

    def _follows_subject(self, i: int, start: int, before: str) -> bool:
        """Whether a word stands where only a verb does: after a pronoun, or between a subject and its object."""
        following = self.spoken[i + 1] if i + 1 < len(self.spoken) else ""
        opens = before in self.lists.subjects & self.lists.question and i - 1 == start
        return before in self.pronouns or opens or (before in self._somebody and following in self.lists.determiners)

    def _ends_as_verb(self, i: int, before: str) -> bool:
        """Whether a word has the ending of a verb and stands after a noun."""
        word = self.spoken[i]
        if (
            word in self.lists.number_words | self.lists.vague
            or before in self.lists.prepositions | self.lists.leads_on
        ):
            return False
        if any(word.endswith(ending) for ending in self.lists.past_endings):
            return before not in self.lists.finite and self._names(i - 1)
        return self._is_present(i) and (self._names(i - 1) or before != self.spoken[i - 1])

    def _verb_neighbour(self, i: int, start: int) -> str:
        """The word before, past adverbs that stand between a subject and its verb."""
        k = i - 1
        while k > start and (self.spoken[k] in self.lists.before_verbs or self.spoken[k].endswith("ly")):
            k -= 1
        return self.spoken[k] if k >= start else ""

    def _is_contraction(self, word: str) -> bool:
        before, mark, after = word.partition("'")
        return bool(mark) and bool(after) and before in self.lists.subjects

    def _is_present(self, i: int) -> bool:
        word = self.spoken[i]
        following = self.spoken[i + 1] if i + 1 < len(self.spoken) else ""
        after_adverb = self._verb_neighbour(i, 0) != self.spoken[i - 1]
        is_name = (i > 1 and self.words[i - 1][:1].isupper()) or self.spoken[i - 1] in self.lists.subjects
        takes = self.lists.stop - self.lists.auxiliaries if is_name or after_adverb else frozenset[str]()
        counted = self.lists.number_words
        governs = following in self.lists.determiners | counted | self._objects | takes | {"to"} or (
            after_adverb and ends_clause(self.words[i])
        )
        is_plural = not is_name and self.spoken[i - 1].endswith(tuple(self.lists.present_endings))
        return (
            governs
            and not is_plural
            and not ends_clause(self.words[i - 1])
            and any(word.endswith(ending) and not word.endswith(2 * ending) for ending in self.lists.present_endings)
        )

    @cached_property
    def pronouns(self) -> frozenset[str]:
        """Personal pronouns: a word after one is a verb."""
        persons = self.lists.first_person | self.lists.second_person | self.lists.backward
        return (persons & self.lists.subjects) - self.lists.pointing

    def _is_object(self, i: int) -> bool:
        """Whether a pronoun that refers back is the object of a verb or preposition."""
        has_verb = i + 1 < len(self.words) and self.is_finite(i + 1, i + 1)
        begins_noun = self.spoken[i] in self.lists.determiners
        return i > 0 and not has_verb and not begins_noun and not self._is_contraction(self.spoken[i])

    def _is_apart(self, k: int, i: int) -> bool:
        """Whether another clause begins between two words."""
        lists, between = self.lists, range(k + 1, i)
        within = any(word in lists.prepositions for word in self.spoken[k + 1 : i - 1])  # "a coat with a hole in it"
        joined = any(self.spoken[j] in lists.joining and self.finite(0, j) for j in between)
        begins = self.pronouns | lists.subordinators
        clause = any(self.spoken[j] in begins or ends_clause(self.words[j - 1]) for j in between)
        is_one_phrase = not self.finite(k + 1, i) and lists.joining.isdisjoint(self.spoken[k:i])
        return joined or clause or (within and is_one_phrase)

    @cached_property
    def _somebody(self) -> frozenset[str]:
        """Subjects for anybody, as "everybody" is."""
        lists = self.lists
        return lists.subjects - self.pronouns - lists.referring - lists.question - lists.determiners - lists.relatives

    @cached_property
    def _objects(self) -> frozenset[str]:
        return self.lists.first_person | self.lists.second_person | self.lists.backward

    def _names(self, i: int) -> bool:
        return self.is_content(self.spoken[i]) or self.spoken[i] in self.lists.subjects

    def begins_with_subject(self, k: int) -> bool:
        """Whether a clause may begin here: with a determiner, a pronoun or a name."""
        if k >= len(self.words):
            return False
        word, spoken = self.words[k], self.spoken[k]
        if ends_clause(word):
            return False
        is_name = word[:1].isupper() and spoken not in self.lists.stop
        return spoken in self.lists.determiners or spoken.partition("'")[0] in self.lists.subjects or is_name

    def is_command(self, k: int) -> bool:
        """Whether a clause that begins here tells somebody to do something."""
        if k + 1 >= len(self.words):
            return False
        word, following = self.spoken[k], self.spoken[k + 1]
        if word in self.lists.commands:
            return True
        has_forms = any(word + ending in self.lists.finite for ending in self.lists.present_endings)
        return has_forms and following in self.lists.determiners - self.lists.pointing

    def asks(self, k: int, end: int) -> bool:
        """Whether a direct question begins here, with its verb before its subject: "where did it go", "is it over"."""
        is_long = end - k >= FEWEST_WORDS
        return is_long and any(self._is_inverted(i) for i in range(k, min(self._asks_until(k), end - 1)))

    def begins_question(self, k: int) -> bool:
        """Whether a sentence that ends in a question mark is a question from here on: "who broke it"."""
        word, mark, _ = self.spoken[k].partition("'")
        follows = k + 1 < len(self.words) and self.is_finite(k + 1, k + 1)
        return word in self.lists.question and (bool(mark) or follows)

    def _asks_until(self, k: int) -> int:
        """The place before which the verb of a question stands that begins here: "how many of them did"."""
        if self.spoken[k] not in self.lists.question:
            return k + 1
        last = k + LONGEST_QUESTION_PHRASE
        stops = self.lists.subjects | self.lists.relatives
        found = (
            i
            for i in range(k + 1, min(last, len(self.words)))
            if self.spoken[i] in stops or ends_clause(self.words[i - 1])
        )
        return next(found, last)

    def _is_inverted(self, i: int) -> bool:
        if i + 1 >= len(self.words) or self.spoken[i] not in self.lists.auxiliaries:
            return False
        is_subject = self.spoken[i + 1] in self.lists.subjects - self.lists.relatives
        return self.begins_with_subject(i + 1) and (is_subject or not ends_clause(self.words[i]))

    def dangles(self, start: int, i: int, end: int) -> bool:
        """Whether the word refers to something that is not named before it in the clause."""
        word = self.spoken[i]
        if word not in self.lists.referring or self._is_existential(i, end) or self._joins_clauses(start, i, end):
            return False
        return word in self.lists.pointing or not any(self._is_antecedent(start, k, i) for k in range(start, i))

    def _is_existential(self, i: int, end: int) -> bool:
        """Whether it stands for nothing: "there is", "it takes"."""
        return bool(starts_with(self.spoken[i:end], self.lists.empty_subjects))

    def _joins_clauses(self, start: int, i: int, end: int) -> bool:
        """Whether it is a "that" between a word and its clause: "I know that naps help"."""
        word, contracted, _ = self.spoken[i].partition("'")
        if word not in self.lists.relatives or i in (start, end - 1):
            return False
        follows = self.spoken[i - 1]
        if contracted:  # "the bit that's waste"
            return self.is_content(follows) and follows not in self.lists.finite
        return (self.is_content(follows) or follows in self.lists.finite | self.lists.subjects) and (
            self.begins_with_subject(i + 1)
            or self.is_finite(i + 1, i + 1)
            or bool(self.finite(i + 1, min(i + 4, end)))
            or (i + 2 == end and self.is_content(self.spoken[i + 1]))  # "froze that winter"
        )

    def _is_antecedent(self, start: int, k: int, i: int) -> bool:
        """Whether the word names what a later one refers to: a name, a noun after its determiner, or a first noun."""
        word = self.spoken[k]
        if self._is_object(i) and not self._is_apart(k, i):
            return False  # "a photo of it", "the cat wants it"
        is_subject = not self.finite(start, k)
        if self.spoken[i] in self.lists.refers_to_persons and not (is_subject or self.words[k][:1].isupper()):
            return False
        if word.partition("'")[0] in self._somebody:
            return self.spoken[i] in self.lists.refers_to_persons  # "everybody lost their hat"
        adverb = word.endswith("ly") or word in self.lists.before_verbs
        verbal = adverb or word in self.lists.finite or any(word.endswith(ending) for ending in self.lists.past_endings)
        if verbal or word in self.lists.vague or not self.is_content(word):
            return False
        before = self.spoken[k - 1] if k > start else ""
        is_name = self.words[k][:1].isupper() and k > 0
        return (
            is_name
            or k == start
            or before in self.lists.determiners | self.lists.prepositions
            or (k > start and self.is_content(before) and before not in self.lists.finite)
        )
