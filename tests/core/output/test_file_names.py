"""File names made from untrusted titles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.output.file_names import NAME_BYTES, file_name_from_title

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
