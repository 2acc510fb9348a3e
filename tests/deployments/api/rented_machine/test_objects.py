"""A rented machine's bucket access: the flow's own store over a session on the real S3 server, and refusals."""

import hashlib
import json
import logging
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deployments.api.rented_machine import objects
from deployments.api.rented_machine.objects import SIGNED_SECONDS
from infra.bucket.request_rules import ObjectRequest
from infra.bucket.signing import presign_request
from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.errors import StoreError
from infra.granted.access import Access
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.settings import Settings
from infra.states import JobState
from tasks.core.object_keys import alias_key, digest, media_key, source_key, transcript_key, upload_key
from tasks.core.request import ClipRequest
from tests.deployments.api.conftest import REQUEST

# The store works the same with a session as with keys: these tests run again on this file's `store`.
from tests.infra.bucket.test_store import (  # noqa: F401
    test_a_copy_keeps_bytes_digest_and_type,
    test_a_large_file_is_uploaded_in_parts_and_round_trips,
    test_a_missing_object_is_reported_by_name,
    test_a_model_is_stored_as_its_fields,
    test_an_object_without_a_stored_digest_is_hashed,
    test_copying_a_missing_object_is_reported,
    test_fetch_keeps_a_correct_file_and_replaces_a_wrong_one,
    test_fetch_refuses_an_object_changed_in_the_bucket,
    test_has_all_checks_presence_size_and_digest,
    test_invalid_json_is_reported_by_name,
    test_json_round_trips,
    test_list_returns_keys_under_a_prefix,
    test_the_content_type_follows_the_name_unless_passed,
)

PATH = "/api/worker/objects"
OTHER_JOB = "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R"


