"""`kangklip deploy` on a real Prefect server creates everything once and keeps an operator's changes."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from deployments.registry import register as register_module
from deployments.registry.register import register
from infra.errors import ConfigError, StackError, SubmitError
from infra.local.services import WORK_POOL
from tests.folders import ROOT
from tests.prefect_client import prefect_client

pytestmark = pytest.mark.long

DEPLOYMENTS = ["clip/local", "clip/gpu", "recut/local", "recut/gpu", "batch/nightly", "housekeeping/nightly"]
NIGHTLY = DEPLOYMENTS.index("batch/nightly")
POOLS = ["kangklip", "nosana-gpu"]


class Webhook(BaseHTTPRequestHandler):
    """A webhook that keeps the bodies it receives."""

    bodies: queue.Queue[str] = queue.Queue()

    def do_POST(self):
        self.bodies.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server:
    """The Prefect server as an operator uses it, over its HTTP API."""

    def __init__(self, api_url):
        self.client = prefect_client(api_url + "/")

    def __call__(self, method, path, body=None):
        answer = self.client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name):
        return self("GET", f"deployments/name/{name}")

    def automation(self, name):
        found = self("POST", "automations/filter", {"automations": {"name": {"any_": [name]}}})
        assert len(found) == 1, found
        return found[0]

    def blocks(self):
        return {each["name"]: each["id"] for each in self("POST", "block_documents/filter", {}) if each["name"]}

    def run(self, deployment, state, **more):
        """Create a run of the deployment in this state."""
        body = {"state": {"type": "PENDING"}, "enforce_parameter_schema": False} | more
        run = self("POST", f"deployments/{self.deployment(deployment)['id']}/create_flow_run", body)
        self.force_state(run, state)
        return run

    def foreign_run(self, state):
        flow = self("POST", "flows/", {"name": "somebody-elses"})
        run = self("POST", "flow_runs/", {"flow_id": flow["id"], "name": "foreign", "state": {"type": "PENDING"}})
        self.force_state(run, state)
        return run

    def force_state(self, run, state):
        self("POST", f"flow_runs/{run['id']}/set_state", {"state": {"type": state}, "force": True})

    def state(self, run):
        return self("GET", f"flow_runs/{run['id']}")["state_type"]

    def all(self):
        """Everything that `kangklip deploy` creates, with ids and the fields that an operator may change."""
        from deployments.registry.automations import FAILURES, ZOMBIES

        pools = [self("GET", f"work_pools/{name}") for name in POOLS]
        deployments = [self.deployment(name) for name in DEPLOYMENTS]
        automations = [self.automation(name) for name in (ZOMBIES, FAILURES)]
        return {
            "pools": [(pool["id"], pool["concurrency_limit"], pool["base_job_template"]) for pool in pools],
            "queue": self("GET", "work_pools/kangklip/queues/clips")["concurrency_limit"],
            "deployments": [
                {name: each[name] for name in ("id", "parameters", "tags", "entrypoint", "concurrency_options")}
                for each in deployments
            ],
            "schedules": [(each["id"], each["active"], each["schedule"]) for each in deployments[NIGHTLY]["schedules"]],
            "automations": [(each["id"], each["enabled"], each["trigger"]["id"]) for each in automations],
            "blocks": {name: self.blocks()[name] for name in ("bucket", "kangklip-notify")},
        }


@pytest.fixture(scope="module")
def webhook():
    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret-part"
        server.shutdown()


@pytest.fixture(scope="module")
def environment(stack, webhook):
    return os.environ | stack.environment() | {"NOTIFY_URL": webhook}


@pytest.fixture(scope="module")
def first_deploy(environment):
    """The first `kangklip deploy` on the server."""
    return kangklip_deploy(environment)


@pytest.fixture(scope="module")
def server(stack, first_deploy):
    assert first_deploy.returncode == 0, first_deploy.stderr
    yield (created := Server(stack.settings.prefect_api_url))
    from deployments.registry.automations import FAILURES

    created("DELETE", f"automations/{created.automation(FAILURES)['id']}")  # its webhook ends here


def kangklip_deploy(environment):
    command = [sys.executable, "-m", "deployments.cli.main", "deploy"]
    env = environment | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_deploy_creates_everything_and_says_what_is_next(server, first_deploy, webhook):
    words = " ".join((first_deploy.stdout + first_deploy.stderr).split())
    for name in [*DEPLOYMENTS, *POOLS, "kangklip-stage-records/bucket"]:
        assert name in words
    assert "prefect worker start --pool nosana-gpu" in words
    assert "DEPLOYMENT=clip/gpu" in words
    assert webhook not in words
    assert [server("GET", f"work_pools/{name}")["type"] for name in POOLS] == ["process", "nosana"]
    assert server("GET", "work_pools/nosana-gpu")["concurrency_limit"] == 10
    assert [each["active"] for each in server.deployment("batch/nightly")["schedules"]] == [False]
    assert server("GET", "work_pools/kangklip/queues/clips")["concurrency_limit"] == 1
    assert server.deployment("clip/local")["work_queue_name"] == "clips"
    assert server.deployment("clip/local")["global_concurrency_limit"] is None
    assert "kangklip-bucket" not in server.blocks()


def test_the_nosana_pool_has_the_workers_job_template(server):
    from infra.nosana.worker import NosanaWorker

    template = server("GET", "work_pools/nosana-gpu")["base_job_template"]
    assert template == NosanaWorker.get_default_base_job_template()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_parameter_has_a_description(server, name):
    schema = server.deployment(name)["parameter_openapi_schema"]
    bodies = [body for body in [schema, *schema.get("definitions", {}).values()] if "properties" in body]
    assert bodies
    for body in bodies:
        assert body["properties"]
        assert [field for field, described in body["properties"].items() if not described.get("description")] == []


def test_the_run_form_requires_a_url_and_hides_internal_fields(server):
    schema = server.deployment("clip/local")["parameter_openapi_schema"]
    request = schema["definitions"]["ClipRequest"]
    assert list(schema["properties"]) == ["request"]
    assert request["required"] == ["video_url"]
    assert request["properties"]["video_url"].items() >= {"type": "string", "title": "Video URL"}.items()
    assert not {"source_key", "source_name"} & set(request["properties"])
    assert {"auto", "en", "id"} <= set(request["properties"]["language"]["enum"])
    batch = server.deployment("batch/nightly")["parameter_openapi_schema"]["definitions"]["BatchRequest"]
    for name, field in {**request["properties"], **batch["properties"]}.items():
        assert "anyOf" not in field, f"{name} opens on None"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "video_url"),
        ({"video_url": "ftp://example.org/v"}, "does not match"),
        ({"video_url": "https://a.b/c", "clip_count": 11}, "11"),
    ],
)
def test_the_server_refuses_invalid_parameters(server, request_, message):
    deployment = server.deployment("clip/local")
    body = {"state": {"type": "SCHEDULED"}, "parameters": {"request": request_}}
    answer = server.client.post(f"deployments/{deployment['id']}/create_flow_run", json=body)
    assert answer.status_code == 409
    assert message in answer.json()["detail"]


def test_prefect_deploy_creates_a_missing_pool(server, environment):
    server("DELETE", "work_pools/nosana-gpu")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert server("GET", "work_pools/nosana-gpu")["type"] == "nosana"
    assert server.deployment("clip/gpu")["work_pool_name"] == "nosana-gpu"


def test_a_second_deploy_keeps_an_operators_changes(server, environment):
    from deployments.registry.automations import ZOMBIES

    nightly = server.deployment("batch/nightly")
    feed = {"request": {"feed": "https://example.org/feed.xml"}}
    schedule = f"deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}"
    server("PATCH", schedule, {"active": True})
    server("PATCH", f"deployments/{nightly['id']}", {"parameters": feed})
    template = server("GET", "work_pools/nosana-gpu")["base_job_template"]
    template["variables"]["properties"]["market"]["default"] = "nvidia-3060"
    server("PATCH", "work_pools/nosana-gpu", {"concurrency_limit": 3, "base_job_template": template})
    server("PATCH", f"automations/{server.automation(ZOMBIES)['id']}", {"enabled": False})
    server("PATCH", "work_pools/kangklip/queues/clips", {"concurrency_limit": 2})
    changed_by_operator = server.all()
    done = kangklip_deploy(environment)
    assert done.returncode == 0, done.stderr
    assert server.all() == changed_by_operator
    assert changed_by_operator["schedules"][0][1] is True
    assert changed_by_operator["deployments"][NIGHTLY]["parameters"] == feed
    assert "created" not in done.stdout
    assert "updated" not in done.stdout
    assert "at most 3 at once" in done.stdout
    assert "at most 2 at once" in done.stdout
    server("PATCH", "work_pools/kangklip/queues/clips", {"concurrency_limit": 1})
    assert "schedule on" in done.stdout
    server("PATCH", f"automations/{server.automation(ZOMBIES)['id']}", {"enabled": True})
    server("PATCH", schedule, {"active": False})


def test_an_automation_with_its_former_name_is_renamed(server, environment):
    from deployments.registry.automations import FAILURES

    automation_id = server.automation(FAILURES)["id"]
    former = server("GET", f"automations/{automation_id}") | {"name": "KangKlip: tell of failed runs", "enabled": False}
    fields = ("name", "description", "enabled", "trigger", "actions")
    server("PUT", f"automations/{automation_id}", {name: former[name] for name in fields})
    done = kangklip_deploy(environment)
    assert done.returncode == 0, done.stderr
    renamed = server.automation(FAILURES)
    assert (renamed["id"], renamed["enabled"]) == (automation_id, False)
    server("PATCH", f"automations/{automation_id}", {"enabled": True})


def test_an_older_pool_gets_the_new_job_template_and_keeps_changed_defaults(server, monkeypatch):
    old = {
        "job_configuration": {"image": "{{ image }}"},
        "variables": {"properties": {"image": {"type": "string", "default": "mine"}, "gone": {"default": 1}}},
    }
    new = {
        "job_configuration": {"image": "{{ image }}", "market": "{{ market }}"},
        "variables": {
            "properties": {"image": {"type": "string", "default": ""}, "market": {"type": "string", "default": "any"}}
        },
    }
    server("PATCH", "work_pools/nosana-gpu", {"base_job_template": old})
    monkeypatch.setattr(register_module, "_deploy", lambda *_: None)
    try:
        done = register(str(server.client.base_url), pools=["nosana-gpu"], templates={"nosana": new})
        names = [("nosana-gpu", "updated"), ("clip/gpu", "existed"), ("recut/gpu", "existed")]
        assert [(one.name, one.outcome) for one in done] == names
        form = server("GET", "work_pools/nosana-gpu")["base_job_template"]["variables"]["properties"]
        assert {name: field["default"] for name, field in form.items()} == {"image": "mine", "market": "any"}
    finally:
        from infra.nosana.worker import NosanaWorker

        template = NosanaWorker.get_default_base_job_template()
        server("PATCH", "work_pools/nosana-gpu", {"base_job_template": template})


def test_up_registers_its_own_pool_only(server, monkeypatch):
    sent = []
    monkeypatch.setattr(register_module, "_deploy", lambda offered, _: sent.extend(offered["deployments"]))
    done = register(str(server.client.base_url), pools=[WORK_POOL])
    assert [(one.kind, one.name) for one in done] == [
        ("work pool", "kangklip"),
        ("work queue", "kangklip/clips"),
        ("work queue", "kangklip/recuts"),
        ("deployment", "clip/local"),
        ("deployment", "recut/local"),
        ("deployment", "batch/nightly"),
        ("deployment", "housekeeping/nightly"),
    ]
    assert [each["name"] for each in sent] == ["local", "local", "nightly", "nightly"]


@pytest.mark.parametrize(("days", "is_on"), [("30", True), ("0", False), ("", False)])
def test_housekeeping_is_scheduled_where_a_retention_is_set(server, monkeypatch, days, is_on):
    """Whatever it was before: otherwise, setting RETENTION_DAYS on an existing server would delete nothing."""
    sent = []
    monkeypatch.setattr(register_module, "_deploy", lambda offered, _: sent.extend(offered["deployments"]))
    monkeypatch.setenv("RETENTION_DAYS", days)
    register(str(server.client.base_url), pools=[WORK_POOL])
    assert [each["active"] for each in sent[3]["schedules"]] == [is_on]


def test_an_added_schedule_is_left_alone(server, monkeypatch):
    nightly = server.deployment("batch/nightly")
    hourly = {"schedule": {"interval": 3600}, "active": False}
    (added,) = server("POST", f"deployments/{nightly['id']}/schedules", [hourly])
    sent = []
    monkeypatch.setattr(register_module, "_deploy", lambda offered, _: sent.extend(offered["deployments"]))
    register(str(server.client.base_url), pools=[WORK_POOL])
    assert "schedules" not in sent[2]
    server("DELETE", f"deployments/{nightly['id']}/schedules/{added['id']}")


def test_a_pool_of_the_wrong_type_is_reported(server, monkeypatch):
    server("POST", "work_pools/", {"name": "other", "type": "docker"})
    offered = {"definitions": {"pools": [{"name": "other", "type": "nosana"}]}, "deployments": []}
    monkeypatch.setattr(register_module.yaml, "safe_load", lambda _: offered)
    with pytest.raises(StackError, match=r"other is of type docker, not nosana; delete it"):
        register(str(server.client.base_url))
    server("DELETE", "work_pools/other")


def test_an_address_without_api_at_its_end_is_reported(stack):
    with pytest.raises(SubmitError, match=r"must end in /api\."):
        register(stack.settings.prefect_api_url.removesuffix("/api"), pools=["kangklip"])


def test_an_unreachable_server_is_reported():
    with pytest.raises(SubmitError, match=r"did not answer .*check PREFECT_API_URL"):
        register("http://127.0.0.1:9/api")


def test_deploy_without_a_server_says_what_to_do(server, monkeypatch):
    from deployments.registry.deploy import deploy

    monkeypatch.delenv("PREFECT_API_URL")
    with pytest.raises(ConfigError, match="Set PREFECT_API_URL"):
        deploy(bucket_block=False)


def test_the_bucket_block_is_optional_and_works(server, stack, store):
    from prefect_aws.s3 import S3Bucket

    from deployments.registry import blocks

    assert blocks.save_bucket(stack.settings) == "s3-bucket/kangklip-bucket"
    assert blocks.save_bucket(stack.settings) == "s3-bucket/kangklip-bucket"
    bucket = S3Bucket.load("kangklip-bucket")
    bucket.write_path("from-a-block.txt", b"seen")
    assert store.get_bytes("from-a-block.txt") == b"seen"
    store.delete("from-a-block.txt")
    for name in ("s3-bucket", "aws-credentials"):
        found = server("GET", f"block_types/slug/{name}/block_documents/name/kangklip-bucket")
        assert stack.settings.r2_secret_access_key.get_secret_value() not in str(found)
        server("DELETE", f"block_documents/{found['id']}")


def test_only_our_failed_runs_are_sent_to_the_webhook(server):
    server.foreign_run("FAILED")
    server.run("clip/local", "COMPLETED", name="fine")
    server.run("clip/gpu", "FAILED", name='say "hello"')
    payload = httpx.Response(200, text=Webhook.bodies.get(timeout=30)).json()
    assert payload["text"].startswith('KangKlip: clip say "hello" Failed ')
    with contextlib.suppress(queue.Empty):
        pytest.fail(f"told twice or of another: {Webhook.bodies.get(timeout=1)}")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_run_whose_heartbeat_stops_is_marked_crashed(server):
    from datetime import timedelta

    from deployments.registry import automations

    quick = automations.zombies(timedelta(seconds=30)).model_copy(update={"name": "quick"})
    assert automations.save(quick) == "created"
    dead, done = server.run("clip/local", "RUNNING"), server.run("clip/gpu", "RUNNING")
    foreign = server.foreign_run("RUNNING")
    for run, flow in ((dead, "clip"), (done, "clip"), (foreign, "somebody-elses")):
        send_heartbeat(server, run, flow)
    server.force_state(done, "COMPLETED")
    deadline = time.monotonic() + 600
    while server.state(dead) != "CRASHED":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [server.state(run) for run in (done, foreign)] == ["COMPLETED", "RUNNING"]
    server("DELETE", f"automations/{server.automation('quick')['id']}")


def send_heartbeat(server, run, flow):
    """Send a heartbeat as a run's engine does."""
    from prefect.types._datetime import now

    event = {
        "id": str(uuid.uuid4()),
        "occurred": now("UTC").isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run['id']}", "prefect.resource.name": run["name"]},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{run['flow_id']}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow,
            }
        ],
    }
    server("POST", "events", [event])
