"""The Nosana worker with the real Prefect server and Redis, against the double of Nosana."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from asyncio import run
from types import SimpleNamespace

import pytest

from deployments.job_reconciler import Reconciler
from infra.errors import StateError
from infra.jobs.ids import job_id_of_run, new_job_id
from infra.jobs.keys import lease_key
from infra.jobs.leases import watch_lease
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.nosana.client import TRIES
from infra.prefect.runs import PrefectRuns
from infra.states import JobState, Stage
from tests.folders import ROOT
from tests.nosana.double import KEY, NosanaDouble
from tests.nosana.states import ended as ended_with
from tests.nosana.states import result_of
from tests.prefect_client import prefect_client

pytestmark = pytest.mark.long

REQUEST = {"video_url": "https://example.org/talk.mp4", "clip_duration_seconds": 45, "clip_count": 1}
CANARY = "canary-of-every-setting"
SECRETS = {
    "GRANT_SECRET": f"{CANARY}-grant-secret-of-32-letters",
    "LLM_API_KEY": f"{CANARY}-llm",
    "CALLBACK_TOKEN": f"{CANARY}-callback",
    "OPERATOR_KEY": f"{CANARY}-operator",
    "API_KEYS": f"{CANARY}-api",
    "R2_API_TOKEN": f"{CANARY}-cloudflare",
}


class Scene:
    """A Nosana pool on the Prefect server, a deployment in it, and the double to rent from."""

    def __init__(self, stack, nosana):
        self.nosana = nosana
        self.url = str(stack.settings.prefect_api_url)
        self.http = prefect_client(self.url)
        self.jobs = JobStore.from_settings(stack.settings)
        self.name = f"nosana-{uuid.uuid4().hex[:8]}"
        self.pool()
        flow = self.http.post("/flows/", json={"name": "clip"}).json()["id"]
        self.deployment = self.post(
            "/deployments/", name=self.name, flow_id=flow, work_pool_name=self.name, entrypoint="x.y"
        )["id"]

    def post(self, path, **body):
        answer = self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def pool(self):
        from infra.nosana.worker import NosanaWorker

        template = NosanaWorker.get_default_base_job_template()
        self.post("/work_pools/", name=self.name, type="nosana", base_job_template=template, concurrency_limit=10)

    def start(self, job_id=None, **variables):
        """Create a flow run as the API does, or without a job id as the Prefect UI does."""
        quick = {"poll_seconds": 0.05, "queue_limit_minutes": 0.02, "timeout_minutes": 2}
        parameters = {"request": REQUEST} | ({"job_id": job_id} if job_id else {})
        path = f"/deployments/{self.deployment}/create_flow_run"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "job_variables": quick | variables}
        return self.post(path, **body)["id"]

    def run(self, run_id):
        return self.http.get(f"/flow_runs/{run_id}").json()

    def state(self, run_id):
        return self.run(run_id)["state"]

    def set_state(self, run_id, kind):
        self.post(f"/flow_runs/{run_id}/set_state", state={"type": kind}, force=True)

    def logs(self, run_id):
        found = self.post("/logs/filter", logs={"flow_run_id": {"any_": [run_id]}}, limit=200)
        return "\n".join(line["message"] for line in found)

    def work(self, meanwhile=None):
        """Run a worker until the waiting runs have ended, and `meanwhile` along with it."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        from infra.nosana.worker import NosanaWorker

        async def scenario():
            async with NosanaWorker(work_pool_name=self.name) as worker:
                await worker.get_and_submit_flow_runs()
                if meanwhile:
                    await asyncio.to_thread(meanwhile)

        with temporary_settings({PREFECT_API_URL: self.url}):
            run(scenario())

    def wait_until(self, wanted, seconds=60):
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def scene(stack, nosana, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NOSANA_API_BASE", nosana.url)
    monkeypatch.setenv("NOSANA_API_KEY", KEY)
    monkeypatch.setenv("NOSANA_MARKET", "nvidia-3060")
    monkeypatch.setenv("NOSANA_WORKER_IMAGE", "kangklip-worker:1")
    monkeypatch.setenv("CALLBACK_BASE_URL", "https://clips.example.org")
    monkeypatch.setattr("infra.nosana.watching.LAST_LOG_SECONDS", 0.3)
    stack.apply()
    return Scene(stack, nosana)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "status 3"),
        ("ok", "without running the flow"),
        pytest.param("hangs", "timed out", marks=pytest.mark.soak),
        ("never claimed", "No host took the job"),
        ("no credits", "Top up the credits"),
        pytest.param("expired", "timed out", marks=pytest.mark.soak),
    ],
)
def test_a_failure_is_reported_in_run_and_job(scene, script, words):
    scene.nosana.script = script
    job_id = new_job_id()
    run_id = scene.start(job_id)
    scene.work()
    job, state = scene.jobs.get(job_id), scene.state(run_id)
    assert (state["type"], job.status) == ("CRASHED", JobState.FAILED)
    assert words in job.error
    assert words in state["message"]
    assert job.nosana_run_id == scene.nosana.deployments[0].id == scene.run(run_id)["infrastructure_pid"]
    assert job.cost_usd is not None
    assert len(scene.nosana.deployments) == 1
    assert scene.nosana.unarchived() == []


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("image", JobState.FAILED),
        ("host shut down", JobState.QUEUED),
        pytest.param("out of memory", JobState.QUEUED, marks=pytest.mark.soak),
    ],
)
def test_a_host_that_fails_before_the_flow_begins_is_replaced_once(scene, script, status):
    """After that, an image that cannot be pulled is a wrong setting; anything else costs an attempt."""
    scene.nosana.script = script
    job_id = new_job_id()
    run_id = scene.start(job_id)
    scene.work()
    assert scene.jobs.get(job_id).status is status
    first, second = scene.nosana.deployments
    names = [f"kangklip-{scene.name}-{run_id}-{number}" for number in (1, 2)]
    assert [first.body["name"], second.body["name"]] == names
    grants = [one.body["job_definition"]["ops"][0]["args"]["env"]["KANGKLIP_GRANT"] for one in (first, second)]
    assert grants[0] != grants[1]
    assert scene.nosana.most_live == 1
    assert scene.nosana.unarchived() == []


