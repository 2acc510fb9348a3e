"""A grant is exchanged for a session once, while it is the job's newest and the run awaits it."""

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import pytest
import redis

from deployments.image import container
from infra.jobs.record import Report
from infra.states import JobState
from tests.deployments.api.conftest import GRANT_SECRET

NONCE = "the-nonce-of-a-container"


def test_a_grant_is_exchanged_for_access_without_our_secrets(api, job_id):
    answer = api.redeem(api.grant(job_id)).json()["access"]
    assert (answer["job_id"], answer["attempt"]) == (job_id, 1)
    assert answer["root"] == f"granted/{job_id}/"
    assert api.settings.r2_secret_access_key.get_secret_value() not in str(answer)


def test_a_second_exchange_is_refused_and_ends_job_session_and_run(api, job_id):
    grant = api.grant(job_id)
    token = api.redeem(grant).json()["access"]["token"]
    again = api.redeem(grant)
    assert (again.status_code, again.json()["detail"]) == (403, "grant was already redeemed")
    job = api.record(job_id)
    assert job.status is JobState.FAILED
    assert "may have been stolen" in job.error
    assert job.flow_run_id in api.runs.cancelled
    assert token not in str(job)
    assert api.redeem(grant).status_code == 403


def test_a_theft_is_detected_even_if_the_thief_has_ended_the_run(api, job_id):
    grant = api.grant(job_id)
    assert api.redeem(grant).status_code == 200
    api.runs.states[api.record(job_id).flow_run_id] = "COMPLETED"
    assert api.redeem(grant).json()["detail"] == "grant was already redeemed"
    assert "may have been stolen" in api.record(job_id).error


class LosesResponses(httpx.HTTPTransport):
    """A transport to the API that raises the `lost` errors in turn instead of returning a response."""

    def __init__(self, *lost):
        super().__init__()
        self.lost, self.responses = list(lost), []

    def handle_request(self, request):
        answer = super().handle_request(request)
        self.responses.append(answer.read())
        if self.lost:
            raise self.lost.pop(0)
        return answer


def test_a_container_that_lost_the_response_can_exchange_again(api, job_id, monkeypatch):
    way = LosesResponses(httpx.ReadTimeout("lost"), httpx.RemoteProtocolError("lost"))
    monkeypatch.setattr(httpx, "post", lambda url, **more: httpx.Client(transport=way).post(url, **more))
    access = container.redeem(api.url, api.grant(job_id))
    lost = [json.loads(answer)["access"]["token"] for answer in way.responses[:2]]
    assert len({*lost, access.token}) == 3
    assert api.record(job_id).status is JobState.QUEUED
    assert [api.callback(job_id, "RUNNING", token=token).status_code for token in lost] == [401, 401]
    assert api.callback(job_id, "RUNNING", token=access.token).status_code == 200


@pytest.mark.parametrize("other", [None, "another-nonce-of-somebody", "short", 7])
def test_a_second_exchange_with_another_nonce_is_a_theft(api, job_id, other):
    grant = api.grant(job_id)
    assert api.redeem(grant, NONCE).status_code == 200
    assert api.redeem(grant, other).json()["detail"] == "grant was already redeemed"
    assert "may have been stolen" in api.record(job_id).error
    assert api.redeem(grant, NONCE).status_code == 403


def test_a_nonce_is_void_once_the_session_is_used(api, job_id):
    grant = api.grant(job_id)
    token = api.redeem(grant, NONCE).json()["access"]["token"]
    assert api.callback(job_id, "RUNNING", token=token).status_code == 200
    assert api.redeem(grant, NONCE).json()["detail"] == "grant was already redeemed"
    assert "may have been stolen" in api.record(job_id).error


def test_a_nonce_lasts_ten_minutes_and_is_not_renewed_by_use(api, job_id):
    grant, database = api.grant(job_id), redis.Redis.from_url(api.settings.redis_url.get_secret_value())
    for seconds in (599, 300):
        token = api.redeem(grant, NONCE).json()["access"]["token"]
        key = f"kangklip:session:{hashlib.sha256(token.encode()).hexdigest()}:nonce"
        assert 0 < database.ttl(key) <= seconds + 1
        assert NONCE.encode() not in database.get(key)
        database.expire(key, 300)
    database.delete(key)
    assert api.redeem(grant, NONCE).json()["detail"] == "grant was already redeemed"


