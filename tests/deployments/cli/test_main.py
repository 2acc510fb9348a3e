"""The command line as users see it: help, mistakes, the README's commands and the files they leave."""

import contextlib
import json
import os
import pty
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from infra.bucket.store import ArtifactStore
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.local.stack import LocalStack
from infra.states import JobState
from tests.deployments.cli.test_up import Up, free_port, refusal_of
from tests.documents import README, blocks, section
from tests.folders import MEDIA
from tests.prefect_client import prefect_client

KANGKLIP = Path(sys.executable).with_name("kangklip")
SHORT = MEDIA / "short.mp4"
SMALL_PICTURE = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "COLUMNS": "160"}
SERVERS = ("R2_", "REDIS_", "PREFECT_")


def kangklip(*args, environment=None):
    return typed([KANGKLIP, *map(str, args)], environment)


def typed(command, environment=None, folder=None):
    """Run a command with small pictures, and no server in its environment but those given."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(SERVERS)}
    return subprocess.run(
        command,
        cwd=folder,
        env=bare | SMALL_PICTURE | (environment or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@dataclass(frozen=True)
class Laptop:
    """A folder where the README's commands for a laptop were typed, and what they printed."""

    folder: Path
    clip: subprocess.CompletedProcess[str]
    listed: subprocess.CompletedProcess[str]
    doctor: subprocess.CompletedProcess[str]

    @property
    def data(self):
        return self.folder / "data"

    @property
    def job(self):
        """The output folder of its one job."""
        (job,) = (self.folder / "clips").iterdir()
        return job


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """The README's commands with nothing set up, as they stand there but for `--json` of `clip`."""
    folder = tmp_path_factory.mktemp("laptop")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "talk.mp4").symlink_to(SHORT)
    (commands,) = blocks(section(README, "On a laptop"))
    clip, listed, doctor = commands.replace("kangklip clip", "kangklip clip --json", 1).splitlines()
    own = {"KANGKLIP_DATA_DIR": str(folder / "data")}
    done = [typed(["sh", "-euc", line], own, folder) for line in (clip, listed, doctor)]
    assert [one.returncode for one in done] == [0, 0, 0], done
    return Laptop(folder, *done)


@pytest.fixture(scope="module")
def stack(laptop, embedded):
    """The servers of that folder, up again, with the Prefect server on a chosen port."""
    own, port = embedded.model_copy(update={"data_dir": laptop.data}), free_port()
    assert not LocalStack(own).is_running, "every command has stopped what it started"
    with LocalStack(own, prefect_port=port) as running:
        assert running.settings.prefect_api_url == f"http://127.0.0.1:{port}/api"
        yield running


@pytest.fixture(scope="module")
def prefect_records(laptop, stack):
    """The Prefect server's records of that job: the flow run, its progress artifact and its log."""
    name = laptop.job.name
    with prefect_client(stack.settings.prefect_api_url + "/") as server:
        ask = lambda what, body: server.post(f"{what}/filter", json=body).raise_for_status().json()  # noqa: E731
        (flow_run,) = ask("flow_runs", {"flow_runs": {"name": {"any_": [name]}}})
        key = f"progress-{name.lower().replace('_', '-')}"
        (progress,) = ask("artifacts", {"artifacts": {"key": {"any_": [key]}}})
        lines = ask("logs", {"logs": {"flow_run_id": {"any_": [flow_run["id"]]}}, "limit": 200})
    return flow_run, progress, lines


def test_the_commands_for_a_laptop_cut_clips_and_show_the_job(laptop):
    count = int(re.search(r"--count (\d)", section(README, "On a laptop"))[1])
    assert len(list(laptop.job.glob("clip_0*.mp4"))) == count == 2
    (line,) = [line for line in laptop.listed.stdout.splitlines() if laptop.job.name in line and "talk.mp4" in line]
    assert "SUCCEEDED" in line
    assert "Whisper weights" in laptop.doctor.stdout
    assert "missing" not in laptop.doctor.stdout


