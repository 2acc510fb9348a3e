"""The OpenAPI document, checked against the running service with generated requests."""

import json
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import GenerationMode, checks

from tests.deployments.api.conftest import NEXT_TOKEN, OPERATOR, TOKEN, WEBHOOK_SECRET

STATUSES = {
    "POST /api/jobs": {200, 400, 401, 403, 404, 408, 409, 413, 429, 502, 503},
    "GET /api/jobs": {200, 400, 401, 404, 503},
    "GET /api/jobs/{job_id}": {200, 401, 404, 503},
    "DELETE /api/jobs/{job_id}": {200, 401, 403, 404, 409, 502, 503},
    "POST /api/jobs/{job_id}/start": {200, 401, 403, 404, 409, 503},
    "POST /api/jobs/{job_id}/cancel": {200, 401, 403, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/results": {200, 400, 401, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/manifest": {200, 400, 401, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/clips.zip": {200, 401, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/clips/{file}": {200, 206, 304, 400, 401, 404, 409, 416, 502, 503},
    "GET /api/jobs/{job_id}/clips/{file}/download": {200, 206, 304, 400, 401, 404, 409, 416, 502, 503},
    "GET /api/jobs/{job_id}/edit": {200, 400, 401, 404, 409, 502, 503},
    "PUT /api/jobs/{job_id}/edit": {202, 401, 403, 404, 408, 409, 412, 413, 422, 428, 429, 502, 503},
    "PATCH /api/jobs/{job_id}/edit/clips/{clip_id}": {
        *(202, 401, 403, 404, 408, 409, 412, 413, 422, 428, 429, 502, 503),
    },
    "POST /api/jobs/{job_id}/edit/check": {200, 401, 403, 404, 408, 409, 413, 502, 503},
    "GET /api/jobs/{job_id}/words": {200, 400, 401, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/camera": {200, 401, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/source": {307, 401, 404, 409, 502, 503},
    "GET /api/jobs/{job_id}/events": {200, 401, 404, 429, 503},
    "OPTIONS /api/uploads": {204},
    "POST /api/uploads": {201, 400, 401, 403, 412, 413, 429, 503},
    "HEAD /api/uploads/{upload_id}": {200, 401, 404, 412, 503},
    "PATCH /api/uploads/{upload_id}": {
        *(204, 400, 401, 403, 404, 408, 409, 412, 413, 415, 423, 429, 460, 502, 503),
    },
    "DELETE /api/uploads/{upload_id}": {204, 401, 403, 404, 412, 502, 503},
    "POST /api/callback/nosana": {200, 400, 401, 403, 404, 408, 409, 413, 503},
    "POST /api/worker/grant": {200, 403, 404, 408, 413, 502, 503},
    "POST /api/worker/objects": {200, 400, 403, 408, 413, 429, 501, 502, 503},
    "POST /api/worker/llm/chat/completions": {200, 400, 403, 404, 408, 413, 429, 502, 503},
    "GET /api/schema/edit": {200},
    "GET /healthz": {200},
    "GET /readyz": {200, 503},
    "GET /metrics": {200, 401, 503},
}
REFUSABLE = ("POST /api/jobs", "GET /api/jobs", "POST /api/callback/nosana")
"""Operations whose requests can be malformed. Elsewhere any text is a valid path part and at worst not found."""
RESPONSE_CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
HEADERS = {"x-callback-token": TOKEN, "x-operator-key": OPERATOR, "tus-resumable": "1.0.0"}


@pytest.fixture(scope="module")
def operator_api(serve):
    return serve(operator_key=SecretStr(OPERATOR), webhook_secret=SecretStr(WEBHOOK_SECRET))


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@pytest.fixture(scope="module")
def schema(operator_api):
    return schemathesis.openapi.from_url(f"{operator_api.url}/openapi.json")


def test_every_operation_and_status_is_documented(operator_api):
    document = operator_api.get("/openapi.json").json()
    described = {
        f"{method.upper()} {path}": {int(status) for status in operation["responses"]}
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert described == STATUSES
    assert document["info"]["title"] == "KangKlip"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names))


def test_every_reference_resolves(operator_api):
    """Including those in request bodies that handlers parse themselves."""
    document = operator_api.get("/openapi.json").json()
    found = re.findall(r'"\$ref": "([^"]*)"', json.dumps(document))
    assert {"#/components/schemas/JobState", "#/components/schemas/Message"} <= set(found)
    for reference in found:
        place = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in place, reference
            place = place[name]
    assert "$defs" not in json.dumps(document)


def test_refusals_are_documented_with_their_words(operator_api):
    create = operator_api.get("/openapi.json").json()["paths"]["/api/jobs"]["post"]
    body = create["responses"]["400"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Detail"}
    assert len(body["examples"]) == 18
    assert {"value": {"detail": "clip_count must be between 1 and 5"}} in body["examples"].values()


@pytest.mark.parametrize(
    ("mode", "name"),
    [*((GenerationMode.POSITIVE, name) for name in STATUSES), *((GenerationMode.NEGATIVE, name) for name in REFUSABLE)],
)
def test_every_response_is_documented(operator_api, schema, name, mode):
    """About half of the requests name an existing job, a new one each time if the request may change it."""
    api = operator_api
    method, _, path = name.partition(" ")
    operation = schema[path][method]
    finished = api.finished_job()

    @settings(max_examples=25, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def holds(case, known):
        if known and "job_id" in case.path_parameters:
            case.path_parameters["job_id"] = finished if method == "GET" else api.failed_job()
        if known and isinstance(case.body, dict) and "job_id" in case.body:
            case.body["job_id"] = api.new_job()
        if known and "file" in case.path_parameters:
            case.path_parameters["file"] = "clip_01.mp4"
        if known and "upload_id" in case.path_parameters:
            begun = api.post("/api/uploads", headers=HEADERS | {"upload-length": "100"})
            case.path_parameters["upload_id"] = begun.headers["location"].rpartition("/")[2]
        case.call_and_validate(base_url=api.url, headers=HEADERS, checks=RESPONSE_CHECKS)

    holds()


def test_every_documented_request_is_accepted(operator_api, schema):
    operation = schema["/api/jobs"]["POST"]

    @settings(max_examples=40, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def taken(case):
        case.headers.pop("idempotency-key", None)
        assume("upload" not in case.body)  # there is no such upload
        case.body.pop("end_seconds", None)  # a schema cannot say that it must come long enough after start_seconds
        assert case.call(base_url=operator_api.url).status_code == 200, case.body

    taken()


def test_the_document_contains_no_secret(operator_api):
    text = operator_api.get("/openapi.json").text
    for secret in (TOKEN, NEXT_TOKEN, OPERATOR):
        assert secret not in text
