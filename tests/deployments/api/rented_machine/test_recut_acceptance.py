"""What a rented machine draws for a recut is published after checks; everything else is computed on our side."""

import hashlib
import json
import uuid
from typing import Any

import pytest

from infra.errors import StoreError
from infra.granted.access import granted_root
from infra.states import JobState
from tasks.core.edit.document import EditDocument
from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import free_port
from tests.deployments.api.rented_machine.test_report import JPEG
from tests.deployments.api.routes.test_edit import finished, read
from tests.editable_job import content

MP4 = b"\x00\x00\x00\x18ftypisom" + b"drawn again " * 500
NAMES = [f"clip_{n:02d}.{kind}" for n in (1, 2) for kind in ("jpg", "mp4", "srt", "vtt")]
DOCUMENTS = ["edit.json", "edl.json", "face_log.json", "manifest.json"]


class Machine:
    """A rented machine that draws the clip which somebody has changed: the second in a new order, now the first."""

    def __init__(self, api):
        self.api, self.job_id = api, finished(api)
        document = read(api, self.job_id)
        changed, kept = document["clips"][1], document["clips"][0]
        changed["segments"][0]["end"] -= 5
        changed["title"] = "Shorter"
        document["clips"] = [changed, kept]
        answer = api.client.put(f"/api/jobs/{self.job_id}/edit", json=document, headers={"If-Match": '"1"'})
        assert answer.status_code == 202, answer.text
        run_id = api.record(self.job_id).recut.flow_run_id
        api.jobs.recuts.open(self.job_id, 2, 1, run_id, api.jobs.leases, lease=False)
        self.before = self.published()
        answer = api.redeem(api.recut_grant(self.job_id))
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access"]["token"]
        self.root = f"{granted_root(self.job_id)}jobs/{self.job_id}/"

    def entry(self, **changes: Any) -> dict[str, Any]:
        clip = {"index": 1, "title": "Mine", "hook": "", "segments": [{"start": 1, "end": 26, "text": "mine"}]}
        entry = {
            "clip": clip, "file": "clip_01.mp4", "poster": "clip_01.jpg", "duration": 25.04, "size_bytes": len(MP4),
            "sha256": hashlib.sha256(MP4).hexdigest(), "checks": [], "encoder": "h264_nvenc", "encoder_reason": "",
            "gain_db": 1.5, "subtitles": {"srt": "clip_01.srt", "vtt": "clip_01.vtt"}, "warnings": ["as drawn"],
        }  # fmt: skip
        return entry | changes

    def draw(self, *, clip: bytes = MP4, entries: list[Any] | None = None, **more: Any) -> None:
        """Store what the flow leaves under the granted root; `more` are fields of the list of clips."""
        folder = f"{self.root}revisions/2/"
        self.api.bucket.put_bytes(f"{folder}clip_01.mp4", clip, "text/html")
        self.api.bucket.put_bytes(f"{folder}clip_01.jpg", JPEG, "text/html")
        for form in ("srt", "vtt"):
            self.api.bucket.put_bytes(f"{folder}clip_01.{form}", b"said", "text/html")
        drawn = {"clips": [self.entry()] if entries is None else entries, "face_log": {"clips": [{"index": 1}]}}
        text = json.dumps(drawn | {"seconds": 12.5} | more).encode()
        self.api.bucket.put_bytes(f"{folder}drawn.json", text, "application/json")

    def report(self, status: str, **more: Any) -> Any:
        return self.api.callback(self.job_id, status, token=self.token, revision=2, **more)

    def published(self) -> dict[str, bytes]:
        """What readers of the bucket see in the job's own folder."""
        keys = [job_key(self.job_id, name) for name in NAMES + DOCUMENTS]
        return {key: self.api.bucket.get_bytes(key) for key in keys if self.api.bucket.exists(key)}

    def titles(self, query: str = "") -> list[str]:
        answer = self.api.get(f"/api/jobs/{self.job_id}/results{query}")
        return [clip["title"] for clip in answer.json()["clips"]]

    def recut(self) -> Any:
        return self.api.record(self.job_id).recut


@pytest.fixture
def machine(api) -> Machine:
    return Machine(api)


