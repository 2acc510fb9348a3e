"""The command line as a person meets it: help, mistakes, a run, and what lies in the folder afterwards."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app

KANGKLIP = Path(sys.executable).with_name("kangklip")
SHORT = Path(__file__).parents[1] / "media" / "short.mp4"
SMALL_PICTURE = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "COLUMNS": "120"}


def kangklip(*args, environment=None):
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("R2_", "REDIS_", "PREFECT_"))}
    return subprocess.run(
        [KANGKLIP, *map(str, args)],
        env=bare | SMALL_PICTURE | (environment or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def run(stack, tmp_path_factory):
    """A finished `kangklip clip` on the short sample, and the folder that it filled."""
    out = tmp_path_factory.mktemp("out")
    ended = kangklip("clip", SHORT, "-d", 10, "-n", 1, "-l", "en", "-o", out, environment=stack.environment())
    assert ended.returncode == 0, ended.stderr
    return ended, out


def test_help_teaches_every_command():
    listed = CliRunner().invoke(app, ["--help"]).output
    for command in ("clip", "resume", "status", "doctor", "demo", "job"):
        assert command in listed
        told = CliRunner().invoke(app, [command, "--help"])
        assert told.exit_code == 0
        assert "Usage" in told.output


def test_a_run_ends_with_a_table_and_a_way_to_the_run(run):
    ended, _ = run
    assert re.search(r"clip_01\.mp4", ended.stderr)
    assert re.search(r"\b(\d+)/\1\b", ended.stderr), "all checks of the clip passed"
    assert "/runs/flow-run/" in ended.stderr
    for stage in ("download", "transcript", "chunk", "select", "render", "upload"):
        assert f"✓ {stage}" in ended.stderr


def test_the_folder_receives_clips_and_artifacts_that_others_may_read(run):
    _, out = run
    (folder,) = out.iterdir()
    assert folder.name.startswith("kk_")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("manifest.json", "transcript.json", "chunks.json", "edl.json", "meta.json"),
        *("video_stats.json", "face_log.json", "clip_01.mp4"),
    }
    assert json.loads((folder / "manifest.json").read_text())["clips"][0]["file"] == "clip_01.mp4"
    assert all(path.stat().st_mode & stat.S_IRGRP for path in folder.iterdir())


def test_status_tells_how_a_job_stands(run, stack):
    (folder,) = run[1].iterdir()
    told = kangklip("status", folder.name, environment=stack.environment())
    assert told.returncode == 0
    assert "SUCCEEDED" in told.stdout


def test_resume_of_a_finished_job_brings_its_files(run, stack, tmp_path):
    (folder,) = run[1].iterdir()
    told = kangklip("resume", folder.name, "-o", tmp_path, environment=stack.environment())
    assert told.returncode == 0, told.stderr
    assert (tmp_path / folder.name / "clip_01.mp4").read_bytes() == (folder / "clip_01.mp4").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clip", "no-such-file.mp4"], "no file"),
        (["clip", "ftp://example.org/v.mp4"], "URL"),
        (["clip", "http://127.0.0.1:9/v.mp4"], "public"),
        (["status", "kk_nonsense"], "not a job id"),
        (["resume", "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV"], "No job"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(stack, arguments, said):
    told = kangklip(*arguments, environment=stack.environment())
    assert told.returncode in (1, 2)
    assert said in told.stderr + told.stdout
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("arguments", [["--duration", "4"], ["--duration", "181"], ["--count", "0"], ["--count", "6"]])
def test_lengths_and_counts_have_bounds(arguments):
    told = CliRunner().invoke(app, ["clip", "x.mp4", *arguments])
    assert told.exit_code == 2
    assert arguments[0] in told.output


def test_a_malformed_setting_is_named():
    told = kangklip("doctor", environment={"RENDER_CRF": "high"})
    assert told.returncode == 2
    assert "RENDER_CRF" in told.stderr
    assert "high" not in told.stderr


def test_the_doctor_finds_nothing_missing(stack):
    told = kangklip("doctor", environment=stack.environment())
    assert told.returncode == 0, told.stderr
    assert "missing" not in told.stderr


def test_the_doctor_says_what_is_wrong(stack):
    told = kangklip("doctor", environment=stack.environment() | {"REDIS_URL": "redis://:sesame@127.0.0.1:1/0"})
    assert told.returncode == 1
    assert "missing" in told.stderr
    assert "sesame" not in told.stderr


WORKER = {
    "JOB_ID": "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "VIDEO_URL": "https://example.org/v.mp4",
    "CLIP_COUNT": "2",
    "MIN_CLIP_SECONDS": "30",
    "MAX_CLIP_SECONDS": "30",
    "OUTPUT_LANGUAGE": "auto",
    "R2_ENDPOINT": "http://127.0.0.1:1",
    "R2_BUCKET": "clips",
    "R2_ACCESS_KEY_ID": "id",
    "R2_SECRET_ACCESS_KEY": "sesame",
    "R2_PREFIX": "jobs/kk_01ARZ3NDEKTSV4RRFFQ69G5FAV",
}


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: ""} for name in WORKER if name not in ("OUTPUT_LANGUAGE", "R2_PREFIX")),
        {"JOB_ID": "kk_1"},
        {"CLIP_COUNT": "6"},
        {"MIN_CLIP_SECONDS": "40"},
        {"VIDEO_URL": "file:///etc/passwd"},
        {"R2_PREFIX": "jobs/other"},
        {"OUTPUT_LANGUAGE": "klingon"},
    ],
    ids=lambda wrong: "-".join(f"{name}={value}" for name, value in wrong.items()),
)
def test_a_worker_variable_that_is_wrong_is_named_before_any_work(monkeypatch, wrong):
    from deployments.worker_job import read_request
    from infra.errors import ConfigError

    for name, value in (WORKER | wrong).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        read_request()
    assert next(iter(wrong)) in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("shortest", "longest", "bounds"), [("30", "30", (24, 30)), ("20", "45", (20, 45))])
def test_worker_bounds(monkeypatch, shortest, longest, bounds):
    from deployments.worker_job import read_request

    for name, value in (WORKER | {"MIN_CLIP_SECONDS": shortest, "MAX_CLIP_SECONDS": longest}).items():
        monkeypatch.setenv(name, value)
    job_id, request = read_request()
    assert job_id == WORKER["JOB_ID"]
    assert request.bounds == pytest.approx(bounds)
