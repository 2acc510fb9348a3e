"""The examples of docs/api.md, as they stand there, by curl against a running API."""

import os
import re
import shutil
import subprocess

import pytest

from tests.folders import ROOT

PAGE = ROOT / "docs" / "api.md"
EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_examples_of_every_path_that_is_for_people():
    text = "\n".join(EXAMPLES)
    for path in ("/api/jobs ", "$JOB", "/events", "/results", "/download", "/manifest", "/readyz", "/metrics"):
        assert path in text.replace('"', " ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_does_what_it_says(api, tmp_path, number):
    env = os.environ | {"API": api.url, "JOB": api.finished_job()}
    script = ["sh", "-euc", EXAMPLES[number]]
    done = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or list(tmp_path.iterdir())
