"""The job record on a real Valkey, under late, repeated, foreign and concurrent reports."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import JobConflict, RunNotStopped, StateError
from infra.jobs.connection import Connection
from infra.jobs.ids import JOB_ID, job_id_of_run, new_job_id
from infra.jobs.leases import Leases, watch_lease
from infra.jobs.record import Report, Requester
from infra.jobs.store import JobStore
from infra.states import JobState, Stage


@pytest.fixture
def store(stack):
    return JobStore.from_settings(stack.settings)


@pytest.fixture
def job_id(store):
    job_id = new_job_id()
    assert store.create(job_id, '{"video_url": "https://example.org/v.mp4"}')
    return job_id


def running(job_id, stage, progress, attempt=1):
    return Report(job_id=job_id, attempt=attempt, stage=stage, progress=progress)


def test_job_ids_have_the_contracts_format():
    run = "ffffffff-ffff-ffff-ffff-ffffffffffff"
    assert JOB_ID.fullmatch(new_job_id())
    assert JOB_ID.fullmatch(job_id_of_run(run))
    assert job_id_of_run(run) == job_id_of_run(run)


def test_a_new_job_is_queued_at_download(store, job_id):
    job = store.get(job_id)
    assert (job.status, job.stage, job.progress, job.attempt) == (JobState.QUEUED, Stage.DOWNLOAD, 0, 1)
    assert job.request == {"video_url": "https://example.org/v.mp4"}


def test_creating_a_job_twice_changes_nothing(store, job_id):
    store.report(running(job_id, Stage.RENDER, 70))
    assert not store.create(job_id, "{}")
    assert store.get(job_id).progress == 70


def test_an_unknown_job_is_none(store):
    assert store.get(new_job_id()) is None
    assert not store.report(running(new_job_id(), Stage.RENDER, 70))


def test_progress_and_stage_never_go_back(store, job_id):
    assert store.report(running(job_id, Stage.SELECT, 60))
    assert not store.report(running(job_id, Stage.TRANSCRIPT, 30))
    job = store.get(job_id)
    assert (job.stage, job.progress) == (Stage.SELECT, 60)


@pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_final_state_is_final(store, job_id, end):
    assert store.report(Report(job_id=job_id, status=end, error="why" if end is JobState.FAILED else None))
    assert not store.report(running(job_id, Stage.UPLOAD, 99))
    assert not store.report(Report(job_id=job_id, status=JobState.SUCCEEDED, progress=100))
    assert store.get(job_id).status is end


def test_reports_of_an_earlier_attempt_are_ignored(store, job_id):
    store.report(Report(job_id=job_id, status=JobState.FAILED, error="lost"))
    assert store.reopen(job_id, after=1) == 2
    assert not store.report(running(job_id, Stage.RENDER, 70, attempt=1))
    job = store.get(job_id)
    assert (job.status, job.progress, job.error) == (JobState.QUEUED, 0, None)
    assert store.report(running(job_id, Stage.DOWNLOAD, 5, attempt=2))


def test_a_succeeded_job_is_never_reopened(store, job_id):
    store.report(Report(job_id=job_id, status=JobState.SUCCEEDED, progress=100))
    with pytest.raises(JobConflict, match="succeeded"):
        store.reopen(job_id, after=1)


def test_an_unknown_job_is_not_reopened(store):
    with pytest.raises(JobConflict, match="does not exist"):
        store.reopen(new_job_id(), after=1)


def test_concurrent_reports_in_random_order_never_lower_progress(store, job_id):
    reports = [running(job_id, stage, stage.percent(share / 10)) for stage in list(Stage)[:6] for share in range(11)]
    reports = [*reports, *reports]
    random.Random(7).shuffle(reports)  # noqa: S311
    observed: list[float] = []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            observed.append(store.get(job_id).progress)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(store.report, reports))
    store.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    stop.set()
    watcher.join()
    job = store.get(job_id)
    assert (job.status, job.stage, job.progress) == (JobState.SUCCEEDED, Stage.DONE, 100)
    assert len(observed) > 5
    assert observed == sorted(observed)


def test_an_unreachable_redis_is_reported_without_the_password():
    away = JobStore(Connection("redis://:sesame@127.0.0.1:1/0"), 3600)
    with pytest.raises(StateError) as caught:
        away.get(new_job_id())
    assert "sesame" not in str(caught.value)
    assert "REDIS_URL" in str(caught.value)


def test_stages_keep_their_times_until_the_job_is_reopened(store, job_id):
    for stage in (Stage.DOWNLOAD, Stage.TRANSCRIPT):
        store.report(running(job_id, stage, stage.span[0]))
    times = store.get(job_id).stages
    assert list(times) == [Stage.DOWNLOAD, Stage.TRANSCRIPT]
    assert times[Stage.DOWNLOAD].began <= times[Stage.DOWNLOAD].ended
    assert times[Stage.TRANSCRIPT].ended is None
    store.report(Report(job_id=job_id, status=JobState.FAILED, error="lost"))
    assert store.get(job_id).stages[Stage.TRANSCRIPT].ended
    store.reopen(job_id, after=1)
    assert store.get(job_id).stages == {}


def test_a_report_without_an_attempt_counts_for_the_current_one(store, job_id):
    store.report(Report(job_id=job_id, status=JobState.FAILED, error="lost"))
    store.reopen(job_id, after=1)
    assert store.report(running(job_id, Stage.RENDER, 70, attempt=None))
    assert store.get(job_id).attempt == 2


def test_stage_and_state_never_go_back_even_without_progress(store, job_id):
    assert store.report(running(job_id, Stage.RENDER, None))
    assert not store.report(running(job_id, Stage.DOWNLOAD, None))
    assert not store.report(Report(job_id=job_id, status=JobState.QUEUED))
    assert store.get(job_id).stage is Stage.RENDER


def test_active_and_recent_jobs_are_listed(store, job_id):
    other = new_job_id()
    store.create(other, "{}")
    assert [job.job_id for job in store.recent(2)] == [other, job_id]
    assert {job_id, other} <= {job.job_id for job in store.active()}
    before = store.totals().get("finished:FAILED", 0)
    store.report(Report(job_id=other, status=JobState.FAILED, error="lost"))
    assert other not in {job.job_id for job in store.active()}
    assert store.totals()["finished:FAILED"] == before + 1
    store.reopen(other, after=1)
    assert other in {job.job_id for job in store.active()}


def test_each_owner_has_a_list_of_its_own_jobs(store):
    owner = new_job_id()
    mine = [new_job_id() for _ in range(3)]
    for each in mine:
        store.create(each, "{}", Requester(owner=owner))
        store.create(new_job_id(), "{}", Requester(owner="another"))
    assert [job.job_id for job in store.recent(2, owner)] == [mine[2], mine[1]]
    store.report(failed(mine[2]))
    store.begin_deletion(mine[2])
    assert [job.job_id for job in store.recent(10, owner)] == [mine[1], mine[0]]


def test_the_states_of_jobs_are_counted_whether_a_client_created_them_or_not(store):
    before = store.states()
    ids = [new_job_id() for _ in range(5)]
    for each in ids:
        store.create(each, "{}", Requester(client="a client") if each in ids[:3] else None)
    for each in (ids[0], ids[3]):
        store.report(running(each, Stage.RENDER, 70))
    store.report(failed(ids[1]))
    assert store.states() - before == {JobState.QUEUED: 2, JobState.RUNNING: 2}


def commands_of(store, do):
    """How many commands Redis executes for it, those in scripts included."""

    def total():
        return sum(int(counts["calls"]) for counts in store.connection.client.info("commandstats").values())

    before = total()
    do()
    return total() - before


def test_a_longer_queue_makes_no_request_dearer(store):
    limited = Requester(owner="few", client="few", max_queued=10**6, max_queued_per_client=10**6)

    def costs():
        create = commands_of(store, lambda: store.create(new_job_id(), "{}", limited))
        return create, commands_of(store, lambda: store.recent(1, "few"))

    before = costs()
    for _ in range(200):
        store.create(new_job_id(), "{}", Requester(owner="many", client="many"))
    assert costs() == before


def test_a_job_that_no_longer_waits_is_not_counted_even_if_an_earlier_release_or_its_expiry_ended_the_wait(store):
    client = store.connection.client
    waiting, begun, expired = (new_job_id() for _ in range(3))
    for each in (waiting, begun, expired):
        store.create(each, "{}", Requester(client=waiting))
    client.hset(f"kangklip:job:{begun}", "status", "RUNNING")
    client.delete(f"kangklip:job:{expired}")
    store.active()
    counted = client.hgetall("kangklip:waiting")
    assert counted[waiting] in counted.values()
    assert {begun, expired}.isdisjoint(counted)
    assert client.hget("kangklip:waiting:clients", counted[waiting]) == "1"


def failed(job_id, attempt=1):
    return Report(job_id=job_id, attempt=attempt, status=JobState.FAILED, error="It broke.")


def test_a_deletion_ends_once_and_can_be_repeated_until_then(store):
    job_id = new_job_id()
    store.create(job_id, "{}", Requester(owner="shop"))
    store.report(failed(job_id))
    assert store.begin_deletion(job_id)
    assert (store.get(job_id), store.unfinished_deletions()[job_id]) == (None, "shop")
    assert store.begin_deletion(job_id)
    store.end_deletion(job_id)
    assert job_id not in store.unfinished_deletions()
    assert not store.begin_deletion(job_id)
    assert store.was_deleted(job_id)
    assert not store.begin_deletion(new_job_id())


def test_a_job_is_not_deleted_before_its_end(store, job_id):
    with pytest.raises(JobConflict, match="has not ended; cancel it first"):
        store.begin_deletion(job_id)
    assert store.get(job_id).status is JobState.QUEUED
    assert not store.was_deleted(job_id)


def test_a_job_is_not_deleted_while_its_process_or_machine_still_runs(store, job_id):
    """A cancelled job has ended at once, but its run needs some seconds to stop, and may write meanwhile."""
    runner, worker = JobStore(store.connection, 3600), Leases(store.connection)
    runner.open(job_id, "run", 1, "{}", lease=True)
    assert worker.hold(watch_lease("run"))
    store.cancel(job_id, 1)
    for release in (lambda: worker.release(watch_lease("run")), lambda: runner.leases.release(job_id)):
        with pytest.raises(RunNotStopped, match="try again in a few seconds"):
            store.begin_deletion(job_id)
        release()
    assert store.begin_deletion(job_id)


def test_nothing_brings_a_deleted_job_back(store, job_id):
    store.report(failed(job_id))
    store.begin_deletion(job_id)
    assert not store.create(job_id, "{}")
    for attempt in (None, 1, 2):
        with pytest.raises(JobConflict):
            store.open(job_id, "another run", attempt, "{}", lease=True)
    with pytest.raises(JobConflict):
        store.reopen(job_id, after=1)
    assert not store.report(failed(job_id, attempt=None))
    assert (store.get(job_id), store.was_deleted(job_id)) == (None, True)
    assert job_id not in {job.job_id for job in [*store.active(), *store.recent(500)]}
