"""How the Nosana worker copes with crashes, with other workers of its pool and with unreachable servers."""

import asyncio
import os
import signal
import uuid
from asyncio import run
from types import SimpleNamespace

import httpx
import pytest

from infra import settings
from infra.granted import grant as grants
from infra.jobs.ids import job_id_of_run, new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tests.infra.nosana.dying_worker import STEPS, die_at
from tests.nosana.double import KEY
from tests.nosana.scripts import SCRIPTS
from tests.nosana.states import ended
from tests.nosana.test_worker import rent

pytestmark = pytest.mark.long

REDUNDANT_STEPS = {"after start", "before archive"}
"""Steps whose outcome equals another step's: a deployment starts by itself, and an ended one waits."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr("infra.nosana.orphaned_runs.ORPHANED_SECONDS", 0)


def recover(scene, run_id, seconds=20):
    """Run a worker that takes waiting and abandoned runs until this run has ended."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from infra.nosana.flow_runs import FINAL
    from infra.nosana.worker import NosanaWorker

    async def scenario():
        async with NosanaWorker(work_pool_name=scene.name) as worker, asyncio.timeout(seconds):
            while scene.state(run_id)["type"] not in FINAL or scene.nosana.unarchived():
                await worker.get_and_submit_flow_runs()
                await worker._sweep()
                await asyncio.sleep(0.1)

    with temporary_settings({PREFECT_API_URL: scene.url}):
        run(scenario())


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=pytest.mark.soak) if step in REDUNDANT_STEPS else step for step in STEPS]
)
def test_a_worker_killed_at_any_step_orphans_and_repeats_nothing(scene, step):
    scene.nosana.script = "exit 3"
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)
    assert die_at(step, scene.name, scene.url) == -signal.SIGKILL
    recover(scene, run_id)
    job = scene.jobs.get(job_id)
    assert (scene.state(run_id)["type"], job.status) == ("CRASHED", JobState.FAILED)
    assert "status 3" in job.error
    assert "status 3" in scene.state(run_id)["message"]
    assert [one.body["name"] for one in scene.nosana.deployments] == [f"kangklip-{scene.name}-{run_id}-1"]
    assert scene.nosana.unarchived() == []


@pytest.fixture
def recut(scene):
    """A job that has succeeded, and the run of its recut."""
    job_id, quick = new_job_id(), {"poll_seconds": 0.05, "queue_limit_minutes": 5, "timeout_minutes": 2}
    scene.jobs.create(job_id, "{}")
    scene.jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    parameters = {"job_id": job_id, "revision": scene.jobs.recuts.begin(job_id, 1), "attempt": 1}
    run_id = scene.post(
        f"/deployments/{scene.deployment}/create_flow_run",
        parameters=parameters,
        state={"type": "SCHEDULED"},
        job_variables=quick,
    )["id"]
    yield SimpleNamespace(job_id=job_id, run_id=run_id)
    scene.jobs.recuts.end(job_id, 2, scene.jobs.get(job_id).recut.attempt, JobState.FAILED)


@pytest.mark.parametrize("step", ["before create", "after create", "while running"])
def test_a_recut_whose_worker_was_killed_is_followed_by_the_next(scene, recut, step):
    scene.nosana.script = "exit 3"
    assert die_at(step, scene.name, scene.url) == -signal.SIGKILL
    recover(scene, recut.run_id)
    job = scene.jobs.get(recut.job_id)
    assert (job.status, job.error, job.recut.state) == (JobState.SUCCEEDED, None, JobState.FAILED)
    assert "status 3" in job.recut.error
    assert job.recut.error.endswith("The published clips are as they were.")
    assert job.cost_usd is not None
    assert len(scene.nosana.deployments) == 1
    assert scene.nosana.unarchived() == []


def test_a_recut_whose_machine_is_lost_is_retried_and_its_job_left_alone(scene, recut):
    scene.nosana.script = "result lost"
    scene.work()
    job = scene.jobs.get(recut.job_id)
    assert (job.status, job.attempt, job.recut.state, job.recut.attempt) == (JobState.SUCCEEDED, 1, JobState.QUEUED, 2)
    assert job.recut.message == "The job's result was lost."
    assert (job.recut.earlier_run_id, job.recut.again_at is None) == (recut.run_id, False)
    assert scene.state(recut.run_id)["type"] == "CRASHED"
    assert scene.nosana.unarchived() == []


def test_a_worker_killed_between_two_hosts_is_followed_on_the_second(scene):
    scene.nosana.scripts = ["image", "exit 3"]
    run_id = scene.start()
    assert die_at("after archive", scene.name, scene.url) == -signal.SIGKILL
    recover(scene, run_id)
    assert "status 3" in scene.state(run_id)["message"]
    assert len(scene.nosana.deployments) == 2
    assert scene.nosana.most_live == 1


