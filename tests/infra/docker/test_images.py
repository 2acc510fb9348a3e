"""Every image is built and does its work with its own command, as its own user."""

import socket
import time

import httpx
import pytest

from infra.jobs.ids import new_job_id
from tasks.core.object_keys import job_key
from tests.folders import MEDIA
from tests.infra.docker.images import Images
from tests.media_server import MediaServer, file

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    made = Images(tmp_path_factory.mktemp("images"))
    yield made
    made.remove()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def bucket_environment(settings):
    return {
        "R2_ENDPOINT": settings.r2_endpoint,
        "R2_BUCKET": settings.r2_bucket,
        "R2_ACCESS_KEY_ID": settings.r2_access_key_id.get_secret_value(),
        "R2_SECRET_ACCESS_KEY": settings.r2_secret_access_key.get_secret_value(),
    }


def first_response(url, process, seconds=60):
    """The first response of a server that is starting."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.2)
    process.kill()
    pytest.fail(f"{url} did not answer: {process.communicate()[0]}")


def test_the_api_image_serves_requests(images, servers):
    images.build("kangklip-api", "api.Dockerfile")
    port = free_port()
    env = bucket_environment(servers.settings) | {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "REDIS_URL": servers.settings.redis_url.get_secret_value(),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "CALLBACK_TOKEN": "a-token-of-this-test",
    }
    process = images.start("kangklip-api", env)
    try:
        url = f"http://127.0.0.1:{port}"
        assert first_response(f"{url}/healthz", process).status_code == 200
        assert "text/html" in httpx.get(url).headers["content-type"]
        assert httpx.get(f"{url}/api/jobs/{new_job_id()}").json() == {"detail": "job not found"}
    finally:
        process.terminate()
        process.wait(30)
    assert images.config("kangklip-api")["User"] == "kangklip"


def test_the_nosana_image_knows_its_worker_type(images):
    images.build("kangklip-nosana", "api.Dockerfile", target="nosana")
    assert images.config("kangklip-nosana")["Cmd"][:3] == ["prefect", "worker", "start"]
    found = (
        "from prefect.plugins import load_prefect_collections as load; from prefect.workers.base import BaseWorker;"
        "load(); print(BaseWorker.get_worker_class_from_type('nosana').__module__)"
    )
    assert images.output_of("kangklip-nosana", "python", "-c", found).splitlines()[-1] == "infra.nosana.worker"


def test_a_complete_job_runs_in_the_worker_image(images, servers, store):
    """With weights that need no model hub. Nothing is installed or downloaded at run time."""
    images.build("kangklip-worker", "worker.Dockerfile", ASR_MODEL="base", REQUIREMENTS="demo")
    assert images.output_of("kangklip-worker", "id", "-un") == "kangklip"
    job_id = new_job_id()
    with MediaServer() as media:
        media.pages["/talk.mp4"] = file((MEDIA / "short.mp4").read_bytes())
        env = bucket_environment(servers.settings) | {
            "JOB_ID": job_id,
            "VIDEO_URL": f"http://127.0.0.1:{media.port}/talk.mp4",
            "ALLOW_PRIVATE_ADDRESSES": "true",
            "CLIP_COUNT": "1",
            "MIN_CLIP_SECONDS": "5",
            "MAX_CLIP_SECONDS": "20",
            "OUTPUT_LANGUAGE": "en",
            "R2_PREFIX": f"jobs/{job_id}",
        }
        process = images.start("kangklip-worker", env)
        output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    manifest = store.get_json(job_key(job_id, "manifest.json"))
    assert [clip["file"] for clip in manifest["clips"]] == ["clip_01.mp4"]
    assert store.size(job_key(job_id, "clip_01.mp4")) > 100_000
