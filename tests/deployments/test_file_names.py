import os

import pytest

from deployments.local_run import readable_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"talk \xff\xe9.mp4", "talk \ufffd\ufffd.mp4"),
        (b"a\nb\tc\x1b[31m.mp4", "a b c [31m.mp4"),
        ("evil\u202e4pm.exe".encode(), "evil4pm.exe"),
        ("cafe\u0301.mp4".encode(), "caf\xe9.mp4"),
        (b"x" * 400, "x" * 255),
        (b"%s-%(id)s.mp4", "%s-%(id)s.mp4"),
        (b"-rf.mp4", "-rf.mp4"),
        (b"\x01\x02", "unnamed"),
    ],
)
def test_any_file_name_becomes_one_readable_line(name: bytes, shown: str):
    line = readable_name(os.fsdecode(name))
    assert line == shown
    assert line.encode()