def ending_with(result, begun):
    """A script whose container ends once `begun` is set; `result` makes what the host hands in."""

    async def script(deployment):
        job = deployment.list_job()
        job.run()
        await asyncio.to_thread(begun.wait, 60)
        job.end(result=result())

    return script


LOSSES = {
    "The host was shut down.": lambda: ended_with(1, reason={"hostShutDown": True}),
    "The job's result was lost.": lambda: result_of([]),
    "The host never delivered the job's result.": lambda: None,
    "The container was killed.": lambda: ended_with(137),
    "The container exited with status 1.": lambda: ended_with(1),
    "The container exited before its flow ended.": lambda: ended_with(0),
}


@pytest.mark.parametrize(
    "reason", [pytest.param(reason, marks=pytest.mark.soak) if "exited" in reason else reason for reason in LOSSES]
)
def test_a_job_whose_host_is_lost_while_its_flow_runs_is_retried(scene, monkeypatch, reason):
    monkeypatch.setattr("infra.nosana.diagnosis.RESULT_SECONDS", 0.3)
    begun = threading.Event()
    scene.nosana.script = ending_with(LOSSES[reason], begun)
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)

    def flow():
        scene.wait_until(lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs)
        scene.set_state(run_id, "RUNNING")
        assert scene.jobs.report(Report(job_id=job_id, stage=Stage.RENDER, progress=70))
        begun.set()

    scene.work(flow)
    job, state = scene.jobs.get(job_id), scene.state(run_id)
    assert (job.status, job.attempt, job.error, job.attempts[0].reason) == (JobState.QUEUED, 2, None, reason)
    assert job.again_at is not None
    assert (state["type"], state["message"]) == ("CRASHED", reason)
    assert len(scene.nosana.deployments) == 1
    assert scene.nosana.unarchived() == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("result lost", "The job's result was lost."),
        pytest.param("exit 75", "did not reach the API", marks=pytest.mark.soak),
        pytest.param("not listed", "could not offer the job", marks=pytest.mark.soak),
    ],
)
def test_a_machine_lost_before_the_flow_begins_costs_an_attempt_and_not_the_job(scene, script, reason):
    scene.nosana.script = script
    job_id = new_job_id()
    run_id = scene.start(job_id)
    scene.work()
    job = scene.jobs.get(job_id)
    assert (job.status, job.attempt, job.error) == (JobState.QUEUED, 2, None)
    assert reason in job.attempts[0].reason
    assert reason in scene.state(run_id)["message"]
    assert scene.nosana.unarchived() == []


