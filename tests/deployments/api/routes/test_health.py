"""Health, readiness and metrics."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from infra.states import Stage

CACHE_SECONDS = "deployments.api.readiness.CACHE_SECONDS"
NO_REDIS = SecretStr("redis://:secret-password@127.0.0.1:9/0")


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    monkeypatch.setattr(CACHE_SECONDS, 0)


def test_healthz_answers(api):
    assert api.get("/healthz").json() == {"ok": True}


def test_readyz_reports_every_server(api):
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"redis": "ok", "bucket": "ok", "prefect": "ok"})


@pytest.mark.parametrize(
    ("changes", "server"),
    [
        ({"redis_url": NO_REDIS}, "redis"),
        ({"r2_endpoint": "http://127.0.0.1:9"}, "bucket"),
        ({"r2_bucket": "absent"}, "bucket"),
    ],
)
def test_readyz_names_a_server_that_does_not_answer(serve, changes, server):
    api = serve(**changes)
    answer = api.get("/readyz")
    states = answer.json()
    assert (answer.status_code, [name for name in states if states[name] != "ok"]) == (503, [server])
    assert "secret-password" not in answer.text
    assert api.get("/healthz").status_code == 200


def test_readyz_names_an_unreachable_prefect_server(api):
    api.runs.fault = "The Prefect server did not answer (ConnectError)."
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["prefect"]) == (503, api.runs.fault)


def metrics(api) -> dict[tuple[str, str], float]:
    """Each sample's value, by its name and its only label."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_count_jobs_and_stages(api):
    before = metrics(api)
    done, failed, queued = api.new_job(), api.new_job(), api.new_job()
    for stage in Stage:
        api.callback(done, "RUNNING", stage=stage, progress=stage.span[0])
    api.callback(done, "SUCCEEDED")
    api.callback(failed, "FAILED")
    after = metrics(api)
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert grown[("kangklip_jobs", "QUEUED")] == 1
    assert grown[("kangklip_jobs_finished_total", "SUCCEEDED")] == 1
    assert grown[("kangklip_jobs_finished_total", "FAILED")] == 1
    assert grown[("kangklip_stage_seconds_count", "RENDER")] == 1
    assert grown[("kangklip_queue_depth", "")] == 3
    assert after[("kangklip_stage_seconds_sum", "RENDER")] >= 0
    api.callback(queued, "FAILED")


def test_metrics_work_without_prefect(api):
    api.runs.fault = "The Prefect server did not answer (ConnectError)."
    assert ("kangklip_queue_depth", "") not in metrics(api)
