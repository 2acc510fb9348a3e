"""The Nosana client against the strict double: every call, every refusal, and lost responses."""

import asyncio
import time
from asyncio import run

import httpx
import pytest
from pydantic import SecretStr

from infra.nosana.client import NosanaClient, NosanaNotFound, NosanaRefused, NosanaUnavailable, WrongState
from infra.nosana.job_definition import build, deployment_body
from infra.nosana.models import DeploymentState, JobPhase
from tests.nosana.double import KEY, MARKET, OTHER_KEY


def body(name="kangklip-1", **changes):
    return deployment_body(name, str(MARKET["address"]), 60, build("kangklip-worker", {}, vram=8)) | changes


async def wait_for_state(client, deployment_id, state):
    deadline = time.monotonic() + 10
    while (deployment := await client.get(deployment_id)).status != state:
        assert time.monotonic() < deadline, deployment
        await asyncio.sleep(0.02)


def test_a_deployment_can_be_created_followed_and_archived(nosana, call_client):
    async def scenario(client):
        made = await client.create(body())
        await wait_for_state(client, made.id, DeploymentState.STOPPED)
        (job,) = await client.jobs(made.id)
        page = await client.job(made.id, job.id)
        await client.archive(made.id)
        return job, page, await client.get(made.id)

    job, page, gone = call_client(scenario)
    assert job.phase is page.phase is JobPhase.COMPLETED
    assert page.operations[0].exit_code == 0
    assert gone.status is DeploymentState.ARCHIVED
    assert nosana.unarchived() == []


def test_creating_the_same_name_twice_makes_one_deployment(nosana, call_client):
    async def twice(client):
        return (await client.create(body())).id, (await client.create(body())).id

    first, second = call_client(twice)
    assert first == second
    assert len(nosana.deployments) == 1


def test_a_deployment_whose_creation_was_not_confirmed_is_found_by_name(nosana, call_client):
    nosana.faults["POST", "create"] = ["lost"]
    made = call_client(lambda client: client.create(body()))
    assert [one.id for one in nosana.deployments] == [made.id]


def test_a_create_without_effect_is_an_error(nosana, call_client):
    nosana.faults["POST", "create"] = [502]
    with pytest.raises(NosanaUnavailable, match="502"):
        call_client(lambda client: client.create(body()))
    assert nosana.deployments == []


def test_a_busy_server_is_retried_after_the_time_it_names(nosana, call_client):
    nosana.faults["POST", "create"] = [429]
    nosana.faults["GET", "deployments"] = [502, 429]
    began = time.monotonic()
    call_client(lambda client: client.create(body()))
    assert len(nosana.deployments) == 1
    assert time.monotonic() - began >= 2


def test_a_server_that_keeps_failing_is_given_up(nosana, call_client):
    nosana.faults["GET", "balance"] = [502] * 10
    with pytest.raises(NosanaUnavailable):
        call_client(lambda client: client.credits())
    assert len(nosana.faults["GET", "balance"]) == 6


def test_an_unreachable_server_is_reported():
    async def scenario():
        async with NosanaClient("http://127.0.0.1:9/api", SecretStr(KEY)) as client:
            await client.credits()

    with pytest.raises(NosanaUnavailable, match="cannot be reached"):
        run(scenario())


def test_a_call_in_the_wrong_state_is_not_retried(nosana, call_client):
    nosana.script = "never claimed"
    made = call_client(lambda client: client.create(body()))
    before = len(nosana.requests)
    with pytest.raises(WrongState, match="archive"):
        call_client(lambda client: client.archive(made.id))
    with pytest.raises(WrongState, match="start"):
        call_client(lambda client: client.start(made.id))
    assert len(nosana.requests) == before + 2


def test_an_archived_deployment_cannot_be_changed(nosana, call_client):
    async def archived(client):
        made = await client.create(body())
        await wait_for_state(client, made.id, DeploymentState.STOPPED)
        await client.archive(made.id)
        await client.start(made.id)

    with pytest.raises(WrongState, match="archived"):
        call_client(archived)


def test_deployments_of_another_key_are_not_found(nosana, call_client):
    made = call_client(lambda client: client.create(body()))
    with pytest.raises(NosanaNotFound, match="not found"):
        call_client(lambda client: client.get(made.id), OTHER_KEY)
    assert call_client(lambda client: client.find("kangklip-1"), OTHER_KEY) is None


def test_a_wrong_key_is_reported_without_showing_it(call_client):
    with pytest.raises(NosanaRefused, match="NOSANA_API_KEY") as refused:
        call_client(lambda client: client.credits(), "nos_wrong")
    assert "nos_wrong" not in str(refused.value)


def test_a_malformed_create_is_refused(call_client):
    with pytest.raises(NosanaRefused, match="400"):
        call_client(lambda client: client.create(body(timeout=0)))


def test_search_reads_all_pages(nosana, call_client):
    async def many(client):
        for number in range(105):
            await client.create(body(f"kangklip-{number}", autostart=False))
        await client.create(body("other-kangklip-1", autostart=False))
        return await client.search("kangklip-")

    assert len({one.id for one in call_client(many)}) == 105


def test_markets_are_found_by_slug_or_address_and_credits_are_read(nosana, call_client):
    nosana.credits[KEY] = 2.5
    by_slug = call_client(lambda client: client.market("nvidia-3060"))
    assert by_slug == call_client(lambda client: client.market(str(MARKET["address"])))
    assert by_slug.usd_per_hour == pytest.approx(0.048)
    assert call_client(lambda client: client.credits()).available == pytest.approx(2.5)
    with pytest.raises(NosanaNotFound, match="one of: nvidia-3060"):
        call_client(lambda client: client.market("h100"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"deployments": [{}], "pagination": {}}', "<html>"])
def test_a_malformed_response_is_reported(text):
    async def scenario():
        transport = httpx.MockTransport(lambda _: httpx.Response(200, text=text))
        async with NosanaClient("https://nosana.example/api", SecretStr(KEY), transport) as client:
            await client.find("name")

    with pytest.raises(NosanaUnavailable, match=r"lacks|could not be read"):
        run(scenario())
