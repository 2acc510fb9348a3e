"""Housekeeping deletes what is old and unused, nothing else, and says beforehand what it would delete."""

import time
import uuid

import pytest
from pydantic import SecretStr

from infra.bucket.store import ArtifactStore
from infra.granted.access import granted_root
from infra.jobs import schema
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState
from tasks.core.object_keys import job_key, source_key, transcript_key
from tasks.housekeeping import DAY_SECONDS, clean, markdown
from tasks.shared_cache import mark_use

DAYS = 30


class Shop:
    """A bucket and a database of its own, in which everything else is as old as the test wants."""

    def __init__(self, configured):
        self.settings = configured
        self.jobs, self.bucket = JobStore.from_settings(configured), ArtifactStore.from_settings(configured)
        self.bucket.ensure_bucket()

    def job(self, *sources, ended=True, record=True):
        """A job that used these sources of the shared cache."""
        job_id = new_job_id()
        if record:
            self.jobs.create(job_id, "{}")
        if record and ended:
            self.jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED))
        self.bucket.put_bytes(job_key(job_id, "clip_01.mp4"), bytes(1000), "video/mp4")
        for key in sources:
            mark_use(key, job_id, self.bucket)
        return job_id

    def source(self):
        digest = uuid.uuid4().hex * 2
        self.bucket.put_bytes(f"cache/media/{digest}/video-1.mp4", bytes(5000), "video/mp4")
        self.bucket.put_json(source_key(digest), {})
        return source_key(digest)

    def clean(self, days_later, days=DAYS, **options):
        return clean(self.jobs, self.bucket, days, time.time() + days_later * DAY_SECONDS, **options)

    def age(self, job_id, days_later):
        """Let the job have ended so many days from now."""
        at = time.time() + days_later * DAY_SECONDS
        self.jobs.connection.client.hset(f"kangklip:job:{job_id}", "updated_at", f"{at:.3f}")

    def exists(self, *keys):
        return [self.bucket.exists(key) for key in keys]


@pytest.fixture
def shop(servers):
    url = servers.settings.redis_url.get_secret_value().removesuffix("/0") + "/6"
    own = {"redis_url": SecretStr(url), "r2_bucket": f"housekeeping-{uuid.uuid4().hex[:8]}"}
    with schema.maintenance_client(url) as client:
        client.flushdb()
        yield Shop(servers.settings.model_copy(update=own))
        client.flushdb()


def test_what_is_recent_is_kept(shop):
    job_id = shop.job(source := shop.source())
    shop.bucket.put_json(granted_root(job_id) + "x.json", {})
    report = shop.clean(days_later=6)
    assert [one.count for one in (report.jobs, report.cache, report.machines, report.unfinished)] == [0, 0, 0, 0]
    assert shop.exists(job_key(job_id, "clip_01.mp4"), source, granted_root(job_id) + "x.json") == [True] * 3


def test_a_dry_run_deletes_nothing_and_foretells_the_numbers(shop):
    only_old, shared, unused = shop.source(), shop.source(), shop.source()
    old, expired, young = shop.job(only_old), shop.job(only_old, record=False), shop.job(shared)
    running = shop.job(running_source := shop.source(), ended=False)
    mark_use(shared, old, shop.bucket)
    shop.age(young, days_later=20)
    before = [*shop.bucket.list("")]
    foretold = shop.clean(days_later=DAYS + 1, dry_run=True)
    assert [*shop.bucket.list("")] == before
    assert shop.jobs.get(old)

    report = shop.clean(days_later=DAYS + 1)

    assert report == foretold.model_copy(update={"dry_run": False})
    assert (report.jobs.count, report.jobs.objects) == (2, 4), "two clips, and the source that only they used"
    assert (report.cache.count, report.cache.objects) == (1, 2)
    assert (shop.jobs.get(old), shop.jobs.was_deleted(old)) == (None, True)
    assert [*shop.bucket.list(f"jobs/{old}/"), *shop.bucket.list(f"jobs/{expired}/")] == []
    assert shop.exists(only_old, unused, shared, running_source) == [False, False, True, True]
    assert shop.jobs.get(young)
    assert shop.jobs.get(running)
    assert shop.clean(days_later=DAYS + 1).jobs.count == 0


def test_output_of_machines_is_deleted_after_a_week_unless_the_job_goes_on(shop):
    ended, running, gone = shop.job(), shop.job(ended=False), new_job_id()
    keys = [granted_root(job_id) + "cache/media/x/video.mp4" for job_id in (ended, running, gone)]
    for key in keys:
        shop.bucket.put_bytes(key, bytes(100), "video/mp4")
    report = shop.clean(days_later=8)
    assert (report.machines.count, report.machines.size) == (2, 200)
    assert shop.exists(*keys) == [False, True, False]


def test_a_deletion_that_failed_midway_is_finished_even_without_a_limit(shop):
    job_id, other = shop.job(source := shop.source()), shop.job()
    assert shop.jobs.begin_deletion(job_id)
    report = shop.clean(days_later=1000, days=0)
    assert (report.unfinished.count, report.unfinished.objects) == (1, 3)
    assert shop.jobs.unfinished_deletions() == {}
    assert shop.exists(source, job_key(job_id, "clip_01.mp4"), job_key(other, "clip_01.mp4")) == [False, False, True]
    assert shop.jobs.get(other)


def test_old_marks_do_not_keep_a_transcript_for_ever(shop):
    key = transcript_key("a" * 64, "b" * 64)
    shop.bucket.put_json(key, {})
    mark_use(key, new_job_id(), shop.bucket)
    for leftover in list(shop.bucket.list("jobs/")):
        shop.bucket.delete(leftover)
    assert shop.clean(days_later=DAYS + 1).cache.count == 1
    assert [*shop.bucket.list("")] == []


def test_the_report_names_counts_and_sizes(shop):
    shop.job(shop.source())
    shown = markdown(shop.clean(days_later=DAYS + 1, dry_run=True))
    assert "Kept for 30 days. Dry run: nothing was deleted." in shown
    assert "| jobs, with what only they used | 1 | 3 | 0.0 MB |" in shown
    assert "RETENTION_DAYS is not set." in markdown(shop.clean(days_later=0, days=0))


def test_the_flow_shows_its_report_as_an_artifact(stack, shop, monkeypatch):
    from prefect.logging.handlers import APILogHandler

    from flows.housekeeping import housekeeping
    from tests.prefect_client import prefect_client

    monkeypatch.setenv("REDIS_URL", shop.settings.redis_url.get_secret_value())
    monkeypatch.setenv("R2_BUCKET", shop.settings.r2_bucket)
    monkeypatch.setenv("RETENTION_DAYS", "30")
    shop.age(old := shop.job(record=True), days_later=-31)
    assert housekeeping(dry_run=True)["jobs"]["count"] == 1
    assert shop.jobs.get(old)
    assert housekeeping()["jobs"]["count"] == 1
    APILogHandler().flush()  # before the server stops
    assert shop.jobs.get(old) is None
    with prefect_client(stack.settings.prefect_api_url + "/") as server:
        wanted = {"artifacts": {"key": {"any_": ["housekeeping"]}}, "sort": "CREATED_DESC", "limit": 1}
        (shown,) = server.post("artifacts/filter", json=wanted).raise_for_status().json()
    assert "| deleted | count | objects | size |" in shown["data"]
