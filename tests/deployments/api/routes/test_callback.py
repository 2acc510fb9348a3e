"""POST /api/callback/nosana, rule by rule."""

import json
import random
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.states import JobState, Stage
from tests.deployments.api.conftest import NEXT_TOKEN, TOKEN
from tests.deployments.api.routes.test_edit import finished

WORKING = [stage for stage in Stage if stage is not Stage.DONE]
BAD_TOKEN, BAD_ID, BAD_STATUS = "invalid callback token", "invalid job id", "invalid status"


def assert_refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


def test_every_configured_token_is_valid(api, job_id):
    for token in (TOKEN, NEXT_TOKEN):
        answer = api.callback(job_id, "RUNNING", token=token)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], f"{TOKEN},{NEXT_TOKEN}", TOKEN.upper()])
def test_a_wrong_token_is_refused_before_anything_else(api, job_id, token):
    assert_refused(api.callback(job_id, "SUCCEEDED", token=token), 401, BAD_TOKEN)
    assert_refused(api.callback("no id", "no status", token=token), 401, BAD_TOKEN)
    assert api.job(job_id)["status"] == "QUEUED"


def test_a_missing_token_is_refused(api, job_id):
    assert_refused(api.post("/api/callback/nosana", json={"job_id": job_id, "status": "RUNNING"}), 401, BAD_TOKEN)


@pytest.mark.parametrize("token", ["", "any"])
def test_without_a_configured_token_callbacks_are_refused(serve, token):
    api = serve(callback_token=None)
    assert_refused(api.callback(api.new_job(), "RUNNING", token=token), 401, BAD_TOKEN)


@pytest.mark.parametrize(
    "job_id",
    [
        None,
        7,
        "",
        "kk_",
        "kk_01jb2q8y7n4m3k6t9v5w1x0z2r",
        "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R\n",
        "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2I",
    ],
)
def test_a_malformed_id_is_refused_first(api, job_id):
    assert_refused(api.callback(job_id, "nonsense"), 400, BAD_ID)


@pytest.mark.parametrize("status", [None, "", "running", "DONE", 1, ["RUNNING"], {"a": 1}])
def test_an_unknown_status_is_refused_before_the_job_is_looked_up(api, unknown_id, status):
    assert_refused(api.callback(unknown_id, status), 400, BAD_STATUS)


def test_an_unknown_job_is_404(api, unknown_id):
    assert_refused(api.callback(unknown_id, "RUNNING"), 404, "job not found")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 500_000])
def test_a_body_that_is_not_an_object_counts_as_a_malformed_id(api, body):
    assert_refused(api.post("/api/callback/nosana", content=body, headers={"x-callback-token": TOKEN}), 400, BAD_ID)


def test_a_report_is_applied(api, job_id):
    api.callback(job_id, "RUNNING", stage="TRANSCRIPT", progress=31.5, message="12 of 40 minutes")
    job = api.job(job_id)
    assert (job["status"], job["stage"], job["progress"]) == ("RUNNING", "TRANSCRIPT", 31.5)
    assert job["message"] == "12 of 40 minutes"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(-5, 0), (0, 0), (42, 42), (100, 100), (250, 100), (10**400, 100), ("50", 0), (True, 0), (None, 0), ([1], 0)],
)
def test_progress_is_clamped(api, job_id, sent, kept):
    assert api.callback(job_id, "RUNNING", stage="DOWNLOAD", progress=sent).status_code == 200
    assert api.job(job_id)["progress"] == kept


@pytest.mark.parametrize("stage", ["NONSENSE", "", 7, None, ["RENDER"], {}])
def test_an_unknown_stage_is_ignored(api, job_id, stage):
    api.callback(job_id, "RUNNING", stage="SELECT", progress=60)
    assert api.callback(job_id, "RUNNING", stage=stage, progress=62).status_code == 200
    assert (api.job(job_id)["stage"], api.job(job_id)["progress"]) == ("SELECT", 62)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("more", [{}, {"stage": "NONSENSE"}])
def test_an_end_without_stage_and_progress_is_done(api, job_id, status, more):
    api.callback(job_id, status, **more)
    job = api.job(job_id)
    assert (job["status"], job["stage"], job["progress"]) == (status, "DONE", 100)


