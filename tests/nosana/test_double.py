"""The double keeps the service's rules, also those that the client never breaks."""

import time

import httpx
import pytest

from infra.nosana.job_definition import build, deployment_body
from tests.nosana.double import KEY, MARKET


@pytest.fixture
def http(nosana):
    with httpx.Client(base_url=nosana.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def made(http, **changes):
    definition = build("kangklip-worker", {"HELLO": "there"}, vram=8)
    body = deployment_body("kangklip-1", str(MARKET["address"]), 60, definition) | changes
    answer = http.post("/deployments/create", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_a_draft_can_be_neither_stopped_archived_nor_deleted(http):
    draft = made(http, autostart=False)
    for method, path in [("POST", "/stop"), ("POST", "/archive"), ("DELETE", "")]:
        answer = http.request(method, f"/deployments/{draft}{path}")
        assert (answer.status_code, answer.json()["error"]) == (500, "Deployment is in the incorrect state.")
    assert http.post(f"/deployments/{draft}/start").json()["status"] == "STARTING"


def test_starting_a_stopped_one_runs_it_again(http, nosana):
    one = made(http)
    for jobs in (1, 2):
        while http.get(f"/deployments/{one}").json()["status"] != "STOPPED":
            time.sleep(0.02)
        assert http.get(f"/deployments/{one}/jobs").json()["pagination"]["total_items"] == jobs
        http.post(f"/deployments/{one}/start")


def test_a_limit_is_one_of_four(http):
    assert http.get("/deployments", params={"limit": "15"}).status_code == 400


def test_a_job_is_told_by_name_in_the_list_and_by_number_on_its_page(http, nosana):
    nosana.script = "hangs"
    one = made(http)
    while not (jobs := http.get(f"/deployments/{one}/jobs").json()["jobs"]) or jobs[0]["state"] != "RUNNING":
        time.sleep(0.02)
    assert http.get(f"/deployments/{one}/jobs/{jobs[0]['job']}").json()["state"] == 1


def test_a_container_has_nothing_of_the_hosts(http, nosana, monkeypatch):
    monkeypatch.setenv("CANARY", "of the host")
    nosana.script = "run"
    code = "import os; print(sorted(os.environ), os.environ['HELLO'])"
    definition = build("kangklip-worker", {"HELLO": "there"}, vram=8).model_dump(mode="json")
    definition["ops"][0]["args"]["cmd"] = ["python", "-c", code]
    one = made(http, job_definition=definition)
    while http.get(f"/deployments/{one}").json()["status"] != "STOPPED":
        time.sleep(0.02)
    (job,) = nosana.deployments[0].jobs
    (line,) = job.result["opStates"][0]["logs"]
    assert "there" in line["log"]
    assert "CANARY" not in line["log"]
    assert job.result["opStates"][0]["exitCode"] == 0