def test_a_failed_containers_last_lines_are_in_the_runs_log(scene):
    scene.nosana.script = "exit 3"
    run_id = scene.start()
    scene.work()
    scene.wait_until(lambda: "container: the last line" in scene.logs(run_id))
    assert "$0.048 an hour" in scene.logs(run_id)


def test_a_run_without_a_job_id_creates_a_job(scene):

    run_id = scene.start()
    scene.work()
    job = scene.jobs.get(job_id_of_run(run_id))
    assert job.request == REQUEST
    assert job.flow_run_id == run_id


def test_a_run_that_the_flow_ends_releases_its_machine(scene):
    scene.nosana.script = "hangs"
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)

    def flow():
        scene.wait_until(lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs)
        scene.set_state(run_id, "RUNNING")
        scene.set_state(run_id, "COMPLETED")

    scene.work(flow)
    assert scene.state(run_id)["type"] == "COMPLETED"
    assert scene.jobs.get(job_id).status is JobState.QUEUED  # only the flow may end its job
    assert scene.nosana.unarchived() == []


def end_job(jobs, job_id):
    jobs.report(Report(job_id=job_id, status=JobState.FAILED, error="The deadline has passed."))


def cancel_job(jobs, job_id):
    jobs.cancel(job_id, 1)


def retry_job(jobs, job_id):
    jobs.retry(job_id, 1, "The machine was lost.")


@pytest.mark.parametrize("end", [end_job, cancel_job, retry_job])
def test_a_machine_is_released_when_its_attempt_ends_even_if_its_run_continues(scene, end):
    scene.nosana.script, scene.nosana.minute = "hangs", 60
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)

    def meanwhile():
        scene.wait_until(lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs)
        scene.set_state(run_id, "RUNNING")
        end(scene.jobs, job_id)

    scene.work(meanwhile)
    assert scene.nosana.unarchived() == []
    assert scene.state(run_id)["type"] == "CRASHED"
    assert "attempt of its job has ended" in scene.state(run_id)["message"]


def test_a_machine_is_kept_during_a_redis_outage_and_while_its_run_is_retried(scene, monkeypatch):
    scene.nosana.script, scene.nosana.minute = "hangs", 60
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)
    answers = []

    def get(self, job_id):
        try:
            if len(answers) < 3:
                raise StateError("Redis did not answer.")
            return read(self, job_id)
        finally:
            answers.append(job_id)

    read = JobStore.get
    monkeypatch.setattr(JobStore, "get", get)

    def flow():
        scene.wait_until(lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs)
        scene.set_state(run_id, "RUNNING")
        end_job(scene.jobs, job_id)
        assert scene.jobs.open(job_id, run_id, None, "{}", lease=False, is_retry=True) == 2
        looks = len(answers)
        until = time.monotonic() + 0.6  # twice the grace period of an ended run
        scene.wait_until(lambda: len(answers) > looks + 6 and time.monotonic() > until)
        assert len(scene.nosana.unarchived()) == 1
        scene.set_state(run_id, "COMPLETED")

    scene.work(flow)
    assert scene.state(run_id)["type"] == "COMPLETED"


@pytest.mark.parametrize("begun", [False, True])
def test_cancelling_a_pending_or_running_run_takes_seconds(scene, begun):
    scene.nosana.script = "hangs" if begun else "never claimed"
    scene.nosana.minute = 60
    job_id = new_job_id()
    run_id = scene.start(job_id, queue_limit_minutes=5)
    cancelled = 0.0

    def cancel():
        nonlocal cancelled
        scene.wait_until(lambda: scene.nosana.deployments and scene.nosana.deployments[0].jobs)
        if begun:
            scene.set_state(run_id, "RUNNING")
        scene.set_state(run_id, "CANCELLING")
        cancelled = time.monotonic()

    scene.work(cancel)
    assert time.monotonic() - cancelled < 8
    assert scene.state(run_id)["type"] == "CANCELLED"
    assert scene.jobs.get(job_id).error == "Cancelled."
    assert scene.nosana.unarchived() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"NOSANA_MARKET": "h100"}, "one of: nvidia-3060"),
        ({"NOSANA_API_KEY": "nos_wrong"}, "check NOSANA_API_KEY"),
        ({"NOSANA_WORKER_IMAGE": ""}, "set NOSANA_WORKER_IMAGE"),
        ({"CALLBACK_BASE_URL": ""}, "CALLBACK_BASE_URL"),
        ({"GRANT_SECRET": ""}, "openssl rand"),
        ({"credits": 0.001}, "top it up"),
    ],
)
def test_a_run_that_cannot_start_says_why_in_its_job(scene, monkeypatch, change, words):
    for name, value in change.items():
        if name == "credits":
            scene.nosana.credits[KEY] = value
        else:
            monkeypatch.setenv(name, value)
    job_id = new_job_id()
    scene.jobs.create(job_id, "{}")
    run_id = scene.start(job_id)
    scene.work()
    job = scene.jobs.get(job_id)
    assert words in job.start_error
    assert job.status is JobState.FAILED
    assert scene.state(run_id)["type"] == "CRASHED"
    assert words in scene.state(run_id)["message"]
    assert scene.nosana.deployments == []


