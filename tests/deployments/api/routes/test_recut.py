"""Changing a job's document over HTTP, and reading its revisions."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from infra.jobs.record import Report
from infra.states import JobState
from tasks.core.object_keys import job_key
from tests.core.edit.test_faults import HOSTILE
from tests.deployments.api.routes.test_edit import at_home, finished, read
from tests.editable_job import CHOSEN, content, store_published

FIRST = {"If-Match": '"1"'}


def put(api, job_id: str, document: Any, **headers: str) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return api.client.put(f"/api/jobs/{job_id}/edit", content=body, headers=headers or FIRST)


def patch(api, job_id: str, clip_id: str, change: Any, **headers: str) -> Any:
    path = f"/api/jobs/{job_id}/edit/clips/{clip_id}"
    return api.client.patch(path, json=change, headers=headers or FIRST)


def stored(api, job_id: str, revision: int) -> Any:
    return api.bucket.get_json(job_key(job_id, f"revisions/{revision}/edit.json"))


def publish(api, job_id: str, revision: int) -> None:
    """What the flow does: keep the first revision, write the new one, and let readers see it."""
    run = (job_id, revision, 1)
    recuts = api.jobs.recuts
    recuts.open(*run, api.runs.ids[f"{job_id}:{revision}", 1], api.jobs.leases)
    for number, clips in ((1, CHOSEN), (revision, CHOSEN[:1])):
        document = stored(api, job_id, number) if number > 1 else read(api, job_id)
        store_published(job_id, api.bucket, clips, folder=f"revisions/{number}/")
        api.bucket.put_json(job_key(job_id, f"revisions/{number}/edit.json"), document)
        assert recuts.keep(*run)
    assert recuts.publish(*run)
    assert recuts.end(*run, JobState.SUCCEEDED)
    api.jobs.leases.release(job_id)


@pytest.fixture
def editable(api) -> str:
    return finished(api)


def test_a_changed_document_begins_a_recut(api, editable):
    document = read(api, editable)
    document["clips"][0]["title"] = "Another"
    answer = put(api, editable, document)
    assert (answer.status_code, answer.json()) == (202, {"job_id": editable, "revision": 2, "state": "QUEUED"})
    assert stored(api, editable, 2) == document | {"revision": 2}
    assert list(api.runs.recuts.items())[-1] == ((editable, 2, 1), None)
    job = api.job(editable)
    assert (job["status"], job["stage"], job["progress"], job["revision"]) == ("SUCCEEDED", "DONE", 100, 1)
    assert job["recut"] == {"revision": 2, "state": "QUEUED", "progress": 0, "error": None}
    assert read(api, editable)["revision"] == 1
    record = api.record(editable).recut
    assert record.flow_run_id == api.runs.ids[f"{editable}:2", 1]


def test_one_clip_is_changed_by_a_merge_patch(api, editable):
    before = read(api, editable)["clips"]
    change = {"title": "Another", "ratio": "1:1", "hashtags": ["x"], "captions": {"shown": False}, "hook": None}
    assert patch(api, editable, "clip-2", change).status_code == 202
    first, second = stored(api, editable, 2)["clips"]
    assert first == before[0]
    assert second == before[1] | {k: v for k, v in change.items() if k != "hook"} | {"hook": ""}


def test_a_patch_of_an_unknown_clip_is_404(api, editable):
    answer = patch(api, editable, "clip-9", {})
    assert (answer.status_code, answer.json()) == (404, {"detail": "document has no such clip"})


@pytest.mark.parametrize("change", [None, [], 5, "x", {"segments": None}, {"id": "clip-1"}, {"new": 1}])
def test_a_patch_that_breaks_the_clip_is_422(api, editable, change):
    answer = patch(api, editable, "clip-2", change)
    assert answer.status_code == 422, answer.text
    assert all(error["path"].startswith("clips[1]") for error in answer.json()["errors"])
    assert api.job(editable)["recut"] is None


def test_without_if_match_it_is_428(api, editable):
    answer = api.client.put(f"/api/jobs/{editable}/edit", json=read(api, editable))
    assert answer.status_code == 428
    assert "if-match" in answer.json()["detail"]


@pytest.mark.parametrize("tag", ['"2"', "1", "*", 'W/"1"', '"x"', '""', '"1", "2"', '"99999999999999999999"'])
def test_another_revision_is_412_with_the_published_one(api, editable, tag):
    answer = put(api, editable, read(api, editable), **{"If-Match": tag})
    assert (answer.status_code, answer.json()["revision"], answer.headers["etag"]) == (412, 1, '"1"')
    assert api.job(editable)["recut"] is None


def test_of_two_people_one_is_first_and_the_other_reads_the_newer_revision(api, editable):
    document = read(api, editable)
    with ThreadPoolExecutor(8) as pool:
        answers = [answer.status_code for answer in pool.map(lambda _: put(api, editable, document), range(8))]
    assert sorted(answers) == [202] + [409] * 7
    publish(api, editable, 2)
    late = put(api, editable, document)
    assert (late.status_code, late.json()["revision"], late.headers["etag"]) == (412, 2, '"2"')
    again = put(api, editable, read(api, editable), **{"If-Match": late.headers["etag"]})
    assert (again.status_code, again.json()["revision"]) == (202, 3)


def test_readers_follow_the_published_revision(api, editable):
    assert len(api.get(f"/api/jobs/{editable}/results").json()["clips"]) == 2  # and caches it
    document = read(api, editable)
    put(api, editable, document | {"clips": document["clips"][:1]})
    publish(api, editable, 2)
    assert read(api, editable)["revision"] == 2
    assert api.get(f"/api/jobs/{editable}/edit").headers["etag"] == '"2"'
    (clip,) = api.get(f"/api/jobs/{editable}/results").json()["clips"]
    assert f"/jobs/{editable}/revisions/2/clip_01.mp4" in clip["download_url"]
    assert clip["stream_url"] == f"/api/jobs/{editable}/clips/clip_01.mp4"
    assert api.get(clip["stream_url"]).content == content(1)
    assert api.get(f"/api/jobs/{editable}/clips/clip_02.mp4").status_code == 404
    older = api.get(f"/api/jobs/{editable}/clips/clip_02.mp4?revision=1")
    assert (older.status_code, older.content) == (200, content(2))
    assert len(api.get(f"/api/jobs/{editable}/results?revision=1").json()["clips"]) == 2
    assert read(api, editable) != api.get(f"/api/jobs/{editable}/edit?revision=1").json() == document
    for path in ("edit", "results", "manifest", "clips/clip_01.mp4"):
        assert api.get(f"/api/jobs/{editable}/{path}?revision=3").json() == {"detail": "revision not found"}
    job = api.job(editable)
    assert (job["revision"], job["recut"]["state"], job["recut"]["progress"]) == (2, "SUCCEEDED", 100)


def test_what_is_still_read_from_the_jobs_own_folder_is_never_mixed(api, editable, monkeypatch):
    """Readers who looked at the record before the first recut replaced the files in the job's own folder."""
    document = read(api, editable)
    before = api.get(f"/api/jobs/{editable}/clips.zip").content
    put(api, editable, document)
    outdated = api.record(editable)
    publish(api, editable, 2)
    for name in ("clip_01.mp4", "clip_02.mp4"):
        api.bucket.put_bytes(job_key(editable, name), content(9), "video/mp4")
    known = api.services.jobs.get
    answers = [outdated]
    monkeypatch.setattr(api.services.jobs, "get", lambda job_id: answers.pop() if answers else known(job_id))
    assert api.get(f"/api/jobs/{editable}/clips/clip_01.mp4").content == content(1)
    assert not answers
    answers.append(outdated)
    with pytest.raises(httpx.RemoteProtocolError):  # cut off, rather than filled with other clips
        api.get(f"/api/jobs/{editable}/clips.zip")
    assert api.get(f"/api/jobs/{editable}/clips.zip").content != before


