"""Results, manifest and clips: ranges, file names, malformed manifests and clients that hang up."""

import json
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from deployments.api.routes.clips import requested_range
from infra.bucket.store import ArtifactStore
from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import CLIP, clip_entry

SIZE = len(CLIP)


def assert_refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.fixture
def finished(api):
    return api.finished_job("clip_01.mp4", "clip_02.mp4")


@pytest.fixture
def clip(finished):
    return f"/api/jobs/{finished}/clips/clip_01.mp4"


def test_results_list_the_clips(api, finished):
    answer = api.get(f"/api/jobs/{finished}/results")
    assert answer.status_code == 200
    clips = answer.json()["clips"]
    assert [clip["file"] for clip in clips] == ["clip_01.mp4", "clip_02.mp4"]
    first = clips[0]
    assert (first["title"], first["duration"]) == ("It begins", 30.0)
    assert first["stream_url"] == f"/api/jobs/{finished}/clips/clip_01.mp4"
    assert (first["hook"], first["start"], first["end"]) == ("So it begins", 1.0, 31.0)
    assert first["text"] == "So it begins."
    assert (first["why"], first["scores"], first["counted"]) == (None, None, None)


def test_results_say_why_a_clip_was_chosen(api):
    more = {"why": "It asks.", "signals": {"question": 2.5}, "score": 3.0, "description": "d", "hashtags": ["a"]}
    job_id = api.finished_job(**more)
    clip = api.get(f"/api/jobs/{job_id}/results").json()["clips"][0]
    assert clip["scores"] == {"question": 2.5}
    assert {name: clip[name] for name in ("why", "score", "description", "hashtags")} == {
        name: more[name] for name in ("why", "score", "description", "hashtags")
    }


def test_the_download_url_is_valid_for_six_hours_and_names_the_file(api, finished):
    url = api.get(f"/api/jobs/{finished}/results").json()["clips"][0]["download_url"]
    assert "X-Amz-Expires=21600" in urlsplit(url).query
    answer = httpx.get(url)
    assert answer.content == CLIP
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''clip_01.mp4"


@pytest.mark.parametrize("status", [None, "RUNNING", "FAILED"])
@pytest.mark.parametrize(
    "path", ["results", "manifest", "clips/clip_01.mp4", "clips/clip_01.mp4/download", "clips/x/../y"]
)
def test_nothing_is_served_before_success(api, job_id, status, path):
    if status:
        api.callback(job_id, status)
    assert_refused(api.get(f"/api/jobs/{job_id}/{path}"), 409, "job not completed")


MALFORMED = {
    "no json": b"{",
    "an array": b"[]",
    "no clips": b"{}",
    "clips are no list": b'{"clips": 5}',
    "a clip without a file": b'{"clips": [{"title": "x"}]}',
    "not a number": b'{"clips": [], "x": NaN}',
    "an endless duration": b'{"clips": [{"file": "clip_01.mp4", "duration": Infinity}]}',
    "a bomb": b"[" * 200_000,
    "half a character": b'{"clips": [], "x": "\\ud800"}',
    "another job's file": b'{"clips": [{"file": "../other/clip_01.mp4"}]}',
    "a header in a name": b'{"clips": [{"file": "a\\r\\nset-cookie: x"}]}',
    "a hidden name": b'{"clips": [{"file": ".."}]}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_manifest_is_502(api, job_id, name):
    api.bucket.put_bytes(job_key(job_id, "manifest.json"), MALFORMED[name], "application/json")
    api.callback(job_id, "SUCCEEDED")
    for path in ("results", "manifest", "clips/clip_01.mp4"):
        assert_refused(api.get(f"/api/jobs/{job_id}/{path}"), 502, "manifest could not be read")


def test_a_missing_manifest_is_502(api, job_id):
    api.callback(job_id, "SUCCEEDED")
    assert_refused(api.get(f"/api/jobs/{job_id}/results"), 502, "manifest could not be read")


def test_the_manifest_is_served_unchanged(api, finished):
    answer = api.get(f"/api/jobs/{finished}/manifest")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"job_id": finished, "clips": [clip_entry("clip_01.mp4"), clip_entry("clip_02.mp4")]}


def test_a_clip_is_streamed(api, clip):
    answer = api.get(clip)
    assert (answer.status_code, answer.content) == (200, CLIP)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(SIZE)
    assert "content-disposition" not in answer.headers


