"""The diagnosis of every outcome that Nosana can show, as produced by the double."""

import asyncio
import time

import pytest

from infra.nosana.diagnosis import KILLED, TIMED_OUT, UNREACHABLE, Snapshot, diagnose
from infra.nosana.job_definition import build, deployment_body
from infra.nosana.models import Deployment, JobDetail, JobPhase, NosanaJob
from tests.nosana.double import MARKET

QUEUE_LIMIT = 3.0


async def take_snapshot(client, deployment_id):
    jobs = await client.jobs(deployment_id)
    return Snapshot(
        deployment=await client.get(deployment_id),
        job=jobs[0] if jobs else None,
        detail=await client.job(deployment_id, jobs[0].id) if jobs else None,
        events=await client.events(deployment_id),
    )


@pytest.fixture
def outcome(nosana, call_client):
    """Diagnoses a script; with `waited`, as if its job had ended so many seconds ago."""

    def of(script, waited=None):
        nosana.script = script

        async def scenario(client):
            body = deployment_body("kangklip-1", str(MARKET["address"]), 2, build("kangklip-worker", {}, vram=8))
            made = await client.create(body)
            began = time.monotonic()
            while time.monotonic() - began < 15:
                snapshot = await take_snapshot(client, made.id)
                ended = snapshot.job is not None and snapshot.job.phase is JobPhase.COMPLETED
                since = waited if waited and ended else time.monotonic() - began
                if found := diagnose(snapshot, since, QUEUE_LIMIT):
                    return found
                await asyncio.sleep(0.02)
            raise AssertionError("nothing came of it")

        return call_client(scenario)

    return of


@pytest.mark.parametrize(
    ("script", "status_code", "words", "retryable", "blame"),
    [
        ("ok", 0, "succeeded", False, "container"),
        ("exit 3", 3, "status 3", False, "container"),
        ("exit 75", UNREACHABLE, "did not reach the API", False, "machine"),
        ("exit 137", KILLED, "was killed", False, "machine"),
        ("expired", TIMED_OUT, "timed out", False, "user"),
        ("hangs", TIMED_OUT, "timed out", False, "user"),
        ("image", 2, "NOSANA_WORKER_IMAGE", True, "user"),
        ("resource", 2, "could not provide", True, "machine"),
        ("runtime", 2, "container", True, "machine"),
        ("host shut down", 1, "host was shut down", True, "machine"),
        ("out of memory", 137, "out of memory", True, "machine"),
        ("result late", 0, "succeeded", False, "container"),
        ("result lost", None, "lost", False, "machine"),
        ("no credits", 1, "Top up the credits", False, "user"),
        ("not listed", 1, "The market does not answer", False, "machine"),
        ("never claimed", 1, "No host took the job", False, "user"),
        ("slow start", 0, "succeeded", False, "container"),
    ],
)
def test_every_outcome_has_its_status_message_and_blame(outcome, script, status_code, words, retryable, blame):
    found = outcome(script)
    assert (found.status_code, found.retryable, found.blame) == (status_code, retryable, blame)
    assert words in found.message
    assert "\n" not in found.message
    assert not (found.is_loss and "tart the job again" in found.message), "it is started again by itself"


def test_container_logs_are_kept_out_of_the_message(outcome):
    found = outcome("exit 3")
    assert found.logs == ("the last line",)
    assert "the last line" not in found.message + repr(found)


@pytest.mark.parametrize(
    "result",
    [
        "nonsense",
        [],
        {"opStates": "nonsense"},
        {"opStates": 5},
        {"opStates": [5]},
        {"opStates": [{"exitCode": "none"}]},
    ],
)
def test_a_malformed_result_counts_as_lost(result):
    """The host writes the result; whatever it holds, the run must end and release its machine."""
    now = "2026-01-01T00:00:00Z"
    deployment = {"id": "d", "name": "n", "market": "m", "status": "RUNNING", "created_at": now}
    job = {"job": "j", "state": "COMPLETED", "created_at": now}
    detail = JobDetail.model_validate({"state": 2, "jobResult": result})
    snapshot = Snapshot(
        deployment=Deployment.model_validate(deployment), job=NosanaJob.model_validate(job), detail=detail
    )
    found = diagnose(snapshot, 0.0, QUEUE_LIMIT)
    assert found is not None
    assert (found.status_code, found.summary, found.is_loss) == (None, "The job's result was lost.", True)


def test_a_missing_result_has_no_status_code(outcome):
    found = outcome("result none", waited=61)
    assert found.status_code is None
    assert "never delivered" in found.summary
