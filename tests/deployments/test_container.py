"""The way into the worker's image, as a process with nothing but its own environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Missing or malformed: R2_ENDPOINT: is required"),
        ({"KANGKLIP_GRANT": "a-grant"}, "This version cannot redeem a grant"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path, given, words):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200"} | given
    command = [sys.executable, "-m", "deployments.container"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "a-grant" not in done.stdout + done.stderr
