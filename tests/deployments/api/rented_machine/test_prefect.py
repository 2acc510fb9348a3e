"""A session's access to the real Prefect server through the proxy: its own run and no other."""

import base64
import contextlib
import json
import time
import uuid
from datetime import UTC, datetime

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from deployments.api import dependencies
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.states import JobState
from tests.deployments.api.conftest import REQUEST
from tests.prefect_client import prefect_client


class Tenant:
    """A job, its run on the Prefect server, and the session of the machine that runs it."""

    def __init__(self, service, server):
        self.service, self.server = service, server
        self.job_id = new_job_id()
        service.jobs.create(self.job_id, json.dumps(REQUEST))
        flow = self.ask_server("POST", "/flows/", {"name": "clip"})
        made = {"name": f"d-{self.job_id}", "flow_id": flow["id"], "job_variables": {"env": {"A": "b"}}}
        deployment = self.ask_server("POST", "/deployments/", made)
        fields = {"state": {"type": "PENDING"}, "job_variables": {"env": {"C": "d"}}}
        run = self.ask_server("POST", f"/deployments/{deployment['id']}/create_flow_run", fields)
        self.run_id, self.flow_id, self.deployment_id = run["id"], flow["id"], deployment["id"]
        service.jobs.set_run(self.job_id, 1, self.run_id)
        service.runs.known[self.run_id] = run
        self.token = service.access(self.job_id).token
        self.url = f"{service.url}/api/worker/prefect"
        self.http = httpx.Client(headers={"authorization": f"Bearer {self.token}"}, timeout=30)

    def ask_server(self, method, path, body=None):
        answer = self.server.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def call(self, method, path, body=None):
        return self.http.request(method, f"{self.url}{path}", json=body)

    def task_run(self, task_run_id, **changes):
        """An event with which Prefect's client reports a task run."""
        return {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "prefect.task-run.Completed",
            "resource": {"prefect.resource.id": f"prefect.task-run.{task_run_id}", "prefect.resource.name": "render"}
            | {"prefect.orchestration": "client", "prefect.state-type": "COMPLETED"},
            "related": [
                {"prefect.resource.id": f"prefect.flow-run.{self.run_id}", "prefect.resource.role": "flow-run"}
            ],
            "payload": {
                "intended": {"from": "RUNNING", "to": "COMPLETED"},
                "initial_state": {"type": "RUNNING", "name": "Running", "message": "", "state_details": {}},
                "validated_state": {"type": "COMPLETED", "name": "Completed", "message": "", "state_details": {}},
                "task_run": {"name": "render", "task_key": "render-1", "dynamic_key": str(task_run_id), "run_count": 1},
            },
            "follows": None,
        } | changes

    def socket(self, token=None, path="/events/in"):
        socket = connect(f"{self.url}{path}".replace("http", "ws"), subprotocols=["prefect"])
        socket.send(json.dumps({"type": "auth", "token": self.token if token is None else token}))
        return socket, json.loads(socket.recv(timeout=10))["type"]

    def emit(self, *events):
        socket, answer = self.socket()
        assert answer == "auth_success"
        for one in events:
            socket.send(json.dumps(one))
        socket.close()

    def task_runs(self):
        found = self.ask_server("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [self.run_id]}}})
        return {run["id"]: run["state_type"] for run in found}


@pytest.fixture(scope="module")
def service(serve, stack):
    running = serve(prefect_api_url=stack.settings.prefect_api_url)
    running.runs.known = {}
    running.runs.run = running.runs.known.get
    return running


@pytest.fixture(scope="module")
def server(stack):
    return prefect_client(stack.settings.prefect_api_url)


@pytest.fixture(scope="module")
def tenant(service, server):
    return Tenant(service, server)


@pytest.fixture(scope="module")
def other(service, server):
    return Tenant(service, server)


def log_entry(run_id, **more):
    at = datetime.now(UTC).isoformat()
    return {"name": "x", "level": 20, "message": "a line", "timestamp": at, "flow_run_id": run_id} | more


def test_a_run_can_read_itself_without_job_variables(tenant):
    run = tenant.call("GET", f"/flow_runs/{tenant.run_id}").json()
    assert (run["id"], run["job_variables"], run["work_pool_name"]) == (tenant.run_id, {}, None)
    assert tenant.call("GET", f"/deployments/{tenant.deployment_id}").json()["job_variables"] == {}
    assert tenant.call("GET", f"/flows/{tenant.flow_id}").json()["name"] == "clip"
    assert tenant.call("GET", "/admin/version").status_code == 200
    basic = base64.b64encode(tenant.token.encode()).decode()
    answer = httpx.get(f"{tenant.url}/flow_runs/{tenant.run_id}", headers={"authorization": f"Basic {basic}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/flow_runs/{other.run_id}"),
        ("PATCH", "/flow_runs/{other.run_id}"),
        ("DELETE", "/flow_runs/{tenant.run_id}"),
        ("GET", "/deployments/{other.deployment_id}"),
        ("PATCH", "/deployments/{tenant.deployment_id}"),
        ("POST", "/deployments/{tenant.deployment_id}/create_flow_run"),
        ("GET", "/deployments/name/clip/local"),
        ("POST", "/flow_runs/"),
        ("POST", "/flow_runs/filter"),
        ("POST", "/task_runs/filter"),
        ("POST", "/logs/filter"),
        ("POST", "/artifacts/filter"),
        ("POST", "/block_documents/filter"),
        ("POST", "/block_documents/"),
        ("GET", "/block_documents/{tenant.run_id}"),
        ("POST", "/block_types/"),
        ("GET", "/block_types/slug/secret"),
        ("POST", "/block_schemas/filter"),
        ("POST", "/variables/"),
        ("GET", "/variables/name/x"),
        ("GET", "/work_pools/nosana-gpu"),
        ("POST", "/work_pools/nosana-gpu/get_scheduled_flow_runs"),
        ("GET", "/work_queues/{tenant.run_id}"),
        ("POST", "/automations/filter"),
        ("GET", "/admin/settings"),
        ("POST", "/admin/database/clear"),
        ("POST", "/events"),
        ("POST", "/events/filter"),
        ("POST", "/v2/concurrency_limits/leases/{other.run_id}/renew"),
        ("GET", "/flow_runs/{tenant.run_id}/../{other.run_id}"),
        ("GET", "/flow_runs/{tenant.run_id}%2F..%2F{other.run_id}"),
        ("GET", "/flow_runs//{other.run_id}"),
        ("GET", "/flow_runs/{tenant.run_id}/graph"),
        ("GET", "/"),
    ],
)
def test_all_other_requests_are_refused(tenant, other, method, path):
    answer = tenant.call(method, path.format(tenant=tenant, other=other), {})
    assert answer.status_code in (403, 404), answer.text
    assert answer.json()["detail"] in ("the run may not make this request", "not found")
    assert other.run_id not in answer.text
    if "//" not in path and ".." not in path and path != "/":
        assert answer.status_code == 403