@pytest.mark.parametrize("away", ["closed port", "answers 502", "cut while credits are read"])
def test_an_unreachable_nosana_costs_an_attempt_not_the_job(scene, monkeypatch, away):
    if away == "closed port":
        monkeypatch.setenv("NOSANA_API_BASE", "http://127.0.0.1:9/api")
    elif away == "answers 502":
        scene.nosana.faults["POST", "create"] = [502]
    else:
        scene.nosana.faults["GET", "balance"] = ["cut"] * TRIES
    job_id = new_job_id()
    scene.jobs.create(job_id, "{}")
    run_id = scene.start(job_id)
    scene.work()
    job = scene.jobs.get(job_id)
    assert (job.status, job.attempt, job.start_error) == (JobState.QUEUED, 2, None)
    assert job.attempts[0].reason.startswith("Nosana ")
    assert job.again_at is not None
    assert scene.state(run_id)["type"] == "CRASHED"
    assert job.attempts[0].reason in scene.state(run_id)["message"]


def test_a_run_is_left_to_its_worker_while_renting_takes_long(scene, stack, monkeypatch):
    """The worker renews its lease on the run, so nobody takes the run for one that was never started."""
    for module in ("infra.jobs.leases", "infra.nosana.watch_leases"):
        monkeypatch.setattr(f"{module}.LEASE_SECONDS", 9)
    answer = threading.Event()
    scene.nosana.faults["POST", "create"] = [answer]
    job_id = new_job_id()
    run_id = scene.start(job_id)
    redis, lease = scene.jobs.connection.client, watch_lease(run_id)
    clock = SimpleNamespace(now=time.time())
    jobs = JobStore.from_settings(stack.settings)
    jobs.active = lambda: [jobs.get(job_id)]  # other tests have left jobs in the same database
    reconciler = Reconciler(jobs, PrefectRuns.from_settings(stack.settings), clock=lambda: clock.now)

    def meanwhile():
        scene.wait_until(lambda: scene.nosana.deployments)
        left = redis.pttl(lease_key(lease))
        scene.wait_until(lambda: redis.pttl(lease_key(lease)) > left)
        for _ in range(3):
            assert jobs.leases.is_held(lease)
            assert reconciler.step() == []
            clock.now += 3600
        assert (scene.state(run_id)["type"], scene.run(run_id)["infrastructure_pid"]) == ("PENDING", None)
        job = jobs.get(job_id)
        assert (job.status, job.attempt, job.nosana_run_id) == (JobState.QUEUED, 1, run_id)
        answer.set()
        scene.wait_until(lambda: jobs.get(job_id).nosana_run_id == scene.nosana.deployments[0].id)

    scene.work(meanwhile)
    assert len(scene.nosana.deployments) == 1
    assert scene.nosana.unarchived() == []


@pytest.mark.parametrize("fault", [["lost"], [429]])
def test_a_failed_create_leads_to_one_deployment(scene, fault):
    scene.nosana.faults["POST", "create"] = fault
    scene.start()
    scene.work()
    assert len(scene.nosana.deployments) == 1
    assert scene.nosana.unarchived() == []


def test_no_configured_secret_is_in_a_definition_or_log(scene, stack):
    job_id = new_job_id()
    run_id = scene.start(job_id)
    scene.work()
    output = scene.nosana.definitions() + scene.logs(run_id) + str(scene.state(run_id)) + str(scene.jobs.get(job_id))
    assert CANARY not in output
    assert not [value for value in stack.environment().values() if len(value) > 20 and value in output]
    (deployment,) = scene.nosana.deployments
    assert deployment.body["confidential"] is True
    env = deployment.body["job_definition"]["ops"][0]["args"]["env"]
    assert set(env) == {"KANGKLIP_API_URL", "KANGKLIP_GRANT", "PREFECT__FLOW_RUN_ID"}