def test_a_failed_recut_leaves_everything_as_it_was_and_says_why(api, editable):
    put(api, editable, read(api, editable))
    assert api.jobs.recuts.end(editable, 2, 1, JobState.FAILED, "Clip 1: too quiet.")
    job = api.job(editable)
    assert (job["status"], job["revision"], job["error"]) == ("SUCCEEDED", 1, None)
    assert job["recut"] == {"revision": 2, "state": "FAILED", "progress": 0, "error": "Clip 1: too quiet."}
    assert put(api, editable, read(api, editable)).json()["revision"] == 3


def test_a_job_that_has_not_succeeded_cannot_be_recut(api, job_id):
    answer = put(api, job_id, {})
    assert (answer.status_code, answer.json()) == (409, {"detail": "job not completed"})
    assert put(api, api.finished_job(), {}).json() == {"detail": "job has no edit document"}


def test_a_run_that_cannot_be_submitted_is_502_and_the_recut_failed(api, editable):
    api.runs.fault = "The Prefect server did not answer (ConnectError)."
    answer = put(api, editable, read(api, editable))
    assert (answer.status_code, answer.json()) == (502, {"detail": api.runs.fault})
    assert api.job(editable)["recut"]["state"] == "FAILED"
    api.runs.fault = None
    assert put(api, editable, read(api, editable)).status_code == 202


