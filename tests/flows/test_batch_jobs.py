"""A batch's jobs under crashes, overlapping runs and failures. Job records are real, flow runs are simulated."""

import threading
import time
from collections import Counter
from uuid import uuid4

import pytest

from flows import batch_jobs
from flows.batch_jobs import BatchJobs
from infra.bucket.store import ArtifactStore
from infra.errors import StateError, SubmitError
from infra.jobs.batches import BatchMemory
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tasks.core.source.batch import MAX_ATTEMPTS, BatchRequest, Outcome, list_urls


@pytest.fixture(autouse=True)
def fast_polling(monkeypatch):
    monkeypatch.setattr(batch_jobs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(batch_jobs, "RUN_POLL_SECONDS", 0.02)
    monkeypatch.setattr(batch_jobs, "ENDED_RUN_SECONDS", 0.05)


class Runs:
    """Stands in for the Prefect server and its worker. `plays` maps a video's number to what its run does."""

    def __init__(self, jobs, bucket):
        self.jobs, self.bucket = jobs, bucket
        self.plays = {}
        self.ids = {}
        self.ended = {}
        self.order = []
        self.active = 0
        self.most_active = 0
        self.turn = threading.Lock()

    def submit(self, job):
        key = (job.job_id, job.attempt)
        with self.turn:
            is_new = key not in self.ids
            run_id = self.ids.setdefault(key, str(uuid4()))
        if is_new:
            number = job.request["video_url"].rpartition("?")[2]
            self.order.append(number)
            threading.Thread(target=self.plays.get(number, succeed), args=[self, job]).start()
        return run_id

    def run_end(self, run_id):
        return self.ended.get(run_id)


def succeed(runs, job):
    with runs.turn:
        runs.active += 1
        runs.most_active = max(runs.most_active, runs.active)
    report(runs, job, status=JobState.RUNNING, stage=Stage.DOWNLOAD, progress=5)
    time.sleep(0.03)
    with runs.turn:
        runs.active -= 1
    report(runs, job, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100)


def fail(code):
    def play(runs, job):
        results = {"job_id": job.job_id, "attempt": job.attempt, "code": code}
        runs.bucket.put_json(f"jobs/{job.job_id}/error.json", results)
        report(runs, job, status=JobState.FAILED, error=f"It is {code}.")

    return play


def hang(runs, job):
    report(runs, job, status=JobState.RUNNING, stage=Stage.DOWNLOAD, progress=5)


def die(runs, job):
    hang(runs, job)
    runs.ended[runs.ids[job.job_id, job.attempt]] = "crashed"


def cancelled(runs, job):
    runs.ended[runs.ids[job.job_id, job.attempt]] = "cancelled"
    report(runs, job, status=JobState.FAILED, error="Cancelled.")


def report(runs, job, **known):
    runs.jobs.report(Report(job_id=job.job_id, attempt=job.attempt, **known))


@pytest.fixture
def jobs(servers):
    return JobStore.from_settings(servers.settings)


@pytest.fixture
def runs(jobs, servers):
    return Runs(jobs, ArtifactStore.from_settings(servers.settings))


@pytest.fixture
def batch(runs, servers):
    """Makes runs of one batch over videos `0` to `count - 1`, each as in a new process."""
    name = f"batch-{uuid4().hex[:12]}"

    def made(count=3, **fields):
        request = BatchRequest(urls=[f"https://example.org/talk?{n}" for n in range(count)], name=name, **fields)
        memory = BatchMemory.from_settings(servers.settings, request.memory_name)
        jobs_of_batch = BatchJobs(request, memory, runs.jobs, runs.bucket, runs.submit, runs.run_end)
        jobs_of_batch.found = list_urls(request.urls, allow_private=False)
        return jobs_of_batch

    return made


def run(jobs_of_batch, seconds=20.0):
    return list(jobs_of_batch.follow(jobs_of_batch.choose(jobs_of_batch.found), seconds))


def outcomes(jobs_of_batch, seconds=20.0):
    return Counter(line.outcome for line in run(jobs_of_batch, seconds))


def test_videos_run_once_and_in_order(batch, runs):
    assert outcomes(batch(4, concurrency=1)) == {Outcome.SUCCEEDED: 4}
    assert runs.order == ["0", "1", "2", "3"]
    assert outcomes(batch(4)) == {}
    assert outcomes(batch(5)) == {Outcome.SUCCEEDED: 1}
    assert len(runs.ids) == 5


def test_one_run_takes_at_most_newest_new_videos(batch):
    assert [sum(outcomes(batch(5, newest=2)).values()) for _ in range(4)] == [2, 2, 1, 0]


def test_a_report_line_shows_time_and_cost(batch, runs, jobs):
    def costly(runs, job):
        jobs.add_cost(job.job_id, "a deployment", 0.25)
        report(runs, job, status=JobState.RUNNING, stage=Stage.DOWNLOAD, progress=5)
        time.sleep(0.2)
        report(runs, job, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100)

    runs.plays["0"] = costly
    (line,) = run(batch(1))
    assert 0.2 <= line.seconds <= 5
    assert line.cost_usd == 0.25
    assert (line.attempt, line.error) == (1, None)


def test_bad_videos_do_not_stop_the_others_and_are_not_retried(batch, runs):
    runs.plays |= {"0": fail("no_speech"), "2": fail("bug")}
    assert outcomes(batch(4)) == {Outcome.SUCCEEDED: 2, Outcome.FAILED: 2}
    assert outcomes(batch(4)) == {}
    assert len(runs.ids) == 4


def test_transient_failures_are_retried_by_later_runs_up_to_a_limit(batch, runs):
    runs.plays["0"] = fail("infrastructure")
    results = [run(batch(1)) for _ in range(MAX_ATTEMPTS + 1)]
    assert [[line.outcome for line in lines] for lines in results] == [
        [Outcome.LATER],
        [Outcome.LATER],
        [Outcome.FAILED],
        [],
    ]
    assert [lines[0].attempt for lines in results[:-1]] == [1, 2, 3]
    assert results[0][0].error == "It is infrastructure."


def test_a_retry_after_a_transient_failure_can_succeed(batch, runs):
    runs.plays["0"] = fail("stopped")
    assert outcomes(batch(1)) == {Outcome.LATER: 1}
    runs.plays["0"] = succeed
    assert outcomes(batch(1)) == {Outcome.SUCCEEDED: 1}
    assert sorted(attempt for _, attempt in runs.ids) == [1, 2]


def test_the_error_of_an_earlier_attempt_is_not_taken_for_this_one(batch, runs):
    def die_without_an_error(runs, job):
        results = {"job_id": job.job_id, "attempt": job.attempt - 1, "code": "no_speech"}
        runs.bucket.put_json(f"jobs/{job.job_id}/error.json", results)
        report(runs, job, status=JobState.FAILED, error="It died.")

    runs.plays["0"] = die_without_an_error
    assert outcomes(batch(1)) == {Outcome.LATER: 1}


def test_a_cancelled_job_is_not_restarted(batch, runs):
    runs.plays["0"] = cancelled
    assert outcomes(batch(2)) == {Outcome.SUCCEEDED: 1, Outcome.FAILED: 1}
    assert outcomes(batch(2)) == {}


def crash(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["chosen", "slot taken", "recorded", "submitted", "followed"])
def test_after_a_crash_the_next_run_resumes_and_repeats_nothing(batch, runs, moment, monkeypatch):
    dying = batch(3)
    if moment == "chosen":
        dying.choose(dying.found)
    else:
        submit = runs.submit
        holder, name, broken = {
            "slot taken": (dying.jobs, "create", crash),
            "recorded": (dying, "submit", crash),
            "submitted": (dying, "submit", lambda job: crash(submit(job))),
            "followed": (dying.memory, "close", crash),
        }[moment]
        with monkeypatch.context() as patched:
            patched.setattr(holder, name, broken)
            with pytest.raises(KeyboardInterrupt):
                run(dying)
    assert outcomes(batch(3)) == {Outcome.SUCCEEDED: 3}
    assert len(runs.ids) == 3
    assert sorted(runs.order) == ["0", "1", "2"]
    assert outcomes(batch(3)) == {}


def test_a_crash_between_opening_an_attempt_and_submitting_it_loses_nothing(batch, runs, monkeypatch):
    runs.plays["0"] = fail("stopped")
    run(batch(1))
    dying = batch(1)
    monkeypatch.setattr(dying, "submit", crash)
    with pytest.raises(KeyboardInterrupt):
        run(dying)
    runs.plays["0"] = succeed
    assert outcomes(batch(1)) == {Outcome.SUCCEEDED: 1}
    assert sorted(attempt for _, attempt in runs.ids) == [1, 2]


def test_overlapping_runs_share_jobs_and_slots(batch, runs):
    results = []
    threads = [threading.Thread(target=lambda: results.append(outcomes(batch(12, concurrency=2)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs.ids) == 12
    assert runs.most_active <= 2
    assert sum(results, Counter())[Outcome.SUCCEEDED] >= 12
    assert {*sum(results, Counter())} == {Outcome.SUCCEEDED}


def test_overlapping_runs_open_a_single_new_attempt(batch, runs):
    runs.plays["0"] = fail("infrastructure")
    run(batch(1))
    runs.plays["0"] = succeed
    threads = [threading.Thread(target=lambda: run(batch(1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(attempt for _, attempt in runs.ids) == [1, 2]


def test_a_job_whose_run_died_is_not_awaited_forever(batch, runs):
    runs.plays["1"] = die
    lines = run(batch(3))
    assert Counter(line.outcome for line in lines) == {Outcome.SUCCEEDED: 2, Outcome.LATER: 1}
    assert [line.error for line in lines if line.error] == ["The run ended as crashed. Start the job again."]
    runs.plays["1"] = succeed
    assert outcomes(batch(3)) == {Outcome.SUCCEEDED: 1}


def test_a_run_that_reports_late_is_awaited(batch, runs, monkeypatch):
    monkeypatch.setattr(batch_jobs, "ENDED_RUN_SECONDS", 1.0)

    def late(runs, job):
        die(runs, job)
        time.sleep(0.2)
        succeed(runs, job)

    runs.plays["0"] = late
    assert outcomes(batch(1)) == {Outcome.SUCCEEDED: 1}


def test_a_hanging_job_is_left_at_the_deadline_and_picked_up_by_the_next_run(batch, runs, jobs):
    runs.plays["0"] = hang
    jobs_of_batch = batch(3, concurrency=1)
    lines = run(jobs_of_batch, seconds=0.3)
    assert [line.outcome for line in lines] == [Outcome.UNFINISHED] * 3
    jobs.report(Report(job_id=lines[0].job_id, status=JobState.SUCCEEDED))
    assert outcomes(batch(3)) == {Outcome.SUCCEEDED: 3}
    assert len(runs.ids) == 3


def test_a_failed_submission_is_recorded_and_repeated_by_the_next_run(batch, runs, jobs):
    jobs_of_batch, submit = batch(2), runs.submit
    first = jobs_of_batch.found.items[0].url

    def refusing(job):
        if job.request["video_url"] == first:
            raise SubmitError("The Prefect server did not answer (ConnectError).")
        return submit(job)

    jobs_of_batch.submit = refusing
    lines = {line.outcome: line for line in run(jobs_of_batch)}
    assert set(lines) == {Outcome.SUCCEEDED, Outcome.LATER}
    assert jobs.get(lines[Outcome.LATER].job_id).start_error.startswith(
        "The Prefect server did not answer (ConnectError)."
    )
    assert outcomes(batch(2)) == {Outcome.SUCCEEDED: 1}


def test_a_brief_redis_outage_is_tolerated(batch, runs, monkeypatch):
    jobs_of_batch, answers = batch(2), Counter()
    get = JobStore.get

    def sometimes(self, job_id):
        answers["all"] += 1
        if answers["all"] % 3 == 0:
            raise StateError("Redis did not answer.")
        return get(self, job_id)

    monkeypatch.setattr(JobStore, "get", sometimes)
    assert outcomes(jobs_of_batch) == {Outcome.SUCCEEDED: 2}
    assert len(runs.ids) == 2


def test_a_job_lost_from_redis_but_published_in_the_bucket_counts_as_done(batch, runs):
    (entry,) = batch(1).choose(batch(1).found)
    runs.bucket.put_json(f"jobs/{entry.job_id}/manifest.json", {})
    assert outcomes(batch(1)) == {Outcome.SUCCEEDED: 1}
    assert not runs.ids


def test_a_known_nosana_deployment_is_not_overwritten(batch, runs, jobs):
    first = batch(1)
    (entry,) = first.choose(first.found)
    first.memory.take_slot(entry.job_id, 1)
    jobs.create(entry.job_id, '{"video_url": "https://example.org/talk?0"}')
    runs.plays["0"] = lambda runs, job: None
    jobs.set_run(entry.job_id, 1, runs.submit(jobs.get(entry.job_id)))
    jobs.set_deployment(JobRef(job_id=entry.job_id), "on Nosana")
    assert outcomes(batch(1), seconds=0.2) == {Outcome.UNFINISHED: 1}
    assert jobs.get(entry.job_id).nosana_run_id == "on Nosana"


def test_a_deleted_job_is_not_made_again_for_its_video(batch, runs, jobs, monkeypatch):
    """Neither by the run of the batch that follows it, nor by the next one, which would have retried it.

    The batch does not see the job between its failure and its deletion.
    """
    gate, get = threading.RLock(), runs.jobs.get

    def get_later(job_id):
        with gate:
            return get(job_id)

    def delete(runs, job):
        with gate:
            fail("infrastructure")(runs, job)
            assert jobs.begin_deletion(job.job_id)
            jobs.end_deletion(job.job_id)

    monkeypatch.setattr(runs.jobs, "get", get_later)

    runs.plays = {"1": delete}
    first = batch()
    entries = first.choose(first.found)
    assert {each.outcome for each in first.follow(entries, 20)} == {Outcome.SUCCEEDED, Outcome.DELETED}
    second = batch()
    assert list(second.follow(second.choose(second.found), 20)) == []
    assert sum(jobs.get(entry.job_id) is None for entry in entries) == 1
