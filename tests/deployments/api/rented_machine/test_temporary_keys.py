"""Temporary keys, issued by a strict double of Cloudflare and used at a double of R2 in front of the real bucket."""

import json
import logging
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr

from infra.bucket import temporary_keys
from infra.bucket.request_rules import ObjectRequest, must_be_signed
from infra.bucket.signing import presign_request
from infra.bucket.store import ArtifactStore
from infra.errors import StoreError
from infra.granted.access import Access
from infra.settings import Settings
from tasks.core.object_keys import alias_key, digest, media_key
from tests.answering import Answer, ReceivedRequest, serving
from tests.infra.bucket.test_store import (  # noqa: F401
    test_a_copy_keeps_bytes_digest_and_type,
    test_a_large_file_is_uploaded_in_parts_and_round_trips,
    test_a_missing_object_is_reported_by_name,
    test_json_round_trips,
    test_list_returns_keys_under_a_prefix,
)

ACCOUNT, API_TOKEN = "0123456789abcdef" * 2, "a-token-of-the-account"
KEYS = {"accessKeyId": "temporary", "secretAccessKey": "temporary-secret", "sessionToken": "session-token"}
URL = "https://example.org/keys.mp4"
KEPT = {"content-type", "x-amz-copy-source", "x-amz-metadata-directive", "range", "if-match"}
"""Headers that the double forwards; the others belong to the signature."""


@dataclass
class Cloudflare:
    """Issues keys for requests that follow its API reference; `broken` replaces its answers."""

    settings: Settings
    requests: list[dict[str, Any]] = field(default_factory=list)
    broken: Answer | None = None

    def __call__(self, request: ReceivedRequest) -> Answer:
        if self.broken:
            return self.broken
        assert (request.method, request.path) == (
            "POST",
            f"/client/v4/accounts/{ACCOUNT}/r2/temp-access-credentials",
        )
        assert request.headers["content-type"] == "application/json"
        if request.headers["authorization"] != f"Bearer {API_TOKEN}":
            return Answer(403, b'{"success": false, "errors": [{"code": 10000, "message": "Authentication error"}]}')
        received = json.loads(request.body)
        assert received.keys() == {"bucket", "parentAccessKeyId", "permission", "ttlSeconds", "prefixes"}
        assert received["permission"] == "object-read-write"
        assert received["parentAccessKeyId"] == self.settings.r2_access_key_id.get_secret_value()
        assert type(received["ttlSeconds"]) is int
        assert 0 < received["ttlSeconds"] <= 604_800
        self.requests.append(received)
        return Answer(200, json.dumps({"success": True, "errors": [], "messages": [], "result": KEYS}).encode())


@dataclass
class R2:
    """Forwards requests to the real server if the temporary keys have signed them and they are under their prefix."""

    settings: Settings
    prefix: str
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, received: ReceivedRequest) -> Answer:
        parts = urlsplit(received.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        key = unquote(parts.path.removeprefix(f"/{self.settings.r2_bucket}").removeprefix("/"))
        source = received.headers.get("x-amz-copy-source")
        names = [key or query["prefix"], *([source.split("/", 1)[1]] if source else [])]
        self.requests.append((received.method, names[0]))
        if not all(name.startswith(self.prefix) for name in names) or not is_signed(received):
            return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        kept = {
            name: value for name, value in received.headers.items() if name in KEPT or name.startswith("x-amz-meta-")
        }
        signed = {name: value for name, value in kept.items() if must_be_signed(name)}
        address = presign_request(ObjectRequest(received.method, parts.path, query, signed), key, 60, self.settings)
        answer = httpx.request(received.method, address, headers=kept, content=received.body)
        gone = ("transfer-encoding", "connection", "content-encoding")
        return Answer(answer.status_code, answer.content, {n: v for n, v in answer.headers.items() if n not in gone})


def is_signed(received: ReceivedRequest) -> bool:
    """Whether the temporary keys have signed every header that the server acts on."""
    if received.headers.get("x-amz-security-token") != KEYS["sessionToken"]:
        return False
    fields = dict(part.strip().split("=", 1) for part in received.headers["authorization"].split(" ", 1)[1].split(","))
    names = fields["SignedHeaders"].split(";")
    if any(must_be_signed(name) and name not in names for name in received.headers):
        return False
    url = f"http://{received.headers['host']}{received.path}"
    request = AWSRequest(received.method, url, {name: received.headers[name] for name in names if name != "host"})
    request.context["timestamp"] = received.headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials(*KEYS.values()), "s3", "auto")
    signed = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return fields["Signature"] == signed and fields["Credential"].startswith(f"{KEYS['accessKeyId']}/")


