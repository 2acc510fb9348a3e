"""`kangklip up` as users run it: whole jobs over HTTP, and jobs whose servers are killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest
from playwright.sync_api import expect

from deployments.cli import serve
from infra.errors import ConfigError
from infra.local.services import Home, Service
from infra.local.stack import LocalStack
from infra.settings import Settings
from tasks.core.source.download_errors import NOT_FOUND
from tests.deployments.web.browser import SCREENS, chromium, screenshot, window
from tests.folders import ROOT
from tests.media_server import MediaServer, file

SHORT = ROOT / "tests" / "media" / "short.mp4"
SMALL = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "ALLOW_PRIVATE_ADDRESSES": "true"}
SERVER_VARIABLES = (
    "REDIS_URL",
    "R2_ENDPOINT",
    "R2_ACCESS_KEY_ID",
    "R2_SECRET_ACCESS_KEY",
    "PREFECT_API_URL",
    "PREFECT_HOME",
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Up:
    """A running `kangklip up` with its own data folder."""

    def __init__(self, folder, *options):
        self.folder, self.options = folder, options
        self.port, self.prefect_port = free_port(), free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def arguments(self):
        fixed = ["--port", str(self.port), "--prefect-port", str(self.prefect_port), "--data-dir", str(self.folder)]
        return ["up", *self.options, *fixed]

    def environment(self):
        return {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES} | SMALL

    def start(self, timeout=150):
        command = [sys.executable, "-m", "deployments.cli.main", *self.arguments()]
        with (self.folder.parent / "up.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment(), stdout=log, stderr=log)
        self.wait_until_ready(timeout)
        return self

    def wait_until_ready(self, timeout=150):
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def is_ready(self):
        with contextlib.suppress(httpx.HTTPError):
            return self.client.get("/readyz").status_code == 200
        return False

    def stack(self):
        """The embedded servers, whatever other servers this process's environment names."""
        named = Settings(KANGKLIP_DATA_DIR=self.folder, redis_url=None, r2_endpoint=None, prefect_api_url=None)
        return LocalStack(named)

    def log(self):
        return (self.folder.parent / "up.log").read_text()[-3000:]

    def pid(self, service):
        return Home(self.folder / "stack").state()[service]["pid"]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) in (0, 130), self.log()

    def create(self, url, **more):
        body = {"video_url": url, "clip_duration_seconds": 30, "clip_count": 1, "language": "en"} | more
        answer = self.client.post("/api/jobs", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["job_id"]

    def job(self, job_id):
        """The job's current state; retries while the API does not answer."""
        for _ in range(100):
            with contextlib.suppress(httpx.HTTPError):
                answer = self.client.get(f"/api/jobs/{job_id}")
                if answer.status_code == 200:
                    return answer.json()
            time.sleep(0.5)
        raise AssertionError(self.log())

    def until(self, job_id, wanted, timeout=180):
        deadline = time.monotonic() + timeout
        while not wanted(job := self.job(job_id)):
            assert time.monotonic() < deadline, (job, self.log())
            assert not has_ended(job), (job, self.log())
            time.sleep(0.2)
        return job

    def ended(self, job_id):
        return self.until(job_id, has_ended)


class Api(Up):
    """`kangklip api` on the servers of a running `kangklip up`."""

    def arguments(self):
        return ["api"]

    def environment(self):
        own = {"PORT": str(self.port), "CALLBACK_TOKEN": "a-token"}
        return super().environment() | self.stack().environment() | own


def request_a_clip(page, url):
    page.goto("/")
    page.get_by_label("Video link").fill(url)
    page.get_by_role("radio", name="30 seconds").check()
    page.get_by_role("radio", name="1 clip").check()
    page.get_by_role("button", name="Make clips").click()
    page.wait_for_url("**/jobs/kk_*")


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def edit_clip(page):
    """Shorten the clip, lengthen it, strike its second sentence, correct its last word, and change its look.

    Returns the sentence.
    """
    inside = page.locator('.word[data-states~="inside"]')
    expect(inside.first).to_be_visible()
    count = inside.count()
    for name in ("End one word earlier", "End one word earlier", "End one word later", "Start one word later"):
        press(page, name)
    assert inside.count() == count - 2
    press(page, "Start one word earlier")
    texts = inside.all_inner_texts()
    ends = [place for place, text in enumerate(texts) if text[-1] in ".?"]
    inside.nth(ends[0] + 1).click()
    press(page, "Whole sentence")
    press(page, "Cut out")
    inside.last.click()
    page.keyboard.press("Enter")
    page.keyboard.type("Kaunas.")
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="1:1").check()
    page.get_by_role("radio", name="Punch").check()
    return " ".join(texts[ends[0] + 1 : ends[1] + 1])