def test_a_download_is_the_clip_with_a_file_name(api, clip):
    answer = api.get(f"{clip}/download", headers={"range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (206, CLIP[:10])
    assert answer.headers["content-disposition"] == 'attachment; filename="clip_01.mp4"'
    assert answer.headers["content-type"] == "video/mp4"


HOSTILE_TITLES = {
    "It begins": "It%20begins.mp4",
    'x"\r\nset-cookie: a=b; ../é': "x%20set-cookie%20a%3Db%3B%20..%20%C3%A9.mp4",
    "": "clip_01.mp4",
}


@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_a_download_can_be_named_after_its_title(api, title):
    """Clients that read only the plain `filename` still get the name in the manifest."""
    clip = f"/api/jobs/{api.finished_job(title=title)}/clips/clip_01.mp4/download"
    for method in ("GET", "HEAD"):
        answer = api.client.request(method, f"{clip}?name=title")
        header = f"attachment; filename=\"clip_01.mp4\"; filename*=UTF-8''{HOSTILE_TITLES[title]}"
        assert (answer.status_code, answer.headers["content-disposition"]) == (200, header)
        assert "set-cookie" not in answer.headers
    for query in ("", "?name=", "?name=x"):
        assert api.get(f"{clip}{query}").headers["content-disposition"] == 'attachment; filename="clip_01.mp4"'


def test_a_manifest_may_have_one_megabyte(api):
    """At most one megabyte is read, however large the object is."""
    fits, over = api.new_job(), api.new_job()
    for job_id, size in ((fits, 1024**2), (over, 1024**2 + 1)):
        head, tail = b'{"clips": [{"file": "clip_01.mp4", "title": "x"}], "more": "', b'"}'
        document = head + b"x" * (size - len(head) - len(tail)) + tail
        api.bucket.put_bytes(job_key(job_id, "manifest.json"), document, "application/json")
        api.callback(job_id, "SUCCEEDED")
    assert len(api.get(f"/api/jobs/{fits}/manifest").content) == 1024**2
    assert api.get(f"/api/jobs/{fits}/results").json()["clips"][0]["title"] == "x"
    assert_refused(api.get(f"/api/jobs/{over}/results"), 502, "manifest could not be read")


@pytest.mark.parametrize(
    "clips",
    [
        [{"file": f"clip_{n}.mp4"} for n in range(21)],
        [{"file": "clip_01.mp4", "segments": [{}] * 5001}],
        [{"file": "clip_01.mp4", "hashtags": ["x"] * 101}],
        [{"file": "clip_01.mp4", "signals": {str(n): 0 for n in range(201)}}],
    ],
)
def test_a_manifest_with_too_long_lists_is_502(api, clips):
    job_id = api.finished_job(manifest={"clips": clips})
    assert_refused(api.get(f"/api/jobs/{job_id}/results"), 502, "manifest could not be read")


def test_one_manifest_per_job_is_cached_and_read_again_once_stale(api, monkeypatch):
    documents = api.app.state.services.documents
    monkeypatch.setattr("deployments.api.job_documents.CACHE_SECONDS", 0)
    jobs = [api.finished_job(title="before") for _ in range(3)]
    for title in ("once", "again", "more"):
        for job_id in jobs:
            manifest = {"clips": [clip_entry("clip_01.mp4") | {"title": title}]}
            api.bucket.put_json(job_key(job_id, "manifest.json"), manifest)
            assert api.get(f"/api/jobs/{job_id}/results").json()["clips"][0]["title"] == title
    assert sorted(job_id for job_id, _ in documents._manifests._values)[-3:] == jobs
    assert len(documents._manifests._values) <= 64


RANGES = {
    "bytes=0-0": (0, 0),
    "bytes=0-99": (0, 99),
    "bytes=100-": (100, SIZE - 1),
    "bytes=-1": (SIZE - 1, SIZE - 1),
    "bytes=-500": (SIZE - 500, SIZE - 1),
    f"bytes=-{SIZE * 2}": (0, SIZE - 1),
    f"bytes=10-{10**17}": (10, SIZE - 1),
    f"bytes={SIZE - 1}-": (SIZE - 1, SIZE - 1),
    "Bytes = 5 - 6": (5, 6),
}
IGNORED = ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-5", "items=0-5", "bytes=0-1,5-6", "bytes=--5", "0-5"]
IGNORED += [f"bytes={'9' * 5000}-", "bytes=0x0-0x5", "bytes=1.5-9", "bytes=0-5;x", "bytes=\u0663-\u0665".encode()]
UNSATISFIABLE = [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", f"bytes={10**17}-", "bytes=-0"]


@pytest.mark.parametrize("header", RANGES)
def test_a_range_returns_part_of_the_clip(api, clip, header):
    start, end = RANGES[header]
    answer = api.get(clip, headers={"range": header})
    assert (answer.status_code, answer.content) == (206, CLIP[start : end + 1])
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start + 1)


@pytest.mark.parametrize("header", IGNORED)
def test_malformed_ranges_return_the_whole_clip(api, clip, header):
    answer = api.get(clip, headers={"range": header})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("header", UNSATISFIABLE)
def test_a_range_outside_the_clip_is_416(api, clip, header):
    answer = api.get(clip, headers={"range": header})
    assert_refused(answer, 416, "range not satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


def test_an_empty_clip_has_no_ranges():
    assert requested_range(None, 0) is None
    with pytest.raises(Exception, match="range not satisfiable"):
        requested_range("bytes=0-", 0)


def test_an_unchanged_clip_is_304(api, clip):
    tag = api.get(clip, headers={"range": "bytes=0-0"}).headers["etag"]
    answer = api.get(clip, headers={"if-none-match": f'"other", {tag}'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    part = {"range": "bytes=0-9"}
    assert api.get(clip, headers=part | {"if-range": tag}).status_code == 206
    assert api.get(clip, headers=part | {"if-range": '"another"'}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=5-9"}])
def test_head_has_the_headers_of_get(api, clip, headers):
    head, got = api.client.head(clip, headers=headers), api.get(clip, headers=headers)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "content-length", "content-range", "accept-ranges", "etag"):
        assert head.headers.get(name) == got.headers.get(name)


UNKNOWN_FILES = [
    "manifest.json",
    "clip_03.mp4",
    "CLIP_01.MP4",
    "clip_01.mp4%00",
    "clip_01.mp4%0A",
    "..%2Fmanifest.json",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/manifest.json",
    "..%5cmanifest.json",
    "x/../clip_01.mp4",
    "%2Fetc%2Fpasswd",
    "clip_01.mp4/download/download",
    "download",
    "%C3%A9",
    "a" * 5000,
]


@pytest.mark.parametrize("name", UNKNOWN_FILES)
@pytest.mark.parametrize("end", ["", "/download"])
def test_only_files_in_the_manifest_are_served(api, finished, name, end):
    """Sent over a raw socket, because a client library would normalise the path."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as line:
        line.sendall(
            f"GET /api/jobs/{finished}/clips/{name}{end} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 "), answer[:200]
    assert json.loads(body) == {"detail": "clip not found"}


def test_a_clip_missing_from_the_bucket_is_404(api):
    job_id = api.finished_job()
    api.bucket.delete(job_key(job_id, "clip_01.mp4"))
    assert_refused(api.get(f"/api/jobs/{job_id}/clips/clip_01.mp4"), 404, "clip not found")


def test_a_jobs_state_is_served_without_a_bucket(serve, servers, monkeypatch):
    api = serve(r2_endpoint="http://127.0.0.1:9")
    with_bucket = ArtifactStore.from_settings(servers.settings)
    monkeypatch.setattr(api.bucket, "put_bytes", with_bucket.put_bytes)
    monkeypatch.setattr(api.bucket, "put_json", with_bucket.put_json)
    job_id = api.finished_job()
    assert_refused(api.get(f"/api/jobs/{job_id}/results"), 502, "manifest could not be read")
    assert api.job(job_id)["revision"] is None
    assert api.job(api.failed_job())["error"] == "It broke."


def sockets() -> int:
    return sum(1 for link in Path("/proc/self/fd").iterdir() if _is_socket(link))


def _is_socket(link: Path) -> bool:
    try:
        return str(link.readlink()).startswith("socket:")
    except OSError:
        return False


def test_players_that_hang_up_leave_no_sockets_or_threads(api, monkeypatch):
    """As a player that seeks: open 50 ranges, read a little of each, hang up."""
    job_id = api.new_job()
    big = bytes(32 * 1024 * 1024)
    api.bucket.put_bytes(job_key(job_id, "clip_01.mp4"), big, "video/mp4")
    api.bucket.put_json(job_key(job_id, "manifest.json"), {"clips": [clip_entry("clip_01.mp4")]})
    api.callback(job_id, "SUCCEEDED")
    path = f"/api/jobs/{job_id}/clips/clip_01.mp4"
    assert api.get(path, headers={"range": "bytes=0-0"}).status_code == 206
    sockets_before, threads_before = sockets(), threading.active_count()
    address = urlsplit(api.url)
    for number in range(50):
        with socket.create_connection((address.hostname, address.port), timeout=10) as line:
            start = number * len(big) // 100
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={start}-\r\n\r\n".encode())
            assert line.recv(4096).startswith(b"HTTP/1.1 206")
    until = time.monotonic() + 10
    while sockets() > sockets_before + 12 and time.monotonic() < until:
        time.sleep(0.1)
    assert sockets() <= sockets_before + 12  # the bucket's client keeps up to ten open
    assert threading.active_count() <= max(threads_before, 45)
    assert api.get(path, headers={"range": "bytes=7-9"}).content == bytes(3)


def test_a_client_that_reads_nothing_is_disconnected(api, monkeypatch):
    monkeypatch.setattr("deployments.api.routes.clips.STALLED_SECONDS", 0.5)
    job_id = api.finished_job()
    api.bucket.put_bytes(job_key(job_id, "clip_01.mp4"), bytes(32 * 1024 * 1024), "video/mp4")
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as line:
        line.sendall(f"GET /api/jobs/{job_id}/clips/clip_01.mp4 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(1.5)
        taken = sum(len(part) for part in iter(lambda: line.recv(1 << 20), b""))
    assert taken < 32 * 1024 * 1024


SUBTITLES = {"srt": "clip_01.srt", "vtt": "clip_01.vtt"}
VTT = b"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nSo it begins.\n"


@pytest.fixture
def with_subtitles(api):
    job_id = api.finished_job(subtitles=SUBTITLES, sha256="a" * 64)
    api.bucket.put_bytes(job_key(job_id, "clip_01.vtt"), VTT, "text/html")
    return job_id


def test_results_link_the_subtitles(api, finished, with_subtitles):
    path = f"/api/jobs/{with_subtitles}/clips/"
    (clip,) = api.get(f"/api/jobs/{with_subtitles}/results").json()["clips"]
    assert clip["subtitles"] == {form: path + name for form, name in SUBTITLES.items()}
    assert api.get(f"/api/jobs/{finished}/results").json()["clips"][0]["subtitles"] == {}


def test_subtitles_are_served_with_our_type_and_a_tag_of_their_own(api, with_subtitles):
    path = f"/api/jobs/{with_subtitles}/clips"
    answer = api.get(f"{path}/clip_01.vtt")
    assert (answer.status_code, answer.content) == (200, VTT)
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    assert api.client.head(f"{path}/clip_01.vtt").headers["content-type"] == "text/vtt; charset=utf-8"
    assert answer.headers["etag"] != api.get(f"{path}/clip_01.mp4").headers["etag"]
    again = api.get(f"{path}/clip_01.vtt", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    saved = api.get(f"{path}/clip_01.vtt/download?name=title").headers["content-disposition"]
    assert saved.endswith("filename*=UTF-8''It%20begins.vtt")
    assert_refused(api.get(f"{path}/clip_01.srt"), 404, "clip not found")  # named, but not in the bucket
    assert_refused(api.get(f"{path}/clip_02.vtt"), 404, "clip not found")


@pytest.mark.parametrize("subtitles", [{"srt": "../other/clip_01.srt"}, {"exe": "clip_01.exe"}, ["clip_01.srt"], 5])
def test_malformed_subtitles_are_a_malformed_manifest(api, subtitles):
    job_id = api.finished_job(subtitles=subtitles)
    assert_refused(api.get(f"/api/jobs/{job_id}/results"), 502, "manifest could not be read")


def test_posters_are_linked_and_served_with_our_type(api, finished):
    job_id = api.finished_job(poster="clip_01.jpg", sha256="a" * 64)
    api.bucket.put_bytes(job_key(job_id, "clip_01.jpg"), b"a picture", "text/html")
    (clip,) = api.get(f"/api/jobs/{job_id}/results").json()["clips"]
    assert clip["poster"] == f"/api/jobs/{job_id}/clips/clip_01.jpg"
    assert api.get(f"/api/jobs/{finished}/results").json()["clips"][0]["poster"] is None
    answer = api.get(clip["poster"])
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"a picture", "image/jpeg")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] != api.get(clip["stream_url"]).headers["etag"]
    saved = api.get(f"{clip['poster']}/download?name=title").headers["content-disposition"]
    assert saved.endswith("filename*=UTF-8''It%20begins.jpg")


@pytest.mark.parametrize("poster", ["../other/clip_01.jpg", 5, ["clip_01.jpg"], ""])
def test_a_malformed_poster_is_a_malformed_manifest(api, poster):
    job_id = api.finished_job(poster=poster)
    assert_refused(api.get(f"/api/jobs/{job_id}/results"), 502, "manifest could not be read")
