"""Jobs as runs of a deployment on a real Prefect server."""

import time
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from infra.errors import SubmitError
from infra.jobs.ids import new_job_id
from infra.prefect import runs as runs_module
from infra.prefect.runs import PrefectRuns
from tests.prefect_client import prefect_client

REQUEST = {"video_url": "https://example.org/talk.mp4", "clip_duration_seconds": 45, "clip_count": 2, "language": "en"}


def test_submitting_is_idempotent_per_attempt(prefect_runs):
    job_id = new_job_id()
    first = prefect_runs.submit(job_id, 1, REQUEST)
    assert prefect_runs.submit(job_id, 1, REQUEST) == first
    assert prefect_runs.submit(job_id, 2, REQUEST) != first
    run = prefect_runs.run(first)
    assert (run["name"], run["state_type"]) == (job_id, "SCHEDULED")
    assert run["parameters"] == {"request": REQUEST, "job_id": job_id, "attempt": 1}


def test_a_retry_uses_the_earlier_runs_deployment_or_the_configured_one_if_gone(prefect_runs, stack):
    job_id, url = new_job_id(), stack.settings.prefect_api_url
    own = prefect_runs.run(prefect_runs.submit(job_id, 1, REQUEST))
    made = {"name": f"other-{job_id}", "flow_id": own["flow_id"], "entrypoint": "x.y", "paused": True}
    other = httpx.post(f"{url}/deployments/", json=made, timeout=60).raise_for_status().json()["id"]
    created = {"name": job_id, "state": {"type": "SCHEDULED"}}
    made = httpx.post(f"{url}/deployments/{other}/create_flow_run", json=created, timeout=60).raise_for_status().json()
    second = prefect_runs.submit(job_id, 2, REQUEST, made["id"])
    assert prefect_runs.run(second)["deployment_id"] == other
    assert prefect_runs.submit(job_id, 2, REQUEST) == second  # on whichever deployment
    httpx.delete(f"{url}/deployments/{other}").raise_for_status()
    third = prefect_runs.submit(job_id, 3, REQUEST, second)
    assert prefect_runs.run(third)["deployment_id"] == own["deployment_id"]
    gone = prefect_runs.submit(job_id, 4, REQUEST, str(uuid4()))
    assert prefect_runs.run(gone)["deployment_id"] == own["deployment_id"]
    for run_id in (own["id"], second, third, gone):
        prefect_runs.cancel(run_id)


def test_a_registered_file_can_be_submitted_although_prefects_form_has_no_field_for_it(prefect_runs):
    request = {"source_key": f"cache/uploads/{'0' * 64}", "source_name": "talk.mp4"}
    run = prefect_runs.run(prefect_runs.submit(new_job_id(), 1, request))
    assert run["parameters"]["request"] == request


def test_a_waiting_run_is_cancelled_at_once_and_idempotently(prefect_runs):
    run_id = prefect_runs.submit(new_job_id(), 1, REQUEST)
    waiting = prefect_runs.queue_depth()
    prefect_runs.cancel(run_id)
    assert prefect_runs.run(run_id)["state_type"] == "CANCELLED"
    assert prefect_runs.queue_depth() == waiting - 1
    prefect_runs.submit(new_job_id(), 1, REQUEST, since=time.time() + 3600)
    assert prefect_runs.queue_depth() == waiting - 1, "a scheduled run waits for its time, not for a worker"
    prefect_runs.cancel(run_id)
    prefect_runs.cancel(str(uuid4()))


class Worker:
    """Polls the queue as a process worker does: asks for due runs and takes all it gets."""

    def __init__(self, api_url):
        self._server = prefect_client(api_url)

    def take(self):
        """Take every due run; returns the names of those that could be taken."""
        due = {"scheduled_before": datetime.now(UTC).isoformat()}
        due_runs = self._server.post("/work_pools/kangklip/get_scheduled_flow_runs", json=due).raise_for_status().json()
        self.taken = [each["flow_run"] for each in due_runs if self.set(each["flow_run"], "PENDING") == "ACCEPT"]
        return [run["name"] for run in self.taken]

    def finish(self):
        for run in self.taken:
            self.set(run, "COMPLETED")

    def set(self, run, state):
        answer = self._server.post(f"/flow_runs/{run['id']}/set_state", json={"state": {"type": state}})
        return answer.raise_for_status().json()["status"]


def test_the_local_queue_runs_one_job_at_a_time_in_order_of_creation(prefect_runs, stack):
    worker = Worker(stack.settings.prefect_api_url)
    while worker.take():  # left by other tests
        worker.finish()
    jobs, began = [new_job_id() for _ in range(6)], time.time()
    for job_id in jobs[:4]:
        prefect_runs.submit(job_id, 1, REQUEST)
    done = worker.take()
    assert worker.set(worker.taken[0], "RUNNING") == "ACCEPT"
    for _ in range(3):  # repeated polls must not move the waiting runs back
        assert Worker(stack.settings.prefect_api_url).take() == []
    for job_id in jobs[4:]:
        prefect_runs.submit(job_id, 1, REQUEST)
    again = new_job_id()
    prefect_runs.submit(again, 2, REQUEST, since=began)  # created before the others
    while worker.taken:
        worker.finish()
        done += worker.take()
    assert done == [jobs[0], again, *jobs[1:]]


def test_only_known_runs_are_found(prefect_runs):
    run_id = prefect_runs.submit(new_job_id(), 1, REQUEST)
    assert list(prefect_runs.runs([run_id, str(uuid4()), "nosana-deployment", ""])) == [run_id]
    assert prefect_runs.runs([]) == {}


