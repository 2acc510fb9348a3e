"""Reports of a rented machine: progress counts, and success only after its clips were copied and checked."""

import hashlib
import json
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from deployments.api.job_documents import MANIFEST_BYTES
from deployments.api.rented_machine.acceptance import BYTES_OF_SPEECH, POSTER_BYTES, SUBTITLE_BYTES
from deployments.api.rented_machine.acceptance import DOCUMENTS as BYTES_OF
from deployments.api.rented_machine.jpeg import is_plain_jpeg
from infra.granted.access import granted_root
from infra.states import JobState
from tests.deployments.api.conftest import CLIP, clip_entry

MP4_CLIP = b"\x00\x00\x00\x18ftypisom" + CLIP
DOCUMENTS = (
    "meta.json",
    "video_stats.json",
    "transcript.json",
    "chunks.json",
    "edl.json",
    "edit.json",
    "face_log.json",
)


class Machine:
    """A rented machine that publishes results and reports."""

    def __init__(self, api, job_id):
        self.api, self.job_id = api, job_id
        self.access = api.access(job_id)
        self.root = f"{granted_root(job_id)}jobs/{job_id}/"

    def publish(self, *files, clip=MP4_CLIP, **manifest):
        entries = []
        for name in files:
            self.api.bucket.put_bytes(self.root + name, clip, "text/html")
            sha256 = hashlib.sha256(clip).hexdigest()
            entries.append(clip_entry(name) | {"size_bytes": len(clip), "sha256": sha256})
        for name in DOCUMENTS:
            self.api.bucket.put_json(self.root + name, {"job_id": self.job_id, "said": name})
        self.api.bucket.put_json(self.root + "manifest.json", {"job_id": self.job_id, "clips": entries} | manifest)
        return entries

    def report(self, status, **more):
        return self.api.callback(self.job_id, status, token=self.access.token, **more)


@pytest.fixture
def machine(api, job_id):
    return Machine(api, job_id)


def test_a_machine_can_report_progress_for_its_own_job_only(api, machine):
    other = api.new_job()
    assert machine.report("RUNNING", stage="TRANSCRIPT", progress=25, attempt=7).status_code == 200
    assert api.job(machine.job_id)["progress"] == 25
    refused = api.callback(other, "RUNNING", token=machine.access.token)
    assert (refused.status_code, refused.json()) == (401, {"detail": "invalid callback token"})
    assert api.job(other)["status"] == "QUEUED"


def test_valid_clips_are_published_from_a_copy_and_the_originals_deleted(api, machine):
    machine.publish("clip_01.mp4", "clip_02.mp4")
    assert machine.report("SUCCEEDED", progress=100).status_code == 200
    assert api.job(machine.job_id)["status"] == "SUCCEEDED"
    clips = api.get(f"/api/jobs/{machine.job_id}/results").json()["clips"]
    assert [clip["file"] for clip in clips] == ["clip_01.mp4", "clip_02.mp4"]
    downloaded = api.client.get(clips[0]["download_url"])
    assert downloaded.content == MP4_CLIP
    assert downloaded.headers["content-type"] == "video/mp4"
    published = sorted(key.rpartition("/")[2] for key in api.bucket.list(f"jobs/{machine.job_id}/"))
    assert published == sorted(["clip_01.mp4", "clip_02.mp4", "manifest.json", *DOCUMENTS])
    assert list(api.bucket.list(granted_root(machine.job_id))) == []


def test_a_repeated_success_is_accepted_and_a_later_failure_refused(api, machine):
    machine.publish("clip_01.mp4")
    assert [machine.report("SUCCEEDED").status_code for _ in range(2)] == [200, 200]
    assert machine.report("FAILED", error="no").status_code == 409
    assert api.job(machine.job_id)["status"] == "SUCCEEDED"


def swaps_a_clip(machine):
    machine.publish("clip_01.mp4")
    machine.api.bucket.put_bytes(machine.root + "clip_01.mp4", MP4_CLIP[:-1] + b"?", "video/mp4")


def loses_a_clip(machine):
    machine.publish("clip_01.mp4")
    machine.api.bucket.delete(machine.root + "clip_01.mp4")


def publishes_no_video(machine):
    machine.publish("clip_01.mp4", clip=b"<html>" + CLIP)


