import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.choice.headline import MAX_HOOK_CHARS, MAX_TITLE_CHARS, headline, hook, shorten
from tasks.core.choice.signals import tokens
from tasks.core.speech.wordlists import word_lists

DULL = [
    "The committee considered the quarterly configuration of the facilities.",
    "The configuration was documented by the committee in the annual report.",
]
CLIPS = {
    "tech": [
        "So here we go again with the logs.",
        "I looked at my screen and it was red.",
        "And the truth is, a backup you never restored is not a backup.",
        "We went home after that.",
    ],
    "story": [
        "Well, we had a dog back then.",
        "It was a summer like this one.",
        "Why would anybody bury forty letters under a tree?",
        "And then we ate.",
    ],
    "lecture": [
        "Okay, let us go on with it.",
        "You read the chapter twice and you feel good about it.",
        "But testing yourself beats reading, because memory grows when it works.",
        "So there is that.",
    ],
}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("tech", "A backup you never restored is not a backup"),
        ("story", "Why would anybody bury forty letters under a tree?"),
        ("lecture", "Testing yourself beats reading"),
    ],
)
def test_the_strongest_clause_is_the_headline(name, title):
    talk = [*DULL, *CLIPS[name], *DULL]
    assert headline(CLIPS[name], talk, "en") == title


def test_a_headline_does_not_repeat_the_clips_beginning():
    lines = ["Never feed the machine on a Monday.", "The machine eats your weekend and it asks for more."]
    assert not lines[0].startswith(headline(lines, lines, "en"))


def test_a_reporting_clause_is_left_out():
    lines = ["We met in the garden.", "My grandmother said, never trust a quiet kitchen.", "Then we left."]
    assert headline(lines, lines, "en") == "Never trust a quiet kitchen"


def test_an_indonesian_clip_gets_a_headline():
    lines = ["Nah, jadi begini.", "Jangan pernah malu bertanya, karena malu itu mahal.", "Terus saya pulang."]
    assert headline(lines, lines, "id") in (
        "Jangan pernah malu bertanya",
        "Jangan pernah malu bertanya, karena malu itu mahal",
    )


def test_markup_and_sound_labels_never_reach_a_title():
    lines = ["Hello there all.", "[Music] The *best* <b>answer</b> is {\\an8}never simple # at all friends"]
    assert not set("[]<>{}*#") & set(headline(lines, lines, "en"))


def test_a_script_without_spaces_gets_a_headline():
    lines = ["今日は天気の話です。", "なぜ猫は水を怖がるのか？", "理由は毛にあります。"]  # noqa: RUF001
    assert headline(lines, lines, "ja") == "なぜ猫は水を怖がるのか？"  # noqa: RUF001


@pytest.mark.parametrize("lines", [[], [""], ["..."], ["♪"]])
def test_a_clip_without_words_gets_no_headline_or_hook(lines):
    assert headline(lines, lines, "en") == ""
    assert hook(lines, "en") == ""


@pytest.mark.parametrize("language", ["en", "id", "xx"])
def test_a_clip_of_one_endless_clause_gets_a_title(language):
    lines = ["this machine learned every house in the city by name and colour and weather " * 4]
    title = headline(lines, lines, language)
    assert 10 < len(title) <= MAX_TITLE_CHARS
    assert title.casefold() in " ".join(lines)


LINES = st.lists(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["the", "cat", "and", "never", "you", "of", "burned,", "Why?", "it"]), max_size=40).map(
        " ".join
    ),
    max_size=8,
)


@settings(max_examples=200)
@given(LINES, st.sampled_from(["en", "id", "xx"]))
def test_titles_fit_and_do_not_end_in_a_stop_word(lines, language):
    title, line = headline(lines, lines, language), hook(lines, language)
    assert len(title) <= MAX_TITLE_CHARS
    assert len(line) <= MAX_HOOK_CHARS
    assert "\n" not in title + line
    lists = word_lists(language)
    spoken = {token for text in lines for token in tokens(text)}
    if lists is not None and tokens(title) and not title.endswith(("?", "\uff1f", "\u061f")):
        assert tokens(title)[-1] not in lists.stop or not any(t not in lists.stop for t in spoken)


def test_the_hook_is_an_early_strong_line_other_than_the_title():
    lines = ["And then it rained.", "What would you do without a roof?", "We sang.", "Nobody slept."]
    assert hook(lines, "en") == "What would you do without a roof?"
    assert hook(lines, "en", "What would you do without a roof?") != "What would you do without a roof?"


@given(st.text(max_size=300), st.integers(2, 80))
def test_shorten_keeps_to_the_limit(text, limit):
    short = shorten(text, limit)
    assert len(short) <= limit
    assert "\n" not in short


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("So, first of all, because we live in another city, we take the train.", "We live in another city"),
        ("By the way, well, nobody waters the roof.", "Nobody waters the roof."),
        ("You know nobody.", "You know nobody."),
    ],
)
def test_an_opening_phrase_is_dropped_entirely(sentence, line):
    assert hook([sentence], "en").startswith(line)


def test_shorten_cuts_between_words():
    assert shorten("one two three", 9) == "one two…"
    assert shorten("one two three", 13) == "one two three"


def test_negations_and_doubts_stay_in_a_title():
    sentences = ["So there it was.", "No logo, no number to call, no campaign."]
    assert headline(sentences, sentences, "en").startswith("No logo")
    doubt = ["We met again.", "Maybe the whole system was wrong."]
    assert headline(doubt, doubt, "en") == "Maybe the whole system was wrong"