def test_concurrent_sweeps_of_one_worker_adopt_a_run_once(scene):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from infra.nosana.worker import NosanaWorker

    scene.nosana.scripts = ["image", "exit 3"]
    run_id = scene.start()
    assert die_at("after create", scene.name, scene.url) == -signal.SIGKILL

    async def scenario():
        async with NosanaWorker(work_pool_name=scene.name) as worker:
            worker._last_sweep = float("inf")
            await asyncio.gather(*(worker._sweep() for _ in range(4)))

    with temporary_settings({PREFECT_API_URL: scene.url}):
        run(scenario())
    assert "status 3" in scene.state(run_id)["message"]
    assert len(scene.nosana.deployments) == 2


def test_a_job_whose_deployment_was_lost_gets_another_attempt(scene):
    job_id = new_job_id()
    run_id = scene.start(job_id)
    assert scene.jobs.open(job_id, run_id, None, "{}", lease=False) == 1
    scene.set_state(run_id, "RUNNING")
    recover(scene, run_id)
    job = scene.jobs.get(job_id)
    assert (job.status, job.attempt) == (JobState.QUEUED, 2)
    assert job.attempts[0].reason == "The run's deployment no longer exists."


def test_a_second_worker_of_the_pool_leaves_a_watched_run_alone(scene):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from infra.nosana.worker import NosanaWorker

    scene.nosana.scripts = ["hangs", "exit 3"]
    scene.nosana.minute = 60
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)

    async def scenario():
        async with NosanaWorker(work_pool_name=scene.name) as first, NosanaWorker(work_pool_name=scene.name) as second:
            await first.get_and_submit_flow_runs()
            await asyncio.to_thread(
                scene.wait_until, lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs
            )
            scene.set_state(run_id, "RUNNING")
            await second._sweep()
            await asyncio.sleep(0.3)
            assert second._leases.held == set()
            scene.set_state(run_id, "COMPLETED")

    with temporary_settings({PREFECT_API_URL: scene.url}):
        run(scenario())
    assert "adopted this run" not in scene.logs(run_id)
    assert scene.nosana.unarchived() == []


def test_only_deployments_of_this_pools_ended_runs_are_archived(scene):
    scene.nosana.script = "never claimed"
    waits, over = scene.start(), scene.start()
    names = [f"{scene.name}-{over}-1", f"{scene.name}-{waits}-1", f"{scene.name}-gpu-{uuid.uuid4()}-1"]
    for name in names:
        run(rent(scene.nosana, f"kangklip-{name}"))
    later = {"scheduled_time": "2099-01-01T00:00:00Z"}
    retried = {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": later}
    scene.post(f"/flow_runs/{waits}/set_state", state=retried, force=True)
    scene.set_state(over, "COMPLETED")
    orphan, of_waiting, of_another_pool = scene.nosana.deployments
    scene.work(lambda: scene.wait_until(lambda: orphan.status == "ARCHIVED"))
    assert (of_waiting.status, of_another_pool.status) == ("RUNNING", "RUNNING")


def test_a_run_from_the_prefect_ui_that_cannot_start_says_why_in_its_job(scene):
    scene.nosana.credits[KEY] = 0.001
    run_id = scene.start()
    scene.work()
    job = scene.jobs.get(job_id_of_run(run_id))
    assert job.status is JobState.FAILED
    assert "top it up" in job.start_error


def test_a_worker_without_an_api_key_says_so_in_the_job(scene, monkeypatch):
    monkeypatch.delenv("NOSANA_API_KEY")
    job_id = new_job_id()
    run_id = scene.start(job_id)
    scene.work()
    assert "NOSANA_API_KEY" in scene.jobs.get(job_id).start_error
    assert "NOSANA_API_KEY" in scene.state(run_id)["message"]


def test_a_run_of_another_flow_is_refused_without_a_job(scene):
    path = f"/deployments/{scene.deployment}/create_flow_run"
    run_id = scene.post(path, parameters={"urls": []}, state={"type": "SCHEDULED"})["id"]
    scene.work()
    assert "only runs of the flows clip and recut" in scene.state(run_id)["message"]
    assert scene.jobs.get(job_id_of_run(run_id)) is None
    assert scene.nosana.deployments == []


def test_a_succeeded_job_is_not_rented_again(scene):
    job_id = new_job_id()
    scene.jobs.create(job_id, "{}")
    scene.jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED))
    run_id = scene.start(job_id)
    scene.work()
    assert "has already succeeded" in scene.state(run_id)["message"]
    assert scene.jobs.get(job_id).start_error is None
    assert scene.nosana.deployments == []


def test_a_run_ends_when_credits_do_not_suffice_for_another_host(scene):
    scene.nosana.script = "image"
    job_id = new_job_id()
    run_id = scene.start(job_id)

    def spend():
        scene.wait_until(lambda: scene.nosana.deployments)
        scene.nosana.credits[KEY] = 0.001

    scene.work(spend)
    assert scene.state(run_id)["type"] == "CRASHED"
    assert "op up the credits" in (error := scene.jobs.get(job_id).error) or "top it up" in error
    assert scene.nosana.unarchived() == []


