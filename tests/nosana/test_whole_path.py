"""The whole path with real parts: API, Prefect, the Nosana worker, a container of the double, the bucket, and back.

The container is a process with nothing but its definition, as on an untrusted host.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest
from playwright.sync_api import expect
from pydantic import SecretStr

from deployments.api.app import create_app
from deployments.image import container
from deployments.job_reconciler import Reconciler, keep_reconciling
from deployments.recut_reconciler import RecutReconciler
from deployments.registry.register import register
from infra.bucket.clients import remote_client
from infra.bucket.store import ArtifactStore
from infra.errors import StoreError
from infra.granted.access import granted_root
from infra.jobs.ids import job_id_of_run
from infra.jobs.store import JobStore
from infra.nosana.worker import NosanaWorker
from infra.prefect.runs import PrefectRuns
from infra.settings import Settings
from infra.states import JobState, Stage
from tasks.core.object_keys import revision_folder
from tests.deployments.api.conftest import Server
from tests.deployments.cli.test_up import kill_ffmpeg_below
from tests.deployments.web.browser import SCREENS, chromium, window
from tests.folders import ROOT
from tests.media_server import MediaServer, file
from tests.nosana.double import KEY, NosanaDouble
from tests.nosana.states import ended
from tests.nosana.test_worker import CANARY, SECRETS
from tests.prefect_client import prefect_client

pytestmark = pytest.mark.long

SHORT = ROOT / "tests" / "media" / "short.mp4"
POOL = "nosana-gpu"
SMALL = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "ALLOW_PRIVATE_ADDRESSES": "true"}
OPTIONS = {"clip_duration_seconds": 30, "clip_count": 1, "language": "en"}


class Service:
    """The API on the stack, the deployments clip/gpu and recut/gpu, and a worker that rents from the double."""

    def __init__(self, stack, nosana, folder, monkeypatch):
        self.nosana, self.folder, self.stack = nosana, folder, stack
        secret = {name.lower(): SecretStr(value) for name, value in SECRETS.items()}
        # A separate database, because the API would reconcile every job that other tests have left.
        self.redis_url = stack.settings.redis_url.get_secret_value().removesuffix("/0") + "/1"
        secret["redis_url"] = SecretStr(self.redis_url)
        self.settings = stack.settings.model_copy(update=secret | {"deployment": "clip/gpu", "api_keys": None})
        template = NosanaWorker.get_default_base_job_template()
        register(self.settings.prefect_api_url, pools=[POOL], templates={"nosana": template})
        self.prefect = prefect_client(self.settings.prefect_api_url)
        self.deployment, self.recuts = (
            self.prefect.get(f"/deployments/name/{flow}/gpu").json()["id"] for flow in ("clip", "recut")
        )
        variables = {"env": SMALL, "poll_seconds": 0.2}
        for deployment in (self.deployment, self.recuts):
            self.prefect.patch(f"/deployments/{deployment}", json={"job_variables": variables}).raise_for_status()
        self.jobs, self.bucket = JobStore.from_settings(self.settings), ArtifactStore.from_settings(self.settings)
        runs = PrefectRuns.from_settings(self.settings)
        background = [Reconciler(self.jobs, runs), RecutReconciler(self.jobs, runs, self.bucket)]
        reconciling = [functools.partial(keep_reconciling, reconciler) for reconciler in background]
        self.server = Server(create_app(self.settings, self.jobs, self.bucket, runs, *reconciling), self.settings)

    def __enter__(self):
        self.url = self.server.__enter__()
        self.http = httpx.Client(base_url=self.url, timeout=30)
        own = {
            "NOSANA_API_BASE": self.nosana.url,
            "NOSANA_API_KEY": KEY,
            "NOSANA_MARKET": "nvidia-3060",
            "NOSANA_WORKER_IMAGE": "kangklip-worker:1",
            "CALLBACK_BASE_URL": self.url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", "the-worker"]
        env = os.environ | self.stack.environment() | SECRETS | own | {"REDIS_URL": self.redis_url}
        with (self.folder / "worker.log").open("wb") as log:
            self.worker = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        self.worker.send_signal(signal.SIGINT)
        self.worker.wait(30)
        self.server.__exit__()

    def log(self):
        lines = [line for one in self.nosana.deployments for line in self.container_log(one)]
        return (self.folder / "worker.log").read_text()[-3000:] + "\n" + "\n".join(lines[-60:])

    def container_log(self, deployment):
        results = [job.result for job in deployment.jobs if job.result]
        return [line["log"] for result in results for op in result["opStates"] for line in op["logs"]]

    def create(self, url, **more):
        answer = self.http.post("/api/jobs", json={"video_url": url} | OPTIONS | more)
        assert answer.status_code == 200, answer.text
        return answer.json()["job_id"]

    def run_from_the_ui(self, url, **more):
        """Start a run as "Quick run" does, without a job id; the run creates its job."""
        body = {"parameters": {"request": {"video_url": url} | OPTIONS | more}, "state": {"type": "SCHEDULED"}}
        made = self.prefect.post(f"/deployments/{self.deployment}/create_flow_run", json=body).raise_for_status()
        return job_id_of_run(made.json()["id"])

    def run_by_a_schedule(self, url, **more):
        """Add a schedule to the deployment that is due now."""
        at = datetime.now(UTC)
        here = {"deployments": {"id": {"any_": [self.deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        before = {run["id"] for run in self.prefect.post("/flow_runs/filter", json=here).json()}
        schedule = {
            "schedule": {"interval": 86400, "anchor_date": at.isoformat()},
            "parameters": {"request": {"video_url": url} | OPTIONS | more},
            "slug": f"daily-{at:%H-%M-%S}",
        }
        path = f"/deployments/{self.deployment}"
        self.prefect.post(f"{path}/schedules", json=[schedule]).raise_for_status()
        window = {
            "start_time": (at - timedelta(hours=1)).isoformat(),
            "end_time": (at + timedelta(hours=1)).isoformat(),
        }
        self.prefect.post(f"{path}/schedule", json=window | {"min_runs": 1}).raise_for_status()
        runs = self.prefect.post("/flow_runs/filter", json=here).raise_for_status().json()
        return job_id_of_run(next(run["id"] for run in runs if run["auto_scheduled"] and run["id"] not in before))

    def wait_for_job(self, job_id, wanted, seconds=200):
        """The job, as soon as it is as wanted. It may stand still for `seconds`."""
        seen, deadline = None, time.monotonic() + seconds
        while not ((job := self.jobs.get(job_id)) and wanted(job)):
            if job and (now := (job.attempt, job.status, job.stage, job.progress)) != seen:
                seen, deadline = now, time.monotonic() + seconds
            assert time.monotonic() < deadline, (job, self.log())
            assert not (job and job.has_ended), (job, self.log())
            time.sleep(0.1)
        return job

    def wait_for_end(self, job_id, seconds=200):
        return self.wait_for_job(job_id, lambda job: job.has_ended, seconds)

    def shorten(self, job_id, title):
        """Change the clip's document: another title, and an end that is earlier."""
        answer = self.http.get(f"/api/jobs/{job_id}/edit")
        (clip,) = answer.json()["clips"]
        *parts, last = clip["segments"]
        change = {"title": title, "segments": [*parts, last | {"end": last["end"] - 0.5}]}
        path, headers = f"/api/jobs/{job_id}/edit/clips/{clip['id']}", {"if-match": answer.headers["etag"]}
        answer = self.http.patch(path, json=change, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["revision"]

    def wait_for_recut(self, job_id, wanted, seconds=200):
        """The recut, as soon as it is as wanted. It may stand still for `seconds`."""
        seen, deadline = None, time.monotonic() + seconds
        while not wanted(recut := self.jobs.get(job_id).recut):
            if (now := (recut.attempt, recut.state, recut.progress)) != seen:
                seen, deadline = now, time.monotonic() + seconds
            assert time.monotonic() < deadline, (recut, self.log())
            assert not recut.has_ended, (recut, self.log())
            time.sleep(0.1)
        return recut

    def wait_until(self, wanted, seconds=40):
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def run_state(self, job_id):
        return self.prefect.get(f"/flow_runs/{self.jobs.get(job_id).flow_run_id}").json()["state"]["type"]

    def state_of(self, run_id):
        return self.prefect.get(f"/flow_runs/{run_id}").json()["state"]["type"]

    def download_clip(self, job_id):
        (clip,) = self.http.get(f"/api/jobs/{job_id}/results").raise_for_status().json()["clips"]
        return self.http.get(clip["stream_url"]).content


@pytest.fixture(scope="module")
def talk_url():
    with MediaServer() as server:
        server.pages["/talk.mp4"] = file(SHORT.read_bytes(), etag='"talk"')
        yield f"http://127.0.0.1:{server.port}/talk.mp4"


@pytest.fixture(scope="module")
def service(stack, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched, NosanaDouble("run", minute=4) as nosana:
        for name, value in stack.environment().items():
            patched.setenv(name, value)
        with Service(stack, nosana, tmp_path_factory.mktemp("whole"), patched) as running:
            yield running


def assert_published(service, started):
    """The jobs end SUCCEEDED with their clips, and everything rented for them is released and paid."""
    for job_id in started:
        job = service.wait_for_end(job_id)
        assert job.status is JobState.SUCCEEDED, (job, service.log())
        assert service.download_clip(job_id)[4:8] == b"ftyp"
        service.wait_until(lambda job_id=job_id: not list(service.bucket.list(granted_root(job_id))))
        assert len(service.bucket.get_json(f"jobs/{job_id}/manifest.json")["timings"]) == 6
    rented = {service.jobs.get(job_id).nosana_run_id for job_id in started}
    made = [one for one in service.nosana.deployments if one.id in rented]
    assert len(made) == len(started)
    service.wait_until(lambda: all(service.run_state(job_id) == "COMPLETED" for job_id in started))
    service.wait_until(lambda: all(one.status == "ARCHIVED" for one in made))
    service.wait_until(lambda: all((service.jobs.get(job_id).cost_usd or 0) > 0 for job_id in started))


@pytest.fixture(scope="module")
def published(service, talk_url):
    """Id of a job from the API whose clip was made on a rented machine."""
    job_id = service.create(talk_url)
    assert_published(service, [job_id])
    return job_id


@pytest.mark.timeout(400)
def test_a_run_from_the_api_makes_a_clip_on_a_rented_machine(service, published):
    assert [one.id for one in service.nosana.deployments] == [service.jobs.get(published).nosana_run_id]


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_runs_from_api_ui_and_schedule_make_clips_on_machines_rented_at_once(service, talk_url):
    started = [
        service.create(talk_url, clip_duration_seconds=35),
        service.run_from_the_ui(talk_url, clip_duration_seconds=33),
        service.run_by_a_schedule(talk_url, clip_duration_seconds=34),
    ]
    assert_published(service, started)


def test_the_page_plays_a_clip_from_a_rented_machine(service, published):
    with chromium() as browser, window(browser, url=service.url) as page:
        page.goto(f"/jobs/{published}")
        expect(page.get_by_role("link", name="Download clip 1")).to_be_visible()
        video = page.locator("video").first
        video.evaluate("video => video.play()")
        expect(video).to_have_js_property("videoWidth", 270)
        page.screenshot(path=SCREENS / "rented.png")


@pytest.mark.timeout(400)
def test_cancelling_a_run_from_the_ui_releases_its_machine(service, talk_url):
    job_id = service.run_from_the_ui(talk_url, clip_duration_seconds=31)
    service.wait_for_job(job_id, lambda job: job.status is JobState.RUNNING)
    assert service.http.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
    service.wait_until(lambda: service.nosana.deployments[-1].status == "ARCHIVED")
    job = service.jobs.get(job_id)
    assert job.status is JobState.FAILED
    assert "ancelled" in job.error
    service.wait_until(lambda: service.run_state(job_id) == "CANCELLED")


@pytest.mark.timeout(400)
def test_a_second_exchange_of_the_grant_ends_a_run_by_a_schedule(service, talk_url):
    job_id = service.run_by_a_schedule(talk_url, clip_duration_seconds=32)
    service.wait_for_job(job_id, lambda job: job.status is JobState.RUNNING)
    body = service.nosana.deployments[-1].body
    grant = body["job_definition"]["ops"][0]["args"]["env"]["KANGKLIP_GRANT"]
    assert service.http.post("/api/worker/grant", json={"grant": grant}).status_code == 403
    job = service.wait_for_end(job_id)
    assert "may have been stolen" in job.error
    service.wait_until(lambda: service.nosana.deployments[-1].status == "ARCHIVED")


def kill_container():
    """Kill all processes of the container, parents first, so that none of them sees another one die."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "flow-run" in process.cmdline():
                for one in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("kill", "seconds", "reason"),
    [
        (kill_container, 35, "The container was killed."),
        (lambda: kill_ffmpeg_below(os.getpid()), 36, "killed by signal 9"),
    ],
    ids=["container", "ffmpeg"],
)
def test_a_job_whose_rented_machine_dies_is_retried_on_another_and_succeeds(service, talk_url, kill, seconds, reason):
    rented = len(service.nosana.deployments)
    job_id = service.create(talk_url, clip_duration_seconds=seconds)
    service.wait_for_job(job_id, lambda job: job.stage in (Stage.RENDER, Stage.UPLOAD), 400)

    def has_another_attempt(job):
        if job.attempt == 1 and not job.has_ended:
            kill()
        return job.attempt > 1

    service.wait_for_job(job_id, has_another_attempt, 600)
    job = service.wait_for_end(job_id, 400)
    assert (job.status, job.attempt) == (JobState.SUCCEEDED, 2), (job, service.log())
    assert reason in job.attempts[0].reason
    assert len(service.nosana.deployments) == rented + 2
    service.wait_until(lambda: not service.nosana.unarchived(), 200)


def assert_still_published(service, job_id, before):
    """Whatever became of its recut, the job and its clip are as they were, and the machine is released."""
    job = service.jobs.get(job_id)
    assert (job.status, job.error, job.attempt, job.revision) == (JobState.SUCCEEDED, None, 1, before.revision)
    assert job.nosana_run_id == before.nosana_run_id
    assert service.download_clip(job_id)[4:8] == b"ftyp"
    service.wait_until(lambda: service.nosana.deployments[-1].status == "ARCHIVED")


@pytest.mark.timeout(400)
def test_clips_that_a_rented_machine_made_are_recut_on_a_rented_machine(service, published):
    before, clip = service.jobs.get(published), service.download_clip(published)
    rented, revision = len(service.nosana.deployments), service.shorten(published, "Shorter by half")
    recut = service.wait_for_recut(published, lambda recut: recut.has_ended)
    assert recut.state is JobState.SUCCEEDED, (recut, service.log())
    job = service.jobs.get(published)
    assert (job.status, job.attempt, job.revision) == (JobState.SUCCEEDED, before.attempt, revision)
    (made,) = service.nosana.deployments[rented:]
    assert made.id == recut.nosana_run_id != before.nosana_run_id
    assert service.prefect.get(f"/flow_runs/{recut.flow_run_id}").json()["deployment_id"] == service.recuts
    manifest = service.bucket.get_json(f"jobs/{published}/manifest.json")
    (entry,) = manifest["clips"]
    assert (manifest["revision"], entry["title"]) == (revision, "Shorter by half")
    drawn = service.download_clip(published)
    assert (drawn[4:8], drawn == clip) == (b"ftyp", False)
    assert entry["sha256"] == hashlib.sha256(drawn).hexdigest()
    assert service.bucket.get_bytes(f"jobs/{published}/revisions/1/clip_01.mp4") == clip
    service.wait_until(lambda: not list(service.bucket.list(granted_root(published))))
    service.wait_until(lambda: made.status == "ARCHIVED")
    service.wait_until(lambda: service.state_of(recut.flow_run_id) == "COMPLETED")
    service.wait_until(lambda: service.jobs.get(published).cost_usd > before.cost_usd)


@pytest.mark.timeout(600)
def test_a_recut_whose_machine_dies_is_drawn_on_another(service, published):
    rented, revision = len(service.nosana.deployments), service.shorten(published, "Drawn by the second machine")

    def has_another_attempt(recut):
        if recut.attempt == 1 and recut.progress > 0:
            kill_container()
        return recut.attempt > 1

    service.wait_for_recut(published, has_another_attempt)
    recut = service.wait_for_recut(published, lambda recut: recut.has_ended)
    assert (recut.state, recut.attempt) == (JobState.SUCCEEDED, 2), (recut, service.log())
    assert service.jobs.get(published).revision == revision
    assert len(service.nosana.deployments) == rented + 2
    service.wait_until(lambda: not service.nosana.unarchived(), 200)


@pytest.mark.timeout(400)
def test_a_second_exchange_of_a_recuts_grant_ends_the_recut_and_not_the_job(service, published):
    before = service.jobs.get(published)
    service.shorten(published, "Never drawn")
    service.wait_for_recut(published, lambda recut: recut.state is JobState.RUNNING)
    grant = service.nosana.deployments[-1].body["job_definition"]["ops"][0]["args"]["env"]["KANGKLIP_GRANT"]
    assert service.http.post("/api/worker/grant", json={"grant": grant}).status_code == 403
    recut = service.wait_for_recut(published, lambda recut: recut.has_ended)
    assert "may have been stolen" in recut.error
    assert_still_published(service, published, before)


@pytest.mark.timeout(400)
def test_cancelling_the_run_of_a_recut_releases_its_machine(service, published):
    before = service.jobs.get(published)
    service.shorten(published, "Never drawn either")
    recut = service.wait_for_recut(published, lambda recut: recut.state is JobState.RUNNING)
    cancelling = {"state": {"type": "CANCELLING"}}
    service.prefect.post(f"/flow_runs/{recut.flow_run_id}/set_state", json=cancelling).raise_for_status()
    recut = service.wait_for_recut(published, lambda recut: recut.has_ended)
    assert recut.error == "Cancelled. The published clips are as they were."
    assert_still_published(service, published, before)
    service.wait_until(lambda: service.state_of(recut.flow_run_id) == "CANCELLED")


def cheating(job_id, base):
    """A script of a machine that delivers another clip, and documents of its own, instead of running the flow."""

    def cheat(env):
        access = container.redeem(env["KANGKLIP_API_URL"], env["KANGKLIP_GRANT"])
        store = ArtifactStore.from_settings(Settings(KANGKLIP_ACCESS=access.model_dump_json()), attempts=1)
        prefix = f"jobs/{job_id}/revisions/{access.revision}/"
        for root in ("", f"granted/{job_id}-/"):
            with pytest.raises(StoreError, match="the session does not allow it"):
                ArtifactStore(remote_client(access, 1), access.bucket, root).put_bytes(
                    f"{prefix}manifest.json", b"{}", "application/json"
                )
        advert = b"\x00\x00\x00\x18ftypisom" + b"buy this" * 1000
        put = store.put_bytes(f"{prefix}clip_01.mp4", advert, "video/mp4")
        manifest = store.get_json(f"jobs/{job_id}/{base}manifest.json")
        (shown,) = manifest["clips"]
        clip = shown | {"title": "Buy this", "duration": 59.0, "sha256": put.sha256, "size_bytes": put.size}
        store.put_json(f"{prefix}manifest.json", manifest | {"clips": [clip]})
        store.put_json(f"{prefix}edit.json", {"clips": []})
        drawn = {"clips": [clip | {"clip": clip}], "face_log": {"clips": [{"index": 1}]}, "seconds": 1.0}
        store.put_json(f"{prefix}drawn.json", drawn)
        report = {"job_id": job_id, "status": "SUCCEEDED", "revision": access.revision}
        headers = {"x-callback-token": access.token}
        assert httpx.post(f"{access.url}/api/callback/nosana", json=report, headers=headers).status_code == 409

    async def script(deployment):
        job = deployment.list_job()
        job.run()
        try:
            await asyncio.to_thread(cheat, deployment.body["job_definition"]["ops"][0]["args"]["env"])
        finally:
            job.end(result=ended(1))

    return script


@pytest.mark.timeout(400)
def test_a_machine_that_delivers_another_clip_fails_the_recut_and_nothing_else(service, published, monkeypatch):
    before, clip = service.jobs.get(published), service.download_clip(published)
    base = revision_folder(before.revision) if before.revision else ""
    monkeypatch.setattr(service.nosana, "script", cheating(published, base))
    service.shorten(published, "Never seen")
    recut = service.wait_for_recut(published, lambda recut: recut.has_ended)
    assert recut.error.startswith("The rented machine's output was rejected: A clip does not have the length")
    assert_still_published(service, published, before)
    assert service.download_clip(published) == clip
    service.wait_until(lambda: service.state_of(recut.flow_run_id) == "CRASHED")


def test_no_secret_reaches_machines_logs_the_bucket_or_prefect(service):
    """Runs after the tests above: Nosana's requests, logs, the bucket and the Prefect server's records."""
    environment = service.stack.environment()
    own = [environment[name] for name in ("R2_SECRET_ACCESS_KEY", "R2_ACCESS_KEY_ID", "REDIS_URL")]
    here = {"deployments": {"id": {"any_": [service.deployment, service.recuts]}}}
    ours = {"any_": [run["id"] for run in service.prefect.post("/flow_runs/filter", json=here).json()]}
    texts = {
        "definitions": json.dumps([body for _, _, body in service.nosana.requests]),
        "worker's log": (service.folder / "worker.log").read_text(),
        "containers' logs": "\n".join(
            line for one in service.nosana.deployments for line in service.container_log(one)
        ),
        "bucket": "\n".join(
            service.bucket.get_bytes(key).decode(errors="replace")
            for root in ("granted/", "jobs/")
            for key in service.bucket.list(root)
            if key.endswith((".json", ".txt"))
        ),
        "Prefect's logs": service.prefect.post("/logs/filter", json={"logs": {"flow_run_id": ours}}).text,
        "Prefect's artifacts": service.prefect.post("/artifacts/filter", json={"flow_runs": {"id": ours}}).text,
        "Prefect's runs": service.prefect.post("/flow_runs/filter", json={"flow_runs": {"id": ours}}).text,
    }
    assert len(service.nosana.deployments) >= 3
    for place, text in texts.items():
        assert len(text) > 100, place
        assert CANARY not in text, place
        assert not [secret for secret in own if secret in text], place
    grants = [
        one.body["job_definition"]["ops"][0]["args"]["env"]["KANGKLIP_GRANT"] for one in service.nosana.deployments
    ]
    for place in texts.keys() - {"definitions"}:
        assert not [grant for grant in grants if grant in texts[place]], place
        assert "kks_" not in texts[place], place