def test_a_secret_in_job_variables_is_refused(scene):
    job_id = new_job_id()
    scene.start(job_id, env={"HINT": SECRETS["LLM_API_KEY"]})
    scene.work()
    assert "HINT" in scene.jobs.get(job_id).start_error
    assert scene.nosana.deployments == []


def test_the_next_worker_continues_the_run_of_a_killed_one(scene, monkeypatch):
    scene.nosana.script = "hangs"
    scene.nosana.minute = 60
    run_id = scene.start(queue_limit_minutes=5)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", scene.name, "--type", "nosana"]
    first = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PREFECT_API_URL": scene.url})
    scene.wait_until(lambda: scene.run(run_id)["infrastructure_pid"], 60)
    first.send_signal(signal.SIGKILL)
    first.wait()
    monkeypatch.setattr("infra.nosana.orphaned_runs.ORPHANED_SECONDS", 0)

    def flow():
        scene.wait_until(lambda: "adopted this run" in scene.logs(run_id))
        scene.set_state(run_id, "RUNNING")
        scene.set_state(run_id, "COMPLETED")

    scene.work(flow)
    assert scene.state(run_id)["type"] == "COMPLETED"
    assert len(scene.nosana.deployments) == 1
    assert scene.nosana.unarchived() == []


def test_a_worker_cleans_up_after_one_that_died(scene, monkeypatch):
    monkeypatch.setattr("infra.nosana.orphaned_runs.ORPHANED_SECONDS", 0)
    before_create, lost, over = scene.start(), scene.start(), scene.start()
    scene.nosana.script = "never claimed"
    run(rent(scene.nosana, f"kangklip-{scene.name}-{over}-1"))
    for run_id, state in [(before_create, "PENDING"), (lost, "RUNNING"), (over, "COMPLETED")]:
        scene.set_state(run_id, state)
    scene.work(
        lambda: scene.wait_until(lambda: not scene.nosana.unarchived() and scene.state(lost)["type"] == "CRASHED")
    )
    assert "no longer exists" in scene.state(lost)["message"]
    scene.wait_until(lambda: scene.state(before_create)["type"] == "SCHEDULED")
    scene.nosana.script = "exit 3"
    scene.work()
    assert scene.state(before_create)["type"] == "CRASHED"
    assert len(scene.nosana.deployments) == 2
    assert scene.nosana.unarchived() == []


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_hundred_runs_never_have_more_than_ten_deployments(scene):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from infra.nosana.worker import NosanaWorker

    runs = [scene.start() for _ in range(200)]
    crashed = {
        "id": {"any_": runs},
        "state": {"type": {"any_": ["CRASHED"]}},
    }  # no container of this script runs its flow

    async def scenario():
        async with NosanaWorker(work_pool_name=scene.name) as worker:
            while scene.post("/flow_runs/count", flow_runs=crashed) < len(runs):
                await worker.get_and_submit_flow_runs()
                await asyncio.sleep(0.5)

    with temporary_settings({PREFECT_API_URL: scene.url}):
        run(scenario())
    names = [one.body["name"] for one in scene.nosana.deployments]
    assert len(names) == len(set(names))
    # Under this load SQLite makes the Prefect server refuse some requests. A run that the worker then does not start
    # says so, and its job would be retried.
    ended = [scene.post("/flow_runs/filter", flow_runs={"id": {"any_": runs[k : k + 100]}}) for k in (0, 100)]
    refused = [run for page in ended for run in page if "Failed to submit" in run["state"]["message"]]
    assert len(names) + len(refused) >= len(runs)
    assert len(names) >= 195
    assert 2 <= scene.nosana.most_live <= 10
    assert scene.nosana.unarchived() == []


async def rent(nosana: NosanaDouble, name: str) -> None:
    from pydantic import SecretStr

    from infra.nosana.client import NosanaClient
    from infra.nosana.job_definition import build, deployment_body
    from tests.nosana.double import MARKET

    async with NosanaClient(nosana.url, SecretStr(KEY)) as client:
        await client.create(deployment_body(name, str(MARKET["address"]), 5, build("kangklip-worker", {}, vram=8)))
