"""The README's commands for a laptop, run exactly as written."""

import os
import re
import subprocess
import sys

from tests.documents import README, blocks, section
from tests.folders import MEDIA

SMALL_PICTURE = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "COLUMNS": "160"}


def test_the_commands_for_a_laptop_cut_clips_and_show_the_job(stack, tmp_path):
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "talk.mp4").symlink_to(MEDIA / "short.mp4")
    (commands,) = blocks(section(README, "On a laptop"))
    done = subprocess.run(
        ["sh", "-euc", commands],
        cwd=tmp_path,
        env=os.environ | stack.environment() | SMALL_PICTURE,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "clips").iterdir()
    asked = int(re.search(r"--count (\d)", commands)[1])
    assert len(list(folder.glob("clip_0*.mp4"))) == asked
    listed = [line for line in done.stdout.splitlines() if folder.name in line and "talk.mp4" in line]
    assert len(listed) == 1
    assert "SUCCEEDED" in listed[0]
    assert "Whisper weights" in done.stdout