def test_requests_without_a_valid_session_are_refused(tenant):
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic %%%"}, {"authorization": "Basic /w=="}):
        answer = httpx.get(f"{tenant.url}/flow_runs/{tenant.run_id}", headers=headers)
        assert (answer.status_code, answer.json()) == (403, {"detail": "session is not valid"})


def test_logs_and_artifacts_are_accepted_for_the_own_run_only(tenant, other):
    assert tenant.call("POST", "/logs/", [log_entry(tenant.run_id)]).status_code == 201
    assert tenant.call("POST", "/logs/", [log_entry(other.run_id)]).status_code == 403
    name = tenant.job_id.lower().replace("_", "-")
    mine = {"key": f"progress-{name}", "type": "progress", "data": 0.0, "flow_run_id": tenant.run_id}
    made = tenant.call("POST", "/artifacts/", mine).json()
    assert tenant.call("PATCH", f"/artifacts/{made['id']}", {"data": 50.0}).status_code == 204
    theirs = other.call("POST", "/artifacts/", mine | {"key": f"progress-{other.job_id.lower().replace('_', '-')}"})
    assert theirs.status_code == 403
    assert other.call("PATCH", f"/artifacts/{made['id']}", {"data": 99.0}).status_code == 403
    assert tenant.ask_server("GET", f"/artifacts/{made['id']}")["data"] == 50.0