def test_a_run_with_json_prints_one_document_and_shows_progress_on_standard_error(laptop):
    document = json.loads(laptop.clip.stdout)
    manifest = json.loads((laptop.job / "manifest.json").read_text())
    assert (document["job_id"], document["status"], document["error"]) == (laptop.job.name, "SUCCEEDED", None)
    assert [Path(clip["file"]).name for clip in document["clips"]] == ["clip_01.mp4", "clip_02.mp4"]
    assert all((laptop.folder / clip["file"]).is_file() for clip in document["clips"])
    assert all(clip["checks_passed"] == clip["checks"] > 0 for clip in document["clips"])
    assert (document["warnings"], document["dropped"]) == (manifest["warnings"], manifest["dropped"])
    assert laptop.clip.stderr.startswith(f"Job {laptop.job.name}\n")
    for stage in ("download", "transcript", "chunk", "select", "render", "upload"):
        assert f"✓ {stage}" in laptop.clip.stderr


def test_a_run_whose_server_has_stopped_prints_no_dead_link(laptop, prefect_records):
    """Only an address that `kangklip up` brings back, where the run is found."""
    (line,) = [line for line in laptop.clip.stderr.splitlines() if "http" in line or "127.0.0.1" in line]
    path = f"/runs/flow-run/{prefect_records[0]['id']}"
    assert line == f"To see the run in the Prefect UI: kangklip up, then http://127.0.0.1:4200{path}"


def test_the_flow_run_is_named_and_tagged_by_its_job(laptop, prefect_records):
    assert {"clip", laptop.job.name} <= set(prefect_records[0]["tags"])


def test_a_finished_runs_progress_is_100(prefect_records):
    assert (prefect_records[1]["data"], prefect_records[1]["description"]) == (100, "Done: 2 clips.")


def test_stages_log_to_the_flow_run_once(prefect_records):
    assert "tasks" in {line["name"].partition(".")[0] for line in prefect_records[2]}
    records = [(line["timestamp"], line["name"], line["message"]) for line in prefect_records[2]]
    assert len(records) == len(set(records)), "each line once"


@pytest.mark.long
def test_a_file_with_a_hostile_name_is_cut_and_shown_under_a_readable_one(laptop, stack, tmp_path):
    """A name that begins like an option and is not valid UTF-8, and a folder like that for the clips."""
    name, out = os.fsdecode(b"-rf \xff.mp4"), os.fsdecode(b"out \xff")
    (tmp_path / name).symlink_to(SHORT)
    command = [KANGKLIP, "clip", "-d", "8", "-n", "1", "-o", out, "--json", "--", name]
    ended = typed(command, stack.environment() | {"PYTHONIOENCODING": "utf-8:strict"}, tmp_path)
    assert ended.returncode == 0, ended.stderr
    (job,) = (tmp_path / out).iterdir()
    assert (tmp_path / json.loads(ended.stdout)["clips"][0]["file"]).samefile(job / "clip_01.mp4")
    assert json.loads((job / "meta.json").read_text())["title"] == "-rf \ufffd"
    assert json.loads((job / "manifest.json").read_text())["clips"][0]["file"] == "clip_01.mp4"
    document = json.loads(kangklip("status", job.name, "--json", environment=stack.environment()).stdout)
    assert (document["status"], document["source"]) == ("SUCCEEDED", "-rf \ufffd.mp4")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_without_a_worker_a_job_stays_queued(laptop, stack):
    running = Up(laptop.data, "--no-worker").start()
    try:
        job_id = running.create("https://example.org/talk.mp4")
        assert running.job(laptop.job.name)["status"] == "SUCCEEDED", "jobs of the command line are known"
        refusal = refusal_of("up", "--port", running.port)
        assert f"Port {running.port} is taken; choose another, or stop the program that uses it." in refusal
        refusal = refusal_of(
            "up", "--port", free_port(), "--prefect-port", running.port, "--data-dir", laptop.folder / "b"
        )
        assert f"Port {running.port} for the Prefect server is taken; choose another" in refusal
        screen, log = running.log(), (running.folder / "stack" / "logs" / f"api-{running.port}.log").read_text()
        assert "KangKlip is up" in screen
        assert f"http://127.0.0.1:{running.port}" in screen
        assert stack.settings.prefect_api_url.removesuffix("/api") in screen
        assert '"message": "request"' not in screen
        assert '"message": "request"' in log
        # Commands have started and ended in the meantime; a worker would have begun.
        job = running.job(job_id)
        assert (job["status"], job["stage"], job["progress"], job["start_error"]) == ("QUEUED", "DOWNLOAD", 0, None)
        assert re.fullmatch(r"[0-9a-f-]{36}", job["nosana_run_id"])
    finally:
        running.stop()