@dataclass
class Machine:
    """A rented container's access, and what a hostile host may try with it."""

    api: Any
    access: Access

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore.from_settings(Settings(KANGKLIP_ACCESS=self.access.model_dump_json()), attempts=2)

    @property
    def unrooted(self) -> ArtifactStore:
        """The same session, without the root that the store puts before keys."""
        return ArtifactStore(self.store._client, self.access.bucket)

    def ask(self, method: str, key: str, query: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"method": method, "path": f"/{self.access.bucket}/{key}".rstrip("/"), "query": query or {}}
        token = {"authorization": f"Bearer {self.access.token}"}
        return self.api.post(PATH, json=body | {"headers": named}, headers=token)

    def address(self, method: str, name: str, **headers: str) -> str:
        answer = self.ask(method, self.access.root + name, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["url"]


@pytest.fixture(scope="module")
def machine(shared_api) -> Machine:
    return Machine(shared_api, shared_api.access(shared_api.new_job()))


@pytest.fixture(scope="module")
def store(machine) -> ArtifactStore:
    return machine.store


@pytest.fixture
def rented(api):
    """Makes a machine for a new job."""

    def rent(**request: Any) -> Machine:
        answer = api.create(**request)
        assert answer.status_code == 200, answer.text
        return Machine(api, api.access(answer.json()["job_id"]))

    return rent


def test_all_objects_are_under_the_jobs_root(api, machine):
    machine.store.put_json("artifacts/there.json", {"a": 1})
    assert api.bucket.get_json(f"granted/{machine.access.job_id}/artifacts/there.json") == {"a": 1}
    assert not api.bucket.exists("artifacts/there.json")
    stream = machine.store.open("artifacts/there.json", 2, 9)
    assert (stream.length, b"".join(stream)) == (8, b'  "a": 1')
    with pytest.raises(StoreError, match="link to the API"):
        machine.store.presign("artifacts/there.json")


def test_a_listing_of_several_pages_is_complete(machine):
    for n in range(7):
        machine.store.put_bytes(f"pages/{n}", b"", "text/plain")
    arguments = {"Bucket": machine.access.bucket, "Prefix": machine.access.root + "pages/"}
    pages = machine.store._client.get_paginator("list_objects_v2").paginate(
        **arguments, PaginationConfig={"PageSize": 3}
    )
    assert [len(page["Contents"]) for page in pages] == [3, 3, 1]


@pytest.mark.parametrize(
    "key",
    [
        f"jobs/{OTHER_JOB}/manifest.json",
        f"granted/{OTHER_JOB}/jobs/{OTHER_JOB}/manifest.json",
        "cache/media/0/source-1.json",
        "cache/urls/0.json",
    ],
)
def test_objects_outside_the_jobs_root_are_out_of_reach(api, machine, tmp_path, key):
    api.bucket.put_bytes(key, b"theirs", "text/plain")
    mine = machine.store.put_bytes("artifacts/mine", b"mine", "text/plain")
    ref = ArtifactRef(key=key, sha256=hashlib.sha256(b"theirs").hexdigest(), size=6)
    inner, store = mine.model_copy(update={"key": machine.access.root + mine.key}), machine.unrooted
    for call in (
        lambda: store.get_bytes(key),
        lambda: store.exists(key),
        lambda: store.fetch(ref, tmp_path / "x"),
        lambda: store.put_bytes(key, b"forged", "text/plain"),
        lambda: store.delete(key),
        lambda: store.copy(inner, key),
        lambda: store.copy(ref, machine.access.root + "copied"),
        lambda: list(store.list(key)),
        lambda: list(store.list("")),
        store.ensure_bucket,
    ):
        with pytest.raises(StoreError, match="the session does not allow it"):
            call()
    assert api.bucket.get_bytes(key) == b"theirs"
    assert list(tmp_path.iterdir()) == []


def status_of_request(method: str, url: str, body: bytes = b"", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, url, content=body, headers=named).status_code


def test_a_signed_url_works_for_its_request_only(api, machine):
    put = machine.address("PUT", "one", content_type="text/plain")
    api.bucket.put_bytes(f"jobs/{OTHER_JOB}/secret", b"SECRET", "text/plain")
    theirs = f"/{machine.access.bucket}/jobs/{OTHER_JOB}/secret"
    assert f"X-Amz-Expires={SIGNED_SECONDS}&" in put
    for method, url, headers in (
        ("PUT", put.replace("/one?", "/two?"), {}),
        ("PUT", put.replace(machine.access.job_id, OTHER_JOB), {}),
        ("PUT", put, {"content_type": "text/html"}),
        ("PUT", put, {"x_amz_copy_source": theirs}),
        ("PUT", put, {"x_amz_acl": "public-read"}),
        ("PUT", put, {"x_amz_meta_sha256": "0"}),
        ("PUT", f"{put}&acl=", {}),
        ("PUT", put.replace(f"X-Amz-Expires={SIGNED_SECONDS}", "X-Amz-Expires=604800"), {}),
        ("GET", put, {}),
        ("DELETE", put, {}),
    ):
        assert status_of_request(method, url, b"x", **{"content_type": "text/plain"} | headers) == 403, (
            method,
            url,
            headers,
        )
    assert not api.bucket.exists(machine.access.root + "one")
    assert status_of_request("PUT", put, b"x", content_type="text/plain") == 200


def test_an_upload_part_cannot_copy_another_object(api, machine):
    api.bucket.put_bytes(f"jobs/{OTHER_JOB}/secret", b"SECRET", "text/plain")
    client, key = machine.store._client, machine.access.root + "parts"
    upload = client.create_multipart_upload(Bucket=machine.access.bucket, Key=key)["UploadId"]
    answer = machine.ask("PUT", key, {"partNumber": "1", "uploadId": upload})
    theirs = f"/{machine.access.bucket}/jobs/{OTHER_JOB}/secret"
    assert status_of_request("PUT", answer.json()["url"], x_amz_copy_source=theirs) == 403
    assert status_of_request("PUT", answer.json()["url"], b"part") == 200
    client.abort_multipart_upload(Bucket=machine.access.bucket, Key=key, UploadId=upload)


def test_no_write_is_signed_for_a_bucket_that_acts_on_unsigned_headers(machine, monkeypatch, caplog):
    monkeypatch.setattr(objects, "enforces_signed_headers", lambda _: False)
    for method, query in (("PUT", {}), ("DELETE", {}), ("POST", {"uploads": ""})):
        refused = machine.ask(method, machine.access.root + "x", query)
        assert (refused.status_code, refused.json()["detail"]) == (
            501,
            "the bucket accepts unsigned headers",
        )
    assert "update its server" in caplog.text
    assert machine.ask("GET", machine.access.root + "x").status_code == 200


def test_a_signed_url_expires(api, machine):
    key = machine.access.root + "late"
    url = presign_request(ObjectRequest("PUT", "", {}, {}), key, 1, api.settings)
    same_for_longer = presign_request(ObjectRequest("PUT", "", {}, {}), key, 60, api.settings)
    time.sleep(2.1)
    assert status_of_request("PUT", url, b"x") == 403
    assert status_of_request("PUT", same_for_longer, b"x") == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"method": "GET"},
        {"method": "GET", "path": 1},
        {"method": "GET", "path": "/clips/x", "query": {"a": ["b"]}},
        {"method": "GET", "path": "/clips/x", "headers": {"a": None}},
        {"method": "GET", "path": "/clips/\ud800"},
        {"method": "GET", "path": "/clips/x", "query": {str(n): "" for n in range(11)}},
    ],
)
def test_a_malformed_request_is_refused_with_a_reason(api, machine, body):
    token = {"authorization": f"Bearer {machine.access.token}"}
    answer = api.post(PATH, content=json.dumps(body), headers=token)
    assert (answer.status_code, answer.json()["detail"]) == (400, "method, path, query or headers are malformed")