def test_the_machine_gets_what_it_reads_and_no_clips(api, machine):
    files = [key.removeprefix(machine.root) for key in api.bucket.list(machine.root)]
    source = f"cache/media/{machine.job_id}"
    of_job = ["edit.json", "edl.json", "manifest.json", "transcript.json", "video_stats.json"]
    of_recut = ["revisions/2/edit.json", "revisions/2/handover.json", f"records/uses/{source}"]
    assert sorted(files) == sorted([*of_job, *of_recut])
    told = api.bucket.get_json(f"{machine.root}revisions/2/handover.json")
    assert told == {"published": None, "request": api.record(machine.job_id).request}
    # The source's media are read from the shared cache, where a trusted run has put them.
    assert api.bucket.exists(f"{granted_root(machine.job_id)}{source}/source-4.json")
    headers = {"authorization": f"Bearer {machine.token}"}

    def read_by_machine(key: str) -> Any:
        path = f"/{api.settings.r2_bucket}/{key}"
        signed = api.post("/api/worker/objects", json={"method": "GET", "path": path}, headers=headers)
        return api.client.get(signed.json()["url"]) if signed.status_code == 200 else signed

    assert read_by_machine(f"{granted_root(machine.job_id)}{source}/video.mp4").content == b"video of the source"
    assert read_by_machine(f"jobs/{machine.job_id}/clip_01.mp4").status_code == 403
    other = finished(api)
    assert read_by_machine(f"{granted_root(machine.job_id)}cache/media/{other}/video.mp4").status_code == 404


def test_drawn_clips_are_published_with_our_words_and_kept_ones_from_the_revision_before(api, machine):
    machine.draw()
    assert machine.report("RUNNING", progress=40).status_code == 200
    assert machine.report("SUCCEEDED", progress=100).status_code == 200
    job = api.record(machine.job_id)
    assert (job.status, job.revision, job.recut.state) == (JobState.SUCCEEDED, 2, JobState.SUCCEEDED)
    first, second = api.get(f"/api/jobs/{machine.job_id}/results").json()["clips"]
    assert (first["title"], second["title"]) == ("Shorter", "t")
    assert api.get(first["stream_url"]).content == MP4
    assert api.client.get(first["download_url"]).headers["content-type"] == "video/mp4"
    assert api.get(second["stream_url"]).content == content(1)
    manifest = api.bucket.get_json(job_key(machine.job_id, "manifest.json"))
    drawn, kept = manifest["clips"]
    assert (drawn["segments"][0]["start"], drawn["end"], drawn["duration"]) == (100, 125, 25.04)
    assert (drawn["encoder"], drawn["gain_db"], drawn["sha256"]) == ("h264_nvenc", 1.5, hashlib.sha256(MP4).hexdigest())
    assert (kept["file"], kept["poster"], kept["duration"]) == ("clip_02.mp4", "clip_02.jpg", 30)
    assert manifest["warnings"] == ["clip 1: as drawn"]
    assert manifest["timings"]["RECUT"] == 12.5
    folder = {key.rpartition("/")[2]: key for key in api.bucket.list(job_key(machine.job_id, "revisions/2/"))}
    assert sorted(folder) == sorted(NAMES + DOCUMENTS)
    assert {name: api.bucket.get_bytes(key) for name, key in folder.items()} == {
        key.rpartition("/")[2]: found for key, found in machine.published().items()
    }
    assert EditDocument.model_validate_json(machine.published()[job_key(machine.job_id, "edit.json")]).revision == 2
    assert list(api.bucket.list(granted_root(machine.job_id))) == []
    assert [api.bucket.get_bytes(job_key(machine.job_id, f"revisions/1/clip_0{n}.mp4")) for n in (1, 2)] == [
        content(1),
        content(2),
    ]


def test_a_repeated_success_is_accepted_and_a_later_failure_refused(machine):
    machine.draw()
    assert [machine.report("SUCCEEDED").status_code for _ in range(2)] == [200, 200]
    assert machine.report("FAILED", error="no").status_code == 409
    assert machine.recut().state is JobState.SUCCEEDED


def foreign_documents(machine):
    """What it writes besides the drawn clips is not read at all."""
    machine.draw()
    for name in ("edit.json", "edl.json", "manifest.json", "revisions/2/edit.json", "revisions/2/manifest.json"):
        machine.api.bucket.put_json(machine.root + name, {"clips": [{"title": "Buy this"}]})
    machine.api.bucket.put_bytes(machine.root + "revisions/2/clip_02.mp4", MP4, "video/mp4")