def test_help_covers_every_command():
    listed = CliRunner().invoke(app, ["--help"]).output
    for command in ("clip", "resume", "status", "delete", "doctor", "demo", "job"):
        assert command in listed
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output


def test_the_output_folder_holds_clips_and_artifacts_readable_by_the_group(laptop):
    assert laptop.job.name.startswith("kk_")
    names = {path.name for path in laptop.job.iterdir()}
    assert names == {
        *("manifest.json", "transcript.json", "chunks.json", "edl.json", "edit.json", "meta.json"),
        *("video_stats.json", "face_log.json", "clip_01.mp4", "clip_02.mp4"),
        *("clip_01.jpg", "clip_01.srt", "clip_01.vtt", "clip_02.jpg", "clip_02.srt", "clip_02.vtt"),
    }
    clips = json.loads((laptop.job / "manifest.json").read_text())["clips"]
    assert [clip["file"] for clip in clips] == ["clip_01.mp4", "clip_02.mp4"]
    assert all(path.stat().st_mode & stat.S_IRGRP for path in laptop.job.iterdir())


def test_status_shows_a_jobs_state(laptop, stack):
    result = kangklip("status", laptop.job.name, environment=stack.environment())
    assert result.returncode == 0
    assert "SUCCEEDED" in result.stdout


def test_status_shows_why_each_attempt_ended_and_the_coming_retry(stack):
    jobs, job_id = JobStore.from_settings(stack.settings), new_job_id()
    jobs.create(job_id, "{}")
    assert jobs.retry(job_id, 1, "The host was lost.")
    assert jobs.retry(job_id, 2, "The process that ran the job was killed by SIGKILL.")
    result = kangklip("status", job_id, environment=stack.environment())
    assert result.stdout.splitlines() == [
        f"{job_id}  QUEUED  DOWNLOAD  0%  attempt 3",
        "attempt 1: The host was lost.",
        "attempt 2: The process that ran the job was killed by SIGKILL.",
        "The process that ran the job was killed by SIGKILL. The next attempt starts in 20 seconds.",
    ]
    jobs.cancel(job_id, 3)
    result = kangklip("status", job_id, environment=stack.environment())
    assert result.stdout.splitlines()[3:] == ["Cancelled."]


def test_resume_downloads_a_finished_jobs_files_and_ends_with_a_table_and_a_live_link(laptop, stack, tmp_path):
    result = kangklip("resume", laptop.job.name, "-o", tmp_path, environment=stack.environment())
    assert result.returncode == 0, result.stderr
    for name in ("clip_01.mp4", "clip_02.mp4"):
        assert (tmp_path / laptop.job.name / name).read_bytes() == (laptop.job / name).read_bytes()
        assert name in result.stdout
    assert len(re.findall(r"\b(\d+)/\1\b", result.stdout)) == 2, "all checks of both clips passed"
    assert "16 files in " in result.stdout
    ui = stack.settings.prefect_api_url.removesuffix("/api")
    assert f"Run in the Prefect UI: {ui}/runs/flow-run/" in result.stderr, "its server stays up: it is named"


def test_resume_prints_json_for_programs(laptop, stack, tmp_path):
    result = kangklip("resume", laptop.job.name, "-o", tmp_path, "--json", environment=stack.environment())
    document = json.loads(result.stdout)
    assert (document["job_id"], document["status"], document["error"]) == (laptop.job.name, "SUCCEEDED", None)
    clip = document["clips"][0]
    assert Path(clip["file"]).read_bytes() == (laptop.job / "clip_01.mp4").read_bytes()
    assert {"title", "hook", "start", "end", "seconds", "size_bytes", "checks", "checks_passed"} <= set(clip)
    assert {"folder", "warnings", "dropped"} <= set(document)


