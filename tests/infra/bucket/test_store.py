"""The artifact store against a real S3 server that checks signatures and expiry."""

import hashlib
import os
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from pydantic import SecretStr

from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.errors import ConfigError, ObjectMissing, StoreError
from infra.local.stack import LocalStack
from infra.settings import Settings

MIB = 1024 * 1024


def status_of(url: str) -> int:
    try:
        with urlopen(url, timeout=10) as response:
            return response.status
    except HTTPError as error:
        return error.code


def test_json_round_trips(store: ArtifactStore):
    value = {"title": "Kopi ☕", "seconds": [1.5, 2], "none": None}
    ref = store.put_json("artifacts/plain.json", value)
    assert store.get_json(ref.key) == value
    data = store.get_bytes(ref.key)
    assert (ref.size, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert "☕".encode() in data


def test_a_model_is_stored_as_its_fields(store: ArtifactStore):
    model = ArtifactRef(key="a", sha256="b", size=3)
    assert store.get_json(store.put_json("artifacts/model.json", model).key) == model.model_dump()


def test_invalid_json_is_reported_by_name(store: ArtifactStore):
    store.put_bytes("artifacts/broken.json", b"{", "application/json")
    with pytest.raises(StoreError, match=r"artifacts/broken\.json in the bucket is not JSON"):
        store.get_json("artifacts/broken.json")
    with pytest.raises(ValueError, match="JSON"):
        store.put_json("artifacts/nan.json", float("nan"))


def test_a_large_file_is_uploaded_in_parts_and_round_trips(store: ArtifactStore, tmp_path: Path):
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(20 * MIB + 7))
    ref = store.put_file("artifacts/large.bin", source)
    assert store._head(ref.key)["ETag"].strip('"').endswith("-2")  # an ETag of two parts
    assert store.stat(ref.key) == ref
    back = store.fetch(ref, tmp_path / "deep" / "er" / "back.bin")
    assert back.read_bytes() == source.read_bytes()
    assert [path.name for path in back.parent.iterdir()] == ["back.bin"]


@pytest.mark.parametrize("size", [1000, 40 * MIB], ids=["in one piece", "in parts"])
def test_a_copy_keeps_bytes_digest_and_type(store: ArtifactStore, tmp_path: Path, size: int):
    source = tmp_path / "source.mp4"
    source.write_bytes(os.urandom(size))
    ref = store.put_file("artifacts/rendered/a.mp4", source)

    copied = store.copy(ref, "artifacts/copied.mp4")

    assert copied == store.stat("artifacts/copied.mp4") == ref.model_copy(update={"key": "artifacts/copied.mp4"})
    store.delete(ref.key)
    assert store.fetch(copied, tmp_path / "back.mp4").read_bytes() == source.read_bytes()
    assert store._head(copied.key)["ContentType"] == "video/mp4"


def test_copying_a_missing_object_is_reported(store: ArtifactStore):
    with pytest.raises(ObjectMissing, match=r"artifacts/none\.mp4 is not in the bucket"):
        store.copy(ArtifactRef(key="artifacts/none.mp4", sha256="0" * 64, size=1), "artifacts/other.mp4")


def test_the_content_type_follows_the_name_unless_passed(store: ArtifactStore, tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"x")
    for key, content_type, expected in (
        ("artifacts/a.mp4", None, "video/mp4"),
        ("artifacts/a.bin9", None, "application/octet-stream"),
        ("artifacts/b.mp4", "text/plain", "text/plain"),
    ):
        store.put_file(key, path, content_type)
        assert store._head(key)["ContentType"] == expected


def test_fetch_keeps_a_correct_file_and_replaces_a_wrong_one(store: ArtifactStore, tmp_path: Path):
    ref = store.put_bytes("artifacts/fetch.bin", b"12345678", "application/octet-stream")
    path = store.fetch(ref, tmp_path / "file")
    os.utime(path, (1, 1))
    assert store.fetch(ref, path).stat().st_mtime == 1
    path.write_bytes(b"87654321")  # same length, other bytes
    assert store.fetch(ref.key, path).read_bytes() == b"12345678"


