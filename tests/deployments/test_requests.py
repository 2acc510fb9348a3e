"""Every request model accepts only what the flow accepts, and each field is defined once."""

import json

import pytest

from deployments.api.job_request import JobRequest
from deployments.image.worker_job import WorkerEnvironment
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