def test_list_shows_recent_jobs_as_text_and_json(laptop, stack):
    folder = laptop.job
    result = kangklip("list", "--limit", 1000, environment=stack.environment())
    (line,) = [line for line in result.stdout.splitlines() if folder.name in line]
    assert "SUCCEEDED" in line
    assert "talk.mp4" in line
    jobs = json.loads(kangklip("list", "-n", 1000, "--json", environment=stack.environment()).stdout)["jobs"]
    (job,) = [job for job in jobs if job["job_id"] == folder.name]
    same = json.loads(kangklip("status", folder.name, "--json", environment=stack.environment()).stdout)
    assert job == same
    assert (job["status"], job["progress"], job["source"]) == ("SUCCEEDED", 100, "talk.mp4")
    assert {"stage", "attempt", "created_at", "updated_at", "error", "request"} <= set(job)


def test_a_cancelled_job_is_shown_as_cancelled(stack):
    jobs, job_id = JobStore.from_settings(stack.settings), new_job_id()
    jobs.create(job_id, "{}")
    jobs.cancel(job_id, 1)
    assert "CANCELLED" in kangklip("status", job_id, environment=stack.environment()).stdout
    output = kangklip("list", "-n", 1000, environment=stack.environment()).stdout
    assert "CANCELLED" in next(line for line in output.splitlines() if job_id in line)
    document = json.loads(kangklip("status", job_id, "--json", environment=stack.environment()).stdout)
    assert (document["status"], document["cancelled"]) == ("FAILED", True)


def ended_job(stack):
    jobs, job_id = JobStore.from_settings(stack.settings), new_job_id()
    jobs.create(job_id, '{"video_url": "https://example.org/talk.mp4"}')
    jobs.cancel(job_id, 1)
    ArtifactStore.from_settings(stack.settings).put_bytes(f"jobs/{job_id}/clip_01.mp4", bytes(10**6), "video/mp4")
    return job_id


def test_delete_deletes_jobs_and_can_be_repeated(stack):
    jobs, bucket = JobStore.from_settings(stack.settings), ArtifactStore.from_settings(stack.settings)
    one, other = ended_job(stack), ended_job(stack)
    told = kangklip("delete", "--yes", one, other, one, environment=stack.environment())
    assert told.stdout.splitlines() == [f"Deleted {job}: 1 object, 1.0 MB" for job in (one, other)]
    assert (told.returncode, told.stderr) == (0, "")
    assert [*bucket.list(f"jobs/{one}/"), *bucket.list(f"jobs/{other}/")] == []
    assert {one, other}.isdisjoint(job.job_id for job in jobs.recent(500))
    again = kangklip("delete", "--yes", "--json", one, environment=stack.environment())
    assert (again.returncode, json.loads(again.stdout)) == (0, {"deleted": [], "missing": [one]})


def test_delete_asks_in_a_terminal_and_takes_no_for_an_answer(stack):
    job_id, jobs = ended_job(stack), JobStore.from_settings(stack.settings)
    for answer, status, deleted in (("", 130, False), ("y", 0, True)):
        code, told = answered(["delete", job_id], f"{answer}\n", stack.environment())
        assert (code, jobs.was_deleted(job_id)) == (status, deleted), told
        assert job_id in told
        assert "example.org/talk.mp4" in told
        assert "Delete 1 job with all clips? This cannot be undone. [y/N]" in told
        assert ("Nothing was deleted." in told) is not deleted


