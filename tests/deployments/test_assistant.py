"""`kangklip mcp`, driven by the SDK's own client, with the real API, whose jobs another thread finishes."""

import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager

import anyio
import httpx
import pytest
from mcp import Client, StdioServerParameters
from pydantic import SecretStr

from infra.jobs.record import Report
from infra.states import JobState
from tests.deployments.api.conftest import CLIP, KEYS, free_port, serve  # noqa: F401 - a fixture
from tests.deployments.api.routes.test_edit import finished
from tests.deployments.api.routes.test_recut import publish
from tests.folders import MEDIA

VIDEO = "https://example.org/talk.mp4"
FILE_TOOLS = {"fetch_clips"}
TOOLS = {"create_clips", "job_status", "wait_for_job", "list_jobs", "list_clips", "cancel_job"} | {
    "read_edit",
    "read_words",
    "recut_clip",
    "recut",
}


@pytest.fixture
def served(serve):  # noqa: F811 - the fixture
    service = serve(api_keys=SecretStr(",".join(KEYS)))
    service.client.headers["x-api-key"] = KEYS[0]
    return service


def command(served, *more):
    return ["-m", "deployments.cli.main", "mcp", "--api", served.url, *more]


@asynccontextmanager
async def by_stdio(served, key=KEYS[0]):
    environment = {"KANGKLIP_API_KEY": key, "PATH": os.environ["PATH"]}
    async with Client(StdioServerParameters(command=sys.executable, args=command(served), env=environment)) as client:
        yield client


@contextmanager
def serving_http(served):
    """The address of a server for assistants."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    environment = os.environ | {"KANGKLIP_API_KEY": KEYS[0]}
    with subprocess.Popen([sys.executable, *command(served, "--http", str(port))], env=environment) as process:
        try:
            wait_until_answered(url)
            yield url
        finally:
            process.terminate()


def wait_until_answered(url):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            return httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError


async def call(client, tool, **arguments):
    """A tool's result."""
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    content = answer.structured_content
    return content["result"] if set(content) == {"result"} else content


async def refusal(client, tool, **arguments):
    """Why a tool refused."""
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    return answer.content[0].text


def test_an_assistant_makes_clips_from_a_file_and_fetches_them(served, tmp_path):
    async def session():
        async with by_stdio(served) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS | FILE_TOOLS
            wishes = {"clip_seconds": 30, "clip_count": 2, "topic": "tools", "look": {"ratio": "1:1", "tighten": True}}
            job = await call(client, "create_clips", video=str(MEDIA / "short.mp4"), **wishes)
            request = served.record(job["job_id"]).request
            assert (job["status"], request["clip_count"], request["topic"]) == ("QUEUED", 2, "tools")
            assert (request["ratio"], request["tighten"]) == ("1:1", True)
            done = served.finished_job("clip_01.mp4", poster="clip_01.jpg")
            served.bucket.put_bytes(f"jobs/{done}/clip_01.jpg", b"a poster", "image/jpeg")
            assert (await call(client, "wait_for_job", job_id=done))["status"] == "SUCCEEDED"
            (clip,) = await call(client, "list_clips", job_id=done)
            assert (clip["title"], clip["text"]) == ("It begins", "So it begins.")
            saved = await call(client, "fetch_clips", job_id=done, folder=str(tmp_path))
            folder = tmp_path / done
            assert sorted(saved) == [str(folder / name) for name in ("clip_01.jpg", "clip_01.mp4", "manifest.json")]
            assert (folder / "clip_01.mp4").read_bytes() == CLIP

    anyio.run(session)


def test_an_assistant_on_http_gives_links_and_touches_no_file(served):
    async def session(url):
        async with Client(url) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            assert "reads no files" in await refusal(client, "create_clips", video="/etc/hostname")
            job = await call(client, "create_clips", video=VIDEO)
            assert [listed["job_id"] for listed in await call(client, "list_jobs")][:1] == [job["job_id"]]
            assert (await call(client, "cancel_job", job_id=job["job_id"]))["status"] == "FAILED"

    with serving_http(served) as url:
        anyio.run(session, url)
        for name, value in {"Origin": "https://other.example", "Host": "other.example"}.items():
            refused = httpx.post(url, json={}, headers={name: value, "accept": "application/json, text/event-stream"})
            assert refused.status_code in (403, 421), "any page in a browser could use the key"