def leaves_no_manifest(machine):
    machine.publish("clip_01.mp4")
    machine.api.bucket.delete(machine.root + "manifest.json")


def lies_about_the_size(machine):
    entry = machine.publish("clip_01.mp4")[0]
    clips = [entry | {"size_bytes": entry["size_bytes"] + 1}]
    machine.api.bucket.put_json(machine.root + "manifest.json", {"job_id": machine.job_id, "clips": clips})


def writes_invalid_json(machine):
    machine.publish("clip_01.mp4")
    machine.api.bucket.put_bytes(machine.root + "transcript.json", b'{"a": 1e999}', "application/json")


def nests_too_deeply(machine):
    machine.publish("clip_01.mp4")
    machine.api.bucket.put_bytes(machine.root + "manifest.json", b"[" * 100_000, "application/json")


def with_clips(**changes):
    def spoils(machine):
        entry = machine.publish("clip_01.mp4")[0] | changes
        document = json.dumps({"job_id": machine.job_id, "clips": [entry]}).encode()
        machine.api.bucket.put_bytes(machine.root + "manifest.json", document, "application/json")

    return spoils


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (swaps_a_clip, "not the file described in the manifest"),
        (loses_a_clip, "clip_01.mp4 is missing"),
        (publishes_no_video, "not the file"),
        (leaves_no_manifest, "manifest.json is missing"),
        (lies_about_the_size, "does not have the size in the manifest"),
        (writes_invalid_json, "transcript.json is not JSON"),
        (nests_too_deeply, "manifest.json is not JSON"),
        (with_clips(file="../other/clip_01.mp4"), "clips that were not requested"),
        (with_clips(file="clip_04.mp4"), "clips that were not requested"),
        (with_clips(duration=45.2), "longer than requested"),
        (with_clips(duration="45"), "malformed"),
        (with_clips(sha256="x"), "malformed"),
        (with_clips(title=5), "malformed"),
        (with_clips(hook="half a character: \ud800"), "malformed"),
        (lambda machine: machine.publish("clip_01.mp4", clips=[]), "malformed"),
        (lambda machine: machine.publish("clip_01.mp4", job_id="kk_other"), "belongs to another job"),
        (lambda machine: machine.publish("clip_01.mp4", clips=[machine.publish("clip_01.mp4")[0]] * 2), "twice"),
    ],
)
def test_invalid_results_fail_the_job_and_publish_no_manifest(api, machine, does, words):
    does(machine)
    refused = machine.report("SUCCEEDED")
    assert (refused.status_code, refused.json()) == (409, {"detail": "job has ended differently"})
    job = api.record(machine.job_id)
    assert job.status is JobState.FAILED
    assert words in job.error
    assert "Start the job again." in job.error
    assert not api.bucket.exists(f"jobs/{machine.job_id}/manifest.json")


def max_bytes(api, name) -> int:
    if name == "manifest.json":
        return MANIFEST_BYTES
    return BYTES_OF[name] + BYTES_OF_SPEECH.get(name, 0) * api.settings.max_source_seconds


