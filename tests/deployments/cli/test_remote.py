"""`kangklip clip --api`: with the real API, whose job another thread finishes."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from deployments import api_client
from deployments.cli.main import app
from deployments.cli.unfinished_uploads import UnfinishedUpload
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


def test_an_upload_whose_program_was_killed_is_continued_by_the_next_call(serve, tmp_path):  # noqa: F811 - the fixture
    served, film, data = serve(), tmp_path / "film.mp4", tmp_path / "data"
    padding = hashlib.shake_128(b"later").digest(PART_BYTES)
    film.write_bytes(SHORT.read_bytes() + struct.pack(">I", len(padding) + 8) + b"free" + padding)
    before = uploads(served)
    with CuttingProxy(int(served.url.rpartition(":")[2]), PART_BYTES + 100_000) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        command = [sys.executable, "-m", "deployments.cli.main", "clip", str(film), "--api", url]
        environment = os.environ | {"KANGKLIP_DATA_DIR": str(data)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            proxy.on_cut = process.kill
            assert process.wait(60) == -signal.SIGKILL
        (begun,) = uploads(served) - before
        end_jobs(served, JobState.SUCCEEDED)
        done = run("clip", film, "--api", url, "--out", tmp_path / "out", "--json", KANGKLIP_DATA_DIR=str(data))
        assert done.exit_code == 0, done.output
        kept = proxy.offsets[-1]
    assert kept >= PART_BYTES, "it began anew"
    assert uploads(served) - before == {begun}
    request = served.record(json.loads(done.stdout)["job_id"]).request
    assert served.bucket.get_bytes(request["source_key"]) == film.read_bytes()
    assert list((data / "uploads").iterdir()) == []


def uploads(served):
    """The ids of all uploads that the API has."""
    return set(served.jobs.connection.client.zrange("kangklip:uploads", 0, -1))


def test_only_the_same_file_for_the_same_api_is_continued(tmp_path):
    film, data = tmp_path / "film.mp4", tmp_path / "data"
    film.write_bytes(b"film")

    def upload(api="https://a.example", file=film):
        return UnfinishedUpload(data, api, file)

    later = formatdate(time.time() + 600, usegmt=True)
    upload().remember("/api/uploads/1", later)
    assert upload("https://a.example/").where() == "/api/uploads/1"
    assert upload("https://b.example").where() is None
    os.utime(film, (1, 1))
    assert upload().where() is None
    upload().remember("/api/uploads/2", formatdate(time.time() - 1, usegmt=True))
    assert upload().where() is None
    upload().remember("/api/uploads/3", "nonsense")
    assert upload().where() == "/api/uploads/3"
    upload().forget()
    assert upload().where() is None
    (data / "uploads" / "broken.json").write_text("{")
    assert upload().where() is None
    assert len(list((data / "uploads").iterdir())) == 1


@pytest.mark.parametrize("change", ["removed", "another length"])
def test_an_upload_that_the_api_no_longer_has_begins_anew(serve, tmp_path, change):  # noqa: F811 - the fixture
    served, film = serve(), tmp_path / "film.mp4"
    film.write_bytes(b"film")
    client, begun = api_client.ApiClient(served.url, pauses=(0.0,)), []
    earlier = client.upload(film, lambda *_: None)
    if change == "removed":
        served.client.delete(earlier, headers={"Tus-Resumable": "1.0.0"})
    else:
        film.write_bytes(b"a longer film")
    where = client.upload(film, lambda *_: None, earlier, lambda *told: begun.append(told))
    assert where != earlier
    assert [at for at, _ in begun] == [where]


def test_an_api_that_does_not_answer_is_named(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ApiUnreachable, match=f"{url} does not answer"):
        api_client.ApiClient(url, pauses=(0.0,)).upload(SHORT, lambda *_: None)
