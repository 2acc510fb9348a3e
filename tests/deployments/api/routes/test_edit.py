"""Reading and checking edit documents, words and the source over HTTP."""

import json
from typing import Any

import httpx
import pytest

from infra.jobs.record import Report
from infra.states import JobState, Stage
from tasks.core.edit.document import EditDocument
from tasks.core.object_keys import job_key
from tests.core.edit.test_faults import HOSTILE, SOURCE, VAST
from tests.editable_job import CHOSEN, SPARE, TALK, WORDS, Talk, store_published


@pytest.fixture(scope="module")
def editable(shared_api) -> str:
    return finished(shared_api)


def finished(api, shown=CHOSEN, talk=TALK) -> str:
    job_id = api.new_job()
    store_published(job_id, api.bucket, shown, talk)
    assert api.jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    return job_id


def read(api, job_id: str) -> dict[str, Any]:
    return api.get(f"/api/jobs/{job_id}/edit").json()


def check(api, job_id: str, body: Any) -> list[dict[str, str]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = api.post(f"/api/jobs/{job_id}/edit/check", content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()["errors"]


def test_the_document_is_that_of_the_published_clips(api, editable):
    answer = api.get(f"/api/jobs/{editable}/edit")
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"1"'
    document = EditDocument.model_validate(answer.json())
    assert (document.revision, [clip.id for clip in document.clips]) == (1, ["clip-1", "clip-2"])
    assert api.get(f"/api/jobs/{editable}/edit?revision=1").json() == answer.json()
    assert api.job(editable)["revision"] == 1
    assert api.job(editable)["recut"] is None


def test_a_dropped_clip_is_not_in_the_document_and_a_spare_one_is(api):
    dropped = read(api, finished(api, CHOSEN[1:]))
    assert [clip["id"] for clip in dropped["clips"]] == ["clip-2"]
    replaced = read(api, finished(api, [CHOSEN[0], SPARE]))
    assert [clip["title"] for clip in replaced["clips"]] == ["t", "spare"]
    assert [(part["start"], part["end"]) for part in replaced["clips"][1]["segments"]] == [(300, 330)]


def test_what_has_no_document_is_404(api, job_id):
    assert api.get(f"/api/jobs/{job_id}/edit").status_code == 409
    assert api.job(job_id)["revision"] is None
    earlier = api.finished_job()
    assert api.job(earlier)["revision"] is None
    for path in ("edit", "words", "source"):
        answer = api.get(f"/api/jobs/{earlier}/{path}")
        assert (answer.status_code, answer.json()) == (404, {"detail": "job has no edit document"})
    assert api.post(f"/api/jobs/{earlier}/edit/check", json={}).status_code == 404


def test_an_unknown_revision_is_404(api, editable):
    answer = api.get(f"/api/jobs/{editable}/edit?revision=2")
    assert (answer.status_code, answer.json()) == (404, {"detail": "revision not found"})
    assert api.get(f"/api/jobs/{editable}/edit?revision=0").status_code == 400


def test_a_malformed_document_in_the_bucket_is_502(api):
    job_id = finished(api)
    api.bucket.put_bytes(f"jobs/{job_id}/edl.json", b'{"clips": []}', "application/json")
    assert api.get(f"/api/jobs/{job_id}/edit").status_code == 502


def test_a_good_document_has_no_errors(api, editable):
    assert check(api, editable, read(api, editable)) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_no_document_is_an_error(api, editable, body):
    assert check(api, editable, body)


def test_errors_name_path_and_reason(api, editable):
    document = read(api, editable)
    document["clips"][1]["segments"][0]["end"] = 812.4
    document["clips"][0]["words"]["removed"] = [99999]
    assert check(api, editable, document) == [
        {"path": "clips[0].words.removed[0]", "reason": "there is no word 99999; the source has 1200"},
        {"path": "clips[1].segments[0].end", "reason": "812.4 lies after the source's end, 600.1"},
    ]


def at_home(document: Any, good: dict[str, Any]) -> bytes | None:
    """A hostile document for this job's source, or None if JSON cannot express it."""
    content = dict(document)
    if isinstance(content.get("source"), dict) and content["source"].get("video") == SOURCE.video:
        content["source"] = content["source"] | {"video": good["source"]["video"]}
    try:
        return json.dumps(content).encode()
    except ValueError:
        return None


def test_hostile_documents_are_errors_and_never_a_failure(api, editable):
    good = read(api, editable)
    bodies = [body for _, document in HOSTILE if (body := at_home(document, good))]
    assert len(bodies) > 150
    for body in bodies:
        assert check(api, editable, body), body[:500]


@pytest.mark.parametrize("name", VAST)
def test_a_vast_document_is_refused(api, editable, name):
    body = at_home(VAST[name], read(api, editable))
    assert body
    answer = api.post(f"/api/jobs/{editable}/edit/check", content=body)
    assert answer.status_code == 413 if len(body) > 1024 * 1024 else answer.json()["errors"]


def test_words_are_numbered_as_in_the_document(api, editable):
    found = api.get(f"/api/jobs/{editable}/words?start=10&end=12").json()
    assert found["first"] == 20
    assert [word["text"] for word in found["words"]] == ["word20", "word21", "word22", "word23"]
    assert found["words"][0] == {"start": 10.0, "end": 10.4, "text": "word20"}
    assert (found["language"], found["duration"]) == ("en", 600.1)
    everything = api.get(f"/api/jobs/{editable}/words").json()
    assert (everything["first"], len(everything["words"])) == (0, len(WORDS))
    assert api.get(f"/api/jobs/{editable}/words?start=599.95").json() == found | {"first": 1200, "words": []}


def test_words_have_their_speakers_where_there_are_several(api):
    words = [word.model_copy(update={"speaker": 1 + (i % 3 == 0)}) for i, word in enumerate(WORDS)]
    job_id = finished(api, talk=Talk(words=words))
    found = api.get(f"/api/jobs/{job_id}/words?start=10&end=12").json()["words"]
    assert [word["speaker"] for word in found] == [1, 2, 1, 1]


@pytest.mark.parametrize("query", ["start=-1", "start=x", "end=nan", "start=inf"])
def test_a_malformed_range_is_400(api, editable, query):
    assert api.get(f"/api/jobs/{editable}/words?{query}").status_code == 400


def test_the_source_is_a_link_that_answers_ranges(api, editable):
    answer = api.get(f"/api/jobs/{editable}/source")
    assert answer.status_code == 307
    part = httpx.get(answer.headers["location"], headers={"Range": "bytes=0-4"})
    assert (part.status_code, part.content) == (206, b"video")
    assert part.headers["content-disposition"] == "inline"


def test_a_source_that_is_gone_is_404(api):
    job_id = finished(api)
    api.bucket.delete(f"cache/media/{job_id}/video.mp4")
    answer = api.get(f"/api/jobs/{job_id}/source")
    assert (answer.status_code, answer.json()) == (404, {"detail": "source is no longer in the bucket"})


STILL = {"start": 50, "end": 60, "layout": "still", "crop_width": 406, "crop_height": 720, "reason": "the only face"}
LOG = [
    STILL | {"keys": [{"t": 50, "x": 320, "y": 0}]},
    {"start": 60, "end": 80, "layout": "fit", "reason": "no face found"},
]


def camera(api, *shots: object, **document: Any) -> httpx.Response:
    job_id = finished(api)
    log = document or {"clips": [{"index": 1, "shots": shots}]}
    api.bucket.put_bytes(job_key(job_id, "face_log.json"), json.dumps(log).encode(), "application/json")
    return api.get(f"/api/jobs/{job_id}/camera")


def test_a_cover_is_told_without_a_place(api):
    shot = {"start": 50, "end": 80, "layout": "cover", "reason": "the source has only sound"}
    (view,) = camera(api, shot).json()["clips"][0]["views"]
    assert (view["layout"], view["kind"], view["keys"]) == ("cover", "auto", [])


def test_what_the_camera_showed_is_told_in_shares_of_the_picture(api):
    told = camera(api, *LOG).json()
    assert (told["revision"], [clip["id"] for clip in told["clips"]]) == (1, ["clip-1", "clip-2"])
    still, fit = told["clips"][0]["views"]
    assert still["keys"] == [{"t": 50, "x": 0.25, "y": 0}]
    assert (still["width"], still["height"], still["ratio"]) == pytest.approx((406 / 1280, 1, 406 / 720))
    assert (fit["layout"], fit["kind"], fit["keys"]) == ("fit", "auto", [])
    assert told["clips"][1]["views"] == []


@pytest.mark.parametrize(
    "shot",
    [
        STILL,
        STILL | {"keys": [{"t": 50, "x": 10**9, "y": 0}]},
        STILL | {"keys": [{"t": 50, "x": 320, "y": -40}]},
        STILL | {"keys": [{"t": float("nan"), "x": 320, "y": 0}]},
        STILL | {"keys": [{"t": 50, "x": float("nan"), "y": 0}]},
        STILL | {"keys": [{"t": 50, "x": 320, "y": 0}], "crop_width": 0},
        STILL | {"keys": [{"t": 50, "x": 320, "y": 0}], "start": 300, "end": 310},
        STILL | {"keys": [{"t": 50, "x": 320, "y": 0}] * 2001},
        STILL | {"keys": [{"t": 50, "x": 320, "y": 0}], "layout": "split"},
    ],
    ids=[
        "no place",
        "far away",
        "above",
        "no time",
        "no column",
        "no size",
        "another time",
        "too many places",
        "half of a split picture",
    ],
)
def test_what_cannot_have_been_shown_is_left_out(api, shot):
    assert [clip["views"] for clip in camera(api, shot).json()["clips"]] == [[], []]


@pytest.mark.parametrize(
    "log",
    [
        {"clips": [{"index": 1, "shots": [STILL | {"layout": "spin"}]}]},
        {"clips": [{"index": 1, "shots": "many"}]},
        {"clips": [{"index": 1}] * 21},
        {"clips": "x" * 5_000_000},
    ],
    ids=["unknown layout", "no list", "too many clips", "too large"],
)
def test_a_log_that_is_wrong_is_refused(api, log):
    assert camera(api, **log).status_code == 502
