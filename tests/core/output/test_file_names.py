"""File names made from untrusted titles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.output.file_names import NAME_BYTES, distinct_names, file_name_from_title

NAMES = {
    "It begins": "It begins.mp4",
    "Was it worth it? 50/50: yes!": "Was it worth it 50 50 yes!.mp4",
    "Çok güzel 日本語 👩\u200d🚀": "Çok güzel 日本語 👩\u200d🚀.mp4",
    "../../etc/passwd": "etc passwd.mp4",
    "..\\..\\boot.ini": "boot.ini.mp4",
    "-rf ~": "rf.mp4",
    "a\r\nset-cookie: x\x00": "a set-cookie x.mp4",
    "clip\u202e4pm.exe": "clip4pm.exe.mp4",
    "CON": "clip_01 CON.mp4",
    "lpt1.txt": "clip_01 lpt1.txt.mp4",
    "half \ud800": "half.mp4",
    **dict.fromkeys(("", "   ", "...", "///", "\u200f", "~", "-"), "clip_01.mp4"),
}


@pytest.mark.parametrize("title", NAMES)
def test_a_title_becomes_a_file_name(title):
    assert file_name_from_title(title, "clip_01.mp4") == NAMES[title]


@pytest.mark.parametrize("title", [None, 5, ["a"]])
def test_without_a_title_the_file_keeps_its_name(title):
    assert file_name_from_title(title, "clip_01.mp4") == "clip_01.mp4"


@given(st.text(max_size=400))
def test_any_title_becomes_one_plain_file_name(title):
    name = file_name_from_title(title, "clip_01.mp4")
    assert name.endswith(".mp4")
    assert 4 < len(name.encode()) <= NAME_BYTES + len("clip_01 .mp4")
    assert not set(name) & set('\\/:*?"<>|\r\n\t\0')
    assert name[0] not in " .-~"
    assert file_name_from_title(name.removesuffix(".mp4"), "clip_01.mp4") == name


def test_equal_names_are_numbered():
    files = [
        ("Open it", "clip_01.mp4"),
        ("Open it", "clip_01.srt"),
        ("open IT", "clip_02.mp4"),
        ("Open it", "clip_03.mp4"),
    ]
    files += [("Open it", "clip_03.srt"), ("Open it (2)", "clip_04.mp4"), ("", "clip_05.mp4"), (None, "clip_05.mp4")]
    assert distinct_names(files) == [
        *("Open it.mp4", "Open it.srt", "open IT (2).mp4", "Open it (3).mp4"),
        *("Open it (2).srt", "Open it (2) (2).mp4", "clip_05.mp4", "clip_05 (2).mp4"),
    ]
    assert distinct_names([("caf\u00e9", "a.mp4"), ("cafe\u0301", "b.mp4")]) == ["caf\u00e9.mp4", "caf\u00e9 (2).mp4"]


@given(st.lists(st.tuples(st.sampled_from(["a", "A", "a (2)", "x" * 200, "x" * 300, ""]), st.just("clip_01.mp4"))))
def test_no_two_names_are_the_same(files):
    names = [name.casefold() for name in distinct_names(files)]
    assert len(set(names)) == len(files)
