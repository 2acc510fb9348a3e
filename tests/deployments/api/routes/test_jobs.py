"""A job after its creation: its state, restart, cancellation, deletion, and the list of jobs."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from deployments.api.dependencies import RUN_CHANGES
from deployments.api.routes import jobs
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import OPERATOR, REQUEST, TOKEN

NOT_IDS = [
    "nonsense",
    "kk_",
    "kk_01jb2q8y7n4m3k6t9v5w1x0z2r",
    "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2RX",
    "%00",
    "a%0Ab",
    "é",
    "..%2f..%2fx",
]
JOB_ROUTES = [
    ("GET", ""),
    ("HEAD", ""),
    ("GET", "/results"),
    ("GET", "/manifest"),
    ("GET", "/events"),
    ("GET", "/clips/clip_01.mp4"),
    ("GET", "/clips/clip_01.mp4/download"),
    ("GET", "/edit"),
    ("POST", "/edit/check"),
    ("GET", "/words"),
    ("GET", "/source"),
    ("POST", "/start"),
    ("POST", "/cancel"),
    ("DELETE", ""),
]


def assert_refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


def test_a_new_job_is_queued(api):
    before = time.time()
    job_id = api.new_job()
    job = api.job(job_id)
    run_id = api.runs.ids[job_id, 1]
    assert job | {"created_at": 0, "updated_at": 0} == {
        "job_id": job_id,
        "status": "QUEUED",
        "stage": "DOWNLOAD",
        "progress": 0,
        "start_error": None,
        "nosana_run_id": run_id,
        "error": None,
        "message": "",
        "attempt": 1,
        "attempts": [{"number": 1, "began_at": job["created_at"], "ended_at": None, "reason": None}],
        "created_at": 0,
        "updated_at": 0,
        "stages": {},
        "request": REQUEST
        | {"start_seconds": None, "end_seconds": None, "source_name": None}
        | dict.fromkeys(("ratio", "caption_preset", "framing", "tighten", "topic")),
        "error_code": None,
        "next_step": None,
        "cancelled": False,
        "webhook": None,
        "revision": None,
        "recut": None,
    }
    assert before - 0.01 <= job["created_at"] <= time.time() + 0.01


def test_a_job_says_why_each_attempt_ended(api, job_id):
    assert api.jobs.retry(job_id, 1, "The process that ran the job was killed by SIGKILL.")
    job = api.job(job_id)
    killed, waiting = job["attempts"]
    assert (job["status"], job["attempt"], job["error"]) == ("QUEUED", 2, None)
    assert job["message"] == "The process that ran the job was killed by SIGKILL. The next attempt starts in 5 seconds."
    assert (killed["reason"], waiting["reason"]) == ("The process that ran the job was killed by SIGKILL.", None)
    assert killed["began_at"] <= killed["ended_at"] == waiting["began_at"]
    assert api.post(f"/api/jobs/{job_id}/start").json() == {"ok": True}  # a user need not wait for the retry
    assert api.runs.of(job_id) == [api.runs.ids[job_id, 1], api.runs.ids[job_id, 2]]
    assert api.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
    assert api.job(job_id)["attempts"][1]["reason"] == "Cancelled."


@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
def test_an_unknown_or_malformed_id_is_404(api, unknown_id, method, path):
    for job_id in (unknown_id, *NOT_IDS):
        answer = api.client.request(method, f"/api/jobs/{job_id}{path}")
        assert answer.status_code == 404, job_id
        if method != "HEAD":
            assert answer.json() == {"detail": "job not found"}, job_id


def test_stages_have_begin_and_end_times(api, job_id):
    api.callback(job_id, "RUNNING", stage="DOWNLOAD", progress=5)
    api.callback(job_id, "RUNNING", stage="TRANSCRIPT", progress=20)
    stages = api.job(job_id)["stages"]
    assert list(stages) == ["DOWNLOAD", "TRANSCRIPT"]
    assert stages["DOWNLOAD"]["began"] <= stages["DOWNLOAD"]["ended"] <= stages["TRANSCRIPT"]["began"] <= time.time()
    assert stages["TRANSCRIPT"]["ended"] is None


def test_a_failed_job_has_its_error_code_and_next_step(api):
    job_id = api.new_job()
    document = {"job_id": job_id, "attempt": 1, "error": "No.", "code": "private", "next_step": "Make it public."}
    api.bucket.put_json(job_key(job_id, "error.json"), document)
    api.jobs.report(Report(job_id=job_id, status=JobState.FAILED, error="No. Make it public."))
    job = api.job(job_id)
    assert (job["error_code"], job["next_step"]) == ("private", "Make it public.")
    api.post(f"/api/jobs/{job_id}/start")
    api.jobs.report(Report(job_id=job_id, attempt=2, status=JobState.FAILED, error="The run has died."))
    job = api.job(job_id)
    assert (job["error"], job["error_code"], job["next_step"]) == ("The run has died.", None, None)


@pytest.mark.parametrize("document", [b"{", b"[]", b'{"code": 7}', b"[" * 100_000])
def test_a_malformed_error_document_is_ignored(api, document):
    job_id = api.new_job()
    api.bucket.put_bytes(job_key(job_id, "error.json"), document, "application/json")
    api.jobs.report(Report(job_id=job_id, status=JobState.FAILED, error="It broke."))
    assert (api.job(job_id)["error"], api.job(job_id)["error_code"]) == ("It broke.", None)


def test_start_opens_a_new_attempt_of_a_failed_job(api):
    job_id = api.failed_job()
    answer = api.post(f"/api/jobs/{job_id}/start")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    job = api.job(job_id)
    assert (job["status"], job["attempt"], job["progress"], job["error"]) == ("QUEUED", 2, 0, None)
    assert job["nosana_run_id"] == api.runs.ids[job_id, 2]
    assert api.runs.requests[job_id, 2] == REQUEST


def test_start_uses_the_last_runs_deployment_even_after_a_failed_start(api):
    job_id = api.failed_job()
    first = api.record(job_id).flow_run_id
    api.runs.fault = "away"
    assert not api.post(f"/api/jobs/{job_id}/start").json()["ok"]
    api.runs.fault = None
    assert api.post(f"/api/jobs/{job_id}/start").json() == {"ok": True}
    assert api.runs.submit_options[job_id, 3] == (first, None)


@pytest.mark.parametrize("status", [None, "RUNNING", "SUCCEEDED"])
def test_start_changes_nothing_unless_the_job_has_failed(api, job_id, status):
    if status:
        api.callback(job_id, status)
    before = api.job(job_id)
    answer = api.post(f"/api/jobs/{job_id}/start")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert api.job(job_id) == before
    assert len(api.runs.of(job_id)) == 1


def test_start_is_refused_for_a_job_that_never_had_a_run(api):
    job_id = new_job_id()
    api.jobs.create(job_id, json.dumps(REQUEST))
    assert_refused(api.post(f"/api/jobs/{job_id}/start"), 409, "nosana run id missing")


def test_start_says_why_no_run_could_be_started(api):
    job_id = api.failed_job()
    fault = api.runs.fault = "The Prefect server answered 500 to deployments."
    answer = api.post(f"/api/jobs/{job_id}/start")
    assert (answer.status_code, answer.json()) == (200, {"ok": False, "start_error": fault})
    job = api.job(job_id)
    assert (job["status"], job["attempt"], job["start_error"]) == ("FAILED", 2, fault)
    api.runs.fault = None
    assert api.post(f"/api/jobs/{job_id}/start").json() == {"ok": True}
    assert (api.job(job_id)["attempt"], api.job(job_id)["start_error"]) == (3, None)


def test_concurrent_starts_open_one_attempt(api):
    job_id = api.failed_job()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post(f"/api/jobs/{job_id}/start").json(), range(8)))
    assert answers == [{"ok": True}] * 8
    assert [attempt for job, attempt in api.runs.ids if job == job_id] == [1, 2]


def test_jobs_can_be_read_while_submissions_wait_for_prefect(api, job_id, monkeypatch):
    prefect_answers, submit = threading.Event(), api.runs.submit
    begun = threading.Semaphore(0)

    def slow(*arguments):
        begun.release()
        prefect_answers.wait(20)
        return submit(*arguments)

    monkeypatch.setattr(api.runs, "submit", slow)
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(api.create) for _ in range(60)]
        for _ in range(RUN_CHANGES):
            assert begun.acquire(timeout=20), "as many submissions as may be under way at once"
        began = time.monotonic()
        assert api.job(job_id)["status"] == "QUEUED"
        assert time.monotonic() - began < 2
        prefect_answers.set()
        assert {answer.result().status_code for answer in waiting} == {200}


def test_start_is_refused_while_another_process_holds_the_job(api, servers):
    from infra.jobs.store import JobStore

    job_id = api.failed_job()
    other = JobStore.from_settings(servers.settings)
    assert other.leases.hold(job_id)
    answer = api.post(f"/api/jobs/{job_id}/start").json()
    other.leases.release(job_id)
    assert answer == {"ok": False, "start_error": f"Job {job_id} is being run by another process."}


def test_cancel_stops_the_run_and_fails_the_job(api, job_id):
    api.callback(job_id, "RUNNING", stage="RENDER", progress=70)
    answer = api.post(f"/api/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert api.runs.cancelled[-1] == api.runs.ids[job_id, 1]
    job = api.job(job_id)
    assert (job["status"], job["error"], job["stage"]) == ("FAILED", "Cancelled.", "RENDER")
    assert (job["cancelled"], job["next_step"]) == (True, None)
    api.callback(job_id, "RUNNING", stage="UPLOAD", progress=90)
    assert api.job(job_id)["status"] == "FAILED"


def test_a_cancel_during_a_start_stops_only_the_new_attempts_run(api, monkeypatch):
    job_id, submit = api.failed_job(), api.runs.submit

    def cancelled_meanwhile(job_id, attempt, *more):
        assert api.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
        assert api.runs.ids[job_id, 1] not in api.runs.cancelled
        return submit(job_id, attempt, *more)

    monkeypatch.setattr(api.runs, "submit", cancelled_meanwhile)
    api.post(f"/api/jobs/{job_id}/start")
    assert api.runs.cancelled[-1] == api.runs.ids[job_id, 2]
    job = api.record(job_id)
    assert (job.attempt, job.status, job.error, job.cancelled) == (2, JobState.FAILED, "Cancelled.", True)


def test_a_cancel_also_stops_an_attempt_opened_meanwhile(api, job_id, monkeypatch):
    cancel = api.runs.cancel

    def followed_meanwhile(run_id):
        monkeypatch.setattr(api.runs, "cancel", cancel)
        api.jobs.reopen(job_id, after=1, reason="Its process has died.", unless_cancelled=True)
        api.jobs.set_run(job_id, 2, api.runs.submit(job_id, 2, REQUEST))
        cancel(run_id)

    monkeypatch.setattr(api.runs, "cancel", followed_meanwhile)
    assert api.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
    assert {api.runs.ids[job_id, 1], api.runs.ids[job_id, 2]} <= set(api.runs.cancelled)
    assert (api.record(job_id).attempt, api.record(job_id).cancelled) == (2, True)


def test_start_submits_the_run_that_an_interrupted_start_did_not(api):
    job_id = api.failed_job()
    assert api.jobs.reopen(job_id, after=1) == 2
    assert api.record(job_id).flow_run_id is None
    assert api.post(f"/api/jobs/{job_id}/start").json() == {"ok": True}
    assert (api.record(job_id).attempt, api.record(job_id).flow_run_id) == (2, api.runs.ids[job_id, 2])


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED"])
def test_an_ended_job_cannot_be_cancelled(api, job_id, end):
    api.callback(job_id, end)
    assert_refused(api.post(f"/api/jobs/{job_id}/cancel"), 409, "job has ended")
    assert api.runs.ids[job_id, 1] not in api.runs.cancelled


def test_a_job_is_not_cancelled_if_its_run_cannot_be_stopped(api, job_id):
    api.runs.fault = "The Prefect server did not answer (ConnectError)."
    assert_refused(api.post(f"/api/jobs/{job_id}/cancel"), 502, "run could not be stopped")
    assert api.job(job_id)["status"] == "QUEUED"
    api.runs.fault = None
    assert api.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}


def objects_of(api, job_id) -> list[str]:
    return [key for prefix in (f"jobs/{job_id}/", f"granted/{job_id}/") for key in api.bucket.list(prefix)]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_deleted_job_leaves_no_record_or_object(api, status):
    other = api.finished_job()
    job_id = api.finished_job() if status == "SUCCEEDED" else api.failed_job()
    api.bucket.put_bytes(f"granted/{job_id}/jobs/{job_id}/meta.json", b"{}", "application/json")
    api.get(f"/api/jobs/{job_id}/results")
    answer = api.client.delete(f"/api/jobs/{job_id}")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    for path in ("", "/results", "/clips/clip_01.mp4", "/events"):
        assert_refused(api.get(f"/api/jobs/{job_id}{path}"), 404, "job not found")
    assert not objects_of(api, job_id)
    (kept,) = [key for key in api.jobs._redis.keys("*") if job_id in key]
    assert set(api.jobs._redis.hgetall(kept)) == {"deleted"}, "only that it was deleted"
    assert 0 < api.jobs._redis.ttl(kept) <= api.settings.job_ttl_seconds
    assert job_id not in {job.job_id for job in api.jobs.recent(500)}
    assert_refused(api.client.delete(f"/api/jobs/{job_id}"), 404, "job not found")
    assert api.get(f"/api/jobs/{other}/clips/clip_01.mp4").status_code == 200


@pytest.mark.parametrize("status", [None, "RUNNING"])
def test_a_job_that_has_not_ended_cannot_be_deleted(api, job_id, status):
    api.bucket.put_bytes(job_key(job_id, "meta.json"), b"{}", "application/json")
    if status:
        api.callback(job_id, status)
    assert_refused(api.client.delete(f"/api/jobs/{job_id}"), 409, "job has not ended; cancel it first")
    assert (api.job(job_id)["status"], len(objects_of(api, job_id))) == (status or "QUEUED", 1)


def test_deletion_is_finished_by_repeating_it_after_a_bucket_failure(api, serve):
    """Meanwhile the job is gone for readers, and cannot be started over the objects that are being deleted."""
    api_without_bucket = serve(r2_endpoint="http://127.0.0.1:9")
    job_id = api.finished_job()
    assert_refused(api_without_bucket.client.delete(f"/api/jobs/{job_id}"), 502, "bucket did not answer")
    assert_refused(api.get(f"/api/jobs/{job_id}"), 404, "job not found")
    assert_refused(api.post(f"/api/jobs/{job_id}/start"), 404, "job not found")
    assert objects_of(api, job_id)
    assert api.client.delete(f"/api/jobs/{job_id}").json() == {"ok": True}
    assert not objects_of(api, job_id)
    assert_refused(api.client.delete(f"/api/jobs/{job_id}"), 404, "job not found")


def test_deletion_waits_for_the_run_of_a_cancelled_job(api, job_id, monkeypatch):
    running = JobStore(api.jobs.connection, 3600)
    running.open(job_id, api.runs.ids[job_id, 1], 1, "{}", lease=True)
    assert api.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
    monkeypatch.setattr(jobs, "STOP_SECONDS", 0.5)
    still = "run is still stopping; try again in a few seconds"
    assert_refused(api.client.delete(f"/api/jobs/{job_id}"), 409, still)
    assert api.job(job_id)["cancelled"]
    monkeypatch.setattr(jobs, "STOP_SECONDS", 10)
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(api.client.delete, f"/api/jobs/{job_id}")
        running.leases.release(job_id)
        assert deletion.result().json() == {"ok": True}


def test_the_late_end_of_a_deleted_job_leaves_nothing_behind(api, job_id):
    """A run that reports by callback holds no lease, so nobody can tell when it has stopped writing."""
    api.post(f"/api/jobs/{job_id}/cancel")
    assert api.client.delete(f"/api/jobs/{job_id}").json() == {"ok": True}
    api.bucket.put_bytes(job_key(job_id, "clip_01.mp4"), b"late", "video/mp4")
    assert_refused(api.callback(job_id, "RUNNING", stage="UPLOAD"), 404, "job not found")
    assert_refused(api.callback(job_id, "SUCCEEDED"), 404, "job not found")
    assert not objects_of(api, job_id)
    assert_refused(api.get(f"/api/jobs/{job_id}"), 404, "job not found")


def test_the_idempotency_key_of_a_deleted_job_creates_a_new_one(api):
    headers = {"idempotency-key": "used and deleted"}
    first = api.post("/api/jobs", json=REQUEST, headers=headers).json()["job_id"]
    api.callback(first, "FAILED")
    assert api.client.delete(f"/api/jobs/{first}").status_code == 200
    second = api.post("/api/jobs", json=REQUEST, headers=headers).json()["job_id"]
    assert second != first
    assert api.job(second)["status"] == "QUEUED"


@pytest.mark.parametrize("key", [None, "", "wrong", OPERATOR + "x"])
@pytest.mark.parametrize("configured", [None, SecretStr(OPERATOR)])
def test_the_list_of_jobs_is_404_without_the_operator_key(serve, configured, key):
    api = serve(operator_key=configured)
    for query in ("", "?limit=nonsense"):
        assert_refused(
            api.get(f"/api/jobs{query}", headers={"x-operator-key": key} if key is not None else {}), 404, "not found"
        )


def test_the_operator_sees_the_newest_jobs_first(serve):
    api = serve(operator_key=SecretStr(OPERATOR))
    ids = [api.new_job() for _ in range(3)]
    api.callback(ids[1], "RUNNING", stage="SELECT", progress=60, token=TOKEN)
    answer = api.get("/api/jobs?limit=3", headers={"x-operator-key": OPERATOR})
    jobs = answer.json()["jobs"]
    assert [job["job_id"] for job in jobs] == ids[::-1]
    assert (jobs[1]["status"], jobs[1]["stage"], jobs[1]["progress"]) == ("RUNNING", Stage.SELECT, 60)
    for limit in ("0", "101", "x", "1e9", "9" * 5000):
        answer = api.get(f"/api/jobs?limit={limit}", headers={"x-operator-key": OPERATOR})
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("limit: ")
