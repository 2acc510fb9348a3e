"""Names of what a clip is about that say enough to be its title: "the phone you cannot open", "why rivers bend"."""

from collections.abc import Iterator, Sequence

from tasks.core.speech.punctuation import QUESTION_MARKS
from tasks.core.speech.wordlists import WordLists
from tasks.core.titles.clauses import MOST_WORDS, MOST_WRITTEN, Clause, own_sentences
from tasks.core.titles.grammar import Spoken, contains
from tasks.core.titles.stumbles import ends_clause, fluent, without_openers

FEWEST, MOST = 4, 12
"""Number of words of a phrase that may be a title."""
LONGEST_BASE = 5
"""Most words of a noun phrase up to its noun: "the best landscape photo"."""


def telling_phrases(sentences: Sequence[str], lists: WordLists | None) -> Iterator[Clause]:
    """Nouns with what tells them from others, and what is explained, in order."""
    for place, text in own_sentences(sentences) if lists else ():
        if len(text) <= MOST_WRITTEN * 20 and len(words := text.split()) <= MOST_WRITTEN and lists:
            phrases = _Phrases(without_openers(fluent(words, lists), lists), lists)
            for start, end in phrases.found():
                last = phrases.words[end - 1].rstrip(QUESTION_MARKS)
                yield Clause((*phrases.words[start : end - 1], last), place, whole=False)


class _Phrases(Spoken):
    def found(self) -> Iterator[tuple[int, int]]:
        """The first and last places of phrases that stand alone."""
        if len(self.words) > MOST_WORDS:
            return
        for start in range(len(self.words) - FEWEST + 1):
            for end in {self._noun_phrase(start), self._explained(start)}:
                if FEWEST <= end - start <= MOST and self._stands_alone(start, end):
                    yield start, end

    def _stands_alone(self, start: int, end: int) -> bool:
        spoken = self.spoken[start:end]
        return (
            len({word for word in spoken if self.is_content(word) and word not in self.lists.vague}) > 1
            and (spoken[-1] not in self.lists.stop | self.lists.before_verbs or self.is_finite(end - 1, start))
            and spoken[-1] not in self.lists.linking
            and self.lists.referring.isdisjoint(set(spoken) - self.lists.relatives)
            and not any(self.dangles(start, i, end) for i in range(start, end))
            and not any(ends_clause(word) for word in self.words[start : end - 1])
            and not contains(spoken, self.lists.promotion + self.lists.backward_phrases)
        )

    def _noun_phrase(self, start: int) -> int:
        """The end of a noun phrase that begins here and says which one it is, or `start`."""
        noun = self._base(start)
        if noun == start or ends_clause(self.words[noun - 1]):
            return start
        end = self._relative(noun)
        is_predicate = start > 0 and self.spoken[start - 1].rpartition("'")[2] in self.lists.linking | {"s"}
        if (
            end == noun
            and not is_predicate
            and (
                self.spoken[start] not in ("the", "my", "your", "our")
                or self.lists.claim.intersection(self.spoken[start:noun])
            )
        ):
            end = self._added(noun)
        return end if end > noun and self._closes(end) else start

    def _closes(self, end: int) -> bool:
        """Whether nothing belongs to the phrase any more after it."""
        return (
            end == len(self.words)
            or ends_clause(self.words[end - 1])
            or self.spoken[end] in self.lists.joining | self.lists.reasons
            or self.is_finite(end, 0)
        )

    def _added(self, noun: int) -> int:
        """The end of prepositions with their nouns after a noun: "the woman on the pitch in the rain"."""
        end = noun
        while (
            end < len(self.words) - 1
            and self.spoken[end] in self.lists.prepositions - {"of"}
            and not ends_clause(self.words[end - 1])
        ):
            if (more := self._base(end + 1)) == end + 1:
                break
            end = more
        return end

    def _base(self, start: int) -> int:
        """The end of a determiner with its adjectives and noun."""
        if self.spoken[start] not in self.lists.determiners - self.lists.referring:
            return start
        before = self.spoken[start - 1] if start and not ends_clause(self.words[start - 1]) else ""
        if before in self.lists.determiners or (before in self.lists.number_words | self.lists.vague):
            return start
        end = start + 1
        while end < min(start + 1 + LONGEST_BASE, len(self.words)) and self._is_of_noun(end, start):
            end += 1
            if ends_clause(self.words[end - 1]):
                break
        return (
            end
            if end > start + 1
            and self.spoken[end - 1]
            not in self.lists.vague - {"person", "people", "man", "woman", "thing", "way", "day"}
            else start
        )

    def _is_of_noun(self, i: int, start: int) -> bool:
        word = self.spoken[i]
        lists = self.lists
        if word in lists.number_words | lists.vague:
            return True
        joins = (
            lists.prepositions
            | lists.subordinators
            | lists.relatives
            | lists.joining
            | lists.subjects
            | lists.auxiliaries
        )
        return self.is_content(word) and word not in joins and not (i > start + 1 and self.is_finite(i, start))

    def _relative(self, noun: int) -> int:
        """The end of a relative clause after a noun: at the next comma, or before the verb of the main clause."""
        if noun >= len(self.words) - 2:
            return noun
        relatives = self.lists.relatives - self.lists.question | self.lists.relatives & self.lists.subjects
        if self.spoken[noun] in self.lists.relatives - relatives:
            return noun
        begins = noun + (self.spoken[noun] in relatives)
        subjects = self.lists.subjects - self.lists.pointing - self.lists.relatives - self.lists.question - {"there"}
        subject, mark, _ = self.spoken[begins].partition("'")
        is_object = subject in subjects and not (mark and self.spoken[begins] in self.lists.finite)
        if begins == noun and not is_object:
            return noun
        end = next((i + 1 for i in range(noun, len(self.words)) if ends_clause(self.words[i])), len(self.words))
        verbs = self.finite(begins, end)
        if not verbs or self.spoken[begins] in self.lists.relatives:
            return noun
        groups = self._groups(begins, end)
        joined = next((i for i in range(begins, end) if self.spoken[i] in self.lists.joining | {"because", "if"}), end)
        return min([end, joined, *groups[1:2]])

    def _groups(self, start: int, end: int) -> list[int]:
        """The places of verbs that do not belong to the verb before them."""
        verbs = self.finite(start, end)
        return [verb for k, verb in enumerate(verbs) if k == 0 or verb > self._chained(verbs[k - 1])]

    def _chained(self, verb: int) -> int:
        """The place up to which a verb belongs to the one before: "have never been"."""
        k = verb + 1
        while k < len(self.words) and (self.spoken[k] in self.lists.before_verbs or self.spoken[k] == "not"):
            k += 1
        return k

    def _explained(self, start: int) -> int:
        """The end of a clause that tells why or how, after a word that announces it: "about why rivers bend"."""
        if not start or self.spoken[start] not in ("why", "how") or ends_clause(self.words[start - 1]):
            return start
        if self.spoken[start - 1].rpartition("'")[2] in self.lists.linking | {"s"}:
            return start  # "which is why"
        end = next((i + 1 for i in range(start, len(self.words)) if ends_clause(self.words[i])), len(self.words))
        joined = next((i for i in range(start, end) if self.spoken[i] in self.lists.joining | {"because", "if"}), end)
        if len(self._groups(start + 1, joined)) > 1:
            return start
        return (
            joined
            if self.begins_with_subject(start + 1)
            or self.spoken[start + 1] == "to"
            or self.is_content(self.spoken[start + 1])
            else start
        )