def has_ended(job):
    return job["status"] in ("SUCCEEDED", "FAILED")


def is_rendering(job):
    return job["stage"] in ("RENDER", "UPLOAD")


def kill_ffmpeg_below(pid):
    """Kill every ffmpeg that the process or one of its descendants runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ffmpeg" in process.name():
                    process.kill()


@pytest.fixture(scope="module")
def short_url():
    with MediaServer() as server:
        server.pages["/short.mp4"] = file(SHORT.read_bytes(), etag='"short"')
        yield f"http://127.0.0.1:{server.port}/short.mp4"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    running = Up(tmp_path_factory.mktemp("up") / "data").start()
    yield running
    running.stop()


@pytest.mark.soak
@pytest.mark.timeout(600)
class TestUp:
    def test_a_url_becomes_a_clip_that_can_be_streamed_and_downloaded(self, up, short_url, tmp_path):
        job_id = up.create(short_url)
        job = up.ended(job_id)
        assert (job["status"], job["stage"], job["progress"]) == ("SUCCEEDED", "DONE", 100), up.log()
        (clip,) = up.client.get(f"/api/jobs/{job_id}/results").json()["clips"]
        played = up.client.get(clip["stream_url"])
        assert played.headers["content-type"] == "video/mp4"
        assert played.content == httpx.get(clip["download_url"]).content
        assert played.content[4:8] == b"ftyp"
        assert up.client.get("/").status_code == 200

    def test_a_user_gets_a_clip_in_the_browser(self, up, short_url):
        with chromium() as browser, window(browser, url=str(up.client.base_url)) as page:
            request_a_clip(page, short_url)
            expect(page.locator('[data-state="now"], [data-state="done"]').first).to_be_visible(timeout=60_000)
            page.reload()
            expect(page.get_by_role("link", name="Download clip 1")).to_be_visible(timeout=180_000)
            with page.expect_download() as download:
                page.get_by_role("link", name="Download clip 1").click()
            assert download.value.path().read_bytes()[4:8] == b"ftyp"
            video = page.locator("video").first
            video.evaluate("video => video.play()")
            expect(video).to_have_js_property("videoWidth", 270)
            request_a_clip(page, short_url.replace("short", "none"))
            expect(page.locator("#next-step")).not_to_be_empty(timeout=90_000)
            page.screenshot(path=SCREENS / "up-failed.png")

    def test_a_clip_is_edited_in_the_browser(self, up, short_url):
        """In two tabs, and with a reload while it is rendered."""
        job_id = up.create(short_url)
        assert up.ended(job_id)["status"] == "SUCCEEDED", up.log()
        address = f"/jobs/{job_id}/edit?clip=1"
        with (
            chromium() as browser,
            window(browser, url=str(up.client.base_url)) as page,
            window(browser, url=str(up.client.base_url)) as other,
        ):
            other.goto(address)
            other.get_by_label("Title", exact=True).fill("From another tab")
            page.goto(address)
            struck = edit_clip(page)
            length = float(page.locator("#facts").inner_text().split()[-2])
            press(page, "Render clip")
            expect(page.locator("#progress-text")).to_be_visible()
            page.reload()
            expect(page.locator("#announcement")).to_have_text("The clip is ready.", timeout=120_000)
            video = page.locator("#published")
            expect(video).to_have_js_property("videoHeight", 270)
            assert video.evaluate("video => [video.videoWidth, video.duration]") == [
                270,
                pytest.approx(length, abs=0.15),
            ]
            screenshot(page, "up-edited")
            for name in ("Render clip", "Load the newer version", "Use these changes", "Render clip"):
                press(other, name)
            expect(other.locator("#announcement")).to_have_text("The clip is ready.", timeout=120_000)
        assert up.job(job_id)["revision"] == 3
        text = " ".join(up.client.get(f"/api/jobs/{job_id}/clips/clip_01.srt").text.split())
        assert "Kaunas." in text
        assert struck not in text
        (clip,) = up.client.get(f"/api/jobs/{job_id}/results").json()["clips"]
        assert clip["title"] == "From another tab"

    def test_a_failed_job_says_what_to_do(self, up, short_url):
        job = up.ended(up.create(short_url.replace("short", "none")))
        assert job["status"] == "FAILED"
        assert job["error"].startswith(NOT_FOUND.message)
        assert job["next_step"]

    def test_a_running_job_can_be_cancelled(self, up, short_url):
        job_id = up.create(short_url, clip_duration_seconds=31)
        up.until(job_id, is_rendering)
        assert up.client.post(f"/api/jobs/{job_id}/cancel").json() == {"ok": True}
        assert up.job(job_id)["status"] == "FAILED"
        assert "ancelled" in up.job(job_id)["error"]
        # The worker is free at once.
        assert up.ended(up.create(short_url))["status"] == "SUCCEEDED", up.log()

    @pytest.mark.parametrize("service", [Service.VALKEY, Service.PREFECT, Service.WORKER])
    def test_a_job_still_succeeds_after_a_service_is_killed(self, up, short_url, service):
        job_id = up.create(short_url, clip_duration_seconds=32)
        up.until(job_id, is_rendering)
        os.kill(up.pid(service), signal.SIGKILL)
        job = up.ended(job_id)
        assert job["status"] == "SUCCEEDED", (job, up.log())
        reasons = " ".join(one["reason"] or "" for one in job["attempts"])
        assert "was stopped" not in reasons
        assert "memory" not in reasons
        up.wait_until_ready()  # the service may still be starting, and the next test creates a job

    def test_a_job_whose_ffmpeg_is_killed_again_and_again_gets_another_attempt(self, up, short_url):
        job_id = up.create(short_url, clip_duration_seconds=37)
        up.until(job_id, is_rendering)
        deadline = time.monotonic() + 180
        while (job := up.job(job_id))["attempt"] == 1 and not has_ended(job):
            assert time.monotonic() < deadline, (job, up.log())
            kill_ffmpeg_below(up.pid(Service.WORKER))
        job = up.ended(job_id)
        assert (job["status"], job["attempt"]) == ("SUCCEEDED", 2), (job, up.log())
        assert "killed by signal 9" in job["attempts"][0]["reason"]

    def test_a_job_survives_a_killed_api(self, up, short_url):
        api = Api(up.folder).start()
        job_id = api.create(short_url, clip_duration_seconds=34)
        api.until(job_id, is_rendering)
        api.process.kill()
        api.process.wait()
        api.start()
        assert api.ended(job_id)["status"] == "SUCCEEDED", api.log()
        api.stop()

    def test_the_page_shows_the_server_going_away_and_coming_back(self, up, short_url):
        with chromium() as browser, window(browser, url=str(up.client.base_url)) as page:
            request_a_clip(page, short_url)
            job_id = page.url.rpartition("/")[2]
            up.until(job_id, is_rendering)
            up.process.kill()
            up.process.wait()
            expect(page.locator("#connection")).to_contain_text("cannot be reached", timeout=30_000)
            page.screenshot(path=SCREENS / "up-away.png")
            up.start()
            expect(page.locator("#connection")).to_be_hidden(timeout=60_000)
            assert up.ended(job_id)["status"] == "SUCCEEDED", up.log()
            expect(page.get_by_role("link", name="Download clip 1")).to_be_visible(timeout=180_000)

    def test_a_job_resumes_after_everything_was_killed(self, up, short_url):
        job_id = up.create(short_url, clip_duration_seconds=33)
        up.until(job_id, is_rendering)
        up.process.kill()
        up.process.wait()
        up.start()
        assert f"Resuming {job_id} from " in up.log()
        job = up.ended(job_id)
        assert (job["status"], job["attempt"]) == ("SUCCEEDED", 2), up.log()

    def test_a_job_resumes_after_up_was_stopped_with_ctrl_c(self, up, short_url):
        job_id = up.create(short_url, clip_duration_seconds=38)
        up.until(job_id, is_rendering)
        up.stop()
        up.start()
        assert f"Resuming {job_id} " in up.log()
        job = up.ended(job_id)
        assert (job["status"], job["attempt"]) == ("SUCCEEDED", 2), (job, up.log())
        assert job["attempts"][0]["reason"] in {
            "KangKlip was stopped while the job ran.",
            "The worker was stopped while the job ran.",
        }

    def test_cancelling_a_run_in_the_prefect_ui_cancels_its_job(self, up, short_url):
        job_id = up.create(short_url, clip_duration_seconds=35)
        run_id = up.until(job_id, is_rendering)["nosana_run_id"]
        runs = f"http://127.0.0.1:{up.prefect_port}/api/flow_runs"
        httpx.post(f"{runs}/{run_id}/set_state", json={"state": {"type": "CANCELLING"}}, timeout=60).raise_for_status()
        job = up.ended(job_id)
        assert (job["status"], job["attempt"], job["cancelled"]) == ("FAILED", 1, True), up.log()
        # A retry of the cancelled job would run before this one.
        assert up.ended(up.create(short_url, clip_duration_seconds=36))["status"] == "SUCCEEDED", up.log()
        tag = {"flow_runs": {"tags": {"all_": [job_id]}}}
        assert len(httpx.post(f"{runs}/filter", json=tag, timeout=60).json()) == 1

    def test_the_screen_shows_the_addresses_and_no_secret(self, up):
        log = (up.folder.parent / "up.log").read_text()
        secrets = json.loads((up.folder / "stack" / "secrets.json").read_text())
        assert f"http://127.0.0.1:{up.port}" in log
        assert f"http://127.0.0.1:{up.prefect_port}" in log
        assert not [name for name, value in secrets.items() if value in log]
        assert "X-Amz-Signature" not in log


def refusal_of(*arguments, **environment):
    """The error of a command that refuses to start, with no server in its environment but those given."""
    env = {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES} | environment
    command = [sys.executable, "-m", "deployments.cli.main", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    return " ".join(done.stderr.split())


def test_two_servers_cannot_have_one_port():
    assert "cannot both use port 5555" in refusal_of("up", "--port", 5555, "--prefect-port", 5555)


@pytest.mark.parametrize(
    ("host", "message"),
    [("nowhere.invalid", "HOST nowhere.invalid is not an address"), ("192.0.2.1", "is not an address of this machine")],
)
def test_a_foreign_host_is_not_reported_as_a_taken_port(host, message):
    with pytest.raises(ConfigError, match=message):
        serve._bind(host, free_port())


def test_a_port_taken_meanwhile_is_reported():
    listener = serve._bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(ConfigError, match=f"Port {port} is taken"):
            serve._serve(listener)


def test_the_api_names_its_missing_settings():
    assert "The API needs REDIS_URL, R2_ENDPOINT, R2_ACCESS_KEY_ID" in refusal_of("api")


def test_the_api_refuses_a_taken_port():
    named = dict.fromkeys(serve.REQUIRED, "http://127.0.0.1:9") | {"redis_url": "redis://127.0.0.1:9"}
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        environment = {name.upper(): value for name, value in named.items()} | {"PORT": str(port)}
        assert f"Port {port} is taken; choose another" in refusal_of("api", **environment)
