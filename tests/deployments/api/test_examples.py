"""The examples in docs/api.md and the README work against a running API, exactly as written."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from infra.jobs.record import Report
from infra.states import JobState
from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import CLIP, clip_entry
from tests.deployments.api.routes.test_edit import finished
from tests.documents import DOCS, README, blocks, read, section

EXAMPLES = blocks(read(DOCS / "api.md"))
SERVED = "http://127.0.0.1:8000"
"""Where `kangklip up` listens."""


def test_every_public_path_has_an_example():
    text = "\n".join(EXAMPLES)
    for path in (
        "/api/jobs ",
        "$JOB",
        "/events",
        "/results",
        "/download",
        "/manifest",
        "/readyz",
        "/metrics",
        "/api/uploads ",
        "/edit ",
        "/edit/check ",
        "/words",
        "/source ",
    ):
        assert path in text.replace('"', " ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(api, tmp_path, number):
    env = os.environ | {"API": api.url, "JOB": finished(api)}
    (tmp_path / "talk.mp4").write_bytes(CLIP)
    script = ["sh", "-euc", EXAMPLES[number]]
    done = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or len(list(tmp_path.iterdir())) > 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_readme_creates_a_job(api, tmp_path):
    (example,) = [block for block in blocks(section(README, "As a service")) if "curl" in block]
    assert SERVED in example
    script = ["sh", "-euc", example.replace(SERVED, api.url)]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert '"QUEUED"' in done.stdout


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_the_readmes_python_waits_for_the_end_and_prints_it(api, state):
    (example,) = blocks(section(README, "Recipes"), "python")
    assert SERVED in example
    before = set(api.runs.ids)
    command = [sys.executable, "-c", example.replace(SERVED, api.url).replace("time.sleep(2)", "time.sleep(0.1)")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        while not (made := set(api.runs.ids) - before):
            assert waiting.poll() is None, waiting.stderr.read()
            time.sleep(0.05)
        (job_id, _) = made.pop()
        api.bucket.put_bytes(job_key(job_id, "clip_01.mp4"), CLIP, "video/mp4")
        api.bucket.put_json(job_key(job_id, "manifest.json"), {"job_id": job_id, "clips": [clip_entry("clip_01.mp4")]})
        error = "It broke." if state is JobState.FAILED else None
        assert api.jobs.report(Report(job_id=job_id, status=state, progress=100, error=error))
        output, errors = waiting.communicate(timeout=30)
    if state is JobState.FAILED:
        assert waiting.returncode == 1
        assert "It broke." in errors
    else:
        assert waiting.returncode == 0, errors
        assert output.startswith("It begins http")
