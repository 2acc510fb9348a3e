"""A rented machine's bucket: the flow's own store over a session, on the real S3 server, and what the API refuses."""

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

from deployments.api.granted import objects
from deployments.api.granted.objects import SIGNED_SECONDS
from infra.bucket.request_rules import ObjectRequest
from infra.bucket.signing import address_of
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

# What the store does with keys of its own, it does with a session: the same tests, on this file's `store`.
from tests.infra.bucket.test_store import (  # noqa: F401
    test_a_copy_has_the_bytes_the_digest_and_the_type,
    test_a_copy_of_what_is_not_there_says_so,
    test_a_large_file_goes_up_in_parts_and_comes_back,
    test_a_model_is_stored_as_its_fields,
    test_an_object_without_a_digest_is_read_for_it,
    test_fetch_leaves_a_file_that_is_right_and_replaces_one_that_is_not,
    test_fetch_refuses_what_was_changed_in_the_bucket,
    test_has_all_sees_what_is_there_and_how_long_it_is,
    test_json_comes_back_as_it_was,
    test_json_that_is_none_is_named,
    test_list_goes_by_prefix,
    test_the_type_is_that_of_the_name_unless_given,
    test_what_is_missing_is_named,
)

PATH = "/api/worker/objects"
OTHERS = "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R"