def test_a_nonce_does_not_reopen_an_ended_attempt(api, job_id):
    grant = api.grant(job_id)
    api.redeem(grant, NONCE)
    assert api.jobs.cancel(job_id, 1)
    assert api.redeem(grant, NONCE).json()["detail"] == "grant refused"
    assert api.record(job_id).error == "Cancelled."


def with_altered_signature(grant):
    head, claims, signature = grant.split(".")
    return f"{head}.{claims}.{signature[:-2]}{'AA' if signature[-2:] != 'AA' else 'BB'}"


def with_changed_claims(grant):
    claims = jwt.decode(grant, GRANT_SECRET, ["HS256"], audience="kangklip-grant")
    return jwt.encode(claims | {"attempt": 2}, "another secret of thirty-two letters", "HS256")


def unsigned(grant):
    claims = jwt.decode(grant, GRANT_SECRET, ["HS256"], audience="kangklip-grant")
    return jwt.encode(claims, None, "none")


@pytest.mark.parametrize(
    "spoil", [with_altered_signature, with_changed_claims, unsigned, lambda grant: "", lambda grant: None, list]
)
def test_a_grant_we_did_not_sign_is_refused(api, job_id, spoil):
    refused = api.redeem(spoil(api.grant(job_id)))
    assert (refused.status_code, refused.json()) == (403, {"detail": "grant refused"})
    assert api.record(job_id).status is JobState.QUEUED


@pytest.mark.parametrize("changes", [{"expires_at": 1}, {"run_id": str(uuid.uuid4())}, {"attempt": 2}])
def test_an_expired_or_foreign_grant_is_refused(api, job_id, changes):
    assert api.redeem(api.grant(job_id, **changes)).status_code == 403
    assert api.record(job_id).status is JobState.QUEUED


def test_a_grant_of_an_earlier_attempt_is_refused(api, job_id):
    grant = api.grant(job_id)
    api.jobs.report(Report(job_id=job_id, status=JobState.FAILED, error="x"))
    assert api.redeem(grant).status_code == 403
    api.post(f"/api/jobs/{job_id}/start")
    assert api.redeem(grant).status_code == 403
    assert (api.record(job_id).attempt, api.record(job_id).status) == (2, JobState.QUEUED)


def test_concurrent_exchanges_give_at_most_one_session_and_count_as_theft(api):
    for _ in range(5):
        job_id = api.new_job()
        grant = api.grant(job_id)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _, grant=grant: api.redeem(grant), range(20)))
        tokens = [answer.json()["access"]["token"] for answer in answers if answer.status_code == 200]
        assert len(tokens) <= 1
        job = api.record(job_id)
        assert (job.attempt, job.status) == (1, JobState.FAILED)
        assert "may have been stolen" in job.error
        assert all(api.callback(job_id, "RUNNING", token=token).status_code == 401 for token in tokens)


def test_cancelling_does_not_hide_a_theft(api, job_id):
    grant = api.grant(job_id)
    api.redeem(grant)
    api.redeem(grant)
    assert not api.jobs.cancel(job_id, 1)
    assert "may have been stolen" in api.record(job_id).error


def test_a_closed_session_stays_closed_after_a_restart(api, job_id):
    token = api.access(job_id).token
    api.jobs.report(Report(job_id=job_id, status=JobState.FAILED, error="x"))
    api.post(f"/api/jobs/{job_id}/start")
    assert api.callback(job_id, "RUNNING", token=token).status_code == 401
    api.grant(job_id, attempt=2)
    assert api.callback(job_id, "RUNNING", token=token).status_code == 401


def test_a_newer_grant_voids_an_earlier_one(api, job_id):
    first, unused = api.grant(job_id), api.grant(job_id)
    assert api.redeem(first).status_code == 403
    assert api.record(job_id).status is JobState.QUEUED
    assert api.redeem(unused).status_code == 200


def test_a_cancelled_runs_grant_is_refused(api, job_id):
    grant = api.grant(job_id)
    api.runs.states[api.record(job_id).flow_run_id] = "CANCELLING"
    assert api.redeem(grant).status_code == 403


def test_a_service_without_a_grant_secret_answers_404(serve):
    assert serve(grant_secret=None).redeem("x").status_code == 404