def test_documents_and_clips_that_the_machine_did_not_have_to_write_are_not_read(api, machine):
    foreign_documents(machine)
    assert machine.report("SUCCEEDED").status_code == 200
    assert machine.titles() == [
        "Shorter",
        "t",
    ]
    assert b"Buy this" not in b"".join(machine.published().values())
    assert machine.published()[job_key(machine.job_id, "clip_02.mp4")] == content(1)


def with_entries(*changes: dict[str, Any], **more: Any):
    return lambda machine: machine.draw(entries=[machine.entry(**change) for change in changes], **more)


def of_clip(index: Any) -> dict[str, Any]:
    return {"clip": {"index": index, "title": "", "hook": "", "segments": []}}


def loses_a_file(name):
    def loses(machine):
        machine.draw()
        machine.api.bucket.delete(f"{machine.root}revisions/2/{name}")

    return loses


def writes(name, data):
    def spoils(machine):
        machine.draw()
        machine.api.bucket.put_bytes(f"{machine.root}revisions/2/{name}", data, "text/plain")

    return spoils


SPOILED = [
    (lambda machine: machine.draw(clip=MP4[:-1] + b"?"), "not the file described"),
    (with_entries({"sha256": "0" * 64}), "not the file described"),
    (with_entries({"sha256": "x"}), "malformed"),
    (with_entries({"size_bytes": len(MP4) + 1}), "does not have the size"),
    (with_entries({"size_bytes": 2**40}), "malformed"),
    (loses_a_file("clip_01.mp4"), "clip_01.mp4 is missing"),
    (loses_a_file("clip_01.jpg"), "clip_01.jpg is missing"),
    (loses_a_file("clip_01.vtt"), "clip_01.vtt is missing"),
    (loses_a_file("drawn.json"), "drawn.json is missing"),
    (writes("clip_01.jpg", b"<svg/>"), "not a plain JPEG"),
    (writes("clip_01.srt", b"\xff\xfe"), "not UTF-8"),
    (writes("drawn.json", b"[" * 100_000), "is not JSON"),
    (writes("drawn.json", b" " * 5 * 1024**2), "too large"),
    (writes("drawn.json", b'{"clips": [], "seconds": 1e999}'), "is not JSON"),
    (with_entries({"duration": 30.0}), "length"),
    (with_entries({"duration": 25.2}), "length"),
    (with_entries({"duration": "long"}), "malformed"),
    (with_entries(), "not drawn the clips"),
    (with_entries({}, {}), "not drawn the clips"),
    (with_entries({}, of_clip(2)), "not drawn the clips"),
    (with_entries(of_clip(3)), "not drawn the clips"),
    (with_entries(of_clip(-1)), "not drawn the clips"),
    (with_entries(of_clip("../../x")), "malformed"),
    (with_entries({}, face_log={}), "face log is malformed"),
    (with_entries({}, face_log={"clips": [{"index": "1"}]}), "face log is malformed"),
    (with_entries({}, face_log={"clips": [{"index": 2}]}), "face log is about other clips"),
    (with_entries({"encoder": "half a character: \ud800"}), "malformed"),
    (with_entries({"warnings": ["x" * 1_100_000]}), "too large"),
]


@pytest.mark.parametrize(("does", "words"), SPOILED, ids=range(len(SPOILED)))
def test_rejected_output_fails_the_recut_and_leaves_the_published_clips(api, machine, does, words):
    does(machine)
    refused = machine.report("SUCCEEDED")
    assert (refused.status_code, refused.json()) == (409, {"detail": "job has ended differently"})
    job = api.record(machine.job_id)
    assert (job.status, job.error, job.revision, job.recut.state) == (JobState.SUCCEEDED, None, None, JobState.FAILED)
    assert words in job.recut.error
    assert job.recut.error.startswith("The rented machine's output was rejected: ")
    assert job.recut.error.endswith("Send the document again. The published clips are as they were.")
    assert machine.published() == machine.before
    assert machine.titles() == ["t", "t"]