def test_hostile_documents_are_422_by_path_and_reason(api, editable):
    good = read(api, editable)
    bodies = [(path, body) for path, document in HOSTILE if (body := at_home(document, good))]
    assert len(bodies) > 150
    for path, body in bodies:
        answer = put(api, editable, body)
        assert answer.status_code == 422, (path, answer.text)
        found = answer.json()
        assert set(found) == {"detail", "errors"}
        if b"NaN" not in body and b"Infinity" not in body:
            assert any(error["path"].startswith(path) for error in found["errors"]), (path, found)
    assert api.job(editable)["recut"] is None


def test_the_event_stream_tells_of_a_recut(api, editable):
    put(api, editable, read(api, editable))
    with api.client.stream("GET", f"/api/jobs/{editable}/events") as answer:
        lines = answer.iter_lines()
        first = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert first["recut"] == {"revision": 2, "state": "QUEUED", "progress": 0.0, "error": None}
        assert (first["status"], first["revision"]) == ("SUCCEEDED", 1)
        publish(api, editable, 2)
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert told[-1]["recut"] == {"revision": 2, "state": "SUCCEEDED", "progress": 100.0, "error": None}
    assert told[-1]["revision"] == 2
    assert "RUNNING" in [each["recut"]["state"] for each in told]


def test_deleting_a_job_stops_its_recut_and_deletes_its_revisions(api, editable):
    put(api, editable, read(api, editable))
    publish(api, editable, 2)
    put(api, editable, read(api, editable), **{"If-Match": '"2"'})
    assert api.client.delete(f"/api/jobs/{editable}").json() == {"ok": True}
    assert list(api.bucket.list(job_key(editable, ""))) == []
    run = (editable, 3, 1)
    assert not api.jobs.recuts.publish(*run)
    assert not api.jobs.report(Report(job_id=editable, revision=3, attempt=1, status=JobState.RUNNING, progress=5))
    assert api.jobs.get(editable) is None
    assert editable not in [job.job_id for job in api.jobs.recuts.under_way()]


def test_recuts_are_counted_against_a_rate_of_their_own(serve):
    limited = serve(create_rate_per_minute=2)
    job_id = finished(limited)
    for _ in range(2):
        revision = put(limited, job_id, read(limited, job_id)).json()["revision"]
        limited.jobs.recuts.end(job_id, revision, 1, JobState.FAILED, "x")
    answer = put(limited, job_id, read(limited, job_id))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
