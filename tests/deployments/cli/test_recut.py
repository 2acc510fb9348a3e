"""`kangklip edit` and `kangklip recut`, on this machine and by an API."""

import json
import threading
import time

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import serve  # noqa: F401 - a fixture
from tests.editable_job import content, store_published


def finish(jobs, bucket) -> str:
    job_id = new_job_id()
    assert jobs.create(job_id, "{}")
    store_published(job_id, bucket)
    assert jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    return job_id


@pytest.fixture
def run(stack, tmp_path):
    """Runs a command on the session's servers."""
    environment = stack.environment() | {"KANGKLIP_DATA_DIR": str(tmp_path / "data")}

    def invoke(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)), env=environment)

    return invoke


@pytest.fixture
def jobs(stack):
    return JobStore.from_settings(stack.settings)


def test_a_document_is_written_changed_and_taken_back(run, jobs, store, tmp_path):
    job_id, file, out = finish(jobs, store), tmp_path / "edit.json", tmp_path / "out"
    assert run("edit", job_id, "--out", file).exit_code == 0
    document = json.loads(file.read_text())
    assert document == json.loads(run("edit", job_id).stdout)
    document["clips"] = document["clips"][::-1]
    document["clips"][0]["title"] = "Now the first"
    file.write_text(json.dumps(document))

    done = run("recut", job_id, file, "--out", out, "--json")

    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert [clip["title"] for clip in printed["clips"]] == ["Now the first", "t"]
    assert (out / job_id / "clip_01.mp4").read_bytes() == content(2)
    assert (out / job_id / "clip_02.mp4").read_bytes() == content(1)
    assert not (out / job_id / "revisions").exists()
    assert json.loads(run("edit", job_id).stdout)["revision"] == 2
    late = run("recut", job_id, file, "--out", out)
    assert late.exit_code == 1 or late.exception
    assert "revision 2 is published" in str(late.exception)


def test_all_faults_of_a_document_are_said_and_nothing_is_changed(run, jobs, store, tmp_path):
    job_id, file = finish(jobs, store), tmp_path / "edit.json"
    document = json.loads(run("edit", job_id).stdout)
    document["clips"][0]["segments"][0]["end"] = 812.4
    document["clips"][1]["title"] = "\u202e"
    file.write_text(json.dumps(document))
    done = run("recut", job_id, file, "--out", tmp_path)
    for said in ("clips[0].segments[0].end: 812.4 lies after", "clips[1].title: must not contain U+202E"):
        assert said in str(done.exception)
    assert jobs.get(job_id).recut is None
    file.write_text("{")
    assert "is not JSON" in str(run("recut", job_id, file).exception)
    assert "There is no job" in str(run("edit", new_job_id()).exception)


def test_an_api_gives_and_takes_the_document(serve, tmp_path):  # noqa: F811 - the fixture
    api = serve()
    job_id, file = finish(api.jobs, api.bucket), tmp_path / "edit.json"

    def invoke(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments), "--api", api.url])

    assert invoke("edit", job_id, "--out", file).exit_code == 0
    assert "the document has 1 fault; clips: " in str(_changed(invoke, job_id, file, clips=[]).exception)

    def work():
        while not ((recut := api.record(job_id).recut) and recut.flow_run_id):
            time.sleep(0.02)
        run = (job_id, 2, 1)
        api.jobs.recuts.open(*run, recut.flow_run_id, api.jobs.leases)
        store_published(job_id, api.bucket, folder="revisions/2/")
        assert api.jobs.recuts.keep(*run)
        assert api.jobs.recuts.publish(*run)
        assert api.jobs.recuts.end(*run, JobState.SUCCEEDED)

    worker = threading.Thread(target=work)
    worker.start()
    done = _changed(invoke, job_id, file)
    worker.join()
    assert done.exit_code == 0, done.output
    assert (tmp_path / job_id / "clip_01.mp4").read_bytes() == content(1)
    assert api.bucket.exists(job_key(job_id, "revisions/2/edit.json"))
    assert "the published revision is 2" in str(_changed(invoke, job_id, file).exception)


def _changed(invoke, job_id, file, **changes):
    document = json.loads(file.read_text()) | changes
    changed = file.with_name("changed.json")
    changed.write_text(json.dumps(document))
    return invoke("recut", job_id, changed, "--out", file.parent)
