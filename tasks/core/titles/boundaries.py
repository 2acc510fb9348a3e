"""Where clauses of a sentence begin and end: after what announces them, at commas and conjunctions, before asides."""

from collections.abc import Sequence
from functools import cached_property

from tasks.core.speech.punctuation import QUESTION_MARKS, ends_sentence
from tasks.core.speech.wordlists import WordLists
from tasks.core.titles.grammar import FEWEST_WORDS, Spoken, is_break
from tasks.core.titles.stumbles import QUOTES, ends_clause, fluent, starts_with, without_openers

FARTHEST_VERB = 7
"""Most words up to the verb of a clause that is announced."""
LONGEST_TITLE = 60
"""Most characters of a clause that keeps all that it could do without."""
LONGEST_LEAD_IN = 6
"""Most words of a phrase before the main clause, as in "in the spring of that year, ..."."""


class Boundaries(Spoken):
    """A sentence of a language with word lists, and the places where its clauses begin and end."""

    def __init__(self, written: Sequence[str], place: int, lists: WordLists) -> None:
        words = fluent(without_openers(fluent(written, lists), lists), lists)
        self.is_question = bool(words) and words[-1].rstrip(QUOTES + "'\u2019)").endswith(tuple(QUESTION_MARKS))
        super().__init__(words, lists)
        if self.is_question and (tag := self._tag()):
            self.is_question = False
            super().__init__(words[:tag], lists)
        self.place = place
        text = " ".join(written)
        self.questions: set[int] = set()
        self.begins_late = text[:1].islower()  # a recogniser that writes full stops writes capitals, too
        self.is_cut = not ends_sentence(text)

    def _tag(self) -> int:
        """Number of words before a tag that makes a question of a statement: ", isn't it?"."""
        size = len(self.words)
        is_tag = size > FEWEST_WORDS + 1 and self.spoken[-2] in self.lists.auxiliaries
        return size - 2 if is_tag and self.spoken[-1] in self.pronouns and ends_clause(self.words[-3]) else 0

    def _starts(self) -> list[int]:
        """0, and the places after a frame ("I think that"), a lead-in, or the end of another main clause."""
        found = [] if self.begins_late else [0]
        if (lead := self._lead_in()) and not self.begins_late:
            found.append(lead)
        found += [k for k in range(1, len(self.words) - FEWEST_WORDS + 1) if self._may_start(k)]
        framed = [place for k in found for place in self._frames(k)]
        return sorted({*found, *framed})

    def _may_start(self, k: int) -> bool:
        """Whether a clause may begin at this word that needs nothing of what is before."""
        after, before = ends_clause(self.words[k - 1]), self.spoken[k - 1]
        joined = before in self.lists.joining and (k == 1 or ends_clause(self.words[k - 2]))
        if (after or joined) and (self.asks(k, self._clause_end(k)) or (self.is_question and self.begins_question(k))):
            is_direct = self._is_in_full(k) and self.spoken[k] not in self.lists.conjunctions
            self.questions |= {k} if is_direct else set()
            return is_direct
        if self._is_quoted(k):
            return False
        if (joined or (after and is_break(self.words[k - 1]))) and self.spoken[k] in self.lists.conditions:
            return True
        joins = before in self.lists.joining and bool(self.finite(0, k - 1)) and self._has_verb_soon(k)
        announced = before in self.lists.relatives - self.lists.tails and k > 1 and ends_clause(self.words[k - 2])
        is_it = k > 1 and self._is_linking(k - 2) and before in self.lists.relatives
        if is_it and self._has_verb_soon(k) and not self._is_verb(k):
            return True  # "the trick is that ..."
        explains = before in self.lists.reasons and not self._is_denied(k - 1)
        follows = joined or joins or announced or explains or is_break(self.words[k - 1]) or self._is_splice(k)
        is_command = after and self.is_command(k) and self.spoken[k] in self.lists.commands
        begins = self.begins_with_subject(k) or is_command
        return (follows or is_command) and begins and (explains or self._may_be_left_out(k))

    def _is_question(self, start: int, end: int) -> bool:
        """Whether a question begins here: all of the sentence, or one that is told, as in "they ask, where is it"."""
        return start in self.questions or (
            self.is_question and (self.asks(start, end) or (not start and self.begins_question(start)))
        )

    def _is_in_full(self, k: int) -> bool:
        """Whether a question that begins here does not belong to a condition."""
        return not any(word in self.lists.conditions for word in self.spoken[:k])

    def _comma_after(self, start: int) -> int:
        return next((i + 1 for i in range(start, len(self.words)) if ends_clause(self.words[i])), len(self.words))

    def _is_linking(self, i: int) -> bool:
        word, mark, _ = self.spoken[i].partition("'")
        linked = self.spoken[i] if not mark else f"{mark}{self.spoken[i].partition(mark)[2]}"
        return linked in self.lists.linking or (linked == "'s" and word in self.lists.subjects)

    def _clause_end(self, start: int) -> int:
        """The place after the next comma, or the end."""
        return self._comma_after(start + FEWEST_WORDS - 1)

    def _has_verb_soon(self, k: int) -> bool:
        return bool(self.finite(k, k + FEWEST_WORDS + 2))

    def _is_denied(self, k: int) -> bool:
        """Whether the reason that begins here is said to be none: "not because", "it wasn't because"."""
        return any(word == "not" or word.endswith("n't") for word in self.spoken[max(k - FEWEST_WORDS, 0) : k]) or (
            k > 0 and self.spoken[k - 1] in self.lists.before_verbs
        )

    def _is_quoted(self, k: int) -> bool:
        """Whether somebody else says what begins here: "he said, well, it is new"."""
        for i in range(k):
            if self.spoken[i] in self.lists.said and any(ends_clause(word) for word in self.words[i : min(i + 3, k)]):
                subject = self.spoken[i - 1] if i else ""
                if subject not in self.lists.first_person:
                    return True
        return False

    def _frames(self, start: int) -> list[int]:
        """The places after what announces a clause: "I think that", "I said, I mean"."""
        found: list[int] = []
        at = start
        while length := starts_with(self.spoken[at : at + 8], self.lists.frames + self.lists.announcing):
            at += length
            at += not self.lists.relatives.isdisjoint(self.spoken[at : at + 1]) and not self._is_verb(at + 1)
            if self.finite(at, min(at + FARTHEST_VERB, self._comma_after(at))) or self.is_command(
                at
            ):  # "we found a shoe" announces nothing
                found.append(at)
        return found

    def _after_frames(self, start: int) -> int:
        return max(self._frames(start), default=start)

    def _is_verb(self, k: int) -> bool:
        return k < len(self.words) and self.is_finite(k, k)

    def _may_be_left_out(self, k: int) -> bool:
        """Whether the words before are no condition of those after."""
        begins = k - 1
        while begins > 0:
            begins -= 1
            if begins and not ends_clause(self.words[begins - 1]):
                continue
            first = begins + (self.spoken[begins] in self.lists.joining | self.lists.openers)
            if self.spoken[first] in self.lists.reasons:
                return True
            if self.spoken[first] in self.lists.subordinators:
                is_reported = self.spoken[first] in self.lists.tails and self.spoken[k] not in self.lists.second_person
                return is_reported and first == 0
            if first == begins:
                break
        return self._has_main_verb(0, k)

    def _is_splice(self, k: int) -> bool:
        """Whether a main clause begins here after nothing but a comma: "the hedge is high, they can't see"."""
        return (
            ends_clause(self.words[k - 1])
            and self.begins_with_subject(k)
            and bool(self.finite(k, k + 5))  # "a man named Sam" has none
        )

    def _lead_in(self) -> int:
        """Number of words before the main clause, if a short phrase without a verb is there."""
        if not self.spoken or self.spoken[0] not in self.lists.lead_ins:
            return 0
        for k, word in enumerate(self.words[:LONGEST_LEAD_IN], start=1):
            if self.is_finite(k - 1, 0):
                return 0
            if ends_clause(word):
                return k if self.begins_with_subject(k) else 0
        return 0

    def _ends(self, start: int) -> list[int]:
        """The sentence's end, and places before words that begin what may be left out."""
        size = len(self.words)
        whole = [] if self.is_cut else [size]
        end = self._clause_end(start)
        if start in self.questions or (self.is_question and self._is_question(start, size)):
            wholly = whole if self.is_question else []
            return [*wholly, *([end] if end < size or (not self.is_cut and not wholly) else [])]
        return [
            *([] if self.is_question else whole),
            *(
                k
                for k in range(start + FEWEST_WORDS, size - 1)
                if self._may_end(start, k) or self._could_do_without(start, k)
            ),
        ]

    def _could_do_without(self, start: int, k: int) -> bool:
        """Whether words follow that only say when or where, in a clause that is too long for a title."""
        if self.spoken[k] not in self.lists.adjuncts or ends_clause(self.words[k - 1]):
            return False
        verbs = self.finite(start, k)
        has_object = bool(verbs) and verbs[-1] <= k - FEWEST_WORDS and self._comma_after(start) > k
        has_object &= "to" not in self.spoken[max(k - 4, start) : k]
        all_of_it = " ".join(self.words[start : self._comma_after(k)])
        return has_object and self.is_content(self.spoken[k - 1]) and len(all_of_it) > LONGEST_TITLE

    def _may_end(self, start: int, k: int) -> bool:
        """Whether what begins at this word may be left out: it explains, or is another main clause."""
        after_comma, word = ends_clause(self.words[k - 1]), self.spoken[k]
        if self._is_said_by(k) or word in (self.lists.conditions | self.lists.relatives) - self.lists.tails:
            return False
        if is_break(self.words[k - 1]) or word in self.lists.reasons or self._is_splice(k):
            return True
        if word in self.lists.tails:
            return after_comma
        if word in self.lists.joining:
            return self._begins_another(start, k)
        if self.is_content(word) and not self._may_follow_comma(k):
            return False  # "no old, bold hunters"
        announces = self.lists.said.intersection(self.spoken[max(k - FEWEST_WORDS, 0) : k])
        first = next((i for i in range(start, k) if ends_clause(self.words[i])), k) + 1
        return after_comma and not announces and bool(self.finite(start, first))

    def _may_follow_comma(self, k: int) -> bool:
        """Whether a word that says something may be the first that is left out: a name, a number or a verb."""
        spoken = self.spoken[k]
        return (
            self.words[k][:1].isupper()
            or spoken in self.lists.vague | self.lists.number_words | self.lists.prepositions | self.lists.finite
            or "-" in spoken
        )

    def _begins_another(self, start: int, k: int) -> bool:
        """Whether a conjunction begins another main clause, or after a comma at least another predicate."""
        after_comma = ends_clause(self.words[k - 1])
        follows = self.finite(k + 1, min(k + 7, len(self.words)))
        has_subject = self.begins_with_subject(k + 1) or (
            self.is_content(self.spoken[k + 1]) and bool(self.finite(k + 2, min(k + 3, len(self.words))))
        )
        if after_comma:
            return (has_subject and bool(follows)) or bool(self.finite(start, k))
        follows_command = self.is_command(start) and self.spoken[k + 1] in self.lists.finite
        pronoun = self.spoken[k + 1] in self.pronouns and self._has_verb_soon(k + 1)
        if follows_command:
            return True
        return pronoun and bool(self.finite(start, k))

    def _is_said_by(self, k: int) -> bool:
        """Whether words that begin here name who says what is before: ", she says"."""
        return k + 1 < len(self.words) and (
            self.spoken[k + 1] in self.lists.said
            and (self.spoken[k] in self.lists.referring or self.words[k][:1].isupper())
        )

    def _goes_on(self, condition: int, end: int) -> bool:
        """Whether a main clause follows a condition."""
        return any(
            ends_clause(self.words[k - 1]) and self.begins_with_subject(k) and self.finite(k, end)
            for k in range(condition + FEWEST_WORDS, end - 2)
        )

    @cached_property
    def _open_words(self) -> frozenset[str]:
        """Words before a comma that show that their speaker broke off: "the, the"."""
        return self.lists.articles | self.lists.joining | self.lists.relatives

    def _has_main_verb(self, start: int, end: int) -> bool:
        """Whether there is a finite verb besides those of relative clauses, or a command."""
        long_enough = start + FEWEST_WORDS <= min(self._comma_after(start), end)
        if (self.is_command(start) and long_enough) or self._is_question(start, end):
            return True
        first = self._comma_after(start)
        leads_in = self.spoken[start] in self.lists.lead_ins - self.lists.determiners
        if not leads_in and not self.finite(start, min(first, end)):
            return False  # "the police, and I mean it"
        explained = (
            k for k in range(start + 1, end) if self.spoken[k] in self.lists.tails and ends_clause(self.words[k - 1])
        )
        verbs = self.finite(self._after_frames(start), next(explained, end))
        return len(verbs) > self._relative_clauses(start, end, verbs)

    def _relative_clauses(self, start: int, end: int, verbs: Sequence[int]) -> int:
        """Number of relative clauses before the main verb: "the home [that] we have known"."""
        if self.is_question or self.spoken[start] in self.lists.subordinators | self.lists.question:
            return 0
        found = 0
        leads_in = self.spoken[start] in self.lists.lead_ins - self.lists.determiners
        for i in range(start + 1, end):
            word, before = self.spoken[i], self.spoken[i - 1]
            if (ends_clause(self.words[i - 1]) or before in self.lists.joining) and any(verb < i for verb in verbs):
                break
            follows_noun = self.is_content(before) and (i - 1) not in verbs
            is_subject = word.partition("'")[0] in self.lists.subjects
            if (follows_noun or before in self.lists.subjects) and (is_subject or word in self.lists.relatives):
                if leads_in and word not in self.lists.relatives:
                    break  # "for nine days we slept"
                found += 1
            elif i in verbs and not found:
                break
        return found
