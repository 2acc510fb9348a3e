"""The ZIP file of a job: its content, names, length and memory, and streams that break."""

import io
import socket
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import CLIP, clip_entry

MIB = 1024**2


def finished(api, *entries, big: int = 0):
    """A finished job with these manifest entries, whose files hold their own names; the clips have `big` bytes."""
    job_id = api.finished_job(manifest={"clips": list(entries)})
    for entry in entries:
        video = bytes(big) if big else f"{entry['file']} of {job_id}".encode()
        api.bucket.put_bytes(job_key(job_id, entry["file"]), video, "video/mp4")
        for name in [entry.get("poster"), *entry.get("subtitles", {}).values()]:
            if name:
                api.bucket.put_bytes(job_key(job_id, name), name.encode(), "text/plain")
    return job_id


def whole(number: int, title: object) -> dict:
    name = f"clip_{number:02d}"
    more = {"poster": f"{name}.jpg", "subtitles": {"srt": f"{name}.srt", "vtt": f"{name}.vtt"}}
    return clip_entry(f"{name}.mp4") | {"title": title} | more


def archive(api, job_id) -> zipfile.ZipFile:
    answer = api.get(f"/api/jobs/{job_id}/clips.zip")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{job_id}.zip"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    found = zipfile.ZipFile(io.BytesIO(answer.content))
    assert found.testzip() is None
    return found


def test_the_archive_holds_all_files_under_their_titles(api):
    job_id = finished(api, whole(1, "Open it"), whole(2, "It is already broken"))
    found = archive(api, job_id)
    assert found.namelist() == [
        f"{title}.{ending}" for title in ("Open it", "It is already broken") for ending in ("mp4", "jpg", "srt", "vtt")
    ]
    assert found.read("Open it.mp4") == f"clip_01.mp4 of {job_id}".encode()
    assert found.read("It is already broken.vtt") == b"clip_02.vtt"
    assert {info.compress_type for info in found.infolist()} == {zipfile.ZIP_STORED}


def test_hostile_and_equal_titles_give_distinct_plain_names(api, tmp_path):
    titles = ["../../etc/passwd", "..\\..\\etc/passwd", "ETC PASSWD", "/", "C:\\con"]
    found = archive(api, finished(api, *(whole(n, title) for n, title in enumerate(titles, 1))))
    videos = [name for name in found.namelist() if name.endswith(".mp4")]
    assert videos == ["etc passwd.mp4", "etc passwd (2).mp4", "ETC PASSWD (3).mp4", "clip_04.mp4", "C con.mp4"]
    found.extractall(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(found.namelist())
    assert found.read("etc passwd (2).jpg") == b"clip_02.jpg"


def test_results_of_earlier_versions_have_an_archive_of_their_clips(api):
    found = archive(api, api.finished_job("clip_01.mp4", "clip_02.mp4"))
    assert found.namelist() == ["It begins.mp4", "It begins (2).mp4"]
    assert found.read("It begins.mp4") == CLIP
    assert archive(api, finished(api)).namelist() == []


def test_head_tells_the_length(api):
    path = f"/api/jobs/{finished(api, whole(1, 'Open it'))}/clips.zip"
    head, got = api.client.head(path), api.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(got.content)
    assert "accept-ranges" not in got.headers
    assert api.get(path, headers={"range": "bytes=0-9"}).status_code == 200


@pytest.mark.parametrize("status", [None, "RUNNING", "FAILED"])
def test_there_is_no_archive_before_success(api, job_id, status):
    if status:
        api.callback(job_id, status)
    answer = api.get(f"/api/jobs/{job_id}/clips.zip")
    assert (answer.status_code, answer.json()) == (409, {"detail": "job not completed"})


@pytest.mark.parametrize("name", ["clip_01.mp4", "clip_01.jpg", "clip_01.vtt"])
def test_a_missing_file_is_404(api, name):
    job_id = finished(api, whole(1, "Open it"))
    api.bucket.delete(job_key(job_id, name))
    for method in ("GET", "HEAD"):
        assert api.client.request(method, f"/api/jobs/{job_id}/clips.zip").status_code == 404


def raw(api, job_id) -> socket.socket:
    address = urlsplit(api.url)
    line = socket.create_connection((address.hostname, address.port), timeout=10)
    line.sendall(f"GET /api/jobs/{job_id}/clips.zip HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return line


def test_a_file_that_changes_its_size_breaks_the_stream_off(api):
    job_id = finished(api, whole(1, "Open it"))
    length = int(api.client.head(f"/api/jobs/{job_id}/clips.zip").headers["content-length"])
    api.bucket.put_bytes(job_key(job_id, "clip_01.jpg"), b"longer than its name", "image/jpeg")
    with raw(api, job_id) as line:
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) < length


def memory(line: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(row.split()[1] for row in status.splitlines() if row.startswith(f"{line}:"))) * 1024


def test_a_large_archive_takes_little_memory(api):
    """Server and client are in this process; the client keeps nothing."""
    job_id = finished(api, *(clip_entry(f"clip_{n:02d}.mp4") for n in range(1, 6)), big=24 * MIB)
    api.get(f"/api/jobs/{job_id}/results")
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    with api.client.stream("GET", f"/api/jobs/{job_id}/clips.zip") as answer:
        assert sum(len(part) for part in answer.iter_raw()) == int(answer.headers["content-length"]) > 120 * MIB
    assert memory("VmHWM") - before < 40 * MIB


def test_archives_count_as_streams_and_free_their_place_when_clients_hang_up(serve):
    api = serve()
    limit = api.app.state.services.clip_streams
    job_id = finished(api, clip_entry("clip_01.mp4"), big=32 * MIB)
    with raw(api, job_id) as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200")
        assert limit._open.total() == 1
    until = time.monotonic() + 10
    while limit._open.total() and time.monotonic() < until:
        time.sleep(0.05)
    assert limit._open.total() == 0


def test_too_many_archives_are_refused(api, monkeypatch):
    job_id = finished(api, whole(1, "Open it"))
    monkeypatch.setattr(api.app.state.services.clip_streams, "_per_client", 0)
    answer = api.get(f"/api/jobs/{job_id}/clips.zip")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    monkeypatch.undo()
    assert archive(api, job_id).namelist()
