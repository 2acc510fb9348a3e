"""Say in words why a window was chosen."""

from collections.abc import Mapping

MOST = 3
"""Number of reasons to give."""

WORDS: dict[str, tuple[str, str]] = {
    "pauses": ("pauses that stand out", "speech without a pause"),
    "short_sentences": ("short sentences", "long sentences"),
    "word_length": ("long words", "short words"),
    "variety": ("many different words", "words that come again"),
    "rare_words": ("rare words", "common words"),
    "numbers": ("numbers", "few numbers"),
    "first_person": ("the speaker's own story", "little about the speaker"),
    "second_person": ("words to the viewer", "few words to the viewer"),
    "dialogue": ("dialogue", "no dialogue"),
    "discourse": ("a conversational tone", "few fillers"),
    "positive": ("positive words", "few positive words"),
    "claim": ("a clear point", "no bold claims"),
    "question": ("questions", "no questions"),
    "exclamations": ("exclamations", "a calm tone"),
    "centrality": ("the recording's main subject", "a subject of its own"),
    "length": ("its full length", "brevity"),
    "early": ("its place early on", "its place late"),
    "closing": ("its place at the end", "not being the farewell"),
    "opening": ("a strong opening", "a plain opening"),
    "completeness": ("a complete ending", "an open ending"),
    "topic": ("one topic from start to end", "several topics"),
    "loudness": ("a raised voice", "a quiet voice"),
    "dynamics": ("changes of volume", "an even volume"),
    "melody": ("lively intonation", "even intonation"),
    "reaction": ("the audience's reaction", "no reaction"),
    "replays": ("many replays", "few replays"),
    "chapter": ("staying within a chapter", "crossing chapters"),
    "promotion": ("promotion", "no promotion"),
    "repetition": ("repetition", "no repetition"),
    "asked_topic": ("your topic", "other topics"),
    "dead_air": ("silence", "no silence"),
}
"""What much, and what little, of each signal is called."""


def reason(counted: Mapping[str, float], signals: Mapping[str, float]) -> str:
    """One sentence that names what counted most for a window, by what each signal added and its value."""
    strong = sorted((name for name, added in counted.items() if added > 0), key=lambda name: -counted[name])[:MOST]
    if not strong:
        return "No signal stands out; it is the best remaining window."
    *words, last = [WORDS[name][signals[name] < 0] for name in strong]
    return f"Stands out for {', '.join(words)} and {last}." if words else f"Stands out for {last}."
