"""Every request model accepts only what the flow accepts, and each field is defined once."""

import json

import pytest

from deployments.api.job_request import JobRequest
from deployments.image.worker_job import WorkerEnvironment, read_request
from tasks.core.request import ClipRequest
from tasks.core.source.batch import BatchRequest

FIELDS = ClipRequest.model_json_schema()["properties"]
CONTAINER = {"max_clip_seconds": "clip_duration_seconds", "output_language": "language"}


@pytest.mark.parametrize("border", [JobRequest, BatchRequest, WorkerEnvironment])
def test_every_model_only_narrows_the_fields_of_the_request(border):
    found = border.model_json_schema()["properties"]
    shared = {name: CONTAINER.get(name, name) for name in found if CONTAINER.get(name, name) in FIELDS}
    assert {"clip_duration_seconds", "clip_count", "language"} <= set(shared.values())
    for name, own in shared.items():
        field, narrowed = FIELDS[own], found[name]
        assert narrowed.get("minimum", 0) >= field.get("minimum", 0), name
        assert narrowed.get("maximum", 0) <= field.get("maximum", 0), name
        assert set(narrowed.get("enum", [])) - {None} == set(field.get("enum", [])), name
        assert narrowed["title"] == field["title"], "the field is defined anew"


def test_the_flow_accepts_what_the_api_accepts():
    sent = {"video_url": " https://example.org/v ", "clip_duration_seconds": 45.0, "clip_count": 2.0, "language": None}
    accepted = JobRequest.model_validate(sent)
    assert json.dumps(accepted.for_run(), separators=(",", ":")) == (
        '{"video_url":"https://example.org/v","clip_duration_seconds":45,"clip_count":2,"language":"auto"}'
    )
    assert ClipRequest.model_validate(accepted.for_run()).clip_count == 2


TALK = {"video_url": "https://example.org/v", "clip_duration_seconds": 45, "clip_count": 2}


@pytest.mark.parametrize(
    ("model", "request_"), [(ClipRequest, TALK), (JobRequest, TALK), (BatchRequest, {"feed": "https://example.org/f"})]
)
def test_an_optional_field_may_be_null(model, request_):
    optional = {name: None for name, field in model.model_fields.items() if field.default is None}
    assert len(optional) >= 3
    assert model.model_validate(optional | request_) == model.model_validate(request_)


LOOKS = {"ratio": "4:5", "caption_preset": "punch", "framing": "fit", "tighten": True, "topic": "the piano"}


@pytest.mark.parametrize("unset", [{}, dict.fromkeys(LOOKS), {"tighten": False}])
def test_a_request_that_asks_for_no_looks_keeps_its_cache_keys(unset):
    """They are made from what a request is written as; see `tasks.caching_and_retries`."""
    assert not LOOKS.keys() & ClipRequest.model_validate(TALK | unset).model_dump(mode="json").keys()
    assert ClipRequest.model_validate(TALK | LOOKS).model_dump(mode="json").items() >= LOOKS.items()


def test_looks_reach_the_flow_from_every_side(monkeypatch):
    assert JobRequest.model_validate(TALK | LOOKS).for_run().items() >= LOOKS.items()
    batch = BatchRequest.model_validate({"urls": [TALK["video_url"]], **LOOKS})
    assert batch.clip_request(TALK["video_url"]).model_dump().items() >= LOOKS.items()
    for name, value in LOOKS.items():
        monkeypatch.setenv(name.upper(), str(value))
    environment = {"JOB_ID": "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV", "VIDEO_URL": TALK["video_url"], "CLIP_COUNT": "2"}
    bucket = {"R2_ENDPOINT": "http://127.0.0.1:1", "R2_BUCKET": "clips", "R2_ACCESS_KEY_ID": "id"}
    more = {"MIN_CLIP_SECONDS": "30", "MAX_CLIP_SECONDS": "30", "R2_SECRET_ACCESS_KEY": "sesame"}
    for name, value in (environment | bucket | more).items():
        monkeypatch.setenv(name, value)
    assert read_request()[1].model_dump().items() >= LOOKS.items()