def test_a_wait_reports_progress_and_ends_with_the_job(served):
    async def session():
        async with by_stdio(served) as client:
            job_id = (await call(client, "create_clips", video=VIDEO))["job_id"]
            heard = []

            async def note(progress, total, message):
                if not heard:
                    served.jobs.report(Report(job_id=job_id, status=JobState.FAILED, error="Nobody speaks."))
                heard.append((progress, total))

            answer = await client.call_tool("wait_for_job", {"job_id": job_id}, progress_callback=note)
            assert answer.structured_content["error"] == "Nobody speaks."
            assert heard[0] == (0, 100)

    anyio.run(session)


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("job_status", {"job_id": "kk_../../etc"}, "not a job id"),
        ("job_status", {"job_id": "kk_" + "0" * 26}, "job not found"),
        ("create_clips", {"video": "no-such-file.mp4"}, "There is no file"),
        ("create_clips", {"video": "ftp://example.org/x"}, "video_url must be a valid URL"),
        ("create_clips", {"video": VIDEO, "clip_seconds": 5}, "clip_seconds"),
        ("create_clips", {"video": VIDEO, "start_seconds": 50, "end_seconds": 51}, "end_seconds must be"),
        ("fetch_clips", {"job_id": "../..", "folder": "."}, "not a job id"),
    ],
)
def test_a_refusal_says_what_to_change(served, tool, arguments, reason):
    async def session():
        async with Client(build(served)) as client:
            assert reason in await refusal(client, tool, **arguments)

    anyio.run(session)


def test_without_its_key_an_assistant_is_told_which_setting_to_set(served):
    async def session():
        async with Client(build(served, key="")) as client:
            assert "set KANGKLIP_API_KEY" in await refusal(client, "create_clips", video=VIDEO)

    anyio.run(session)


def build(served, key=KEYS[0]):
    from deployments.api_client import ApiClient
    from deployments.assistant import build_server

    return build_server(ApiClient(served.url, key, pauses=()), local_files=True)


def test_an_assistant_changes_a_clip_and_waits_for_it(served):
    job_id = finished(served)

    async def session():
        async with Client(build(served)) as client:
            document = await call(client, "read_edit", job_id=job_id)
            heard = await call(client, "read_words", job_id=job_id, start=49.9, end=51.2)
            assert (heard["first"], [word["text"] for word in heard["words"]]) == (
                100,
                ["word100", "word101", "word102"],
            )
            change = {"title": "Another", "words": {"removed": [101]}}
            begun = await call(client, "recut_clip", job_id=job_id, revision=1, clip_id="clip-1", changes=change)
            assert (begun["status"], begun["revision"], begun["recut"]["state"]) == ("SUCCEEDED", 1, "QUEUED")
            publish(served, job_id, 2)
            ended = await call(client, "wait_for_job", job_id=job_id)
            assert (ended["revision"], ended["recut"]["state"]) == (2, "SUCCEEDED")
            changed = await call(client, "read_edit", job_id=job_id)
            assert (changed["revision"], changed["clips"][0]["title"]) == (2, "Another")
            assert changed["clips"][0]["words"]["removed"] == [101]
            assert changed["clips"][1:] == document["clips"][1:]
            again = await call(
                client, "recut", job_id=job_id, revision=2, document=changed | {"clips": document["clips"]}
            )
            assert again["recut"] == {"revision": 3, "state": "QUEUED", "progress": 0, "error": None}

    anyio.run(session)


@pytest.mark.parametrize(
    ("revision", "changes", "reason"),
    [
        (7, {"title": "Another"}, "412"),
        (1, {"segments": [{"start": 10, "end": 5}]}, "clips[0].segments[0].end: 5 must be later"),
    ],
)
def test_an_assistant_is_told_what_is_wrong_with_a_change(served, revision, changes, reason):
    job_id = finished(served)

    async def session():
        async with Client(build(served)) as client:
            arguments = {"job_id": job_id, "revision": revision, "clip_id": "clip-1", "changes": changes}
            assert reason in await refusal(client, "recut_clip", **arguments)
            assert (await call(client, "read_edit", job_id=job_id))["clips"][0]["title"] == "t"

    anyio.run(session)
