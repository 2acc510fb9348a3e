import itertools
import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.appearance import PresetName
from tasks.core.captions.ass import Typeface, ass, escape, text_width
from tasks.core.captions.presets import BOTTOM, CLASSIC, PRESETS, SIDE, TOP, Look
from tasks.core.speech.wordlists import word_lists
from tasks.core.transcript import Word

SIZE = (1080, 1920)
F = Typeface("F")
EVENT = re.compile(r"^Dialogue: ([01]),(\d+):(\d\d):(\d\d\.\d\d),(\d+):(\d\d):(\d\d\.\d\d),Caption,,0,0,0,,(.*)$")
SCALE = r"\\fscx\d+\\fscy\d+"
LARGER = r"\\fscx[\d.]+\\fscy[\d.]+"
WRITTEN_BY_US = re.compile(
    rf"\{{\\an5\\pos\(\d+,\d+\)({SCALE})?\}}|\{{\\1c&H[0-9A-F]{{8}}&\}}|\{{\\alpha(&HFF&\\bord0\\shad0|\\bord\\shad)\}}|\{{\\fscx\d+\}}"
    rf"|\{{\\t\(0,\d+,0\.5,{LARGER}\)(\\t\(\d+,\d+,{SCALE}\))?\}}|\{{{SCALE}\}}"
)
HIGHLIGHTED = re.compile(r"\{\\1c&H0000E1FF&\}(.*?)\{\\1c&H00FFFFFF&\}")
HIDDEN = re.compile(r"\{\\alpha&HFF&\\bord0\\shad0\}(.*?)\{\\alpha\\bord\\shad\}")
GROWN = re.compile(r"\\t\(0,\d+,0\.5,\\fscx([\d.]+)")


def layers(script: str) -> list[tuple[int, float, float, str]]:
    """Layer, start, end and text of each event."""
    rows = [EVENT.match(line) for line in script.splitlines() if line.startswith("Dialogue")]
    assert all(rows)
    times = [[float(x) for x in row.groups()[1:7]] for row in rows if row]
    return [
        (int(row[1]), t[0] * 3600 + t[1] * 60 + t[2], t[3] * 3600 + t[4] * 60 + t[5], row[8])
        for t, row in zip(times, rows, strict=True)
        if row
    ]


def events(script: str) -> list[tuple[float, float, str]]:
    """Start, end and text of each state of the screen; where its spoken word lies above the others, its text."""
    above = {(start, end) for layer, start, end, _ in layers(script) if layer}
    return [(start, end, text) for layer, start, end, text in layers(script) if layer or (start, end) not in above]


def spoken(text: str, start: float = 0.0, each: float = 0.3, gap: float = 0.05) -> list[Word]:
    return [
        Word(word=w, start=start + i * each, end=start + (i + 1) * each - gap) for i, w in enumerate(text.split(" "))
    ]


def plain(text: str) -> str:
    return WRITTEN_BY_US.sub("", text)


def test_every_word_is_highlighted_while_it_is_spoken():
    words = spoken("Ask not what your country can do for you, ask what you can do.")
    shown = events(ass(words, SIZE, "en", F))
    for word in words:
        middle = (word.start + word.end) / 2
        now = [HIGHLIGHTED.findall(HIDDEN.sub("", text)) for start, end, text in shown if start <= middle < end]
        assert now == [[word.word]]


def test_a_word_pops_above_the_others_without_moving_them():
    """Both layers have the same text, and so the same layout; what one shows, the other hides."""
    words = spoken("Ask what you can do. It is not much.")
    shown = layers(ass(words, SIZE, "en", F))
    states = [(one, other) for one, other in pairwise(shown) if one[1:3] == other[1:3]]
    assert len(states) == len(words) == len(shown) / 2
    for (below, _, _, others), (above, _, _, word) in states:
        assert (below, above) == (0, 1)
        assert plain(others) == plain(word)
        seen, hidden = plain(HIDDEN.sub("", word)).strip(), HIDDEN.findall(others)
        assert [seen.replace("\\N", "").strip()] == hidden
        assert float(GROWN.findall(word)[0]) == pytest.approx(112, abs=8)