def test_nothing_is_signed_without_a_valid_session(api, machine):
    body = {"method": "GET", "path": f"/{machine.access.bucket}/{machine.access.root}x"}
    for authorization in ("", "Bearer", "Bearer kks_made-up", f"Bearer {machine.access.token}x"):
        answer = api.post(PATH, json=body, headers={"authorization": authorization})
        assert (answer.status_code, answer.json()["detail"]) == (403, "session is not valid")


@pytest.mark.parametrize("status", [JobState.SUCCEEDED, JobState.FAILED])
def test_bucket_access_ends_with_the_attempt(api, rented, status):
    machine = rented()
    machine.store.put_json("artifacts/a.json", 1)
    api.jobs.report(Report(job_id=machine.access.job_id, status=status, error="x"))
    for call in (
        lambda: machine.store.get_json("artifacts/a.json"),
        lambda: machine.store.put_json("artifacts/a.json", 2),
    ):
        with pytest.raises(StoreError, match="the session does not allow it"):
            call()


def test_a_newer_grant_ends_bucket_access(api, rented):
    machine = rented()
    api.grant(machine.access.job_id)
    with pytest.raises(StoreError, match="the session does not allow it"):
        machine.store.list("").__next__()


@dataclass
class SharedSource:
    """A source that a trusted run has put into the cache shared by jobs."""

    source: str
    audio: str
    transcript: str

    @classmethod
    def of(cls, bucket: ArtifactStore, source: str) -> "SharedSource":
        audio = bucket.put_bytes(media_key(source, "audio-1.m4a"), os.urandom(64), "audio/mp4")
        video = bucket.put_bytes(media_key(source, "video-1.mp4"), os.urandom(64), "video/mp4")
        bucket.put_json(source_key(source), {"audio": audio.model_dump(), "video": video.model_dump()})
        transcript = transcript_key(audio.sha256, digest("model"))
        bucket.put_json(transcript, {"said": source})
        return cls(source, audio.key, transcript)

    @property
    def keys(self) -> list[str]:
        return [source_key(self.source), self.audio, self.transcript]