def test_the_next_recut_deletes_what_a_rejected_one_has_left(api, machine):
    machine.draw(entries=[machine.entry(sha256="0" * 64)])
    machine.report("SUCCEEDED")
    document = read(api, machine.job_id)
    api.client.put(f"/api/jobs/{machine.job_id}/edit", json=document, headers={"If-Match": '"1"'})
    recut = machine.recut()
    api.jobs.recuts.open(machine.job_id, 3, 1, recut.flow_run_id, api.jobs.leases, lease=False)
    token = api.redeem(api.recut_grant(machine.job_id)).json()["access"]["token"]
    key = f"{machine.root}revisions/3/drawn.json"
    api.bucket.put_json(key, {"clips": [], "face_log": {"clips": []}, "seconds": 1.0})
    assert api.callback(machine.job_id, "SUCCEEDED", token=token).status_code == 200
    assert api.record(machine.job_id).revision == 3
    assert list(api.bucket.list(job_key(machine.job_id, "revisions/2/"))) == []


@pytest.mark.parametrize("how", ["ended", "deleted"])
def test_a_recut_that_is_ended_while_it_is_checked_publishes_nothing(api, machine, monkeypatch, how):
    machine.draw()
    from deployments.api.rented_machine import recut_acceptance

    check = recut_acceptance.check_servable

    def ended_meanwhile(document):
        api.jobs.recuts.end(machine.job_id, 2, 1, JobState.FAILED, "Ended by somebody.")
        if how == "deleted":
            with pytest.raises(Exception, match="has not stopped yet"):
                api.jobs.begin_deletion(machine.job_id)
        check(document)

    monkeypatch.setattr(recut_acceptance, "check_servable", ended_meanwhile)
    assert machine.report("SUCCEEDED").status_code == 409
    assert api.record(machine.job_id).revision is None
    assert machine.published() == machine.before
    assert not api.jobs.leases.is_held(machine.job_id)


def test_only_one_change_of_the_clips_is_published_at_a_time(api, machine):
    machine.draw()
    assert api.jobs.leases.hold(machine.job_id)
    busy = machine.report("SUCCEEDED")
    assert (busy.status_code, busy.json()["detail"]) == (503, "clips are being checked; try again")
    assert machine.recut().state is JobState.RUNNING
    api.jobs.leases.release(machine.job_id)
    assert machine.report("SUCCEEDED").status_code == 200


class MortalBucket:
    """The bucket of an API process that dies before its n-th write."""

    def __init__(self, bucket, left):
        self._bucket, self.left = bucket, left

    def __getattr__(self, name):
        method = getattr(self._bucket, name)
        if name not in ("put_bytes", "put_json", "copy", "delete"):
            return method

        def mortal(*args, **named):
            self.left -= 1
            if self.left == 0:
                raise StoreError("the process has died")
            return method(*args, **named)

        return mortal


def test_an_api_that_dies_at_any_write_leaves_one_whole_revision_and_is_repeated(api, machine):
    """Every write in turn, until one attempt gets through; readers see the old revision or the new one."""
    from deployments.api.rented_machine.recut_acceptance import accept_recut
    from infra.jobs.record import JobRef

    machine.draw()
    run, seen = JobRef(job_id=machine.job_id, attempt=1, revision=2), []
    for left in range(1, 200):
        try:
            accept_recut(run, api.jobs, MortalBucket(api.bucket, left))
        except StoreError:
            assert machine.titles("?revision=1") == ["t", "t"]
            job = api.record(machine.job_id)
            folder = f"revisions/{job.revision}/" if job.revision else ""
            assert api.bucket.exists(job_key(machine.job_id, f"{folder}manifest.json"))
            seen.append(job.revision)
        else:
            break
    assert seen == sorted(seen, key=lambda revision: revision or 0)
    assert set(seen) == {None, 1, 2}
    assert machine.report("SUCCEEDED").status_code == 200
    assert machine.published()[job_key(machine.job_id, "clip_01.mp4")] == MP4


def test_a_lost_bucket_leaves_the_grants_container_to_ask_again(serve, api):
    """The session is new each time; nothing counts as theft."""
    job_id = finished(api)
    api.jobs.recuts.begin(job_id, 1)
    api.jobs.recuts.open(job_id, 2, 1, str(uuid.uuid4()), api.jobs.leases, lease=False)
    away = serve(r2_endpoint=f"http://127.0.0.1:{free_port()}")
    grant, nonce = api.recut_grant(job_id), "the-nonce-of-a-container"
    assert away.redeem(grant, nonce).status_code == 502
    assert api.redeem(grant, nonce).status_code == 200
    assert api.record(job_id).recut.state is JobState.RUNNING