def pops(text: str, language: str = "en", look: Look = CLASSIC) -> list[float]:
    """By what share of their size words grow, of those that do."""
    shown = layers(ass(spoken(text), SIZE, language, F, look))
    return [float(found[1]) / 100 - 1 for *_, line in shown if (found := GROWN.search(line))]


def test_a_word_grows_less_where_its_neighbours_are_close():
    (short, long, _) = pops("a sesquipedalian tree")
    assert short == pytest.approx(0.12)
    assert long * text_width("sesquipedalian") <= 0.4 + 0.01
    assert all(0 < pop * text_width("我们") <= 0.13 for pop in pops("我们 讨论 手机", "zh"))


def test_a_word_does_not_grow_out_of_the_room_of_its_line():
    word = "m" * 12
    room = (1 - 2 * SIDE) / PRESETS["word"].em
    (pop,) = pops(word[: int(room / 1.1)], look=Look(PRESETS["word"]))
    assert text_width(word[: int(room / 1.1)]) * (1 + pop) <= room + 0.01
    assert pops(word, look=Look(PRESETS["word"])) == []


@pytest.mark.parametrize("name", PRESETS)
def test_only_captions_without_a_box_pop(name: PresetName):
    assert bool(pops("one two three", look=Look(PRESETS[name]))) == (PRESETS[name].box is None)


def test_a_pause_clears_the_screen_and_a_sentence_ends_a_group():
    words = [*spoken("First sentence."), *spoken("Second", start=3.0)]
    shown = events(ass(words, SIZE, "en", F))
    assert not [1 for start, end, _ in shown if start <= 2.0 < end]
    assert {plain(text) for _, _, text in shown} == {"First sentence.", "Second"}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("place", range(1, 6))
def test_captions_show_one_speaker_at_a_time(name: PresetName, place: int):
    words = spoken("we opened it and looked inside", gap=0.25)
    speakers = {word.word: 1 if n < place else 2 for n, word in enumerate(words)}
    said = [word.model_copy(update={"speaker": speakers[word.word]}) for word in words]
    for _, _, text in events(ass(said, (1080, 1920), "en", F, Look(PRESETS[name]))):
        shown = plain(text).replace("\\N", " ").replace("\\n", " ").lower().split()
        assert len({speakers[word] for word in shown}) == 1, shown


def test_there_are_at_most_two_lines_within_the_safe_width():
    text = "Extraordinary circumstances sometimes demand remarkably unconventional explanations from everybody involved"
    room = (1 - 2 * SIDE) / PRESETS["classic"].em
    for _, _, shown in events(ass(spoken(text), SIZE, "en", F)):
        lines = plain(shown).split("\\N")
        assert len(lines) <= 2
        assert all(text_width(line) <= room for line in lines)


@pytest.mark.parametrize("size", [SIZE, (720, 1280), (270, 480), (1080, 1350), (1080, 1080)])
def test_captions_stay_inside_the_safe_area(size: tuple[int, int]):
    script = ass(spoken("Extraordinary circumstances sometimes demand unconventional explanations"), size, "en", F)
    line_height = int(re.findall(r"^Style: Caption,F,(\d+),", script, re.MULTILINE)[0])
    shown = [text for _, _, text in events(script)]
    assert max(text.count("\\N") for text in shown) == 1, "two lines, the tallest"
    for text in shown:
        ((x, y),) = re.findall(r"\\an5\\pos\((\d+),(\d+)\)", text)  # 5: the position is the text's centre
        half = (text.count("\\N") + 1) * line_height / 2
        assert int(x) == size[0] // 2
        assert TOP * size[1] < int(y) - half
        assert int(y) + half <= (1 - BOTTOM) * size[1]


def test_a_group_keeps_its_text_while_the_highlight_moves():
    texts = [plain(text) for _, _, text in events(ass(spoken("one two three"), SIZE, "en", F))]
    assert texts == ["one two three"] * 3


def test_words_of_scripts_without_spaces_are_joined():
    texts = {plain(text) for _, _, text in events(ass(spoken("我们 讨论 big data 手机"), SIZE, "zh", F))}
    assert {t.replace("\\N", "") for t in texts} == {"我们讨论big data手机"}


