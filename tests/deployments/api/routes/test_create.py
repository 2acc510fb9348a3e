"""POST /api/jobs, rule by rule."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import SecretStr

from deployments.api.routes.create import too_many
from infra.errors import JobConflict, SubmitError
from infra.jobs.ids import JOB_ID
from infra.jobs.record import Report
from infra.states import JobState, Stage
from tests.deployments.api.conftest import KEYS, ORIGIN, REQUEST

NO_URL, BAD_URL = "video_url is required", "video_url must be a valid URL"
NO_SECONDS, BAD_SECONDS = "clip_duration_seconds is required", "clip_duration_seconds must be between 30 and 60"
NO_COUNT, BAD_COUNT = "clip_count is required", "clip_count must be between 1 and 5"
BAD_LANGUAGE = "language must be en, id, or auto"
MISSING = object()


def assert_refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


def test_a_job_is_created_and_submitted_once(api):
    answer = api.create()
    assert answer.status_code == 200
    job_id = answer.json()["job_id"]
    assert answer.json() == {"job_id": job_id, "status": "QUEUED"}
    assert JOB_ID.fullmatch(job_id)
    assert api.runs.requests[job_id, 1] == REQUEST
    assert api.record(job_id).nosana_run_id == api.runs.ids[job_id, 1]


def test_a_job_may_use_only_a_part_of_its_video(api):
    job_id = api.create(start_seconds=600, end_seconds=900.5).json()["job_id"]
    assert api.runs.requests[job_id, 1] == REQUEST | {"start_seconds": 600, "end_seconds": 900.5}
    assert api.job(job_id)["request"]["end_seconds"] == 900.5


def test_an_open_part_may_be_named_as_null(api):
    job_id = api.create(start_seconds=None, end_seconds=None).json()["job_id"]
    assert api.runs.requests[job_id, 1] == REQUEST


BAD_RATIO = "ratio must be 9:16 or 4:5 or 1:1 or 16:9"
BAD_PRESET = "caption_preset must be classic or punch or word or box or label or reveal"
BAD_START = "start_seconds must be a number of seconds from 0"
BAD_END = "end_seconds must be a number of seconds, at least a clip's length after start_seconds"


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        *(({"ratio": value}, BAD_RATIO) for value in ("9x16", "2:1", 1.5, [], {}, "")),
        *(({"caption_preset": value}, BAD_PRESET) for value in ("Classic", "../box", 1, ["box"])),
        *(({"framing": value}, "framing must be auto or fit or centre or split or screen") for value in ("zoom", True)),
        *(({"tighten": value}, "tighten must be true or false") for value in ("yes", 1, "true", [])),
        *(({"topic": value}, "topic must be text of at most 200 characters") for value in (5, ["a"], "x" * 201)),
        *(({"start_seconds": value}, BAD_START) for value in ("600", True, -1, 10**6, [])),
        *(({"end_seconds": value}, BAD_END) for value in ("600", False, -1, 0, 35.9, {})),
        ({"start_seconds": 600, "end_seconds": 600}, BAD_END),
        ({"start_seconds": 600, "end_seconds": 30}, BAD_END),
    ],
)
def test_a_part_that_no_clip_fits_in_is_refused(api, part, detail):
    assert_refused(api.create(**part), 400, detail)


FAULTS = [
    *(("video_url", value, NO_URL) for value in (MISSING, "", None, 7, True, ["https://example.org"], {})),
    *(
        ("video_url", value, BAD_URL)
        for value in (
            "talk.mp4",
            "  ",
            "ftp://example.org/v.mp4",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://",
            "https://exa mple.org/",
            "https://example.org/a\nb",
            "https://example.org/\x00",
            "https://example.org/\ud800",
            "https://example.org/\u202e4pm",
            "https://example.org/" + "a" * 4096,
        )
    ),
    *(("clip_duration_seconds", value, NO_SECONDS) for value in (MISSING, None, "30", "", True, False, [30], {})),
    *(("clip_duration_seconds", value, BAD_SECONDS) for value in (0, -30, 29, 29.99, 60.01, 61, 10**30, -(10**400))),
    *(("clip_count", value, NO_COUNT) for value in (MISSING, None, "3", True, [3], {})),
    *(("clip_count", value, BAD_COUNT) for value in (0, -1, 6, 1.5, 4.999, 10**400)),
    *(("language", value, BAD_LANGUAGE) for value in ("", "english", "EN", "xx", 5, True, ["en"], {}, "en\n")),
]


@pytest.mark.parametrize(("name", "value", "detail"), FAULTS)
def test_a_bad_field_is_refused_in_the_contracts_words(api, name, value, detail):
    body = REQUEST | {name: value}
    if value is MISSING:
        del body[name]
    assert_refused(api.post("/api/jobs", content=json.dumps(body)), 400, detail)


def test_bad_fields_are_reported_in_the_contracts_order(api):
    body = {"video_url": "", "clip_duration_seconds": "30", "clip_count": "3", "language": "xx"}
    steps = [
        (NO_URL, {"video_url": "no address"}),
        (BAD_URL, {"video_url": "https://example.org/v"}),
        (NO_SECONDS, {"clip_duration_seconds": 5}),
        (BAD_SECONDS, {"clip_duration_seconds": 30}),
        (NO_COUNT, {"clip_count": 9}),
        (BAD_COUNT, {"clip_count": 1}),
        (BAD_LANGUAGE, {"language": "id"}),
    ]
    for detail, fixed in steps:
        assert_refused(api.post("/api/jobs", json=body), 400, detail)
        body |= fixed
    assert api.post("/api/jobs", json=body).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"clip_duration_seconds": 30},
        {"clip_duration_seconds": 30.0},
        {"clip_duration_seconds": 37.5},
        {"clip_duration_seconds": 60},
        {"clip_count": 1},
        {"clip_count": 5.0},
        {"language": "id"},
        {"language": "auto"},
        {"language": "yue"},
        {"unknown": {"deep": [1, 2, 3]}},
        {"video_url": "https://user:pass@例え.jp:8443/watch?v=ü&t=1#x"},
    ],
)
def test_values_within_bounds_are_accepted(api, change):
    answer = api.create(**change)
    assert answer.status_code == 200
    expected = REQUEST | {name: value for name, value in change.items() if name in REQUEST}
    assert api.runs.requests[answer.json()["job_id"], 1] == expected


@pytest.mark.parametrize("fields", [{}, {"language": None}])
def test_a_missing_language_is_auto(api, fields):
    body = {name: value for name, value in REQUEST.items() if name != "language"} | fields
    job_id = api.post("/api/jobs", json=body).json()["job_id"]
    assert api.job(job_id)["request"]["language"] == "auto"


def test_white_space_around_the_url_is_stripped(api):
    job_id = api.create(video_url=" https://example.org/v.mp4\n").json()["job_id"]
    assert api.job(job_id)["request"]["video_url"] == "https://example.org/v.mp4"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{",
        b"\xff\xfe\xfa",
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"video_url": "https://example.org/v", "clip_duration_seconds": NaN}',
        b'{"video_url": "https://example.org/v", "clip_duration_seconds": Infinity}',
    ],
)
def test_a_body_that_is_not_an_object_counts_as_a_missing_url(api, body):
    assert_refused(api.post("/api/jobs", content=body), 400, NO_URL)


def test_a_number_too_large_for_a_float_is_out_of_bounds(api):
    body = json.dumps(REQUEST).replace("45", "1e999")
    assert_refused(api.post("/api/jobs", content=body), 400, BAD_SECONDS)


def test_a_run_that_cannot_be_started_leaves_no_job(api):
    newest = api.jobs.recent(1)
    api.runs.fault = "The Prefect server did not answer (ConnectError)."
    assert_refused(api.create(), 502, api.runs.fault)
    assert [job.job_id for job in api.jobs.recent(1)] == [job.job_id for job in newest]


def test_a_run_whose_creation_was_not_confirmed_finds_no_job(api, monkeypatch):
    submit, made = api.runs.submit, []

    def lose_the_answer(job_id, attempt, request):
        made.append((job_id, submit(job_id, attempt, request)))
        raise SubmitError("The Prefect server did not answer (ReadTimeout).")

    monkeypatch.setattr(api.runs, "submit", lose_the_answer)
    assert_refused(api.create(), 502, "The Prefect server did not answer (ReadTimeout).")
    ((job_id, run_id),) = made
    with pytest.raises(JobConflict, match="does not exist"):
        api.jobs.open(job_id, run_id, 1, json.dumps(REQUEST), lease=False)
    assert api.jobs.get(job_id) is None


def test_a_job_whose_run_began_unconfirmed_continues(api, monkeypatch):
    submit = api.runs.submit

    def begin_and_lose_the_answer(job_id, attempt, request):
        api.jobs.open(job_id, submit(job_id, attempt, request), attempt, json.dumps(request), lease=False)
        raise SubmitError("The Prefect server did not answer (ReadTimeout).")

    monkeypatch.setattr(api.runs, "submit", begin_and_lose_the_answer)
    answer = api.create()
    assert answer.status_code == 200
    assert api.job(answer.json()["job_id"])["status"] == "QUEUED"


def test_a_job_cancelled_during_submission_has_its_run_stopped_and_cannot_begin(api, monkeypatch):
    submit = api.runs.submit

    def cancelled_meanwhile(job_id, attempt, request):
        run_id = submit(job_id, attempt, request)
        assert api.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
        return run_id

    monkeypatch.setattr(api.runs, "submit", cancelled_meanwhile)
    job_id = api.create().json()["job_id"]
    (run_id,) = api.runs.of(job_id)
    assert api.runs.cancelled[-1] == run_id
    with pytest.raises(JobConflict, match="was cancelled"):
        api.jobs.open(job_id, run_id, 1, json.dumps(REQUEST), lease=False)
    assert (api.job(job_id)["status"], api.job(job_id)["error"]) == ("FAILED", "Cancelled.")


def test_the_same_idempotency_key_and_request_give_one_job(api):
    headers = {"idempotency-key": "a key of mine"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/api/jobs", json=REQUEST, headers=headers), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    first = answers[0].json()
    assert all(answer.json() == first for answer in answers)
    assert len(api.runs.of(first["job_id"])) == 1
    api.jobs.report(Report(job_id=first["job_id"], stage=Stage.SELECT, progress=60))
    assert api.post("/api/jobs", json=REQUEST, headers=headers).json() == first


def test_an_idempotency_key_is_refused_for_another_request(api):
    headers = {"idempotency-key": "another key"}
    assert api.post("/api/jobs", json=REQUEST, headers=headers).status_code == 200
    other = api.post("/api/jobs", json=REQUEST | {"clip_count": 4}, headers=headers)
    assert_refused(other, 409, "idempotency key was used for another request")


def test_a_refused_request_leaves_its_idempotency_key_free(api):
    headers = {"idempotency-key": "third key"}
    assert api.post("/api/jobs", json={}, headers=headers).status_code == 400
    assert api.post("/api/jobs", json=REQUEST, headers=headers).status_code == 200


@pytest.mark.parametrize("bound", ["create_rate_per_minute", "max_queued_per_key"])
def test_a_request_refused_with_429_leaves_its_idempotency_key_free(serve, bound):
    name = f"fay{len(bound)}"  # tests share their Redis
    api, key = serve(api_keys=SecretStr(f"{name}:key-of-{name}"), **{bound: 1}), {"x-api-key": f"key-of-{name}"}
    retried = key | {"idempotency-key": "a key"}
    while time.time() % 60 > 50:  # all within one minute of the clock
        time.sleep(1)
    assert api.post("/api/jobs", json=REQUEST, headers=key).status_code == 200
    assert api.post("/api/jobs", json=REQUEST, headers=retried).status_code == 429
    other = REQUEST | {"clip_count": 4}
    assert api.post("/api/jobs", json=other, headers=retried).status_code == 429, "not 409: the key is free"


def test_a_failed_submission_leaves_its_idempotency_key_free(api):
    headers = {"idempotency-key": "fourth key"}
    fault = api.runs.fault = "The Prefect server answered 500 to deployments."
    assert_refused(api.post("/api/jobs", json=REQUEST, headers=headers), 502, fault)
    api.runs.fault = None
    again = api.post("/api/jobs", json=REQUEST, headers=headers)
    assert again.status_code == 200
    assert api.job(again.json()["job_id"])["status"] == "QUEUED"
    assert api.post("/api/jobs", json=REQUEST, headers=headers).json() == again.json()


def test_repeating_a_request_submits_a_job_left_without_a_run(api, job_id):
    headers = {"idempotency-key": "fifth key"}
    from tasks.core.object_keys import digest

    left = "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R"
    api.services.idempotency.reserve("fifth key", digest(REQUEST), left)
    api.jobs.create(left, json.dumps(REQUEST))
    assert api.post("/api/jobs", json=REQUEST, headers=headers).json()["job_id"] == left
    assert api.record(left).nosana_run_id == api.runs.ids[left, 1]


def test_a_job_cancelled_during_submission_is_returned_even_if_its_run_cannot_be_stopped(api, monkeypatch):
    submit = api.runs.submit

    def submit_and_lose_the_server(job_id, attempt, *more):
        run_id = submit(job_id, attempt, *more)
        api.jobs.report(Report(job_id=job_id, attempt=attempt, status=JobState.FAILED, error="Cancelled."))
        api.runs.fault = "The Prefect server did not answer (ConnectError)."
        return run_id

    monkeypatch.setattr(api.runs, "submit", submit_and_lose_the_server)
    answer = api.create()
    assert answer.status_code == 200
    assert api.job(answer.json()["job_id"])["error"] == "Cancelled."


def test_job_creation_is_rate_limited_per_client(serve):
    api = serve(create_rate_per_minute=3)
    mine, other = (
        httpx.Client(base_url=api.url, transport=httpx.HTTPTransport(local_address=address))
        for address in ("127.0.0.8", "127.0.0.9")
    )
    while time.time() % 60 > 50:  # all within one minute of the clock
        time.sleep(1)
    assert [mine.post("/api/jobs", json=REQUEST).status_code for _ in range(3)] == [200] * 3
    assert mine.post("/api/jobs", json={}).status_code == 400
    answer = mine.post("/api/jobs", json=REQUEST, headers={"origin": ORIGIN})
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= 60
    assert_refused(answer, 429, f"too many jobs; try again in {wait} seconds")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert other.post("/api/jobs", json=REQUEST).status_code == 200


@pytest.mark.parametrize(("wait", "words"), [(1, "1 second"), (2, "2 seconds"), (60, "60 seconds")])
def test_the_wait_of_a_rate_limit_has_the_right_plural(wait, words):
    refusal = too_many(wait)
    assert (refusal.status_code, refusal.detail) == (429, f"too many jobs; try again in {words}")
    assert refusal.headers == {"Retry-After": str(wait)}


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/{id}/start", "/api/jobs/{id}/cancel"])
def test_with_api_keys_configured_changes_need_one(serve, path):
    api = serve(api_keys=SecretStr(",".join(KEYS)))
    good = {"x-api-key": KEYS[1]}
    job_id = api.post("/api/jobs", json=REQUEST, headers=good).json()["job_id"]
    path = path.replace("{id}", job_id)
    for wrong in ({}, {"x-api-key": ""}, {"x-api-key": "key-one,key-two"}, {"x-api-key": b"\xff\xfe"}):
        assert_refused(api.post(path, json=REQUEST, headers=wrong), 401, "api key required")
    assert api.post(path, json=REQUEST, headers=good).status_code == 200
    assert api.job(job_id)


def test_a_page_of_another_site_cannot_create_jobs(api):
    foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert_refused(api.post("/api/jobs", content=json.dumps(REQUEST), headers=foreign), 403, "origin not allowed")
    assert api.post("/api/jobs", json=REQUEST, headers=foreign | {"origin": ORIGIN}).status_code == 200
