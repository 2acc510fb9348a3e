"""The words of sentences as terms that can be counted and compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.speech.punctuation import ends_question, ends_sentence
from tasks.core.speech.wordlists import WordLists
from tasks.core.speech.writing_systems import TOKEN
from tasks.core.transcript import Sentence


def tokens(text: str) -> list[str]:
    """The words of a text, case-folded, with straight apostrophes and no punctuation."""
    return [token.casefold().replace("\u2019", "'") for token in TOKEN.findall(text)]


def stem(token: str) -> str:
    """A crude stem for any language: the first six letters."""
    return token.partition("'")[0][:6]


@dataclass(frozen=True)
class Line:
    """A sentence, its tokens, and the word lists of its language, or None if there are none."""

    sentence: Sentence
    words: list[str]
    lists: WordLists | None

    @classmethod
    def of(cls, sentence: Sentence, lists: WordLists | None) -> "Line":
        return cls(sentence, tokens(sentence.text), lists)

    @property
    def is_question(self) -> bool:
        """Judged by the question mark or, without punctuation, by the first word."""
        if ends_question(self.sentence.text):
            return True
        if self.lists is None or not self.words or ends_sentence(self.sentence.text):
            return False
        return self.words[0] in self.lists.question

    @property
    def claim_count(self) -> int:
        """Number of words and phrases that make a claim."""
        if self.lists is None:
            return 0
        return phrases_in(self.words, self.lists.claim_phrases) + len(self.lists.claim.intersection(self.words))

    @property
    def number_count(self) -> int:
        named = self.lists.number_words if self.lists is not None else frozenset[str]()
        return sum(word[0].isdigit() or word in named for word in self.words)


def content_words(lines: Sequence[Line]) -> list[list[str]]:
    """Stems of the words that carry meaning, one list per sentence.

    Function words come from the word lists. In languages without lists, words that occur in more than a
    tenth of the sentences count as function words.
    """
    unlisted = [line.words for line in lines if line.lists is None]
    spread = Counter(token for words in unlisted for token in set(words))
    limit = max(3.0, 0.1 * len(unlisted))
    common = frozenset(token for token, count in spread.items() if count > limit)
    return [
        [stem(t) for t in line.words if t not in (line.lists.stop if line.lists else common) and not t.isdigit()]
        for line in lines
    ]


def phrases_in(words: Sequence[str], phrases: Sequence[str]) -> int:
    """How many of the phrases are among the words."""
    text = f" {' '.join(words)} "
    return sum(f" {phrase} " in text for phrase in phrases)


def has_phrase(words: Sequence[str], phrases: Sequence[str]) -> bool:
    """Whether one of the phrases is among the words."""
    return phrases_in(words, phrases) > 0
