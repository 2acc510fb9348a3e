"""Sources of recent jobs are kept on this machine within limits, and never on a rented one."""

import os
import time

import pytest
from pydantic import SecretStr

from infra.errors import ObjectMissing
from infra.granted.access import Access
from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef
from infra.jobs.store import JobStore
from tasks import kept_sources
from tasks.core.media import MediaInfo
from tasks.kept_sources import KEPT_SECONDS, drop_old, forget, forget_deleted, keep, take
from tasks.records import SourceRecord
from tasks.workspace import Workspace


@pytest.fixture
def file(tmp_path):
    def make(name, size=10):
        path = tmp_path / "work" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"s" * size)
        return path

    return make


def kept_names(data_dir):
    return {path.name for path in data_dir.glob("sources/*/*")}


def test_a_kept_file_outlives_its_work_folder_and_is_taken_by_its_job_only(tmp_path, file):
    path = file("a.mp4")
    keep("one", path, tmp_path)
    path.unlink()
    assert not take("other", path, 10, tmp_path)
    assert take("one", path, 10, tmp_path)
    assert take("one", path, 10, tmp_path), "it is there already"
    assert path.read_bytes() == b"s" * 10


def test_a_file_that_was_cut_short_is_not_taken(tmp_path, file):
    path = file("a.mp4", 9)
    keep("one", path, tmp_path)
    path.unlink()
    assert not take("one", path, 10, tmp_path)
    assert not path.exists()
    assert kept_names(tmp_path) == set()


def test_others_may_not_list_the_jobs(tmp_path, file):
    keep("one", file("a.mp4"), tmp_path)
    assert (tmp_path / "sources").stat().st_mode & 0o077 == 0


def test_a_source_that_is_too_large_drops_no_other(tmp_path, file, monkeypatch):
    monkeypatch.setattr(kept_sources, "KEPT_BYTES", 25)
    keep("one", file("a.mp4", 20), tmp_path)
    keep("two", file("b.mp4", 26), tmp_path)
    assert kept_names(tmp_path) == {"a.mp4"}


def test_what_cannot_be_kept_is_logged_and_stops_nobody(tmp_path, file, caplog):
    (tmp_path / "sources" / "one" / "a folder").mkdir(parents=True)
    os.utime(tmp_path / "sources" / "one" / "a folder", (0, 0))
    drop_old(tmp_path)
    (tmp_path / "sources" / "two").write_text("no folder")
    path = file("a.mp4")
    keep("two", path, tmp_path)
    assert not take("two", path, 10, tmp_path)
    assert caplog.text.count("Sources are not kept: ") == 3


def test_a_machine_that_has_kept_nothing_yet_has_nothing_to_log(tmp_path, caplog):
    drop_old(tmp_path / "not made yet")
    assert not caplog.records


def test_nothing_is_kept_of_a_job_that_another_machine_has_deleted(tmp_path, file, servers):
    jobs = JobStore.from_settings(servers.settings)
    deleted, other = new_job_id(), new_job_id()
    for job_id in (deleted, other):
        jobs.create(job_id, "{}")
        keep(job_id, file(f"{job_id}.mp4"), tmp_path)
    jobs.cancel(deleted, 1)
    assert jobs.begin_deletion(deleted)
    jobs.end_deletion(deleted)
    forget_deleted(tmp_path, jobs)
    assert kept_names(tmp_path) == {f"{other}.mp4"}


def test_a_deleted_job_keeps_nothing(tmp_path, file):
    for job_id in ("one", "other"):
        keep(job_id, file(f"{job_id}.mp4"), tmp_path)
    forget("one", tmp_path)
    forget("unknown", tmp_path)
    assert kept_names(tmp_path) == {"other.mp4"}


def test_what_nobody_used_for_a_day_is_dropped_with_its_folder(tmp_path, file):
    path = file("a.mp4")
    keep("one", path, tmp_path)
    ago = time.time() - KEPT_SECONDS
    os.utime(path, (ago + 60, ago + 60))
    drop_old(tmp_path)
    assert kept_names(tmp_path) == {"a.mp4"}
    os.utime(path, (ago - 60, ago - 60))
    drop_old(tmp_path)
    assert list(tmp_path.glob("sources/*")) == []


def test_the_least_recently_used_files_go_first(tmp_path, file, monkeypatch):
    monkeypatch.setattr(kept_sources, "KEPT_BYTES", 25)
    for age, name in ((30, "a.mp4"), (20, "b.mp4")):
        path = file(name)
        keep("one", path, tmp_path)
        os.utime(path, (time.time() - age,) * 2)
    keep("one", tmp_path / "work" / "a.mp4", tmp_path)  # used again
    keep("two", file("c.mp4"), tmp_path)
    assert kept_names(tmp_path) == {"a.mp4", "c.mp4"}


def test_a_tenth_of_the_free_space_is_kept_at_most(tmp_path, file, monkeypatch):
    usage = kept_sources.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(kept_sources.shutil, "disk_usage", lambda _: usage._replace(free=90))
    keep("one", file("a.mp4", 9), tmp_path)
    assert kept_names(tmp_path) == {"a.mp4"}
    keep("one", file("b.mp4", 8), tmp_path)
    assert kept_names(tmp_path) == {"b.mp4"}
    assert (tmp_path / "work" / "a.mp4").is_file(), "the run goes on with its own file"


@pytest.mark.parametrize("is_rented", [False, True])
def test_another_run_of_the_job_needs_no_bucket_except_on_a_rented_machine(tmp_path, servers, store, is_rented):
    """A rented machine is a stranger's, and keeps nothing."""
    job_id = new_job_id()
    media = {name: store.put_bytes(f"cache/media/{job_id}/{name}", name.encode(), "x/y") for name in ("video", "audio")}
    source = SourceRecord(artifacts=media, info=MediaInfo(duration=1, size_bytes=1, container="mp4"))
    access = Access(
        url="http://127.0.0.1:9", token="t", job_id=job_id, attempt=1, bucket="b", root=f"granted/{job_id}/"
    )
    update = {"data_dir": tmp_path, "access": SecretStr(access.model_dump_json()) if is_rented else None}
    configured = servers.settings.model_copy(update=update)

    def footage(attempt):
        work = Workspace(JobRef(job_id=job_id, attempt=attempt), configured, lambda *_: None)
        work.store = store
        return work.footage(source)

    assert footage(1).audio.read_bytes() == b"audio"
    for ref in media.values():
        store.delete(ref.key)
    if is_rented:
        with pytest.raises(ObjectMissing):
            footage(2)
        assert kept_names(tmp_path) == set()
    else:
        assert footage(2).audio.read_bytes() == b"audio"