def test_a_long_word_without_spaces_is_divided():
    shown = events(ass([Word(word="字" * 80, start=0, end=8)], SIZE, "zh", F))
    assert len(shown) > 1
    assert sum(len(HIGHLIGHTED.findall(text)[0]) for _, _, text in shown) == 80


@pytest.mark.parametrize("text", [r"{\fs200}big", r"a\Nb", "a\nb", r"\h\n\N", "}{", "\\", "{\\", "a\u202eb", "\x00x"])
def test_hostile_text_stays_text(text: str):
    (only,) = events(ass([Word(word=text, start=0, end=1)], SIZE, "en", F))
    left = WRITTEN_BY_US.sub("", only[2])
    assert not re.search(r"(?<!\\)[{}]", left)
    assert not re.search(r"\\[Nnh]", left)
    assert "\u202e" not in left


def test_a_backslash_is_separated_from_the_next_character():
    assert escape(r"\N{x}") == "\\\u2060N\\{x\\}"


def test_invisible_words_make_no_event():
    words = [Word(word=w, start=0, end=1) for w in ("", "  ", "\u200b", "\n")]
    assert events(ass(words, SIZE, "en", F)) == []


moments = st.floats(0, 100, allow_nan=False)


@given(
    st.lists(
        st.builds(lambda w, s, d: Word(word=w, start=s, end=s + d), st.text(max_size=60), moments, st.floats(0, 2)),
        max_size=30,
    ),
    st.sampled_from(["en", "zh", "ar"]),
)
def test_captions_never_overlap_and_always_escape_their_text(words: list[Word], language: str):
    script = ass(words, SIZE, language, F)
    shown = sorted(events(script))
    for (_, end, _), (start, _, _) in pairwise(shown):
        assert end <= start + 1e-9
    for start, end, text in shown:
        assert start < end
        assert not re.search(r"(?<!\\)[{}]", WRITTEN_BY_US.sub("", text))
        assert re.fullmatch(r"([^\\]|\\[{}]|\\\u2060|\\N)*", WRITTEN_BY_US.sub("", text), re.DOTALL)
        assert text.count("\\N") <= 1


def caption_groups(text: str, **timing: float) -> list[str]:
    shown = [plain(line).replace("\\N", " ") for _, _, line in events(ass(spoken(text, **timing), SIZE, "en", F))]
    return [text for text, _ in itertools.groupby(shown)]


def test_no_word_of_a_sentence_is_left_alone_on_screen():
    assert min(len(group.split()) for group in caption_groups("one two three four five six seven eight")) >= 3
    assert caption_groups("Yes. One two three.") == ["Yes.", "One two three."]


def test_a_group_ends_at_a_comma_before_the_line_is_full():
    assert caption_groups("when you come home, bring me the old map") == ["when you come home,", "bring me the old map"]


WIDE = Look(PRESETS["box"])
"""Seven words at once."""


def caption_lines(text: str, language: str) -> list[str]:
    shown = [plain(line) for _, _, line in events(ass(spoken(text), SIZE, language, F, WIDE))]
    return [line for text, _ in itertools.groupby(shown) for line in text.split("\\N")]


SPOKEN = (
    "So when I was in the last year of the school that my mother had been to, there was a teacher who would tell us "
    "about the harbour and the people that worked in it. He had been one of them for more than twenty years, and he "
    "said that you could hear from the sound of a rope if it was going to break. And I think of that whenever somebody "
    "asks me what it is that I do, because it is what an engineer does for the most part of a day. We built "
    "the first of the new bridges from the drawings that he had left on the table in his kitchen, and it has stood in "
    "the wind and the salt of that place for longer than any of us would have thought at the time."
)


@pytest.mark.parametrize(("name", "most"), [("classic", 0.2), ("box", 0.08), ("reveal", 0.1)])
def test_few_lines_end_on_a_word_that_leads_on(name: str, most: float):
    """Four words at once leave less room to choose; real talks have fewer words that lead on than this text."""
    lists = word_lists("en")
    assert lists
    shown = [text for _, _, text in events(ass(spoken(SPOKEN), SIZE, "en", F, Look(PRESETS[name])))]
    texts = dict.fromkeys(re.sub(r"\{[^}]*\}", "", text) for text in shown)
    lines = [line for text in texts for line in text.split("\\N")]
    leading = [line for line in lines if line.split()[-1].casefold() in lists.function_words]
    assert len(leading) < most * len(lines)