def test_an_end_keeps_its_stage_and_progress(api, job_id):
    api.callback(job_id, "FAILED", stage="RENDER", progress=70, error="disk full")
    job = api.job(job_id)
    assert (job["stage"], job["progress"], job["error"]) == ("RENDER", 70, "disk full")


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED"])
def test_an_end_is_final(api, job_id, end):
    api.callback(job_id, end, error=None if end == "SUCCEEDED" else "why")
    before = api.job(job_id)
    for late in ("RUNNING", "QUEUED", "SUCCEEDED", "FAILED"):
        answer = api.callback(job_id, late, stage="SELECT", progress=60, error="late")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert api.job(job_id) == before


def test_progress_never_goes_back(api, job_id):
    api.callback(job_id, "RUNNING", stage="RENDER", progress=80)
    assert api.callback(job_id, "RUNNING", stage="SELECT", progress=60).json() == {"ok": True}
    assert (api.job(job_id)["stage"], api.job(job_id)["progress"]) == ("RENDER", 80)


def test_repeated_reports_change_nothing(api, job_id):
    api.callback(job_id, "RUNNING", stage="SELECT", progress=60)
    before, newest = api.job(job_id), api.events.last_id(job_id)
    api.callback(job_id, "RUNNING", stage="SELECT", progress=60)
    assert (api.job(job_id), api.events.last_id(job_id)) == (before, newest)


@pytest.mark.parametrize("prefix", [None, "", "jobs/{id}", "jobs/{id}/"])
def test_the_jobs_own_prefix_is_accepted(api, job_id, prefix):
    own = prefix and prefix.replace("{id}", job_id)
    assert api.callback(job_id, "SUCCEEDED", r2_prefix=own).status_code == 200
    assert api.job(job_id)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("prefix", ["jobs/kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R", "jobs/{id}/../x", "/", "{id}", 7, ["jobs"]])
def test_another_prefix_is_refused(api, job_id, prefix):
    other = prefix.replace("{id}", job_id) if isinstance(prefix, str) else prefix
    assert_refused(api.callback(job_id, "SUCCEEDED", r2_prefix=other), 400, "invalid r2_prefix")
    assert api.job(job_id)["status"] == "QUEUED"


def test_error_text_is_cleaned_and_shortened(api, job_id):
    api.callback(job_id, "FAILED", error="a\x00b\x1b[31m\r\nset-cookie: x\u202e\u2028" + "é" * 2000)
    error = api.job(job_id)["error"]
    assert error.startswith("a b [31m\nset-cookie: x")
    assert all(line.isprintable() for line in error.split("\n"))
    assert len(error) <= 500


@pytest.mark.parametrize(("text", "kept"), [("a\nb", "a\nb"), ("a\r\n\r\n  b\rc\n\n", "a\n\nb\nc"), ("\n \n", None)])
def test_an_error_keeps_its_line_breaks_and_a_message_is_one_line(api, job_id, text, kept):
    api.callback(job_id, "RUNNING", message=text)
    assert api.job(job_id)["message"] == " ".join((kept or "").split())
    api.callback(job_id, "FAILED", error=text)
    assert api.job(job_id)["error"] == kept
    assert list(api.events.read(job_id, block_seconds=0.01))[-1][1]["error"] == (kept or "")


def test_lone_surrogates_are_removed(api, job_id):
    body = json.dumps({"job_id": job_id, "status": "FAILED", "error": "bad \ud800 name"})
    assert api.post("/api/callback/nosana", content=body, headers={"x-callback-token": TOKEN}).status_code == 200
    assert api.job(job_id)["error"] == "bad name"


def test_a_report_of_an_earlier_attempt_changes_nothing(api):
    job_id = api.failed_job()
    assert api.post(f"/api/jobs/{job_id}/start").json() == {"ok": True}
    assert api.callback(job_id, "RUNNING", stage="RENDER", progress=70, attempt=1).json() == {"ok": True}
    assert (api.job(job_id)["status"], api.job(job_id)["progress"]) == ("QUEUED", 0)
    api.callback(job_id, "RUNNING", stage="DOWNLOAD", progress=5, attempt=2)
    assert api.job(job_id)["progress"] == 5