@pytest.mark.parametrize("asked_at_once", [3, 1000])
def test_runs_that_wait_are_told_from_those_that_do_not_or_are_gone(prefect_runs, monkeypatch, asked_at_once):
    monkeypatch.setattr(runs_module, "_ASKED_AT_ONCE", asked_at_once)
    waiting = [prefect_runs.submit(new_job_id(), 1, REQUEST) for _ in range(7)]
    assert prefect_runs.waiting(waiting) == set(waiting)
    prefect_runs.mark_crashed(waiting[0], "It died.")
    prefect_runs.cancel(waiting[1])
    assert prefect_runs.waiting([*waiting, "nosana-deployment", ""]) == set(waiting[2:])
    assert not prefect_runs.waiting([*waiting, str(uuid4())]) & {waiting[0], waiting[1]}
    assert prefect_runs.waiting([]) == set()


def test_a_run_can_be_marked_as_crashed_with_a_reason(prefect_runs):
    run_id = prefect_runs.submit(new_job_id(), 1, REQUEST)
    prefect_runs.mark_crashed(run_id, "The process that ran the job has died.")
    run = prefect_runs.run(run_id)
    assert (run["state_type"], run["state"]["message"]) == ("CRASHED", "The process that ran the job has died.")


def test_submit_errors_are_one_clear_line(stack):
    unknown = PrefectRuns(stack.settings.prefect_api_url, "clip/none")
    with pytest.raises(SubmitError, match="has no deployment clip/none; run: kangklip deploy"):
        unknown.submit(new_job_id(), 1, REQUEST)
    with pytest.raises(SubmitError, match=r"did not answer \(ConnectError\)"):
        PrefectRuns("http://127.0.0.1:9/api", "clip/local").ping()
    broken = httpx.MockTransport(lambda request: httpx.Response(500, text="a trace with a secret"))
    with pytest.raises(SubmitError, match=r"^The Prefect server answered 500 to health; read its log\.$"):
        PrefectRuns("http://prefect/api", "clip/local", broken).ping()


def test_a_response_that_is_not_json_is_reported_in_one_line():
    page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>be back soon</html>"))
    runs = PrefectRuns("http://prefect/api", "clip/local", page)
    for ask in (runs.ping, runs.queue_depth, lambda: runs.runs(["11111111-1111-1111-1111-111111111111"])):
        with pytest.raises(SubmitError, match="must end in /api"):
            ask()


def test_the_embedded_server_does_not_write_a_state_for_each_run_that_waits(stack):
    """SQLite has one writer, and some hundred runs that are called late at once lock it."""
    found = httpx.get(f"{stack.settings.prefect_api_url}/admin/settings", timeout=60).raise_for_status().json()
    assert found["server"]["services"]["late_runs"]["enabled"] is False


def test_a_busy_server_is_retried(monkeypatch):
    requests = []

    def answer(request):
        requests.append(request)
        return httpx.Response(503 if len(requests) < 3 else 200, json=7)

    assert PrefectRuns("http://prefect/api", "clip/local", httpx.MockTransport(answer)).queue_depth() == 7
    always = httpx.MockTransport(lambda request: httpx.Response(503))
    monkeypatch.setattr("infra.prefect.server.BUSY_TRIES", 2)
    with pytest.raises(SubmitError, match="answered 503 to flow_runs"):
        PrefectRuns("http://prefect/api", "clip/local", always).queue_depth()


class LosesFirstResponse(httpx.HTTPTransport):
    """A transport to the real server that loses the first response with a created run."""

    def __init__(self, error):
        super().__init__()
        self._error, self.created = error, []

    def handle_request(self, request):
        answer = super().handle_request(request)
        if request.url.path.endswith("/create_flow_run") and answer.is_success:  # not a busy server's 503
            answer.read()
            self.created.append(answer.json()["id"])
            if len(self.created) == 1:
                raise self._error
        return answer


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("lost"), httpx.ReadError("lost"), httpx.RemoteProtocolError("lost")]
)
def test_a_lost_response_is_retried_without_a_second_run(prefect_runs, stack, error):
    way, job_id = LosesFirstResponse(error), new_job_id()
    run_id = PrefectRuns(stack.settings.prefect_api_url, "clip/local", way).submit(job_id, 1, REQUEST)
    assert way.created == [run_id, run_id]
    named = {"flow_runs": {"name": {"any_": [job_id]}}}
    found = (
        httpx.post(f"{stack.settings.prefect_api_url}/flow_runs/filter", json=named, timeout=60)
        .raise_for_status()
        .json()
    )
    assert [run["id"] for run in found] == [run_id]
    assert prefect_runs.run(run_id)["state_type"] == "SCHEDULED"
    prefect_runs.cancel(run_id)


def test_a_recreated_deployment_is_found():
    ids = ["old", "new"]

    def answer(request):
        if request.url.path.startswith("/api/deployments/name/"):
            return httpx.Response(200, json={"id": ids[0]})
        known = request.url.path == f"/api/deployments/{ids[0]}/create_flow_run"
        return httpx.Response(200, json={"id": "a-run"}) if known else httpx.Response(404)

    runs = PrefectRuns("http://prefect/api", "clip/local", httpx.MockTransport(answer))
    assert runs.submit(new_job_id(), 1, REQUEST) == "a-run"
    ids.pop(0)
    assert runs.submit(new_job_id(), 1, REQUEST) == "a-run"
    ids[0:] = ["newer"]
    assert runs.submit(new_job_id(), 1, REQUEST) == "a-run"