def test_fetch_refuses_an_object_changed_in_the_bucket(store: ArtifactStore, tmp_path: Path):
    ref = store.put_bytes("artifacts/changed.bin", b"before", "text/plain")
    store.put_bytes(ref.key, b"after!", "text/plain")
    with pytest.raises(StoreError, match="does not match its digest"):
        store.fetch(ref, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    assert not store.has_all([ref])


def test_a_missing_object_is_reported_by_name(store: ArtifactStore, tmp_path: Path):
    gone = ArtifactRef(key="artifacts/gone", sha256="0" * 64, size=1)
    for call in (
        lambda: store.get_bytes(gone.key),
        lambda: store.get_json(gone.key),
        lambda: store.fetch(gone, tmp_path / "x"),
        lambda: store.fetch(gone.key, tmp_path / "x"),
    ):
        with pytest.raises(ObjectMissing, match="artifacts/gone is not in the bucket"):
            call()
    assert list(tmp_path.iterdir()) == []
    assert not store.exists(gone.key)
    assert store.stat(gone.key) is None
    store.delete(gone.key)


def test_has_all_checks_presence_size_and_digest(store: ArtifactStore):
    refs = [store.put_bytes(f"artifacts/all/{n}", bytes(n), "text/plain") for n in range(3)]
    assert store.has_all(refs)
    assert not store.has_all([*refs, refs[1].model_copy(update={"size": 9})])
    assert not store.has_all([refs[1].model_copy(update={"sha256": "0" * 64})])
    store.delete(refs[1].key)
    assert not store.has_all(refs)


def test_an_object_without_a_stored_digest_is_hashed(store: ArtifactStore, tmp_path: Path):
    store._client.put_object(Bucket=store.bucket, Key=store._root + "artifacts/foreign", Body=b"from elsewhere")
    ref = store.stat("artifacts/foreign")
    assert ref == ArtifactRef(
        key="artifacts/foreign", sha256=hashlib.sha256(b"from elsewhere").hexdigest(), size=len(b"from elsewhere")
    )
    assert store.has_all([ref])
    assert store.fetch("artifacts/foreign", tmp_path / "f").read_bytes() == b"from elsewhere"


def test_list_returns_keys_under_a_prefix(store: ArtifactStore):
    keys = [f"artifacts/list/{name}" for name in ("a", "b/c", "ü b.json")]
    for key in [*keys, "artifacts/listing"]:
        store.put_bytes(key, b"", "text/plain")
    assert list(store.list("artifacts/list/")) == keys
    assert list(store.list("artifacts/nothing/")) == []


def test_a_presigned_url_reads_only_its_object(store: ArtifactStore):
    store.put_bytes("artifacts/presigned.mp4", b"moving", "video/mp4")
    url = store.presign("artifacts/presigned.mp4", 60, download_name='Was ist "Käse"?\r\nX: 1.mp4')
    with urlopen(url, timeout=10) as response:
        assert response.read() == b"moving"
        assert response.headers["Content-Type"] == "video/mp4"
        header = response.headers["Content-Disposition"]
    assert header == "attachment; filename*=UTF-8''Was%20ist%20%22K%C3%A4se%22%3F%0D%0AX%3A%201.mp4"
    assert status_of(url.replace("presigned.mp4", "large.bin")) == 403  # another object
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    assert status_of(url.replace(signature, signature[::-1])) == 403
    assert status_of(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600")) == 403
    assert status_of(url.split("?")[0]) == 403  # none at all


def test_a_presigned_url_expires(store: ArtifactStore):
    store.put_bytes("artifacts/short", b"x", "text/plain")
    url, same_for_longer = store.presign("artifacts/short", 1), store.presign("artifacts/short", 60)
    time.sleep(2.1)
    assert status_of(url) == 403
    assert status_of(same_for_longer) == 200


@pytest.mark.parametrize("seconds", [0, -1, 7 * 86400 + 1])
def test_a_presigned_urls_lifetime_is_bounded(store: ArtifactStore, seconds: int):
    with pytest.raises(ValueError, match="604800"):
        store.presign("artifacts/x", seconds)


def test_a_wrong_secret_is_refused_and_not_leaked(servers: LocalStack):
    wrong = servers.settings.model_copy(update={"r2_secret_access_key": SecretStr("not-the-secret")})
    store = ArtifactStore.from_settings(wrong)
    with pytest.raises(StoreError, match="SignatureDoesNotMatch") as refused:
        store.put_bytes("artifacts/wrong", b"x", "text/plain")
    assert "not-the-secret" not in str(refused.value)
    assert wrong.r2_access_key_id.get_secret_value() not in str(refused.value)
    assert status_of(store.presign("artifacts/short")) == 403


def test_an_unreachable_bucket_is_a_store_error(servers: LocalStack, tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x")
    nowhere = servers.settings.model_copy(update={"r2_endpoint": "http://127.0.0.1:9"})
    store = ArtifactStore.from_settings(nowhere, attempts=1)
    for call in (
        lambda: store.get_bytes("k"),
        lambda: store.put_file("k", tmp_path / "f"),
        lambda: store.exists("k"),
        lambda: list(store.list("k")),
        store.ensure_bucket,
    ):
        with pytest.raises(StoreError, match="EndpointConnectionError") as failed:
            call()
        assert not isinstance(failed.value, ObjectMissing)


def test_ensuring_an_existing_bucket_keeps_its_objects(servers: LocalStack):
    store = ArtifactStore.from_settings(servers.settings.model_copy(update={"r2_bucket": "another-bucket"}))
    store.ensure_bucket()
    store.put_bytes("k", b"kept", "text/plain")
    store.ensure_bucket()
    assert store.get_bytes("k") == b"kept"


def test_incomplete_bucket_settings_name_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    for name in ("R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="R2_ENDPOINT, R2_SECRET_ACCESS_KEY"):
        ArtifactStore.from_settings(Settings(r2_access_key_id="x"))


def test_a_large_file_stored_without_a_digest_is_read_once(store: ArtifactStore, tmp_path: Path):
    """As uploads are, whose parts are all that S3 sees."""
    key, reads = "cache/uploads/undescribed", []
    part = os.urandom(5 * MIB)
    upload = store.begin_multipart(key, "application/octet-stream")
    etags = [store.put_part(key, upload, number, data) for number, data in ((1, part), (2, b"rest"))]
    store.complete_multipart(key, upload, etags)
    store._client.meta.events.register("before-call.s3.GetObject", lambda **_: reads.append(1), unique_id="count")
    try:
        assert store.fetch(key, tmp_path / "film").read_bytes() == part + b"rest"
    finally:
        store._client.meta.events.unregister("before-call.s3.GetObject", unique_id="count")
    assert len(reads) == 1
    assert store.stat(key) == ArtifactRef(
        key=key, sha256=hashlib.sha256(part + b"rest").hexdigest(), size=len(part) + 4
    )