@pytest.mark.parametrize("break_before", range(5))
@pytest.mark.parametrize("parted", ["Mr. Hall", "Dr. Okafor", "2 500"])
def test_a_title_and_a_number_stay_with_what_follows(parted: str, break_before: int):
    text = " ".join(["Everybody"] * break_before) + f" yesterday saw {parted} walking over the frozen harbour alone."
    shown = {plain(text) for _, _, text in events(ass(spoken(text.strip()), SIZE, "en", F))}
    assert sum(parted in text for text in shown) == 1


def test_in_a_language_without_lists_short_words_lead_on():
    text = "Gestern haben viele Leute aus der Stadt den ganzen Tag an dem alten Hafen auf das Schiff gewartet."
    lines = {line for _, _, text in events(ass(spoken(text), SIZE, "de", F)) for line in plain(text).split("\\N")}
    assert not [line for line in lines if line.split()[-1] in ("aus", "der", "den", "an", "dem", "auf", "das")]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Google أعلنت عن هاتف جديد", "ar"),
        ("2024 Apple הודיעה על מכשיר", "he"),
        ("YouTube یک برنامهٔ بزرگ است", "fa"),
    ],
)
def test_a_right_to_left_line_may_begin_with_a_latin_word(text: str, language: str):
    for line in caption_lines(text, language):
        first = next(c for c in line if unicodedata.bidirectional(c) in ("L", "R", "AL"))
        assert unicodedata.bidirectional(first) in ("R", "AL")


def test_a_left_to_right_line_may_begin_with_a_hebrew_word():
    assert caption_lines("plain words", "en") == ["plain words"]
    assert caption_lines("שלום is the Hebrew word", "en")[0].startswith("\u200e")
    assert caption_lines("Service Pack", "ar") == ["Service Pack"]


def test_marks_stay_with_their_letter_however_words_are_split():
    words = [Word(word=w, start=i / 4, end=(i + 1) / 4) for i, w in enumerate(["นี", "้", "มา", "ก", "ำ", "ที", "่", "ยว"])]
    for _, _, text in events(ass(words, SIZE, "th", F)):
        assert not re.search(r"(\\N|\})[\u0e31\u0e33-\u0e3a\u0e47-\u0e4e]", text)
        assert plain(text) == "นี้มากำที่ยว"


def test_a_long_word_is_divided_between_whole_letters():
    word = Word(word="กำลังใจที่ดีเยี่ยม" * 8, start=0, end=8)
    for _, _, text in events(ass([word], SIZE, "th", F)):
        for part in re.split(r"\\N|\{[^}]*\}", text):
            assert unicodedata.category(part[:1] or "a")[0] != "M"
            assert not part.startswith(("ำ", "ะ", "า"))


def test_decomposed_letters_are_composed():
    assert caption_lines("cafe\u0301 n\u0303", "es") == ["caf\xe9 \xf1"]


def test_scripts_without_spaces_have_none_in_a_foreign_talk():
    assert caption_lines("he said 今日 は fine", "en") == ["he said 今日は fine"]


LONG = "Extraordinary circumstances sometimes demand remarkably unconventional explanations from everybody involved"


def groups(preset: str, text: str = LONG, language: str = "en") -> list[str]:
    """What is on screen together, with breaks, one after the other."""
    look = Look(PRESETS[preset])
    shown = [re.sub(r"\{[^}]*\}", "", line) for _, _, line in events(ass(spoken(text), SIZE, language, F, look))]
    return [text for text, _ in itertools.groupby(shown)]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_shows_no_more_words_and_lines_at_once_than_it_says(name: str):
    shown = groups(name)
    assert max(len(group.split("\\N")) for group in shown) <= PRESETS[name].lines
    assert max(len(re.split(r"\\N| ", group)) for group in shown) <= PRESETS[name].words
    assert " ".join(shown).replace("\\N", " ").casefold() == LONG.casefold()


def test_no_two_presets_differ_in_colours_alone():
    kinds = {
        (p.face, p.em, p.words, p.lines, p.capitals, p.box is None, p.reveals, p.position) for p in PRESETS.values()
    }
    assert len(kinds) == len(PRESETS) >= 5


