"""Rented machines reuse sources that our own runs have cached, but not the other way round."""

import uuid

import pytest

from infra.bucket import background_transfers
from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef
from infra.settings import Settings
from tasks.core.object_keys import alias_key, cache_entry, transcript_key, use_key
from tasks.core.request import ClipRequest
from tasks.download import _engine_options, _shared_media
from tasks.options import SourceOptions
from tasks.workspace import Workspace
from tests.folders import MEDIA
from tests.media_server import MediaServer, file

SHORT = MEDIA / "short.mp4"


@pytest.fixture(scope="module")
def site():
    with MediaServer() as server:
        for name in ("ours", "theirs"):
            server.pages[f"/{name}.mp4"] = file(SHORT.read_bytes(), etag=f'"{name}"')
        yield server


@pytest.fixture
def download(api, site, tmp_path):
    """Runs DOWNLOAD on a video of the site, here or as a rented machine; gives entry, `reused` and workspace."""

    def run(name, *, rented):
        request = ClipRequest(video_url=f"http://127.0.0.1:{site.port}/{name}.mp4")
        job_id = new_job_id()
        api.jobs.create(job_id, request.model_dump_json(exclude_none=True))
        api.jobs.set_run(job_id, 1, str(uuid.uuid4()))
        here = {"data_dir": tmp_path / job_id, "allow_private_addresses": True}
        settings = api.settings.model_copy(update=here)
        if rented:
            settings = Settings(KANGKLIP_ACCESS=api.access(job_id).model_dump_json()).model_copy(update=here)
        work = Workspace(JobRef(job_id=job_id, attempt=1), settings, lambda *_: None)
        options = _engine_options(SourceOptions(max_fps=30), request, work)
        entry, _, reused = _shared_media(request, options, work)
        background_transfers.wait_all(work.folder)
        return entry, reused, work

    return run


def test_a_rented_machine_reuses_what_we_have_cached(api, download, site):
    ours, reused, _ = download("ours", rented=False)
    assert not reused
    downloads = site.request_counts["/ours.mp4"]
    theirs, reused, work = download("ours", rented=True)
    assert (theirs, reused) == (ours, True)
    assert site.request_counts["/ours.mp4"] - downloads <= 2  # HEAD requests
    assert work.fetch(theirs.audio).stat().st_size == ours.audio.size
    mark = use_key(cache_entry(theirs.audio.key), work.job.job_id)
    assert api.bucket.exists(mark), "the source would be deleted with the other job"
    transcript = transcript_key(ours.audio.sha256, "0" * 64)
    assert not work.store.exists(transcript)
    api.bucket.put_json(transcript, {"heard": True})
    assert work.store.get_json(transcript) == {"heard": True}
    assert {key.split("/")[3] for key in api.bucket.list(f"granted/{work.job.job_id}/cache/")} == {"urls"}


def test_nobody_else_reuses_what_a_rented_machine_has_cached(api, download):
    theirs, reused, work = download("theirs", rented=True)
    assert not reused
    assert work.store.has_all([theirs.video, theirs.audio])
    assert not api.bucket.exists(alias_key(api.jobs.get(work.job.job_id).request["video_url"]))
    assert not api.bucket.has_all([theirs.audio])
    assert download("theirs", rented=False)[1] is False
