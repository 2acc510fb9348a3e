"""A job that is killed at any moment and run again does only the missing work, with the same result."""

import hashlib
import os
import signal
import subprocess
import time

import httpx
import psutil
import pytest

from infra.jobs.ids import new_job_id
from infra.states import JobState
from tasks.engines.ffmpeg import ffmpeg_exe

STAGES = ["DOWNLOAD", "TRANSCRIPT", "CHUNK", "SELECT", "RENDER", "UPLOAD"]


def frames_digest(store, job_id, tmp_path):
    """One digest over every decoded frame of every clip of a job."""
    digest = hashlib.sha256()
    for key in sorted(key for key in store.list(f"jobs/{job_id}/clip_") if key.endswith(".mp4")):
        clip = store.fetch(key, tmp_path / job_id / key.rpartition("/")[2])
        command = [ffmpeg_exe(), "-v", "error", "-i", str(clip), "-map", "0:v", "-f", "framemd5", "-"]
        digest.update(subprocess.run(command, capture_output=True, check=True).stdout)
    return digest.hexdigest()


def without_job_id(edl):
    """An EDL without its job id."""
    return {name: value for name, value in edl.items() if name != "job_id"}


@pytest.fixture(scope="module")
def uninterrupted(pipeline, short, tmp_path_factory):
    """The EDL and the frames of an uninterrupted run."""
    pipeline.clear_shared_cache()
    job_id = new_job_id()
    ended = pipeline.run(job_id, short)
    assert ended.returncode == 0, ended.output
    assert set(pipeline.stages(ended.flow_run_id).values()) == {"Completed"}
    return without_job_id(pipeline.json(job_id, "edl.json")), frames_digest(
        pipeline.store, job_id, tmp_path_factory.mktemp("uninterrupted")
    )


def test_a_job_killed_in_every_stage_in_turn_repeats_no_finished_stage(
    pipeline, short, uninterrupted, job_id, tmp_path
):
    pipeline.clear_shared_cache()
    for done, stage in enumerate([*STAGES, "RECORD"]):
        killed = pipeline.run(job_id, short, DIE_IN=stage)
        assert killed.returncode == -signal.SIGKILL, (stage, killed.output)
        assert pipeline.jobs.get(job_id).status is JobState.RUNNING
        before = min(done, len(STAGES) - 1)
        fresh = 1 if 0 < done < len(STAGES) else 0  # the stage that the run before was killed in
        states = list(pipeline.stages(killed.flow_run_id).values())
        assert states == ["Cached"] * (before - fresh) + ["Completed"] * fresh + ["Running"], stage
    assert pipeline.store.exists(f"jobs/{job_id}/manifest.json")

    lost = pipeline.run(job_id, short, LOSE_END="1")
    assert lost.returncode == 1, lost.output
    assert "its record was not updated; resume the job" in lost.output
    assert pipeline.jobs.get(job_id).status is JobState.RUNNING

    again = pipeline.run(job_id, short)

    assert again.returncode == 0, again.output
    assert list(pipeline.stages(again.flow_run_id).values()) == ["Cached"] * 6
    job = pipeline.jobs.get(job_id)
    assert (job.status, job.attempt, job.progress) == (JobState.SUCCEEDED, 9, 100)
    assert without_job_id(pipeline.json(job_id, "edl.json")) == uninterrupted[0]
    assert frames_digest(pipeline.store, job_id, tmp_path) == uninterrupted[1]


@pytest.mark.long
def test_a_job_killed_while_encoding_leaves_no_encoder_behind(pipeline, short, uninterrupted, job_id, tmp_path):
    process = pipeline.start(job_id, short, RENDER_PRESET="slow", RENDER_RESOLUTION="1080x1920")
    deadline = time.monotonic() + 120
    while not (children := encoders_of(process.pid)):
        assert time.monotonic() < deadline, "no encode began"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 20
    while any(is_alive(child) for child in children):
        assert time.monotonic() < until, "an encoder outlived its run"
        time.sleep(0.1)

    again = pipeline.run(job_id, short)

    assert again.returncode == 0, again.output
    assert frames_digest(pipeline.store, job_id, tmp_path) == uninterrupted[1]


@pytest.fixture(scope="module")
def stopped(pipeline, short):
    """Id of a job that SIGTERM stopped in SELECT, although a library swallowed the signal."""
    job_id = new_job_id()
    ended = pipeline.run(job_id, short, STOP_IN="SELECT")
    assert ended.returncode != 0, ended.output
    return job_id


def test_sigterm_ends_the_run_even_if_a_library_swallows_it(pipeline, stopped):
    job = pipeline.jobs.get(stopped)
    assert (job.status, job.stage) == (JobState.FAILED, "SELECT")
    assert "stopped" in job.error


def test_a_cached_artifact_missing_from_the_bucket_is_rebuilt(pipeline, short, stopped):
    pipeline.store.delete(f"jobs/{stopped}/transcript.json")

    again = pipeline.run(stopped, short)

    assert again.returncode == 0, again.output
    states = pipeline.stages(again.flow_run_id)
    assert (states["download"], states["transcript"], states["chunk"]) == ("Cached", "Completed", "Cached")
    assert pipeline.store.exists(f"jobs/{stopped}/transcript.json")
    assert pipeline.jobs.get(stopped).status is JobState.SUCCEEDED


@pytest.mark.long
def test_a_job_stopped_by_sigterm_says_so_and_can_resume(pipeline, short, job_id):
    process = pipeline.start(job_id, short)
    deadline = time.monotonic() + 120
    while (job := pipeline.jobs.get(job_id)) is None or job.stage == "DOWNLOAD":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    job = pipeline.jobs.get(job_id)
    assert job.status is JobState.FAILED
    assert "stopped" in job.error
    assert pipeline.json(job_id, "error.json")["code"] == "stopped"

    again = pipeline.run(job_id, short)

    assert again.returncode == 0, again.output
    assert pipeline.jobs.get(job_id).attempt == 2
    assert not pipeline.store.exists(f"jobs/{job_id}/error.json")


def test_a_job_cancelled_in_the_prefect_ui_stays_cancelled(pipeline, short, job_id):
    process = pipeline.start(job_id, short)
    deadline = time.monotonic() + 120
    while (job := pipeline.jobs.get(job_id)) is None or job.status is not JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cancelling = {"state": {"type": "CANCELLING"}, "force": False}
    address = f"{pipeline.environment['PREFECT_API_URL']}/flow_runs/{job.flow_run_id}/set_state"
    assert httpx.post(address, json=cancelling, timeout=60).json()["status"] == "ACCEPT"
    process.terminate()  # as the worker does when it sees the cancellation
    process.communicate(timeout=60)
    job = pipeline.jobs.get(job_id)
    assert (job.status, job.attempt, job.is_cancelled) == (JobState.FAILED, 1, True)
    assert job.error.startswith("The run was cancelled in the Prefect UI.")
    assert not pipeline.jobs.retry(job_id, 1, "whoever comes late")


def encoders_of(pid):
    """Process ids of ffmpeg children that encode video."""
    return [child.pid for child in psutil.Process(pid).children() if "libx264" in command_of(child)]


def command_of(process):
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []  # it has ended


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