@pytest.mark.parametrize("words", ['"half a character: \\ud800"', "1e999"])
def test_bodies_that_cannot_be_forwarded_are_refused(tenant, words):
    sent = json.dumps([log_entry(tenant.run_id, message="X", level="X")]).replace('"X"', words)
    answer = tenant.http.post(f"{tenant.url}/logs/", content=sent, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (403, {"detail": "the run may not make this request"})


@pytest.mark.parametrize("greeting", ["[" * 100_000, b"\x00", "{}", "x" * 2 * 1024**2])
def test_a_socket_with_a_malformed_greeting_is_closed_without_an_error(tenant, greeting, caplog):
    with connect(f"{tenant.url}/events/in".replace("http", "ws"), subprotocols=["prefect"]) as socket:
        socket.send(greeting)
        with contextlib.suppress(ConnectionClosed):
            assert all(json.loads(answer)["type"] == "auth_failure" for answer in socket)
    assert not [record for record in caplog.records if record.exc_info]


def test_events_create_task_runs_of_the_own_run_only(tenant, other):
    own, theirs = str(uuid.uuid4()), str(uuid.uuid4())
    other.emit(other.task_run(theirs))
    wait_until(lambda: theirs in other.task_runs())
    forged = tenant.task_run(theirs, event="prefect.task-run.Failed")
    forged["payload"]["validated_state"] |= {"type": "FAILED", "name": "Failed"}
    disguised = tenant.task_run(str(uuid.uuid4()))
    disguised["payload"]["task_run"] |= {"id": theirs, "flow_run_id": other.run_id, "name": "taken"}
    foreign = other.task_run(str(uuid.uuid4()))
    tenant.emit(forged, foreign, disguised, {"event": "x"}, tenant.task_run(own))
    wait_until(lambda: own in tenant.task_runs())
    assert other.task_runs() == {theirs: "COMPLETED"}
    assert tenant.call("POST", "/logs/", [log_entry(tenant.run_id, task_run_id=theirs)]).status_code == 403


def test_a_socket_without_a_session_is_closed(tenant):
    socket, answer = tenant.socket(token="kks_nobody")
    assert answer == "auth_failure"
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=10)


def test_silent_sockets_time_out_and_free_their_places(serve, monkeypatch):
    monkeypatch.setattr(dependencies, "streams_allowed", lambda: 4)
    address = serve().url.replace("http", "ws") + "/api/worker/prefect/events/in"
    with connect(address), connect(address), pytest.raises(InvalidStatus):
        connect(address)

    def answers():
        with contextlib.suppress(InvalidStatus), connect(address) as socket:
            socket.send("{}")
            return json.loads(socket.recv(timeout=10))["type"] == "auth_failure"
        return False

    wait_until(answers)


def test_the_outgoing_event_stream_is_silent(tenant, other):
    socket, answer = tenant.socket(path="/events/out")
    assert answer == "auth_success"
    socket.send(json.dumps({"type": "filter", "filter": {}}))
    other.call("POST", f"/flow_runs/{other.run_id}/set_state", {"state": {"type": "RUNNING"}})
    with pytest.raises(TimeoutError):
        socket.recv(timeout=1)
    socket.close()


def test_a_run_cannot_reschedule_itself(service, server):
    eager = Tenant(service, server)
    path = f"/flow_runs/{eager.run_id}"
    policy = {"empirical_policy": {"retries": 50, "retry_type": "reschedule"}}
    assert eager.call("PATCH", path, policy).status_code == 204
    assert eager.call("POST", f"{path}/set_state", {"state": {"type": "RUNNING"}}).status_code == 201
    assert eager.call("POST", f"{path}/set_state", {"state": {"type": "SCHEDULED"}}).status_code == 403
    assert eager.call("POST", f"{path}/set_state", {"state": {"type": "FAILED"}}).json()["status"] == "ACCEPT"
    assert eager.ask_server("GET", path)["state"]["type"] == "FAILED"


def test_a_session_ends_shortly_after_its_run(service, server, monkeypatch):
    monkeypatch.setattr("infra.granted.session._CLOSING_SECONDS", 1)
    ending = Tenant(service, server)
    path = f"/flow_runs/{ending.run_id}"
    assert ending.call("POST", f"{path}/set_state", {"state": {"type": "RUNNING"}}).status_code == 201
    assert ending.call("POST", f"{path}/set_state", {"state": {"type": "COMPLETED"}}).status_code == 201
    assert ending.call("POST", "/logs/", [log_entry(ending.run_id)]).status_code == 201
    wait_until(lambda: ending.call("GET", path).status_code == 403)


def test_ending_a_job_from_outside_ends_its_session(service, server, monkeypatch):
    monkeypatch.setattr("infra.granted.session._CLOSING_SECONDS", 0.5)
    ended = Tenant(service, server)
    assert ended.call("GET", f"/flow_runs/{ended.run_id}").status_code == 200
    assert service.jobs.report(Report(job_id=ended.job_id, status=JobState.FAILED, error="Cancelled."))
    wait_until(lambda: ended.call("GET", f"/flow_runs/{ended.run_id}").status_code == 403)


def wait_until(wanted, seconds=20):
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.1)