def test_a_run_ends_when_its_deployment_is_deleted(scene):
    scene.nosana.script = "never claimed"
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)

    def delete():
        scene.wait_until(lambda: scene.nosana.deployments and scene.jobs.get(job_id).nosana_run_id != run_id)
        scene.nosana.deployments.clear()

    scene.work(delete)
    assert scene.state(run_id)["type"] == "CRASHED"
    assert "deleted" in scene.jobs.get(job_id).error


def test_the_worker_waits_for_an_unreachable_prefect_server(scene, monkeypatch):
    from prefect.client.orchestration import PrefectClient

    scene.nosana.script = "exit 3"
    read_flow_run = PrefectClient.read_flow_run
    refusals = 2

    async def unreachable(self, run_id):
        nonlocal refusals
        if scene.nosana.deployments and refusals:
            refusals -= 1
            raise httpx.ConnectError("away")
        return await read_flow_run(self, run_id)

    monkeypatch.setattr(PrefectClient, "read_flow_run", unreachable)
    run_id = scene.start()
    scene.work()
    assert refusals == 0
    assert "status 3" in scene.state(run_id)["message"]
    assert scene.nosana.unarchived() == []


def test_a_failed_sweep_does_not_end_the_worker(scene, monkeypatch):
    from prefect.client.orchestration import PrefectClient

    async def unreachable(*_, **__):
        raise httpx.ConnectError("away")

    monkeypatch.setattr(PrefectClient, "read_flow_runs", unreachable)
    scene.nosana.script = "exit 3"
    run_id = scene.start()
    scene.work()
    assert "status 3" in scene.state(run_id)["message"]


def test_a_worker_that_lost_its_lease_leaves_the_run_to_its_new_holder(scene, monkeypatch):
    monkeypatch.setattr("infra.nosana.watch_leases.LEASE_SECONDS", 0.6)
    scene.nosana.script = "never claimed"
    run_id = scene.start(queue_limit_minutes=5)
    other = JobStore.from_settings(settings.load())

    def take_over():
        scene.wait_until(lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs)
        lease = f"kangklip:job:watch-{run_id}:lease"
        scene.jobs.connection.client.set(lease, other.leases.holder, ex=30)  # in one step, because its holder renews it

    scene.work(take_over)
    assert scene.state(run_id)["type"] == "PENDING"
    assert len(scene.nosana.unarchived()) == 1
    assert scene.jobs.get(job_id_of_run(run_id)).status is JobState.QUEUED
    other.leases.release(f"watch-{run_id}")
    scene.set_state(run_id, "CANCELLING")
    recover(scene, run_id)
    assert scene.state(run_id)["type"] == "CANCELLED"
    assert scene.nosana.unarchived() == []


def test_secrets_printed_by_a_container_stay_out_of_the_log(scene, monkeypatch):
    async def tells(deployment):
        env = deployment.body["job_definition"]["ops"][0]["args"]["env"]
        log = [f"grant={env['KANGKLIP_GRANT']}", f"key {os.environ['LLM_API_KEY']}", "\x1b[31mred\x07 line"]
        job = deployment.list_job()
        job.run()
        job.end(result=ended(3, *log))

    monkeypatch.setitem(SCRIPTS, "tells", tells)
    scene.nosana.script = "tells"
    run_id = scene.start()
    scene.work()
    scene.wait_until(lambda: "container: [hidden]" in scene.logs(run_id))
    (deployment,) = scene.nosana.deployments
    log = scene.logs(run_id)
    assert deployment.body["job_definition"]["ops"][0]["args"]["env"]["KANGKLIP_GRANT"] not in log
    assert os.environ["LLM_API_KEY"] not in log
    assert "container:  [31mred  line" in log


def test_prefect_addresses_and_credentials_are_not_sent_to_the_host(scene, monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pass")
    monkeypatch.setenv("RENDER_CRF", "21")
    env = {"PREFECT_API_URL": "http://10.0.0.1:4200/api", "PREFECT_LOGGING_LEVEL": "DEBUG"}
    scene.start(inherit=["PREFECT_*", "RENDER_*"], env=env)
    scene.work()
    (deployment,) = scene.nosana.deployments
    sent = deployment.body["job_definition"]["ops"][0]["args"]["env"]
    assert sent.pop("RENDER_CRF") == "21"
    assert sent.pop("PREFECT_LOGGING_LEVEL") == "DEBUG"
    assert set(sent) == {"KANGKLIP_API_URL", "KANGKLIP_GRANT", "PREFECT__FLOW_RUN_ID"}


def test_a_retry_in_the_prefect_ui_rents_again_with_a_grant_for_the_next_attempt(scene):
    scene.nosana.script = "exit 3"
    run_id = scene.start()
    scene.work()
    scene.post(f"/flow_runs/{run_id}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)
    scene.work()
    first, second = (
        grants.verify(settings.load(), one.body["job_definition"]["ops"][0]["args"]["env"]["KANGKLIP_GRANT"])
        for one in scene.nosana.deployments
    )
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.job_id == second.job_id == job_id_of_run(run_id)
    assert scene.nosana.most_live == 1
    assert scene.nosana.unarchived() == []
