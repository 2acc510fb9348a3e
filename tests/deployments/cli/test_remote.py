"""`kangklip clip --api`: with the real API, whose job another thread finishes."""

import hashlib
import json
import threading
import time

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from deployments import api_client
from deployments.cli.main import app
from infra.errors import ApiUnreachable
from infra.jobs.record import Report
from infra.states import JobState
from infra.uploads.writer import PART_BYTES
from tasks.core.object_keys import job_key
from tests.deployments.api.conftest import CLIP, KEYS, clip_entry, free_port, serve  # noqa: F401 - a fixture
from tests.deployments.api.routes.test_upload_processes import CuttingProxy
from tests.folders import MEDIA

SHORT = MEDIA / "short.mp4"
MADE = {"size_bytes": len(CLIP), "checks": [{"ok": True}, {"ok": True}]}


EXTRAS = {"clip_01.jpg": b"a poster", "clip_01.srt": b"subtitles"}


@pytest.fixture
def served(serve):  # noqa: F811 - the fixture
    return serve(api_keys=SecretStr(",".join(KEYS)))


def end_jobs(served, state):
    """End the next job as a worker would."""
    before = set(served.runs.ids)

    def work():
        while not (made := set(served.runs.ids) - before):
            time.sleep(0.05)
        ((job_id, _),) = made
        clip = clip_entry("clip_01.mp4") | MADE | {"poster": "clip_01.jpg", "subtitles": {"srt": "clip_01.srt"}}
        manifest = {"job_id": job_id, "clips": [clip], "warnings": [], "dropped": []}
        for name, content in EXTRAS.items():
            served.bucket.put_bytes(job_key(job_id, name), content, "application/octet-stream")
        served.bucket.put_bytes(job_key(job_id, "clip_01.mp4"), CLIP, "video/mp4")
        served.bucket.put_json(job_key(job_id, "manifest.json"), manifest)
        error = "Nobody speaks." if state is JobState.FAILED else None
        while not served.jobs.report(Report(job_id=job_id, status=state, progress=100, error=error)):
            time.sleep(0.05)

    threading.Thread(target=work, daemon=True).start()


def run(*arguments, **environment):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"KANGKLIP_API_KEY": KEYS[0], **environment})


def test_a_file_is_sent_cut_and_its_clips_are_fetched(served, tmp_path):
    end_jobs(served, JobState.SUCCEEDED)
    done = run("clip", SHORT, "--api", served.url, "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["status"], len(document["clips"])) == ("SUCCEEDED", 1)
    folder = tmp_path / document["job_id"]
    assert (folder / "clip_01.mp4").read_bytes() == CLIP
    assert {name: (folder / name).read_bytes() for name in EXTRAS} == EXTRAS
    request = served.record(document["job_id"]).request
    assert request["source_name"] == SHORT.name
    assert served.bucket.get_bytes(request["source_key"]) == SHORT.read_bytes()
    assert request["clip_duration_seconds"] == 45


@pytest.mark.parametrize(
    "path", ["/x/..", "/x/", "..", "/x/.bashrc", "/x/clip_01.sh", "/x/a\\clip_01.mp4", "/x/clip_01.mp4\n"]
)
def test_a_file_that_is_no_clip_is_not_saved(path):
    with pytest.raises(ApiUnreachable, match="no clip"):
        api_client._file_name(path)


def test_a_failed_job_says_why(served, tmp_path):
    end_jobs(served, JobState.FAILED)
    done = run("clip", SHORT, "--api", served.url, "--out", tmp_path)
    assert done.exit_code == 1
    assert "Nobody speaks." in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--api", "{url}"], {"KANGKLIP_API_KEY": "wrong"}, "set KANGKLIP_API_KEY"),
        (["--api", "{url}", "--duration", "20"], {}, "clip_duration_seconds must be between 30 and 60"),
        (["--api", "clips.example.org"], {}, "--api must be an http or https address"),
    ],
)
def test_a_refusal_is_told(served, tmp_path, arguments, environment, said):
    given = [argument.format(url=served.url) for argument in arguments]
    done = run("clip", SHORT, *given, "--out", tmp_path, **environment)
    assert done.exit_code == 1  # the exception; `main` makes it 2
    assert said in str(done.exception)


def test_a_connection_that_is_cut_off_is_continued(serve, tmp_path):  # noqa: F811 - the fixture
    served, film = serve(), tmp_path / "film.mp4"
    film.write_bytes(hashlib.shake_128(b"cli").digest(2 * PART_BYTES))
    with CuttingProxy(int(served.url.rpartition(":")[2]), PART_BYTES) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        where = api_client.ApiClient(url, pauses=(0.1,) * 20).upload(film, lambda *_: None)
        assert proxy.cuts == 1
    upload = served.services.uploads.get(where.rpartition("/")[2], time.time())
    assert served.bucket.get_bytes(upload.key) == film.read_bytes()


def test_an_api_that_does_not_answer_is_named(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ApiUnreachable, match=f"{url} does not answer"):
        api_client.ApiClient(url, pauses=(0.0,)).upload(SHORT, lambda *_: None)
