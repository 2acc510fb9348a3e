"""What a rented machine may send to the Prefect server: pure rules that rebuild whatever they let through."""

import json
import uuid

import pytest

from deployments.api.rented_machine import prefect_rules as rules
from deployments.api.rented_machine.prefect_rules import Forbidden, RunIds

RUN, FLOW, DEPLOYMENT, OTHER, TASK = (str(uuid.UUID(int=n)) for n in range(1, 6))
OWN = RunIds(RUN, FLOW, DEPLOYMENT, "kk_01ABC")
RUN_RESOURCE = {"prefect.resource.id": f"prefect.flow-run.{RUN}", "prefect.resource.role": "flow-run"}


def event(**changes):
    return {
        "id": str(uuid.uuid4()),
        "occurred": "2026-01-01T00:00:00Z",
        "event": "prefect.task-run.Completed",
        "resource": {"prefect.resource.id": f"prefect.task-run.{TASK}", "prefect.resource.name": "render"},
        "related": [RUN_RESOURCE],
        "payload": {
            "intended": {"from": "RUNNING", "to": "COMPLETED"},
            "initial_state": {"type": "RUNNING"},
            "validated_state": {"type": "COMPLETED", "name": "Completed", "data": {"storage_key": "x"}},
            "task_run": {"name": "render", "task_key": "render-1", "dynamic_key": "1"},
        },
        "follows": None,
    } | changes


@pytest.mark.parametrize("kind", ["RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
def test_state_changes_lose_data_that_prefect_would_load(kind):
    details = {"transition_id": TASK, "flow_run_id": OTHER, "child_flow_run_id": OTHER, "pause_key": "x"}
    state = {"type": kind, "name": "N", "message": "m", "data": {"storage_key": "x"}, "state_details": details}
    sent = rules.state_change({"state": state, "force": False})
    assert sent == {
        "state": {"type": kind, "name": "N", "message": "m", "state_details": {"transition_id": TASK}},
        "force": False,
    }


@pytest.mark.parametrize(
    "body",
    [
        {"state": {"type": "SCHEDULED"}},
        {"state": {"type": "PENDING"}},
        {"state": {"type": "PAUSED"}},
        {"state": {"type": "CANCELLING"}},
        {"state": {"type": "scheduled"}},
        {"state": {"type": "COMPLETED"}, "force": True},
        {"state": {}},
        {"state": {"type": []}},
        {"state": "COMPLETED"},
        {},
        [],
        None,
    ],
)
def test_states_that_reschedule_or_force_are_forbidden(body):
    with pytest.raises(Forbidden):
        rules.state_change(body)


def test_a_run_cannot_change_its_retry_policy():
    change = {"flow_version": "1", "empirical_policy": {"retries": 50, "retry_type": "reschedule"}, "tags": ["x"]}
    assert rules.run_change(change) == {"flow_version": "1"}
    assert rules.run_change({"empirical_policy": {"retries": 50}}) == {}


def test_a_task_runs_payload_cannot_name_another_run():
    sneaky = {"id": OTHER, "flow_run_id": OTHER, "state": {"type": "FAILED"}, "cache_key": "x", "name": "render"}
    received = event()
    received["payload"]["task_run"] = sneaky
    received["related"] = [
        RUN_RESOURCE,
        {"prefect.resource.id": "prefect.flow-run." + OTHER, "prefect.resource.role": "x"},
    ]
    sent, task_run = rules.event(received, OWN)
    assert task_run == TASK
    assert sent["payload"]["task_run"] == {"name": "render"}
    assert OTHER not in json.dumps(sent)
    assert "storage_key" not in json.dumps(sent)


@pytest.mark.parametrize(
    "changes",
    [
        {"related": []},
        {"related": [{"prefect.resource.id": f"prefect.flow-run.{OTHER}", "prefect.resource.role": "flow-run"}]},
        {"event": "prefect.flow-run.Completed", "resource": RUN_RESOURCE},
        {"event": "prefect.flow-run.heartbeat"},
        {
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{OTHER}"},
        },
        {"event": "prefect.block.loaded"},
        {"event": "prefect.task-run.Completed", "resource": {"prefect.resource.id": f"prefect.block.{TASK}"}},
        {"event": "prefect.task-run.Completed", "resource": {"prefect.resource.id": "prefect.task-run.no-uuid"}},
        {"event": None},
        {"resource": None},
        {"payload": []},
        {"id": "x"},
    ],
)
def test_foreign_events_are_forbidden(changes):
    with pytest.raises(Forbidden):
        rules.event(event(**changes), OWN)


def test_the_runs_own_heartbeat_passes():
    sent, task_run = rules.event(event(event="prefect.flow-run.heartbeat", resource=RUN_RESOURCE), OWN)
    assert (sent["event"], sent["payload"], task_run) == ("prefect.flow-run.heartbeat", {}, None)


def test_log_lines_are_trimmed_and_those_of_other_runs_forbidden():
    line = {"name": "prefect", "level": 20, "message": "x" * 50_000, "timestamp": "t", "flow_run_id": RUN}
    (sent,), task_runs = rules.logs([line | {"task_run_id": TASK, "worker_id": OTHER}], OWN)
    assert len(sent["message"]) == rules.MAX_TEXT_CHARS
    assert "worker_id" not in sent
    assert task_runs == {TASK}
    with pytest.raises(Forbidden):
        rules.logs([line, line | {"flow_run_id": OTHER}], OWN)


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"key": "clips-kk-01abc", "type": "markdown", "data": "text"}, True),
        ({"key": "clips-kk-02xyz"}, False),
        ({"type": "image"}, False),
        ({"key": ["progress-kk-01abc"]}, False),
        ({"flow_run_id": OTHER}, False),
        ({"flow_run_id": None}, False),
    ],
)
def test_a_run_may_create_its_two_artifacts_only(changes, allowed):
    artifact = {"key": "progress-kk-01abc", "type": "progress", "flow_run_id": RUN, "data": 1.0, "metadata_": {}}
    if allowed:
        sent, _ = rules.new_artifact(artifact | changes, OWN)
        assert "metadata_" not in sent
    else:
        with pytest.raises(Forbidden):
            rules.new_artifact(artifact | changes, OWN)


def test_job_variables_and_work_pool_are_hidden():
    run = {"id": RUN, "job_variables": {"env": {"A": "b"}}, "work_pool_name": "p", "parameters": {}}
    shown = rules.visible_record(run)
    assert shown == {"id": RUN, "job_variables": {}, "work_pool_name": None, "parameters": {}}


@pytest.mark.parametrize("seconds", [0, -1, 601, "x", None])
def test_a_concurrency_lease_lasts_at_most_ten_minutes(seconds):
    with pytest.raises(Forbidden):
        rules.lease_seconds({"lease_duration": seconds})
