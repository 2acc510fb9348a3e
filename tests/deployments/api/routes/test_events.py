"""The stream of a job's events: its start, resuming after a gap, and its end."""

import json
import threading
import time
from typing import Any

import httpx
import pytest

from infra.jobs.record import Report
from infra.states import JobState, Stage


def events(text: str) -> list[dict[str, Any]]:
    """The fields of each event, without comments."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "data" in fields:
            found.append(fields | {"data": json.loads(fields["data"])})
    return found


def read(api, job_id, **headers: str) -> list[dict[str, Any]]:
    """All events until the stream closes."""
    answer = api.get(f"/api/jobs/{job_id}/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events(answer.text)


def after(seconds: float, do, *arguments) -> None:
    threading.Timer(seconds, do, arguments).start()


def running(job_id, stage, progress, attempt=1, message=""):
    return Report(job_id=job_id, attempt=attempt, stage=stage, progress=progress, message=message)


def ended(job_id, status=JobState.SUCCEEDED, attempt=1, error=None):
    stage = Stage.DONE if status is JobState.SUCCEEDED else None
    progress = 100 if status is JobState.SUCCEEDED else None
    return Report(job_id=job_id, attempt=attempt, status=status, stage=stage, progress=progress, error=error)


def test_the_stream_begins_with_the_current_state_and_follows_changes(api, job_id):
    api.jobs.report(running(job_id, Stage.DOWNLOAD, 5))
    after(0.3, api.jobs.report, running(job_id, Stage.TRANSCRIPT, 30, message="10 of 20 minutes"))
    after(0.6, api.jobs.report, ended(job_id))
    heard = read(api, job_id)
    assert [event["event"] for event in heard] == ["progress", "progress", "progress", "end"]
    assert heard[0]["data"] == {
        "status": "RUNNING",
        "stage": "DOWNLOAD",
        "progress": 5,
        "message": "",
        "error": None,
        "attempt": 1,
        "revision": None,
        "recut": None,
    }
    assert heard[1]["data"] == heard[0]["data"] | {
        "stage": "TRANSCRIPT",
        "progress": 30,
        "message": "10 of 20 minutes",
    }
    assert heard[2]["data"] == heard[3]["data"]
    assert (heard[3]["data"]["status"], heard[3]["data"]["progress"]) == ("SUCCEEDED", 100)
    ids = [tuple(map(int, event["id"].split("-"))) for event in heard]
    assert ids == sorted(ids)


def test_the_stream_of_a_new_job_begins_at_once(api, job_id):
    after(0.3, api.jobs.report, ended(job_id, JobState.FAILED, error="No."))
    heard = read(api, job_id)
    assert (heard[0]["data"]["status"], heard[0]["id"]) == ("QUEUED", "0")
    assert heard[-1]["event"] == "end"
    assert heard[-1]["data"]["error"] == "No."


@pytest.mark.parametrize("status", [JobState.SUCCEEDED, JobState.FAILED])
def test_the_stream_of_an_ended_job_ends_at_once(api, job_id, status):
    api.jobs.report(ended(job_id, status))
    heard = read(api, job_id)
    assert [(event["event"], event["data"]["status"]) for event in heard] == [("progress", status), ("end", status)]


def test_only_events_after_the_last_event_id_are_sent(api, job_id):
    api.jobs.report(running(job_id, Stage.DOWNLOAD, 5))
    last = api.events.last_id(job_id)
    api.jobs.report(running(job_id, Stage.CHUNK, 50))
    api.jobs.report(ended(job_id))
    heard = read(api, job_id, **{"last-event-id": last})
    assert [(event["event"], event["data"]["progress"]) for event in heard] == [
        ("progress", 50),
        ("progress", 100),
        ("end", 100),
    ]
    assert [event["event"] for event in read(api, job_id, **{"last-event-id": heard[-1]["id"]})] == ["end"]


@pytest.mark.parametrize("header", ["", "x", "-", "1-", "9" * 40, "$", "0-0 0"])
def test_a_malformed_last_event_id_is_ignored(api, job_id, header):
    api.jobs.report(ended(job_id))
    assert [event["event"] for event in read(api, job_id, **{"last-event-id": header})] == ["progress", "end"]


def test_the_end_of_a_superseded_attempt_does_not_end_the_stream(api, job_id):
    api.jobs.report(running(job_id, Stage.DOWNLOAD, 5))
    last = api.events.last_id(job_id)
    api.jobs.report(ended(job_id, JobState.FAILED, error="No."))
    api.post(f"/api/jobs/{job_id}/start")
    after(0.3, api.jobs.report, ended(job_id, attempt=2))
    heard = read(api, job_id, **{"last-event-id": last})
    events = [(event["event"], event["data"]["attempt"], event["data"]["status"]) for event in heard]
    assert events == [
        ("progress", 1, "FAILED"),
        ("progress", 2, "QUEUED"),
        ("progress", 2, "SUCCEEDED"),
        ("end", 2, "SUCCEEDED"),
    ]


def test_silence_is_filled_with_pings(api, job_id, monkeypatch):
    monkeypatch.setattr("deployments.api.routes.events.PING_SECONDS", 0.2)
    after(1, api.jobs.report, ended(job_id))
    answer = api.get(f"/api/jobs/{job_id}/events")
    assert answer.text.count("\n: ping") >= 2


def test_head_answers_and_ends(api, job_id):
    answer = api.client.head(f"/api/jobs/{job_id}/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_listeners_that_leave_release_their_redis_connections(api, job_id):
    import redis

    look = redis.Redis.from_url(api.jobs.connection.url)
    before = look.info("clients")["connected_clients"]
    for _ in range(30):
        with httpx.stream("GET", f"{api.url}/api/jobs/{job_id}/events") as answer:
            next(answer.iter_lines())
    until = time.monotonic() + 10
    while (now := look.info("clients")["connected_clients"]) > before + 3 and time.monotonic() < until:
        time.sleep(0.1)
    assert now <= before + 3
