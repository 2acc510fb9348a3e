"""A recut's grant: exchanged once, for a session that ends with the recut's attempt. The job stays as it is."""

import uuid

import pytest

from infra.states import JobState
from tests.deployments.api.routes.test_edit import finished

NONCE = "the-nonce-of-a-container"


@pytest.fixture
def recut_id(api) -> str:
    """A finished job whose recut waits for a rented machine."""
    job_id = finished(api)
    assert api.jobs.recuts.begin(job_id, 1) == 2
    api.jobs.recuts.open(job_id, 2, 1, str(uuid.uuid4()), api.jobs.leases, lease=False)
    return job_id


def assert_job_untouched(api, job_id):
    job = api.record(job_id)
    assert (job.status, job.error, job.attempt, job.revision, job.grant_id) == (JobState.SUCCEEDED, None, 1, None, None)


def test_a_recuts_grant_is_exchanged_for_its_own_session_and_begins_it(api, recut_id):
    assert api.record(recut_id).recut.state is JobState.QUEUED
    answer = api.redeem(api.recut_grant(recut_id))
    assert answer.status_code == 200, answer.text
    assert api.record(recut_id).recut.state is JobState.RUNNING
    assert_job_untouched(api, recut_id)
    assert api.services.sessions.find(answer.json()["access"]["token"]).revision == 2


def test_a_second_exchange_ends_the_recut_and_its_run_but_not_the_job(api, recut_id):
    grant = api.recut_grant(recut_id)
    token = api.redeem(grant).json()["access"]["token"]
    again = api.redeem(grant)
    assert (again.status_code, again.json()["detail"]) == (403, "grant was already redeemed")
    recut = api.record(recut_id).recut
    assert recut.state is JobState.FAILED
    assert "may have been stolen" in recut.error
    assert recut.error.endswith("Send the document again. The published clips are as they were.")
    assert recut.flow_run_id in api.runs.cancelled
    assert_job_untouched(api, recut_id)
    assert api.services.sessions.find(token) is None
    assert api.redeem(grant).status_code == 403


def test_a_theft_is_told_even_if_the_thief_has_ended_the_recut(api, recut_id):
    grant = api.recut_grant(recut_id)
    api.redeem(grant)
    api.jobs.recuts.end(recut_id, 2, 1, JobState.FAILED, "The thief says so.")
    assert api.redeem(grant).json()["detail"] == "grant was already redeemed"
    assert "may have been stolen" in api.record(recut_id).recut.error


def test_a_lost_response_is_repeated_by_its_nonce_until_the_session_is_used(api, recut_id):
    grant = api.recut_grant(recut_id)
    first, second = (api.redeem(grant, NONCE).json()["access"]["token"] for _ in range(2))
    assert api.services.sessions.find(first) is None
    assert api.services.sessions.find(second)
    assert api.redeem(grant, NONCE).json()["detail"] == "grant was already redeemed"


@pytest.mark.parametrize(
    "changes", [{"attempt": 2}, {"revision": 3}, {"revision": None}, {"run_id": str(uuid.uuid4())}]
)
def test_a_grant_for_another_revision_attempt_or_run_is_refused(api, recut_id, changes):
    refused = api.redeem(api.recut_grant(recut_id, **changes))
    assert (refused.status_code, refused.json()) == (403, {"detail": "grant refused"})
    assert api.record(recut_id).recut.state is JobState.QUEUED
    assert_job_untouched(api, recut_id)


@pytest.mark.parametrize("what", ["newer grant", "next attempt", "next recut", "end"])
def test_a_session_ends_with_what_replaces_its_recut(api, recut_id, what):
    token = api.redeem(api.recut_grant(recut_id)).json()["access"]["token"]
    assert api.services.sessions.find(token)
    if what == "newer grant":
        api.recut_grant(recut_id)
    elif what == "next attempt":
        assert api.jobs.recuts.retry(recut_id, 2, 1, "Its machine was lost.")
    else:
        assert api.jobs.recuts.end(recut_id, 2, 1, JobState.FAILED, "It failed.")
        if what == "next recut":
            api.jobs.recuts.begin(recut_id, 1)
    signs = api.post(
        "/api/worker/objects", json={"method": "GET", "path": "/x"}, headers={"authorization": f"Bearer {token}"}
    )
    assert (signs.status_code, signs.json()["detail"]) == (403, "session is not valid")


def test_reports_of_a_recuts_session_are_about_the_recut_whatever_they_say(api, recut_id):
    token = api.redeem(api.recut_grant(recut_id)).json()["access"]["token"]
    for progress, named in ((30, {}), (40, {"revision": 2}), (50, {"revision": 7, "attempt": 9}), (20, {})):
        assert (
            api.callback(recut_id, "RUNNING", token=token, progress=progress, stage="RENDER", **named).status_code
            == 200
        )
    assert api.job(recut_id)["recut"] == {"revision": 2, "state": "RUNNING", "progress": 50, "error": None}
    refused = api.callback(api.new_job(), "RUNNING", token=token)
    assert (refused.status_code, refused.json()) == (401, {"detail": "invalid callback token"})
    assert api.callback(recut_id, "FAILED", token=token, error="It broke.").status_code == 200
    assert api.job(recut_id)["recut"] == {"revision": 2, "state": "FAILED", "progress": 50, "error": "It broke."}
    assert not api.bucket.exists(f"jobs/{recut_id}/error.json")
    assert_job_untouched(api, recut_id)


def test_a_recuts_session_has_no_llm(serve, monkeypatch):
    api = serve(llm_model_name="openai/model", llm_api_base="http://127.0.0.1:9/v1")
    job_id = finished(api)
    api.jobs.recuts.begin(job_id, 1)
    api.jobs.recuts.open(job_id, 2, 1, str(uuid.uuid4()), api.jobs.leases, lease=False)
    access = api.redeem(api.recut_grant(job_id)).json()["access"]
    assert access["llm_model"] is None
    call = {"messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {access['token']}"}
    refused = api.post("/api/worker/llm/chat/completions", json=call, headers=headers)
    assert (refused.status_code, refused.json()["detail"]) == (404, "no LLM is available to rented machines")
