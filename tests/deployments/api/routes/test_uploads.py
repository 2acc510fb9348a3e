"""Uploads by the tus protocol, over the real bucket and Valkey, and jobs made from them."""

import base64
import contextlib
import hashlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import SecretStr

from deployments.api.dependencies import UPLOAD_STREAMS_PER_CLIENT
from deployments.api.rented_machine.objects import _may_read
from deployments.api.routes import uploads
from deployments.upload_removal import remove_expired
from infra.uploads.records import LOCK_SECONDS
from infra.uploads.writer import PART_BYTES, rests_prefix
from tasks.core.object_keys import use_key
from tests.deployments.api.conftest import KEYS, ORIGIN, REQUEST

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = TUS | {"Content-Type": "application/offset+octet-stream"}
CLIPS = {name: value for name, value in REQUEST.items() if name != "video_url"}
MIB = 1024 * 1024


def random_bytes(size, seed=1):
    return hashlib.shake_128(bytes([seed])).digest(size)


def base64_of(data):
    return base64.b64encode(data).decode()


def begin(api, length, **headers):
    answer = api.post("/api/uploads", headers=TUS | {"Upload-Length": str(length)} | headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def send(api, where, offset, data, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.patch(where, content=data, headers=PIECE | {"Upload-Offset": str(offset)} | headers)


def offset_of(api, where):
    answer = api.client.head(where, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def uploaded(api, data, **headers):
    where = begin(api, len(data), **headers)
    assert send(api, where, 0, data).status_code == 204
    return where


def record(api, where):
    return api.services.uploads.get(where.rpartition("/")[2], time.time())


def create(api, upload, **more):
    return api.post("/api/jobs", json=CLIPS | {"upload": upload}, **more)


def stored(api, where):
    return api.bucket.get_bytes(record(api, where).key)


def refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert answer.headers["tus-resumable"] == "1.0.0"


def test_the_server_says_what_it_can_do(api):
    for path in ("/api/uploads", "/api/uploads/" + "0" * 32):
        answer = api.client.options(path)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
        assert set(answer.headers["tus-extension"].split(",")) == {"creation", "termination", "expiration", "checksum"}
        assert answer.headers["tus-max-size"] == str(api.settings.max_source_bytes)
        assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")


@pytest.mark.parametrize(
    "sizes",
    [[1], [1000], [PART_BYTES], [PART_BYTES + 1], [5 * MIB, 5 * MIB, 5 * MIB], [MIB] * 17, [2 * PART_BYTES, 1]],
    ids=lambda sizes: "+".join(map(str, sizes[:3])),
)
def test_pieces_of_any_size_become_the_file(api, sizes):
    data = random_bytes(sum(sizes))
    where, offset = begin(api, len(data), **{"Upload-Metadata": f"filename {base64_of(b'talk.mp4')}"}), 0
    for size in sizes:
        answer = send(api, where, offset, data[offset : offset + size])
        offset += size
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(offset))
        assert answer.headers["upload-expires"].endswith(" GMT")
        assert offset_of(api, where) == offset
    assert stored(api, where) == data
    assert list(api.bucket.list(rests_prefix(where.rpartition("/")[2]))) == []


def test_head_returns_what_was_sent(api):
    metadata = f"filename {base64_of(b'Ein Vortrag.mp4')},filetype {base64_of(b'video/mp4')},empty"
    where = begin(api, 10, **{"Upload-Metadata": metadata})
    answer = api.client.head(where, headers=TUS)
    told = {name: answer.headers[name] for name in ("upload-offset", "upload-length", "upload-metadata")}
    assert told == {"upload-offset": "0", "upload-length": "10", "upload-metadata": metadata}
    assert answer.headers["cache-control"] == "no-store"


def test_a_connection_that_is_cut_off_keeps_what_arrived(api):
    data = random_bytes(PART_BYTES + 3 * MIB)
    where = begin(api, len(data))
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = {**PIECE, "Upload-Offset": "0", "Content-Length": str(len(data)), "Host": "x"}
        connection.sendall(f"PATCH {where} HTTP/1.1\r\n".encode())
        connection.sendall("".join(f"{name}: {value}\r\n" for name, value in head.items()).encode() + b"\r\n")
        connection.sendall(data[: PART_BYTES + MIB])
    arrived = wait_for(lambda: offset_of(api, where) > PART_BYTES and offset_of(api, where))
    assert arrived <= PART_BYTES + MIB
    wait_for(lambda: send(api, where, arrived, data[arrived:]).status_code == 204)
    assert stored(api, where) == data


def wait_for(found, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


BAD_BEGINNINGS = [
    ({}, 400, uploads.tus.BAD_LENGTH[1]),
    *(({"Upload-Length": length}, 400, uploads.tus.BAD_LENGTH[1]) for length in ("", "0", "-1", "1e3", "x", "9" * 19)),
    ({"Upload-Defer-Length": "1"}, 400, uploads.tus.BAD_LENGTH[1]),
    ({"Upload-Length": str(2**59)}, 413, "file is too large"),
    *(
        ({"Upload-Length": "1", "Upload-Metadata": metadata}, 400, uploads.tus.BAD_METADATA[1])
        for metadata in (",", "filename !", "a YQ==,a YQ==", "a YQ==,,b YQ==", "x " + "YQ" * 3000, "é YQ==", "a b c")
    ),
    ({"Upload-Length": "1", "Tus-Resumable": "0.2.2"}, 412, uploads.tus.OTHER_VERSION[1]),
]


@pytest.mark.parametrize(("headers", "status", "detail"), BAD_BEGINNINGS)
def test_a_bad_beginning_is_refused(api, headers, status, detail):
    sent = {name: value.encode() for name, value in (TUS | headers).items()}
    refused(api.post("/api/uploads", headers=sent), status, detail)


def test_a_request_without_the_protocols_version_is_refused(api):
    answer = api.post("/api/uploads", headers={"Upload-Length": "1"})
    refused(answer, 412, "tus-resumable must be 1.0.0")
    assert answer.headers["tus-version"] == "1.0.0"


BAD_PIECES = [
    ({"Content-Type": "application/octet-stream"}, 415, uploads.tus.BAD_TYPE[1]),
    ({"Upload-Offset": "-1"}, 400, uploads.tus.BAD_OFFSET[1]),
    ({"Upload-Offset": ""}, 400, uploads.tus.BAD_OFFSET[1]),
    ({"Upload-Offset": "9" * 40}, 400, uploads.tus.BAD_OFFSET[1]),
    ({"Upload-Offset": "0"}, 409, uploads.OTHER_OFFSET[1]),
    ({"Upload-Offset": "11"}, 409, uploads.OTHER_OFFSET[1]),
    ({"Upload-Checksum": "crc32 AAAA"}, 400, uploads.tus.BAD_CHECKSUM[1]),
    ({"Upload-Checksum": "sha1 !"}, 400, uploads.tus.BAD_CHECKSUM[1]),
    ({"Upload-Checksum": "sha1 " + base64_of(b"x" * 20)}, 460, uploads.DIFFERS[1]),
    ({"Tus-Resumable": "2.0.0"}, 412, uploads.tus.OTHER_VERSION[1]),
]


@pytest.mark.parametrize(("headers", "status", "detail"), BAD_PIECES)
def test_a_bad_piece_is_refused_and_changes_nothing(api, headers, status, detail):
    data = random_bytes(30)
    where = begin(api, 30)
    send(api, where, 0, data[:10])
    refused(send(api, where, 10, data[10:20], **headers), status, detail)
    assert offset_of(api, where) == 10
    assert send(api, where, 10, data[10:]).status_code == 204
    assert stored(api, where) == data


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_piece_beyond_the_end_is_refused(api, is_chunked):
    where = begin(api, 10)
    refused(send(api, where, 0, iter([b"x" * 11]) if is_chunked else b"x" * 11), 413, uploads.TOO_MUCH[1])
    assert offset_of(api, where) == 0
    assert send(api, where, 0, b"y" * 10).status_code == 204


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_a_piece_counts_only_if_its_checksum_matches(api, algorithm):
    """Also if the piece is longer than a part, whose bytes are in the bucket before the checksum is known."""
    data = random_bytes(2 * PART_BYTES + 1000)
    piece = data[: PART_BYTES + 500]
    where = begin(api, len(data))
    right = f"{algorithm} {base64_of(hashlib.new(algorithm, piece).digest())}"
    refused(send(api, where, 0, piece[:-1] + b"?", Upload_Checksum=right), 460, uploads.DIFFERS[1])
    assert offset_of(api, where) == 0
    assert send(api, where, 0, piece, Upload_Checksum=right).status_code == 204
    assert send(api, where, len(piece), data[len(piece) :]).status_code == 204
    assert stored(api, where) == data


def test_one_request_at_a_time_sends_an_upload(api):
    data = random_bytes(MIB)
    where, is_over = begin(api, len(data)), []

    def slowly():
        yield data[: MIB // 2]
        while not is_over:
            time.sleep(0.1)
            yield b""
        yield data[MIB // 2 :]

    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, api, where, 0, slowly())
        wait_for(api.services.upload_streams._open.total)
        refused(wait_for(lambda: locked(send(api, where, 0, data))), 423, uploads.LOCKED[1])
        is_over.append(True)
        assert first.result().status_code == 204
    assert stored(api, where) == data


def locked(answer):
    return answer if answer.status_code == 423 else None


def test_a_request_that_receives_nothing_yields_to_the_next(api):
    """A client whose connection broke unnoticed can continue at once, with what had arrived."""
    data = random_bytes(MIB)
    where = begin(api, len(data))
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as silent:
        head = {**PIECE, "Upload-Offset": "0", "Content-Length": str(len(data)), "Host": "x"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        silent.sendall(f"PATCH {where} HTTP/1.1\r\n{lines}\r\n".encode() + data[: MIB // 2])
        began = time.monotonic()
        wait_for(lambda: send(api, where, offset_of(api, where), data[offset_of(api, where) :]).status_code == 204)
        assert time.monotonic() - began < 10
    assert stored(api, where) == data


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_client_that_is_too_slow_is_stopped_and_keeps_what_arrived(api, monkeypatch, is_silent):
    monkeypatch.setattr(uploads, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.2)
    data = random_bytes(MIB)
    where, is_over = begin(api, len(data)), []

    def slowly():
        yield data[: MIB // 2]
        for at in range(MIB // 2, MIB):
            time.sleep(0.1)
            if is_over:
                return
            yield b"" if is_silent else data[at : at + 1]

    with ThreadPoolExecutor() as pool:
        sending = pool.submit(send, api, where, 0, slowly())
        wait_for(lambda: offset_of(api, where) >= MIB // 2)
        is_over.append(True)
        with contextlib.suppress(httpx.TransportError):  # the connection may be closed while it is still sending
            assert sending.result().status_code == 408
    offset = offset_of(api, where)
    assert offset < MIB
    assert send(api, where, offset, data[offset:]).status_code == 204
    assert stored(api, where) == data


def test_the_pieces_that_are_received_at_once_are_bounded(api):
    where = begin(api, 4)
    with contextlib.ExitStack() as others:
        for _ in range(UPLOAD_STREAMS_PER_CLIENT):
            others.enter_context(api.services.upload_streams.slot("127.0.0.1"))
        answer = send(api, where, 0, b"film")
        refused(answer, 503, "too many streams are open; try again shortly")
        assert answer.headers["retry-after"] == "5"
    assert send(api, where, 0, b"film").status_code == 204


def test_a_stale_writer_changes_nothing(api):
    """A process that stalls longer than its lock lasts finds that another one has continued."""
    data = random_bytes(1000)
    where = begin(api, 1000)
    upload = record(api, where)
    stale = api.services.uploads.lock(upload.upload_id)
    writer = uploads.UploadWriter(upload, stale, api.bucket)
    writer.take(b"?" * 400)
    api.jobs.connection.client.delete(f"kangklip:upload:{upload.upload_id}:lock")  # as if LOCK_SECONDS had passed
    assert send(api, where, 0, data[:500]).status_code == 204
    with pytest.raises(uploads.UploadLocked):
        writer.end()
    assert offset_of(api, where) == 500
    assert send(api, where, 500, data[500:]).status_code == 204
    assert stored(api, where) == data
    assert LOCK_SECONDS < 9  # the usual clients retry for nine seconds


def test_a_removed_upload_is_gone_with_its_pieces(api):
    data = random_bytes(PART_BYTES + 10)
    where = begin(api, len(data) + 1)
    send(api, where, 0, data)
    upload = record(api, where)
    assert api.bucket.exists(upload.rest)
    assert api.client.delete(where, headers=TUS).status_code == 204
    assert not api.bucket.exists(upload.rest)
    assert parts_uploads(api, upload.key) == []
    for answer in (api.client.head(where, headers=TUS), send(api, where, len(data), b"x"), create(api, where)):
        assert answer.status_code == 404
    refused(api.client.delete(where, headers=TUS), 404, "upload not found")


def parts_uploads(api, key):
    found = api.bucket._client.list_multipart_uploads(Bucket=api.bucket.bucket, Prefix=key)
    return found.get("Uploads", [])


def test_expired_uploads_are_removed_with_their_pieces_and_used_files_stay(serve):
    api = serve(upload_ttl_seconds=3600)
    open_one, unused, used = begin(api, PART_BYTES + 2), uploaded(api, b"unused"), uploaded(api, b"used")
    send(api, open_one, 0, random_bytes(PART_BYTES + 1))
    records = [record(api, where) for where in (open_one, unused, used)]
    assert create(api, used).status_code == 200
    redis = api.jobs.connection.client
    for each in records:
        redis.hset(f"kangklip:upload:{each.upload_id}", "expires_at", "1")
        redis.zadd("kangklip:uploads", {each.upload_id: 1})
    for where in (open_one, unused, used):
        assert api.client.head(where, headers=TUS).status_code == 404
    assert send(api, open_one, PART_BYTES + 1, b"x").status_code == 404
    assert remove_expired(api.services.uploads, api.bucket) >= 3
    assert not api.bucket.exists(records[0].rest)
    assert parts_uploads(api, records[0].key) == []
    assert [api.bucket.exists(each.key) for each in records] == [False, False, True]
    assert not any(key for each in records for key in redis.keys(f"kangklip:upload:{each.upload_id}*"))


def test_a_client_has_a_bounded_number_of_unfinished_uploads(serve, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UNFINISHED", 3)
    api = serve(api_keys=SecretStr(",".join(KEYS)))
    headers = {"x-api-key": KEYS[0]}
    begun = [begin(api, 1, **headers) for _ in range(3)]
    length = TUS | headers | {"Upload-Length": "1"}
    refused(api.post("/api/uploads", headers=length), 429, uploads.TOO_MANY[1])
    assert begin(api, 1, **{"x-api-key": KEYS[1]})
    assert send(api, begun[0], 0, b"x", x_api_key=KEYS[0]).status_code == 204
    begin(api, 1, **headers)
    assert api.client.delete(begun[1], headers=TUS | headers).status_code == 204
    begin(api, 1, **headers)


def test_uploads_are_counted_against_the_rate(serve):
    api = serve(create_rate_per_minute=2)
    answers = [api.post("/api/uploads", headers=TUS | {"Upload-Length": "1"}) for _ in range(5)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) <= 60


def test_many_tiny_pieces_are_refused_and_the_upload_can_go_on(serve, monkeypatch):
    monkeypatch.setattr(uploads, "SMALL_PER_MINUTE", 3)
    api = serve(api_keys=SecretStr("tiny:tiny-key"))
    where, key = begin(api, MIB, **{"x-api-key": "tiny-key"}), {"x_api_key": "tiny-key"}
    for offset in range(8):  # more than twice the limit, in case a new minute begins
        answer = send(api, where, offset, b"x", **key)
        if answer.status_code != 204:
            break
    refused(answer, 429, uploads.TOO_SMALL[1])
    assert send(api, where, offset, b"x" * (MIB - offset), **key).status_code == 204


def test_only_the_owners_key_reaches_an_upload(serve):
    api = serve(api_keys=SecretStr(",".join(KEYS)))
    own, other = {"x-api-key": KEYS[0]}, {"x-api-key": KEYS[1]}
    refused(api.post("/api/uploads", headers=TUS | {"Upload-Length": "4"}), 401, "api key required")
    where = begin(api, 4, **own)
    for headers, status in ((other, 404), ({}, 401)):
        assert api.client.head(where, headers=TUS | headers).status_code == status
        assert send(api, where, 0, b"evil", **headers).status_code == status
        assert api.client.delete(where, headers=TUS | headers).status_code == status
    assert send(api, where, 0, b"mine", x_api_key=KEYS[0]).status_code == 204
    assert create(api, where, headers=other).status_code == 404
    assert create(api, where, headers=own).status_code == 200


@pytest.mark.parametrize("form", ["{id}", "/api/uploads/{id}", "https://clips.example.org/api/uploads/{id}"])
def test_a_job_takes_a_finished_upload_in_place_of_the_url(api, form):
    where = uploaded(api, b"film", **{"Upload-Metadata": f"filename {base64_of(b'../../etc/My talk.mp4')}"})
    answer = create(api, form.format(id=where.rpartition("/")[2]))
    assert answer.status_code == 200, answer.text
    job_id, key = answer.json()["job_id"], record(api, where).key
    assert answer.json() == {"job_id": job_id, "status": "QUEUED"}
    assert api.runs.requests[job_id, 1] == CLIPS | {"source_key": key, "source_name": "My talk.mp4"}
    assert api.record(job_id).request == api.runs.requests[job_id, 1]
    assert api.job(job_id)["request"]["source_name"] == "My talk.mp4"
    assert api.bucket.exists(use_key(key, job_id))


def test_an_unfinished_upload_is_refused_until_it_is_whole(api):
    where = begin(api, 4)
    send(api, where, 0, b"fi")
    answer = create(api, where)
    assert (answer.status_code, answer.json()["detail"]) == (409, "upload is not finished; send the rest first")
    send(api, where, 2, b"lm")
    assert create(api, where).status_code == 200


def test_a_file_that_was_received_but_not_put_together_is_put_together_for_the_job(api, monkeypatch):
    """As after a crash between the last part and the end of the upload."""
    data = random_bytes(PART_BYTES + 7)
    where = begin(api, len(data))
    with monkeypatch.context() as patched:
        patched.setattr(uploads, "finish", lambda *_: None)
        send(api, where, 0, data)
    assert not api.bucket.exists(record(api, where).key)
    assert create(api, where).status_code == 200
    assert stored(api, where) == data


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"upload": "0" * 32, "video_url": "https://example.org/v"}, 400, "give video_url or upload, not both"),
        ({"upload": "../../etc/passwd"}, 400, "upload must be the id or the address of an upload"),
        ({"upload": 7}, 400, "upload must be the id or the address of an upload"),
        ({"upload": "0" * 32 + "\n"}, 400, "upload must be the id or the address of an upload"),
        ({"upload": "0" * 32}, 404, "upload not found"),
        ({"upload": None}, 400, "video_url is required"),
        ({"source_key": "cache/uploads/" + "0" * 64}, 400, "video_url is required"),
    ],
)
def test_another_source_is_refused(api, body, status, detail):
    answer = api.post("/api/jobs", json=CLIPS | body)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


def test_a_repeated_request_with_an_idempotency_key_gets_the_same_job(api):
    where, other = uploaded(api, b"film"), uploaded(api, b"movie")
    key = {"idempotency-key": f"uploads-{time.time()}"}
    first = create(api, where, headers=key).json()["job_id"]
    api.client.delete(where, headers=TUS)
    assert create(api, where, headers=key).json()["job_id"] == first
    assert create(api, other, headers=key).status_code == 409
    assert api.bucket.exists(api.record(first).request["source_key"])


def test_a_rented_machine_reads_the_upload_of_its_own_job_alone(api):
    own, other = uploaded(api, b"own"), uploaded(api, b"other")
    job_id = create(api, own).json()["job_id"]
    assert _may_read(record(api, own).key, job_id, api.services)
    assert not _may_read(record(api, other).key, job_id, api.services)


def test_pages_of_other_origins_may_upload_only_if_allowed(api):
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH"}
    asked = "content-type,tus-resumable,upload-offset"
    answer = api.client.options("/api/uploads/x", headers=preflight | {"Access-Control-Request-Headers": asked})
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower().replace(" ", "")
    assert set(asked.split(",")) <= set(allowed.split(","))
    begun = api.post("/api/uploads", headers=TUS | {"Upload-Length": "4", "Origin": ORIGIN})
    exposed = begun.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("location", "upload-offset", "tus-resumable", "upload-expires"))
    foreign = TUS | {"Upload-Length": "4", "Origin": "https://evil.example"}
    assert api.post("/api/uploads", headers=foreign).status_code == 403


def test_a_method_may_be_named_in_a_header(api):
    where = begin(api, 4)
    answer = api.post(where, headers=PIECE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}, content=b"film")
    assert answer.status_code == 204
    assert stored(api, where) == b"film"
    assert api.post(where, headers=TUS | {"X-HTTP-Method-Override": "DELETE"}).status_code == 204


def test_other_bodies_keep_their_limit(api):
    assert api.post("/api/jobs", content=b"x" * (MIB + 1)).status_code == 413
    assert api.post("/api/uploads", headers=TUS, content=b"x" * (MIB + 1)).status_code == 413
    big = api.client.patch("/api/jobs", content=b"x" * (MIB + 1))
    assert big.status_code in (405, 413)


def test_names_are_cleaned(api):
    for name, cleaned in ((b"a\x00b\xe2\x80\xae.mp4", "a b.mp4"), (b"\xff.mp4", "�.mp4"), (b"C:\\x\\y.mov", "y.mov")):
        assert record(api, begin(api, 1, **{"Upload-Metadata": f"filename {base64_of(name)}"})).name == cleaned
    long = base64_of(("n" * 1000).encode())
    assert len(record(api, begin(api, 1, **{"Upload-Metadata": f"filename {long}"})).name) == 255


def test_ids_are_unguessable(api):
    ids = {begin(api, 1).rpartition("/")[2] for _ in range(5)}
    assert all(len(each) == 32 for each in ids)
    assert len(ids) == 5
    for odd in ("x", "0" * 31, next(iter(ids)) + ":parts", "..%2f..", next(iter(ids)).upper() + "g"):
        assert api.client.head(f"/api/uploads/{odd}", headers=TUS).status_code == 404