def test_a_job_can_read_the_shared_cache_of_its_own_source_only(api, rented):
    url = "https://example.org/shared-talk.mp4"
    own, other = SharedSource.of(api.bucket, digest("own")), SharedSource.of(api.bucket, digest("other"))
    api.bucket.put_json(alias_key(url), {"source": own.source})
    store = rented(video_url=url).store
    for key in own.keys:
        assert store.get_bytes(key) == api.bucket.get_bytes(key)
        assert store.stat(key) == api.bucket.stat(key)
    assert not any(store.exists(key) for key in [*other.keys, alias_key(url), alias_key(REQUEST["video_url"])])


def test_a_registered_file_is_readable_by_its_job_only(api, rented):
    key, theirs = upload_key(digest("mine")), upload_key(digest("theirs"))
    for one in (key, theirs):
        api.bucket.put_bytes(one, one.encode(), "video/mp4")
    own = SharedSource.of(api.bucket, digest("upload", key))
    SharedSource.of(api.bucket, digest("upload", theirs))
    job_id = new_job_id()
    api.jobs.create(job_id, ClipRequest(source_key=key, source_name="talk.mp4").model_dump_json(exclude_none=True))
    api.jobs.set_run(job_id, 1, str(uuid.uuid4()))
    machine = Machine(api, api.access(job_id))
    assert machine.store.get_bytes(key) == key.encode()
    assert all(machine.store.exists(one) for one in own.keys)
    assert not machine.store.exists(theirs)
    assert not machine.store.exists(source_key(digest("upload", theirs)))


def test_cache_entries_written_by_a_machine_reach_no_other_job(api, rented):
    url = "https://example.org/forged-talk.mp4"
    forger = rented(video_url=url)
    source, audio = digest("forged"), "0" * 64
    forged = {
        alias_key(url): {"source": digest("other source")},
        source_key(source): {"audio": {"sha256": "1" * 64}},
        transcript_key(audio, digest("model")): {"said": "what nobody said"},
        media_key(source, "video-1.mp4"): "forged",
    }
    for key, content in forged.items():
        forger.store.put_json(key, content)
        assert forger.store.get_json(key) == content
    victim = rented(video_url=url)
    for key in forged:
        assert not api.bucket.exists(key)
        assert not victim.store.exists(key)


def test_trusted_cache_entries_take_precedence_over_the_machines_own(api, rented):
    """The shared entry was checked by us; the machine's own must not redirect it to another source."""
    url = "https://example.org/both.mp4"
    machine, source = rented(video_url=url), digest("both")
    machine.store.put_json(source_key(source), {"audio": {"sha256": "f" * 64}})
    theirs = transcript_key("f" * 64, digest("model"))
    api.bucket.put_json(theirs, {"said": "in another talk"})
    api.bucket.put_json(alias_key(url), {"source": source})
    assert not machine.store.exists(theirs)
    shared = SharedSource.of(api.bucket, source)
    assert machine.store.get_json(source_key(source))["audio"]["key"] == shared.audio
    machine.store.put_json(shared.transcript, {"said": "forged"})
    assert api.bucket.get_json(shared.transcript) == {"said": source}


def test_no_secret_is_logged_or_returned(api, machine, caplog):
    caplog.set_level(logging.INFO)
    machine.store.put_json("artifacts/quiet.json", 1)
    errors = []
    for call in (
        lambda: machine.unrooted.get_bytes(f"jobs/{OTHER_JOB}/manifest.json"),
        lambda: machine.store.get_bytes("artifacts/none"),
    ):
        with pytest.raises(StoreError) as refused:
            call()
        errors.append(str(refused.value))
    output = caplog.text + str(errors) + api.get("/metrics").text
    secret = api.settings.r2_secret_access_key.get_secret_value()
    for word in (machine.access.token, "X-Amz-Signature", "X-Amz-Credential", secret):
        assert word not in output