def memory_hungry_json(size: int, head: bytes = b"[", tail: bytes = b"[]]") -> bytes:
    """JSON of `size` bytes that takes as much memory as possible: empty lists, 64 bytes for three."""
    inner = b"[]," * ((size - len(head) - len(tail)) // 3)
    return head + inner + b" " * (size - len(head) - len(inner) - len(tail)) + tail


@pytest.mark.parametrize("name", ["manifest.json", *DOCUMENTS])
def test_documents_are_accepted_up_to_their_size_bound(api, machine, name):
    machine.publish("clip_01.mp4")
    document = json.dumps({"job_id": machine.job_id, "clips": machine.publish("clip_01.mp4")}).encode()
    padded = document + b" " * (max_bytes(api, name) + 1 - len(document))
    api.bucket.put_bytes(machine.root + name, padded, "application/json")
    assert machine.report("SUCCEEDED").status_code == 409
    assert f"{name} is too large" in api.record(machine.job_id).error
    again = Machine(api, api.new_job())
    again.publish("clip_01.mp4")
    document = json.dumps({"job_id": again.job_id, "clips": again.publish("clip_01.mp4")}).encode()
    padded = document + b" " * (max_bytes(api, name) - len(document))
    api.bucket.put_bytes(again.root + name, padded, "application/json")
    assert again.report("SUCCEEDED").status_code == 200
    assert api.bucket.get_bytes(f"jobs/{again.job_id}/{name}") == padded


def memory_bytes(line: str) -> int:
    """This process's memory in bytes: `VmRSS`, the current size, or `VmHWM`, the peak since its last reset."""
    found = re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


@pytest.mark.parametrize("size", [None, 60 * 1024**2])
def test_hostile_documents_do_not_fill_the_memory(api, machine, size):
    """With sizes at their bounds and far above. The test's own data is in the same process."""
    machine.publish("clip_01.mp4")
    for name in DOCUMENTS:
        if size is None or name == "transcript.json":
            api.bucket.put_bytes(
                machine.root + name, memory_hungry_json(size or max_bytes(api, name)), "application/json"
            )
    deep = b"[" + (b"[" * 900 + b"]" * 900 + b",") * 30 + b"0]"
    api.bucket.put_bytes(machine.root + "chunks.json", deep, "application/json")
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_bytes("VmRSS")
    assert machine.report("SUCCEEDED").status_code == (409 if size else 200)
    assert memory_bytes("VmHWM") - before < 400 * 1024**2


def test_only_known_fields_of_an_error_are_kept(api, machine):
    deep = b'{"code": "no_speech", "half": "\\ud800", "\\ud800": 1, "more": ' + b"[" * 900 + b"]" * 900 + b"}"
    api.bucket.put_bytes(machine.root + "error.json", deep, "application/json")
    assert machine.report("FAILED", error="No speech was found.").status_code == 200
    assert api.bucket.get_json(f"jobs/{machine.job_id}/error.json") == {"code": "no_speech", "attempt": 1}
    assert api.job(machine.job_id)["error_code"] == "no_speech"


def test_the_error_of_a_failure_is_kept_with_the_job(api, machine):
    api.bucket.put_json(machine.root + "error.json", {"code": "no_speech", "next_step": "Use another.", "attempt": 9})
    assert machine.report("FAILED", error="No speech was found.").status_code == 200
    assert api.job(machine.job_id)["error"] == "No speech was found."
    assert api.bucket.get_json(f"jobs/{machine.job_id}/error.json")["attempt"] == 1


def test_concurrent_reports_of_success_are_checked_once(api, machine):
    machine.publish("clip_01.mp4", "clip_02.mp4", "clip_03.mp4")
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(machine.report("SUCCEEDED").status_code)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200 in answers
    assert set(answers) <= {200, 503}
    assert api.job(machine.job_id)["status"] == "SUCCEEDED"


def test_the_token_of_a_superseded_session_is_refused(api, machine):
    api.grant(machine.job_id)
    assert machine.report("RUNNING").status_code == 401


SUBTITLES = {"srt": "clip_01.srt", "vtt": "clip_01.vtt"}


def publish_with_subtitles(machine, subtitles=SUBTITLES, **contents):
    entry = machine.publish("clip_01.mp4")[0] | {"subtitles": subtitles}
    machine.api.bucket.put_json(machine.root + "manifest.json", {"job_id": machine.job_id, "clips": [entry]})
    for form, name in SUBTITLES.items():
        if (content := contents.get(form, b"WEBVTT\n")) is not None:
            machine.api.bucket.put_bytes(machine.root + name, content, "text/html")


def test_subtitles_are_published_with_our_content_type(api, machine):
    publish_with_subtitles(machine)
    assert machine.report("SUCCEEDED").status_code == 200
    for form, kind in (("srt", "application/x-subrip"), ("vtt", "text/vtt")):
        url = api.bucket.presign(f"jobs/{machine.job_id}/{SUBTITLES[form]}")
        answer = api.client.get(url)
        assert (answer.content, answer.headers["content-type"]) == (b"WEBVTT\n", f"{kind}; charset=utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"srt": None}, "clip_01.srt is missing"),
        ({"vtt": b"\xff\xfe"}, "clip_01.vtt is not UTF-8 text"),
        ({"vtt": b"x" * (SUBTITLE_BYTES + 1)}, "clip_01.vtt is too large"),
        ({"subtitles": {"srt": "clip_02.srt"}}, "belong to no clip"),
        ({"subtitles": {"srt": "manifest.json"}}, "belong to no clip"),
        ({"subtitles": {"exe": "clip_01.exe"}}, "malformed"),
    ],
)
def test_invalid_subtitles_fail_the_job(api, machine, changes, words):
    publish_with_subtitles(machine, **changes)
    assert machine.report("SUCCEEDED").status_code == 409
    assert words in api.record(machine.job_id).error
    assert not api.bucket.exists(f"jobs/{machine.job_id}/manifest.json")