@pytest.fixture(scope="module")
def cloudflare(servers):
    double = Cloudflare(servers.settings)
    with serving(double) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(temporary_keys, "API", f"{url}/client/v4")
        yield double


@pytest.fixture(scope="module")
def cloudflare_api(serve, cloudflare):
    """An API with a Cloudflare account."""
    return serve(r2_account_id=ACCOUNT, r2_api_token=SecretStr(API_TOKEN))


@pytest.fixture(scope="module")
def rented(cloudflare_api):
    """A machine's access with temporary keys, and the double of R2 that it uses."""
    access = cloudflare_api.access(cloudflare_api.create(video_url=URL).json()["job_id"])
    r2 = R2(cloudflare_api.settings, access.root)
    with serving(r2) as url:
        yield access.model_copy(update={"keys": access.keys.model_copy(update={"endpoint": url})}), r2


def store_of(access: Access) -> ArtifactStore:
    return ArtifactStore.from_settings(Settings(KANGKLIP_ACCESS=access.model_dump_json()), attempts=2)


@pytest.fixture(scope="module")
def store(rented) -> ArtifactStore:
    return store_of(rented[0])


def test_keys_are_limited_to_the_jobs_root_and_the_sessions_time(cloudflare_api, cloudflare):
    job_id = cloudflare_api.new_job()
    access = Access.model_validate(
        cloudflare_api.redeem(cloudflare_api.grant(job_id, session_seconds=1234)).json()["access"]
    )
    assert cloudflare.requests[-1]["prefixes"] == [f"granted/{job_id}/"] == [access.root]
    assert (cloudflare.requests[-1]["ttlSeconds"], cloudflare.requests[-1]["bucket"]) == (1234, access.bucket)
    assert access.keys.model_dump() == {
        "endpoint": cloudflare_api.settings.r2_endpoint,
        "key_id": "temporary",
        "secret": "temporary-secret",
        "session_token": "session-token",
    }
    assert API_TOKEN not in access.model_dump_json()


def test_keys_are_used_for_everything_but_the_shared_cache(cloudflare_api, rented):
    access, r2 = rented
    source = digest("keys")
    own, shared = media_key(source, "own.mp4"), media_key(source, "shared.mp4")
    cloudflare_api.bucket.put_json(alias_key(URL), {"source": source})
    cloudflare_api.bucket.put_bytes(shared, b"of all", "video/mp4")
    store = store_of(access)
    r2.requests.clear()
    store.put_bytes(own, b"my own", "video/mp4")
    assert r2.requests == [("PUT", access.root + own)]
    assert (store.get_bytes(own), store.get_bytes(shared)) == (b"my own", b"of all")
    assert store.stat(shared) == cloudflare_api.bucket.stat(shared)
    assert r2.requests == [("PUT", access.root + own)]
    with pytest.raises(StoreError, match="AccessDenied"):
        ArtifactStore(store._client, access.bucket).get_bytes(shared)


BROKEN = [Answer(403, b"no"), Answer(500), Answer(200, b"{"), Answer(200, b'{"result": null}'), Answer(0)]


@pytest.mark.parametrize("answer", BROKEN)
def test_without_keys_each_request_is_signed_by_the_api(cloudflare_api, cloudflare, monkeypatch, caplog, answer):
    monkeypatch.setattr(cloudflare, "broken", answer)
    caplog.set_level(logging.WARNING)
    access = cloudflare_api.access(cloudflare_api.new_job())
    assert access.keys is None
    store_of(access).put_json("artifacts/signed.json", 1)
    assert cloudflare_api.bucket.get_json(f"{access.root}artifacts/signed.json") == 1
    assert "are signed one by one" in caplog.text
    assert API_TOKEN not in caplog.text


def test_a_wrong_api_token_is_named(cloudflare, servers):
    wrong = servers.settings.model_copy(update={"r2_account_id": ACCOUNT, "r2_api_token": SecretStr("wrong")})
    with pytest.raises(StoreError, match="403; check R2_API_TOKEN"):
        temporary_keys.temporary_keys("granted/x/", 600, wrong)
    assert temporary_keys.temporary_keys("granted/x/", 600, servers.settings) is None