@dataclass
class Machine:
    """What a rented container has, and what its host may try with it."""

    api: Any
    access: Access

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore.from_settings(Settings(KANGKLIP_ACCESS=self.access.model_dump_json()), attempts=2)

    @property
    def unrooted(self) -> ArtifactStore:
        """The same session, asked for whatever one likes."""
        return ArtifactStore(self.store._client, self.access.bucket)

    def ask(self, method: str, key: str, query: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = {"method": method, "path": f"/{self.access.bucket}/{key}".rstrip("/"), "query": query or {}}
        token = {"authorization": f"Bearer {self.access.token}"}
        return self.api.post(PATH, json=asked | {"headers": named}, headers=token)

    def address(self, method: str, name: str, **headers: str) -> str:
        answer = self.ask(method, self.access.root + name, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["url"]


@pytest.fixture(scope="module")
def machine(shared) -> Machine:
    return Machine(shared, shared.access(shared.new_job()))


@pytest.fixture(scope="module")
def store(machine) -> ArtifactStore:
    return machine.store


@pytest.fixture
def rented(api):
    """A machine for a job of its own."""

    def rent(**request: Any) -> Machine:
        answer = api.create(**request)
        assert answer.status_code == 200, answer.text
        return Machine(api, api.access(answer.json()["job_id"]))

    return rent


def test_everything_lies_under_the_jobs_root(api, machine):
    machine.store.put_json("artifacts/there.json", {"a": 1})
    assert api.bucket.get_json(f"granted/{machine.access.job_id}/artifacts/there.json") == {"a": 1}
    assert not api.bucket.exists("artifacts/there.json")
    stream = machine.store.open("artifacts/there.json", 2, 9)
    assert (stream.length, b"".join(stream)) == (8, b'  "a": 1')
    with pytest.raises(StoreError, match="link to the API"):
        machine.store.presign("artifacts/there.json")


def test_a_list_of_many_pages_is_whole(machine):
    for n in range(7):
        machine.store.put_bytes(f"pages/{n}", b"", "text/plain")
    asked = {"Bucket": machine.access.bucket, "Prefix": machine.access.root + "pages/"}
    pages = machine.store._client.get_paginator("list_objects_v2").paginate(**asked, PaginationConfig={"PageSize": 3})
    assert [len(page["Contents"]) for page in pages] == [3, 3, 1]


@pytest.mark.parametrize(
    "key",
    [
        f"jobs/{OTHERS}/manifest.json",
        f"granted/{OTHERS}/jobs/{OTHERS}/manifest.json",
        "cache/media/0/source-1.json",
        "cache/urls/0.json",
    ],
)
def test_what_is_not_the_runs_own_is_out_of_reach(api, machine, tmp_path, key):
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


def sent(method: str, url: str, body: bytes = b"", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, url, content=body, headers=named).status_code


def test_an_address_is_good_for_one_request(api, machine):
    put = machine.address("PUT", "one", content_type="text/plain")
    api.bucket.put_bytes(f"jobs/{OTHERS}/secret", b"SECRET", "text/plain")
    theirs = f"/{machine.access.bucket}/jobs/{OTHERS}/secret"
    assert f"X-Amz-Expires={SIGNED_SECONDS}&" in put
    for method, url, headers in (
        ("PUT", put.replace("/one?", "/two?"), {}),
        ("PUT", put.replace(machine.access.job_id, OTHERS), {}),
        ("PUT", put, {"content_type": "text/html"}),
        ("PUT", put, {"x_amz_copy_source": theirs}),
        ("PUT", put, {"x_amz_acl": "public-read"}),
        ("PUT", put, {"x_amz_meta_sha256": "0"}),
        ("PUT", f"{put}&acl=", {}),
        ("PUT", put.replace(f"X-Amz-Expires={SIGNED_SECONDS}", "X-Amz-Expires=604800"), {}),
        ("GET", put, {}),
        ("DELETE", put, {}),
    ):
        assert sent(method, url, b"x", **{"content_type": "text/plain"} | headers) == 403, (method, url, headers)
    assert not api.bucket.exists(machine.access.root + "one")
    assert sent("PUT", put, b"x", content_type="text/plain") == 200


def test_a_part_of_an_upload_is_no_copy(api, machine):
    api.bucket.put_bytes(f"jobs/{OTHERS}/secret", b"SECRET", "text/plain")
    client, key = machine.store._client, machine.access.root + "parts"
    upload = client.create_multipart_upload(Bucket=machine.access.bucket, Key=key)["UploadId"]
    answer = machine.ask("PUT", key, {"partNumber": "1", "uploadId": upload})
    theirs = f"/{machine.access.bucket}/jobs/{OTHERS}/secret"
    assert sent("PUT", answer.json()["url"], x_amz_copy_source=theirs) == 403
    assert sent("PUT", answer.json()["url"], b"part") == 200
    client.abort_multipart_upload(Bucket=machine.access.bucket, Key=key, UploadId=upload)


def test_where_the_bucket_heeds_what_nobody_signed_no_write_is_signed(machine, monkeypatch, caplog):
    monkeypatch.setattr(objects, "holds_to_signed_headers", lambda _: False)
    for method, query in (("PUT", {}), ("DELETE", {}), ("POST", {"uploads": ""})):
        refused = machine.ask(method, machine.access.root + "x", query)
        assert (refused.status_code, refused.json()["detail"]) == (
            501,
            "the bucket takes headers that nobody has signed",
        )
    assert "Update its server" in caplog.text
    assert machine.ask("GET", machine.access.root + "x").status_code == 200


def test_an_address_ends(api, machine):
    key = machine.access.root + "late"
    url = address_of(ObjectRequest("PUT", "", {}, {}), key, 1, api.settings)
    time.sleep(2.1)
    assert sent("PUT", url, b"x") == 403


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
def test_a_malformed_request_is_refused_in_words(api, machine, body):
    token = {"authorization": f"Bearer {machine.access.token}"}
    answer = api.post(PATH, content=json.dumps(body), headers=token)
    assert (answer.status_code, answer.json()["detail"]) == (400, "method, path, query or headers are malformed")


def test_nobody_else_is_signed_for(api, machine):
    asked = {"method": "GET", "path": f"/{machine.access.bucket}/{machine.access.root}x"}
    for authorization in ("", "Bearer", "Bearer kks_made-up", f"Bearer {machine.access.token}x"):
        answer = api.post(PATH, json=asked, headers={"authorization": authorization})
        assert (answer.status_code, answer.json()["detail"]) == (403, "session is not valid")


@pytest.mark.parametrize("status", [JobState.SUCCEEDED, JobState.FAILED])
def test_with_the_attempt_the_bucket_ends(api, rented, status):
    machine = rented()
    machine.store.put_json("artifacts/a.json", 1)
    api.jobs.report(Report(job_id=machine.access.job_id, status=status, error="x"))
    for call in (
        lambda: machine.store.get_json("artifacts/a.json"),
        lambda: machine.store.put_json("artifacts/a.json", 2),
    ):
        with pytest.raises(StoreError, match="the session does not allow it"):
            call()


def test_a_session_that_another_grant_follows_has_no_bucket(api, rented):
    machine = rented()
    api.grant(machine.access.job_id)
    with pytest.raises(StoreError, match="the session does not allow it"):
        machine.store.list("").__next__()


@dataclass
class Shared:
    """A source as a trusted run leaves it in the cache that jobs share."""

    source: str
    audio: str
    transcript: str

    @classmethod
    def of(cls, bucket: ArtifactStore, source: str) -> "Shared":
        audio = bucket.put_bytes(media_key(source, "audio-1.m4a"), os.urandom(64), "audio/mp4")
        video = bucket.put_bytes(media_key(source, "video-1.mp4"), os.urandom(64), "video/mp4")
        bucket.put_json(source_key(source), {"audio": audio.model_dump(), "video": video.model_dump()})
        transcript = transcript_key(audio.sha256, digest("model"))
        bucket.put_json(transcript, {"said": source})
        return cls(source, audio.key, transcript)

    @property
    def keys(self) -> list[str]:
        return [source_key(self.source), self.audio, self.transcript]


def test_the_shared_media_and_transcripts_of_its_own_source_are_read(api, rented):
    url = "https://example.org/shared-talk.mp4"
    own, other = Shared.of(api.bucket, digest("own")), Shared.of(api.bucket, digest("other"))
    api.bucket.put_json(alias_key(url), {"source": own.source})
    store = rented(video_url=url).store
    for key in own.keys:
        assert store.get_bytes(key) == api.bucket.get_bytes(key)
        assert store.stat(key) == api.bucket.stat(key)
    assert not any(store.exists(key) for key in [*other.keys, alias_key(url), alias_key(REQUEST["video_url"])])


def test_a_registered_file_is_read_by_its_own_job_alone(api, rented):
    key, theirs = upload_key(digest("mine")), upload_key(digest("theirs"))
    for one in (key, theirs):
        api.bucket.put_bytes(one, one.encode(), "video/mp4")
    own = Shared.of(api.bucket, digest("upload", key))
    Shared.of(api.bucket, digest("upload", theirs))
    job_id = new_job_id()
    api.jobs.create(job_id, ClipRequest(source_key=key, source_name="talk.mp4").model_dump_json(exclude_none=True))
    api.jobs.set_run(job_id, 1, str(uuid.uuid4()))
    machine = Machine(api, api.access(job_id))
    assert machine.store.get_bytes(key) == key.encode()
    assert all(machine.store.exists(one) for one in own.keys)
    assert not machine.store.exists(theirs)
    assert not machine.store.exists(source_key(digest("upload", theirs)))


def test_what_a_machine_calls_the_cache_reaches_no_other_job(api, rented):
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


def test_what_trusted_runs_keep_comes_before_what_the_machine_wrote(api, rented):
    """Its own entry would lead it nowhere that it may not go, and the shared one is what others have checked."""
    url = "https://example.org/both.mp4"
    machine, source = rented(video_url=url), digest("both")
    machine.store.put_json(source_key(source), {"audio": {"sha256": "f" * 64}})
    theirs = transcript_key("f" * 64, digest("model"))
    api.bucket.put_json(theirs, {"said": "in another talk"})
    api.bucket.put_json(alias_key(url), {"source": source})
    assert not machine.store.exists(theirs)
    shared = Shared.of(api.bucket, source)
    assert machine.store.get_json(source_key(source))["audio"]["key"] == shared.audio
    machine.store.put_json(shared.transcript, {"said": "forged"})
    assert api.bucket.get_json(shared.transcript) == {"said": source}


def test_no_secret_is_logged_or_said(api, machine, caplog):
    caplog.set_level(logging.INFO)
    machine.store.put_json("artifacts/quiet.json", 1)
    errors = []
    for call in (
        lambda: machine.unrooted.get_bytes(f"jobs/{OTHERS}/manifest.json"),
        lambda: machine.store.get_bytes("artifacts/none"),
    ):
        with pytest.raises(StoreError) as refused:
            call()
        errors.append(str(refused.value))
    told = caplog.text + str(errors) + api.get("/metrics").text
    secret = api.settings.r2_secret_access_key.get_secret_value()
    for word in (machine.access.token, "X-Amz-Signature", "X-Amz-Credential", secret):
        assert word not in told
