"""Batches in separate processes against the Prefect server, with a quick stand-in for the flow `clip`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from infra.errors import ConfigError, SubmitError
from infra.jobs.batches import BatchMemory
from infra.jobs.store import JobStore
from infra.states import JobState
from tasks.core.errors import SourceNotFound
from tasks.core.source.batch import BatchRequest
from tests import media_server as serve
from tests.media_server import MediaServer

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def environment(stack):
    return os.environ | stack.environment() | {"PYTHONPATH": str(ROOT), "ALLOW_PRIVATE_ADDRESSES": "1"}


@pytest.fixture(scope="module")
def database(stack):
    return redis.Redis.from_url(stack.settings.redis_url.get_secret_value(), decode_responses=True)


@pytest.fixture(scope="module")
def runner(environment, tmp_path_factory):
    """Runs the deployment `clip/stand-in` for the tests of this module."""
    yield from stand_in_runner(environment, tmp_path_factory.mktemp("runner"))


def stand_in_runner(environment, folder, *arguments, deployment="clip/stand-in"):
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    command = [sys.executable, str(HERE / "stand_in_clip.py"), *arguments]
    with (folder / "log").open("wb") as log, get_client(sync_client=True) as client:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.read_deployment_by_name(deployment)
                    break
                except ObjectNotFound:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start_batch(environment, **fields):
    request = {"deployment": "clip/stand-in", "name": f"batch-{uuid4().hex[:12]}"} | fields
    command = [sys.executable, str(HERE / "run_batch.py"), json.dumps(request)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process, seconds=200):
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def talk_urls(count, bad=()):
    return [f"https://example.org/{n}.{'bad' if n in bad else 'mp4'}" for n in range(count)]


def reports(store):
    return [store.get_json(key) for key in store.list("batches/")]


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_fewer(count, most, seconds):
    """Wait until `count` returns at most `most`. It may stay the same for `seconds`."""
    while (now := count()) > most:
        wait_until(lambda before=now: count() != before, seconds)


def run_overlapping_batches_and_kill_one(environment, stack, store, database, seconds=200, **more):
    """Run a batch of 20 twice at once and kill one of the two midway. No job may take longer than `seconds`."""
    name = f"nightly-{uuid4().hex[:8]}"
    fields = {"name": name, "urls": talk_urls(20, bad=(2, 9, 17)), "concurrency": 4} | more
    database.delete("stand-in:runs")
    memory = BatchMemory.from_settings(stack.settings, name)
    first, second = start_batch(environment, **fields), start_batch(environment, **fields)
    wait_until(lambda: database.hlen(f"kangklip:batch:{name}:jobs") == 20, seconds)
    wait_for_fewer(lambda: len(memory.open_entries()), 17, seconds)
    first.kill()
    first.communicate()
    left = len(memory.open_entries())
    assert 0 < left < 20, "it was killed before or after the work"
    wait_for_fewer(lambda: 0 if second.poll() is not None else len(memory.open_entries()), 0, seconds)
    code, output = finish(second, seconds)
    assert code == 0, output

    jobs = JobStore.from_settings(stack.settings)
    ran = database.lrange("stand-in:runs", 0, -1)
    ours = set(database.hvals(f"kangklip:batch:{name}:jobs"))
    assert Counter(ran) == dict.fromkeys(ours, 1), "each job has one run"
    assert Counter(jobs.get(job_id).status for job_id in ours) == {JobState.SUCCEEDED: 17, JobState.FAILED: 3}
    assert memory.open_entries() == []
    items = {item["job_id"]: item for report in reports(store) if report["name"] == name for item in report["items"]}
    assert set(items) == ours
    failed = [item for item in items.values() if item["outcome"] == "FAILED"]
    assert {item["error"] for item in failed} == {"Nobody speaks. Use a video with speech."}
    assert count_flow_runs(ours) == dict.fromkeys(ours, 1)


def count_flow_runs(job_ids):
    """The number of flow runs on the Prefect server, by job."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=sorted(job_ids))))
    return Counter(run.name for run in found)


def test_overlapping_batches_run_each_job_once_when_one_is_killed(runner, environment, stack, store, database):
    run_overlapping_batches_and_kill_one(environment, stack, store, database)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_overlapping_batches_run_each_job_once_with_a_process_per_run(environment, stack, store, database, tmp_path):
    served, often = "clip/stand-in-served", {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    for _ in stand_in_runner(environment | often, tmp_path, "serve", deployment=served):
        run_overlapping_batches_and_kill_one(environment, stack, store, database, seconds=600, deployment=served)


def test_the_newest_feed_items_become_jobs_and_a_report(runner, environment, stack, store, database):
    dated = (
        "<item><title>{0} &lt;b&gt;</title><pubDate>0{1} Jan 2026 10:00:00 GMT</pubDate><enclosure url='{2}'/></item>"
    )
    items = "".join(dated.format(f"Talk {n}", n, f"https://example.org/talk-{n}.mp4") for n in range(1, 5))
    feed = f"<rss version='2.0'><channel>{items}<item><link>file:///etc/passwd</link></item></channel></rss>"
    name = f"feed-{uuid4().hex[:8]}"
    with MediaServer() as server:
        server.pages["/feed.xml"] = serve.file(feed.encode(), "application/rss+xml", ranges=False)
        address = f"http://127.0.0.1:{server.port}/feed.xml?key=secret"
        code, output = finish(start_batch(environment, name=name, feed=address, newest=2, clip_count=1, language="en"))
    assert code == 0, output
    (report,) = (report for report in reports(store) if report["name"] == name)
    assert {item["title"] for item in report["items"]} == {"Talk 4 <b>", "Talk 3 <b>"}
    assert {item["outcome"] for item in report["items"]} == {"SUCCEEDED"}
    assert all(item["seconds"] is not None for item in report["items"])
    assert (report["for_later"], report["done_before"]) == (2, 0)
    assert report["left_out"] == ["file:///etc/passwd: The video's address is neither http nor https."]
    assert "secret" not in json.dumps(report)
    request = JobStore.from_settings(stack.settings).get(report["items"][0]["job_id"]).request
    assert (request["clip_count"], request["language"]) == (1, "en")
    shown = artifact(f"batch-{report['batch_id']}")
    assert "Talk 4 \\<b\\>" in shown.data
    assert shown.type == "markdown"


def artifact(key):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return found


@pytest.mark.filterwarnings("ignore:Logger 'prefect.task_runs'")  # there is no flow run for its log
def test_a_batch_that_cannot_start_fails_and_adds_no_jobs(runner, stack, monkeypatch):
    from flows.batch import batch

    monkeypatch.setenv("ALLOW_PRIVATE_ADDRESSES", "1")
    name = f"wrong-{uuid4().hex[:8]}"
    with pytest.raises(SubmitError, match="no deployment clip/nowhere; choose another, or run: kangklip deploy"):
        batch.fn(BatchRequest(urls=talk_urls(1), name=name, deployment="clip/nowhere"))
    with MediaServer() as server:
        request = BatchRequest(feed=f"http://127.0.0.1:{server.port}/no", name=name, deployment="clip/stand-in")
        with pytest.raises(SourceNotFound, match="The feed cannot be read"):
            batch.fn(request)
    monkeypatch.delenv("REDIS_URL")
    with pytest.raises(ConfigError, match="set REDIS_URL"):
        batch.fn(BatchRequest(urls=talk_urls(1), name=name))
    assert BatchMemory.from_settings(stack.settings, name).open_entries() == []