@pytest.mark.parametrize("position", ["lower", "middle", "upper", None])
@pytest.mark.parametrize("size", [SIZE, (1080, 1350), (1080, 1080), (1920, 1080), (180, 320)])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_keeps_inside_the_safe_area_at_every_position(name: str, size: tuple[int, int], position):
    look = Look(PRESETS[name], position)
    for line in (1.2, 1.762, 1.86):
        middle, half = look.centre(size, line), look.preset.lines * line * look.em(size) / size[1] / 2
        padding = look.preset.padding * look.em(size) / size[1]
        assert middle - half - padding + 1e-9 >= TOP
        assert middle + half + padding <= 1 - BOTTOM + 1e-9
    band = look.band(size)
    assert band.top < look.centre(size) < band.bottom


def test_positions_differ():
    for preset in PRESETS.values():
        lower, middle, upper = (Look(preset, position).centre(SIZE) for position in ("lower", "middle", "upper"))
        assert lower > middle + 0.07 > upper + 0.2


def test_words_of_reveal_appear_as_they_are_said_and_keep_their_place():
    drawn = layers(ass(spoken("one two three"), SIZE, "en", F, Look(PRESETS["reveal"])))
    shown = [text for *_, text in drawn]
    hidden = [
        set(HIDDEN.findall(others)) & set(HIDDEN.findall(word)) for others, word in zip(*[iter(shown)] * 2, strict=True)
    ]
    assert hidden == [{"two", "three"}, {"three"}, set()]
    assert {re.sub(r"\{[^}]*\}", "", text) for text in shown} == {"one two three"}


@pytest.mark.parametrize(
    ("text", "language", "written"),
    [
        ("stra\xdfe", "de", "STRASSE"),
        ("istanbul", "tr", "\u0130STANBUL"),
        ("istanbul", "en", "ISTANBUL"),
        ("\u03b1\u03b3\u03ac\u03c0\u03b7", "el", "\u0391\u0393\u0391\u03a0\u0397"),
        ("\u043c\u0438\u0440", "ru", "\u041c\u0418\u0420"),
        ("\u10db\u10d6\u10d4", "ka", "\u10db\u10d6\u10d4"),
        ("\u0645\u0631\u062d\u0628\u0627", "ar", "\u0645\u0631\u062d\u0628\u0627"),
        ("\u4eca\u65e5", "ja", "\u4eca\u65e5"),
        ("e\u0301te\u0301", "fr", "\xc9T\xc9"),
    ],
)
def test_capitals_only_where_the_script_is_written_in_them(text: str, language: str, written: str):
    assert groups("punch", text, language) == [written]


def test_capitals_of_hostile_text_stay_text():
    for text in (r"{\fs200}big", r"a\nb", "\\N"):
        for _, _, shown in events(ass([Word(word=text, start=0, end=1)], SIZE, "en", F, Look(PRESETS["punch"]))):
            assert not re.search(r"\\[Nnh]", re.sub(r"\{\\[^}]*&\}|\{\\an5[^}]*\}", "", shown))


def test_the_default_is_large_and_as_high_as_the_picture_leaves_room():
    def place(look: Look, size: tuple[int, int]) -> float:
        return look.centre(size)

    script = ass(spoken("We went to Kovno,"), SIZE, "en", Typeface("Poppins ExtraBold"))
    assert re.findall(r"^Style: Caption,Poppins ExtraBold,(\d+),", script, re.MULTILINE) == ["122"]
    assert 68 <= Look().em(SIZE) <= 76
    assert 0.62 <= place(Look(), SIZE) <= 0.66
    assert place(Look(lowered=True), SIZE) == place(Look(position="lower"), SIZE) > 0.7
    assert place(Look(position="middle", lowered=True), SIZE) == place(Look(), SIZE), "what a person chose stays"
    for flat in ((1080, 1080), (1080, 1350), (1920, 1080)):
        assert place(Look(), flat) == place(Look(position="lower"), flat)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.position != "middle"])
def test_presets_that_are_low_anyway_are_not_lowered(name):
    assert Look(PRESETS[name], lowered=True).centre(SIZE) == Look(PRESETS[name]).centre(SIZE)