JPEG = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (64, 36, 3)).astype(np.uint8))[1].tobytes()
SIZE_AT = JPEG.index(b"\xff\xc0") + 5
"""Where the picture's height and width are."""


def publish_with_poster(machine, content: bytes | None = JPEG, poster="clip_01.jpg"):
    entry = machine.publish("clip_01.mp4")[0] | {"poster": poster}
    machine.api.bucket.put_json(machine.root + "manifest.json", {"job_id": machine.job_id, "clips": [entry]})
    if content is not None:
        machine.api.bucket.put_bytes(machine.root + "clip_01.jpg", content, "text/html")


def test_a_poster_is_published_with_our_content_type(api, machine):
    publish_with_poster(machine)
    assert machine.report("SUCCEEDED").status_code == 200
    answer = api.client.get(api.bucket.presign(f"jobs/{machine.job_id}/clip_01.jpg"))
    assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")


def of_size(height: int, width: int) -> bytes:
    return JPEG[:SIZE_AT] + height.to_bytes(2) + width.to_bytes(2) + JPEG[SIZE_AT + 4 :]


def encoded(picture: np.ndarray, *settings: int) -> bytes:
    return cv2.imencode(".jpg", picture, settings)[1].tobytes()


NO_POSTERS = {
    "html": b"<html><script>alert(1)</script>",
    "empty": b"",
    "png": cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(),
    "only a head": JPEG[:4],
    "cut off": JPEG[:-2],
    "more after its end": JPEG + b"<script>",
    "a page inside": JPEG[:2] + b"\xff\xfe\x00\x0a<script>" + JPEG[2:],
    "place and time": JPEG[:2] + b"\xff\xe1\x00\x08Exif\x00\x00" + JPEG[2:],
    "a segment without an end": JPEG[:2] + b"\xff\xdb\xff\xff",
    "a segment of no length": JPEG[:2] + b"\xff\xdb\x00\x00" + JPEG[2:],
    "no pixels": of_size(0, 36),
    "a huge picture": of_size(65500, 65500),
    "two frames": JPEG[:2] + JPEG[SIZE_AT - 5 : SIZE_AT + 14] + JPEG[2:],
    "a marker in the scan": JPEG[:-10] + b"\xff\xda" + JPEG[-8:],
    "grey": encoded(np.zeros((8, 8), np.uint8)),
    "progressive": encoded(np.zeros((8, 8, 3), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
}


@pytest.mark.parametrize("name", NO_POSTERS)
def test_only_a_plain_jpeg_is_accepted_as_a_poster(name):
    assert is_plain_jpeg(JPEG)
    assert not is_plain_jpeg(NO_POSTERS[name])


def test_a_cut_or_changed_jpeg_never_breaks_its_check():
    for end in range(len(JPEG)):
        assert not is_plain_jpeg(JPEG[:end])
    random = np.random.default_rng(2)
    for _ in range(3000):
        changed = bytearray(JPEG)
        changed[random.integers(len(JPEG))] = random.integers(256)
        assert is_plain_jpeg(bytes(changed)) in (True, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"content": None}, "clip_01.jpg is missing"),
        ({"content": NO_POSTERS["html"]}, "clip_01.jpg is not a plain JPEG picture"),
        ({"content": JPEG + b"x" * POSTER_BYTES}, "clip_01.jpg is too large"),
        ({"poster": "clip_02.jpg"}, "a poster that belongs to no clip"),
        ({"poster": "manifest.json"}, "a poster that belongs to no clip"),
        ({"poster": ""}, "a poster that belongs to no clip"),
        ({"poster": 5}, "malformed"),
    ],
)
def test_an_invalid_poster_fails_the_job(api, machine, changes, words):
    publish_with_poster(machine, **changes)
    assert machine.report("SUCCEEDED").status_code == 409
    assert words in api.record(machine.job_id).error
    assert not api.bucket.exists(f"jobs/{machine.job_id}/manifest.json")
