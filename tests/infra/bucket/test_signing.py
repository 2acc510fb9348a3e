"""Bucket requests signed by the API: when they are retried, and how an unsafe bucket is detected."""

import json
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from infra.bucket.request_rules import ObjectRequest
from infra.bucket.signing import enforces_signed_headers, presign_request
from infra.bucket.store import ArtifactStore
from infra.errors import StoreError
from infra.granted.access import Access
from infra.settings import Settings
from tests.answering import Answer, serving

TOKEN = "kks_token-of-the-session"


def store_behind(url: str, settings: Settings, attempts: int = 4) -> ArtifactStore:
    access = Access(url=url, token=TOKEN, job_id="kk_A", attempt=1, bucket=settings.r2_bucket, root="granted/kk_A/")
    return ArtifactStore.from_settings(Settings(KANGKLIP_ACCESS=access.model_dump_json()), attempts)


@pytest.fixture
def signing(servers):
    """Starts a signer that first answers with these statuses; gives a store behind it and the requests it got."""

    @contextmanager
    def start(*first: int):
        left, requests = list(first), []

        def answer(request):
            requests.append(json.loads(request.body))
            assert request.path == "/api/worker/objects"
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            if left:
                return Answer(left.pop(0), b"{}")
            fields = requests[-1]
            request = ObjectRequest(fields["method"], fields["path"], fields["query"], fields["headers"])
            key = fields["path"].removeprefix(f"/{servers.settings.r2_bucket}/")
            return Answer(200, json.dumps({"url": presign_request(request, key, 60, servers.settings)}).encode())

        with serving(answer) as url:
            yield store_behind(url, servers.settings), requests

    return start


@pytest.mark.parametrize("first", [(503, 502), (0,), (429,)])
def test_signing_is_retried_while_the_api_is_unavailable(signing, first):
    with signing(*first) as (store, requests):
        store.put_bytes("artifacts/signed", b"x", "text/plain")
        assert store.get_bytes("artifacts/signed") == b"x"
    assert len(requests) == len(first) + 2
    assert requests[0] == requests[len(first)]
    assert requests[0]["headers"] == {
        "content-type": "text/plain",
        "x-amz-meta-sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    }


@pytest.mark.parametrize(
    ("status", "message"), [(403, "the session does not allow it"), (501, "not signed"), (400, "not signed")]
)
def test_a_refusal_to_sign_is_not_retried(signing, status, message):
    with signing(status) as (store, requests), pytest.raises(StoreError, match=message) as refused:
        store.put_bytes("artifacts/refused", b"x", "text/plain")
    assert len(requests) == 1
    assert TOKEN not in str(refused.value)


def test_an_unreachable_api_reads_as_an_unreachable_bucket(servers):
    store = store_behind("http://127.0.0.1:9", servers.settings, attempts=2)
    with pytest.raises(StoreError, match="did not get artifacts/x: EndpointConnectionError"):
        store.get_bytes("artifacts/x")


def test_the_real_s3_server_rejects_unsigned_headers(servers):
    assert enforces_signed_headers(servers.settings)


@pytest.mark.parametrize(
    ("answers", "holds"),
    [
        ((200, 403), True),  # S3 itself
        ((200, 200), True),  # ignores the header, and stores nothing
        ((200, 404), False),  # looks for the source
        ((200, 400), False),
    ],
)
def test_a_bucket_is_probed_once_for_acting_on_unsigned_headers(servers, answers, holds):
    with bucket_answering(servers, answers) as (settings, probes):
        assert enforces_signed_headers(settings) is holds
        assert enforces_signed_headers(settings) is holds
    assert [bool(headers.get("x-amz-copy-source")) for headers in probes] == [False, True]


@pytest.mark.parametrize("answers", [(403,), (503,), (0,), (200, 503), (200, 0)])
def test_an_inconclusive_probe_is_repeated(servers, answers):
    with bucket_answering(servers, (*answers, 200, 403)) as (settings, _):
        with pytest.raises(StoreError) as failed:
            enforces_signed_headers(settings)
        assert "X-Amz" not in str(failed.value)
        assert enforces_signed_headers(settings)


@contextmanager
def bucket_answering(servers, answers):
    """A bucket server that gives these status codes in turn."""
    left, requests = list(answers), []

    def answer(request):
        assert request.path.startswith("/clips/granted/signatures/probe?X-Amz-Algorithm=")
        requests.append(request.headers)
        return Answer(left.pop(0))

    with serving(answer) as url:
        yield servers.settings.model_copy(update={"r2_endpoint": url, "r2_access_key_id": SecretStr("k")}), requests