def test_a_callback_with_an_earlier_attempt_in_its_header_is_logged_and_ignored(api, caplog):
    caplog.set_level("INFO")
    job_id = api.failed_job()
    api.post(f"/api/jobs/{job_id}/start")
    for status in ("RUNNING", "SUCCEEDED", "FAILED"):
        assert api.callback(job_id, status, named="1", error="late").json() == {"ok": True}
    assert (api.job(job_id)["status"], api.job(job_id)["attempt"]) == ("QUEUED", 2)
    assert f"Job {job_id} refused a report of FAILED of attempt 1: it is at another attempt" in caplog.text
    api.callback(job_id, "RUNNING", named="2", progress=5)
    assert api.job(job_id)["progress"] == 5
    for named in ("", "two", "-1", "²", "9" * 30):  # read as no attempt
        api.callback(job_id, "RUNNING", named=named, progress=api.job(job_id)["progress"] + 1)
    assert api.job(job_id)["progress"] == 10


def test_concurrent_callbacks_never_lower_progress_and_end_succeeded(api, job_id):
    """200 callbacks from 20 threads, shuffled and repeated, while a reader polls."""
    reports = [("RUNNING", {"stage": s.value, "progress": s.percent(f / 10)}) for s in WORKING for f in range(10)]
    reports = [*(reports * 3)[:199], ("SUCCEEDED", {})]
    random.Random(7).shuffle(reports)  # noqa: S311 the same order each time
    observed: list[float] = []
    with ThreadPoolExecutor(21) as pool:
        sent = [pool.submit(api.callback, job_id, status, **more) for status, more in reports]
        while not all(answer.done() for answer in sent):
            observed.append(api.job(job_id)["progress"])
    assert {answer.result().status_code for answer in sent} == {200}
    assert observed == sorted(observed)
    job = api.record(job_id)
    assert (job.status, job.stage, job.progress) == (JobState.SUCCEEDED, Stage.DONE, 100)


@pytest.fixture
def recut_id(api):
    """A finished job whose recut is made by a process."""
    job_id = finished(api)
    assert api.jobs.recuts.begin(job_id, 1) == 2
    api.jobs.recuts.open(job_id, 2, 1, str(uuid.uuid4()), api.jobs.leases)
    yield job_id
    api.jobs.leases.release(job_id)


def test_a_report_with_a_revision_is_about_the_recut_and_never_the_job(api, recut_id):
    for progress, named in ((30, {}), (20, {}), (50, {"attempt": 2}), (60, {"attempt": 1})):
        assert api.callback(recut_id, "RUNNING", revision=2, progress=progress, stage="UPLOAD", **named).is_success
    assert api.callback(recut_id, "RUNNING", revision=3, progress=99).is_success
    job = api.job(recut_id)
    assert job["recut"] == {"revision": 2, "state": "RUNNING", "progress": 60, "error": None}
    assert (job["status"], job["stage"], job["progress"]) == ("SUCCEEDED", "DONE", 100)
    assert api.callback(recut_id, "SUCCEEDED", revision=2).is_success  # but nothing is published
    assert api.job(recut_id)["recut"]["state"] == "RUNNING"
    assert api.callback(recut_id, "FAILED", revision=2, error="It broke.").is_success
    job = api.job(recut_id)
    assert (job["recut"]["state"], job["recut"]["error"], job["status"]) == ("FAILED", "It broke.", "SUCCEEDED")


def test_a_report_without_a_revision_is_about_the_job_as_ever(api, recut_id):
    before = api.record(recut_id).recut
    assert api.callback(recut_id, "RUNNING", stage="RENDER", progress=70).is_success
    assert api.callback(recut_id, "FAILED", error="x").is_success
    job = api.record(recut_id)
    assert (job.status, job.recut) == (JobState.SUCCEEDED, before)


def test_a_report_on_a_recut_of_a_job_without_one_changes_nothing(api, job_id):
    before = api.record(job_id)
    assert api.callback(job_id, "FAILED", revision=2, error="x").is_success
    assert api.record(job_id) == before


@pytest.mark.parametrize("revision", [0, 1, -2, 2.0, "2", True, [2], 10**9])
def test_a_malformed_revision_is_refused(api, job_id, revision):
    assert_refused(api.callback(job_id, "RUNNING", revision=revision), 400, "invalid revision")