def answered(arguments, answer, environment):
    """Run a command in a terminal and answer its question; gives exit status and screen."""
    ours, theirs = pty.openpty()
    bare = {name: value for name, value in os.environ.items() if not name.startswith(SERVERS)} | environment
    process = subprocess.Popen(
        [KANGKLIP, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=bare | {"COLUMNS": "160"}
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    told = b""
    with contextlib.suppress(OSError):  # Linux says that the other side is closed
        while part := os.read(ours, 4096):
            told += part
    os.close(ours)
    return process.wait(60), told.decode()


def test_delete_leaves_all_jobs_alone_if_one_has_not_ended(stack):
    jobs, ended, queued = JobStore.from_settings(stack.settings), ended_job(stack), new_job_id()
    jobs.create(queued, "{}")
    told = kangklip("delete", "--yes", ended, queued, environment=stack.environment())
    assert told.returncode == 1
    assert f"Job {queued} has not ended, and nothing was deleted; cancel it on its page" in told.stderr
    assert jobs.get(ended)
    assert jobs.get(queued)


def test_version_is_printed():
    assert re.fullmatch(r"kangklip \d+\.\d+\.\d+\n", kangklip("--version").stdout)


@pytest.fixture
def bad_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.mp4").write_text("These are notes.\n" * 100)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip", "no-such-file.mp4"], "There is no file no-such-file.mp4. Give a file that exists"),
        (["clip", "example.com/talk.mp4"], "write https://example.com/talk.mp4"),
        (["clip", "{files}"], "is a folder. Give one of the files in it."),
        (["clip", "{files}/empty.mp4"], "is empty. Copy or export it again."),
        (["clip", "{files}/notes.mp4"], "is not a video or sound in a known format"),
        (["clip", "/dev/null"], "is not a regular file."),
        (["clip", "~nobody-here/talk.mp4"], "There is no file ~nobody-here/talk.mp4."),
        (["clip", "x" * 300], "(File name too long). Give a readable file."),
        (["backup", "/proc/kangklip.tar.gz"], "Cannot write to /proc/kangklip.tar.gz"),
        (["clip", "ftp://example.org/v.mp4"], "SOURCE must be an http or https address such as"),
        (["clip", "http://127.0.0.1:9999/v.mp4"], "The address is not public."),
        (["clip", "http://example.org:22/v.mp4"], "Port 22 is not allowed: use 80, 443, or 1024 and above."),
        (
            ["clip", str(SHORT), "-l", "indonesian"],
            "--language must be auto or a Whisper code such as en; did you mean id?",
        ),
        (
            ["clip", str(SHORT), "-o", "{files}/empty.mp4/x"],
            "(Not a directory); name another folder with --out.",
        ),
        (["status", "kk_nonsense"], "kk_nonsense is not a job id."),
        (["delete", "--yes", "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV", "kk_nonsense"], "kk_nonsense is not a job id."),
        (["delete", "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV"], "is not a terminal. To delete anyway: --yes"),
    ],
)
def test_a_mistake_is_reported_before_anything_starts(bad_files, arguments, message):
    data = bad_files / "data"
    words = [argument.format(files=bad_files) for argument in arguments]
    result = kangklip(*words, environment={"KANGKLIP_DATA_DIR": str(data), "COLUMNS": "400"})
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout
    assert not data.exists()


def test_a_mistake_is_reported_as_json():
    result = kangklip("clip", "no-such-file.mp4", "--json")
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert (error["code"], error["message"]) == ("bad_request", "There is no file no-such-file.mp4.")
    assert error["next_step"]


@pytest.mark.parametrize("command", ["status", "resume"])
def test_an_unknown_job_has_no_status_in_json(stack, command):
    result = kangklip(command, "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV", "--json", environment=stack.environment())
    document = json.loads(result.stdout)
    assert (result.returncode, document["status"], document["error"]["code"]) == (2, None, "bad_request")


