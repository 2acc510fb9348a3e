"""Delivery of reports: order, replacement, retries, and receivers that are slow or unreachable."""

import http.server
import json
import threading
import time

import pytest
from pydantic import SecretStr

from infra.errors import CallbackError, StateError
from infra.granted.access import Access
from infra.jobs import reports
from infra.jobs.record import JobRef, Report
from infra.settings import Settings
from infra.states import JobState, Stage

JOB = JobRef(job_id="kk_01ARZ3NDEKTSV4RRFFQ69G5FAV")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers as the existing backend does; `answers` holds statuses to give first."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.got.append((self.headers["x-callback-token"], body))
        self.server.attempts.append(self.headers["x-callback-attempt"])
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.got, server.answers, server.attempts = [], [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def callback(server):
    return reports.CallbackSink(f"http://127.0.0.1:{server.server_port}/api/callback/nosana", "sesame")


def test_a_stage_reports_its_begin_and_its_end():
    got: list[Report] = []
    with reports.stage_reports(JOB, Stage.TRANSCRIPT, [got.append]):
        pass
    assert (got[0].progress, got[-1].progress) in {(20, 40), (40, 40)}
    assert got[-1].progress == 40


def test_a_failed_stage_does_not_report_its_end():
    got: list[Report] = []
    with pytest.raises(ValueError, match="broken"), reports.stage_reports(JOB, Stage.RENDER, [got.append]):
        raise ValueError("broken")
    assert max(report.progress for report in got) == 65


def test_waiting_progress_is_replaced_without_slowing_the_stage():
    got: list[Report] = []
    begun = time.monotonic()
    with reports.stage_reports(JOB, Stage.DOWNLOAD, [got.append]) as say:
        for step in range(1000):
            say(step / 1000, f"{step}")
        spoken = time.monotonic() - begun
    assert spoken < 1
    assert len(got) < 20
    assert got[-1].progress == 20


def test_a_sink_that_recovers_gets_the_last_report(monkeypatch):
    monkeypatch.setattr(reports, "STAGE_PATIENCE", 10)
    got: list[Report] = []
    failures = [StateError("away"), StateError("away")]

    def sink(report):
        if failures:
            raise failures.pop()
        got.append(report)

    with reports.stage_reports(JOB, Stage.CHUNK, [sink]):
        pass
    assert got[-1].progress == 55


def test_an_unreachable_sink_does_not_block_the_stage(monkeypatch):
    monkeypatch.setattr(reports, "STAGE_PATIENCE", 0.3)

    def sink(_):
        raise StateError("away")

    begun = time.monotonic()
    with reports.stage_reports(JOB, Stage.CHUNK, [sink]):
        pass
    assert time.monotonic() - begun < 5


def test_a_dead_sink_does_not_silence_another(monkeypatch):
    monkeypatch.setattr(reports, "STAGE_PATIENCE", 0.3)
    got: list[Report] = []

    def dead(_):
        raise StateError("away")

    with reports.stage_reports(JOB, Stage.CHUNK, [dead, got.append]):
        pass
    assert got[-1].progress == 55


def test_the_callback_carries_the_contracts_fields(receiver):
    callback(receiver)(Report(job_id=JOB.job_id, stage=Stage.RENDER, progress=70.4))
    callback(receiver)(Report(job_id=JOB.job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    callback(receiver)(Report(job_id=JOB.job_id, status=JobState.FAILED, error="No speech."))
    assert [token for token, _ in receiver.got] == ["sesame"] * 3
    assert [body for _, body in receiver.got] == [
        {"job_id": JOB.job_id, "status": "RUNNING", "stage": "RENDER", "progress": 70},
        {
            "job_id": JOB.job_id,
            "status": "SUCCEEDED",
            "stage": "DONE",
            "progress": 100,
            "r2_prefix": f"jobs/{JOB.job_id}",
        },
        {"job_id": JOB.job_id, "status": "FAILED", "error": "No speech."},
    ]


def test_only_our_own_api_gets_a_recuts_reports(receiver):
    """Other receivers would take them for the job's."""
    url = f"http://127.0.0.1:{receiver.server_port}/api/callback/nosana"
    progress = JOB.model_copy(update={"revision": 4, "attempt": 2}).report(progress=40.4, message="drawing")
    access = Access(url=url, token="x" * 20, job_id=JOB.job_id, attempt=2, revision=4, bucket="b", root="granted/")
    named = {"callback_url": url, "callback_token": SecretStr("sesame"), "redis_url": None}
    for settings in (Settings(**named), Settings(**named, KANGKLIP_ACCESS=access.model_dump_json())):
        (sink,) = reports.sinks_of(settings)
        assert sink(progress)
    fields = {"status": "RUNNING", "message": "drawing", "progress": 40}
    assert [body for _, body in receiver.got] == [{"job_id": JOB.job_id, "revision": 4} | fields]
    assert receiver.attempts == ["2"]


def test_a_callback_is_retried_after_a_server_error(receiver):
    receiver.answers = [503, 429]
    reports.report_end(
        Report(job_id=JOB.job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100), [callback(receiver)]
    )
    assert len(receiver.got) == 3


@pytest.mark.parametrize(
    ("job", "named"),
    [(JOB.model_copy(update={"attempt": 3}), "3"), (JOB.model_copy(update={"is_attempt_known": False}), None)],
)
def test_a_callback_names_its_attempt_in_a_header_if_known(receiver, job, named):
    assert reports.report_end(job.report(status=JobState.FAILED, error="x"), [callback(receiver)])
    assert receiver.attempts == [named]
    assert set(receiver.got[0][1]) == {"job_id", "status", "error"}


def test_a_refused_callback_is_logged_and_not_retried(receiver, caplog):
    receiver.answers = [401]
    reports.report_end(Report(job_id=JOB.job_id, status=JobState.FAILED, error="x"), [callback(receiver)])
    assert len(receiver.got) == 1
    assert "401" in caplog.text
    assert "sesame" not in caplog.text


def test_an_unreachable_callback_raises_a_callback_error():
    sink = reports.CallbackSink("http://127.0.0.1:1/", "sesame")
    with pytest.raises(CallbackError):
        sink(Report(job_id=JOB.job_id, stage=Stage.RENDER, progress=70))
