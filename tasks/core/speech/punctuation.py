"""Punctuation in all scripts: marks that end a sentence or clause, quotes and brackets."""

import re

SENTENCE_FINAL = ".!?\u2026\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965\u0589\u1362\u1367\u104b\u17d4\u17d5\u0f0d"
"""Full stops, question and exclamation marks: Latin, Chinese, Japanese, Arabic, Urdu, Hindi, Armenian, Ethiopic,
Burmese, Khmer, Tibetan. The one set for all code that looks for sentence ends."""
QUESTION_MARKS = "?\uff1f\u061f\u1367"
"""Marks that end a question."""
CLAUSE_FINAL = ",;:\uff0c\u3001\uff1b\uff1a\u060c\u061b"
"""Commas, semicolons and colons: Latin, Chinese, Japanese, Arabic."""
CLOSERS = "\"'\u201d\u2019\u00bb\u203a)]}\u300d\u300f\u3011\u300b\u3009"
"""Quotes and brackets that may follow the final mark: straight, curly, guillemets, Chinese, Japanese."""
OPENERS = "\"'\u201c\u2018\u201e\u00ab\u2039([{\u300c\u300e\u3010\u300a\u3008"
"""Their opening counterparts."""

_END = re.compile(rf"(?P<marks>[{re.escape(SENTENCE_FINAL)}]+)[{re.escape(CLOSERS)}]*\s*\Z")


def final_marks(text: str) -> re.Match[str] | None:
    """The marks that end the text (group `marks`), with any quotes and brackets after them, or None."""
    return _END.search(text)


def ends_sentence(text: str) -> bool:
    """Whether the text ends with sentence-final punctuation."""
    return final_marks(text) is not None


def ends_question(text: str) -> bool:
    """Whether the text's final punctuation includes a question mark."""
    found = final_marks(text)
    return found is not None and any(mark in QUESTION_MARKS for mark in found["marks"])