def test_status_json_has_every_attempt_and_its_reason(stack):
    jobs, job_id = JobStore.from_settings(stack.settings), new_job_id()
    jobs.create(job_id, "{}")
    jobs.report(Report(job_id=job_id, attempt=1, status=JobState.FAILED, error="The disk was full."))
    jobs.reopen(job_id, after=1)
    document = json.loads(kangklip("status", job_id, "--json", environment=stack.environment()).stdout)
    assert [(attempt["number"], attempt["reason"]) for attempt in document["attempts"]] == [
        (1, "The disk was full."),
        (2, None),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00", document["attempts"][0]["ended_at"])


def test_an_unknown_job_is_reported(stack):
    result = kangklip("resume", "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV", environment=stack.environment())
    assert result.returncode == 2
    assert "There is no job kk_01ARZ3NDEKTSV4RRFFQ69G5FAV" in " ".join(result.stderr.split())


def test_an_unusable_data_folder_is_reported(tmp_path):
    (tmp_path / "file").touch()
    result = kangklip("list", environment={"KANGKLIP_DATA_DIR": str(tmp_path / "file"), "COLUMNS": "400"})
    assert result.returncode == 2
    assert "cannot be used (Not a directory); set KANGKLIP_DATA_DIR to another." in result.stderr


@pytest.mark.parametrize("arguments", [["--duration", "4"], ["--duration", "181"], ["--count", "0"], ["--count", "11"]])
def test_durations_and_counts_have_bounds(arguments):
    result = CliRunner().invoke(app, ["clip", "x.mp4", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--from", "noon"], "--from must be a position such as 90, 12:30 or 1:02:03."),
        (["--to", "1:75"], "--to must have minutes and seconds below 60."),
        (["--from", "10:00", "--to", "10:20"], "--to must be at least 36 seconds after --from."),
        (["--from", "99:00:00"], "--from must be a number from 0 to 86400"),
    ],
)
def test_a_part_of_the_source_is_checked_before_anything_starts(arguments, error):
    refused = kangklip("clip", "https://example.org/talk.mp4", *arguments, environment={"COLUMNS": "400"})
    assert refused.returncode == 2
    assert error in " ".join(refused.stderr.split())


def test_malformed_settings_are_named_with_their_valid_values():
    wrong = {"RENDER_CRF": "high", "RENDER_RESOLUTION": "foo", "ASR_DEVICE": "gpu", "GRANT_SECRET": "sesame"}
    result = kangklip("doctor", environment=wrong | {"COLUMNS": "400"})
    assert result.returncode == 2
    assert "RENDER_CRF must be a whole number from 0 to 51" in result.stderr
    assert "RENDER_RESOLUTION must look like 1080x1920" in result.stderr
    assert "ASR_DEVICE must be auto, cpu or cuda" in result.stderr
    assert "GRANT_SECRET must have at least 32 characters" in result.stderr
    assert not [value for value in ("high", "foo", "sesame", "^") if value in result.stderr]


def test_clips_too_small_for_captions_are_refused():
    result = kangklip("doctor", environment={"RENDER_RESOLUTION": "108x192", "COLUMNS": "400"})
    assert result.returncode == 2
    assert "RENDER_RESOLUTION must have sides of at least 180 pixels" in result.stderr


def test_doctor_finds_nothing_missing(stack):
    result = kangklip("doctor", environment=stack.environment())
    assert result.returncode == 0, result.stderr
    assert "missing" not in result.stdout


def test_doctor_reports_an_unreachable_redis_without_its_password(stack):
    result = kangklip("doctor", environment=stack.environment() | {"REDIS_URL": "redis://:sesame@127.0.0.1:1/0"})
    assert result.returncode == 1
    assert "missing" in result.stdout
    assert "sesame" not in result.stdout + result.stderr


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
def test_a_wrong_worker_variable_is_named(monkeypatch, wrong):
    from deployments.image.worker_job import read_request
    from infra.errors import ConfigError

    for name, value in (WORKER | wrong).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        read_request()
    assert next(iter(wrong)) in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("shortest", "longest", "bounds"), [("30", "30", (24, 30)), ("20", "45", (20, 45))])
def test_worker_variables_set_the_clip_length_bounds(monkeypatch, shortest, longest, bounds):
    from deployments.image.worker_job import read_request

    for name, value in (WORKER | {"MIN_CLIP_SECONDS": shortest, "MAX_CLIP_SECONDS": longest}).items():
        monkeypatch.setenv(name, value)
    job_id, request = read_request()
    assert job_id == WORKER["JOB_ID"]
    assert request.bounds == pytest.approx(bounds)
