"""Measures the API under load: `make load`. Another process creates 500 jobs and reads 20,000 statuses.

Before that, it uploads a gigabyte.

The API runs like `kangklip api`, in a separate process, on an embedded stack without a worker.
Standard output gets one table: requests, errors, requests per second, p50, p95 and maximum in
milliseconds, and the API's resident memory before and after.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from deployments.home import HOME
from deployments.registry.register import register
from infra import settings
from infra.jobs.ids import new_job_id
from infra.local.services import WORK_POOL
from infra.local.stack import LocalStack
from infra.prefect.runs import PrefectRuns
from tests.bench.processes import Sampler, resident_mb

CREATES, READS = 500, 20_000
CLIENTS = 16
MIB, UPLOAD_MIB = 1024 * 1024, 1024
BODY = {"video_url": "https://example.org/talk.mp4", "clip_duration_seconds": 45, "clip_count": 2, "language": "en"}


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        configured = settings.load().model_copy(update={"data_dir": Path(folder)})
        with LocalStack(configured) as stack:
            os.environ.update(stack.environment(), CALLBACK_TOKEN="load")
            register(str(stack.settings.prefect_api_url), pools=[WORK_POOL])
            with _api() as (url, pid):
                upload = _upload(url, pid)
                before = resident_mb(pid)
                rows = asyncio.run(_load(url, PrefectRuns.from_settings(stack.settings)))
                after = resident_mb(pid)
    print(f"{'':34}{'requests':>9}{'errors':>8}{'a second':>10}{'p50 ms':>8}{'p95 ms':>8}{'most':>8}")
    for row in rows:
        print(row)
    print(upload)
    print(f"memory of the API: {before:.0f} MB before, {after:.0f} MB after")


def _upload(url: str, pid: int) -> str:
    """Upload a large file; the row says how long it took, and how much memory the API had meanwhile."""
    block, length = os.urandom(MIB), UPLOAD_MIB * MIB
    piece = {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
    began = time.monotonic()
    with Sampler([pid]) as sampler, httpx.Client(base_url=url, headers={"tus-resumable": "1.0.0"}, timeout=120) as api:
        where = api.post("/api/uploads", headers={"upload-length": str(length)}).headers["location"]
        api.patch(where, headers=piece, content=(block for _ in range(UPLOAD_MIB))).raise_for_status()
    seconds, most = time.monotonic() - began, max(mb for _, mb in sampler.samples)
    speed = f"{length / 1e6:.0f} MB in {seconds:.1f} s ({length / seconds / 1e6:.0f} MB a second)"
    return f"upload: {speed}; memory of the API: at most {most:.0f} MB"


@contextlib.contextmanager
def _api() -> Any:
    """The API on a free port; yields its URL and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"PORT": str(port), "CREATE_RATE_PER_MINUTE": "0"}
    env |= {"MAX_QUEUED": "0", "MAX_QUEUED_PER_KEY": "0", "MAX_EVENT_STREAMS": "1000"}
    command = [sys.executable, "-m", "deployments.cli.main", "api"]
    with subprocess.Popen(command, cwd=HOME, env=env, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/readyz", timeout=10).is_success:
                        break
                if process.poll() is not None:
                    raise SystemExit("The API did not start.")
                time.sleep(0.2)
            yield url, process.pid
        finally:
            process.terminate()


async def _load(url: str, runs: PrefectRuns) -> list[str]:
    ids: list[str] = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def create() -> None:
            answer = await client.post("/api/jobs", json=BODY)
            ids.append(answer.raise_for_status().json()["job_id"])

        async def read() -> None:
            (await client.get(f"/api/jobs/{ids[0]}")).raise_for_status()

        async def submit() -> None:
            await asyncio.to_thread(runs.submit, new_job_id(), 1, BODY)

        return [
            await _measured("POST /api/jobs, one after another", create, CREATES // 5, 1),
            await _measured("the Prefect server's part of it", submit, CREATES // 5, 1),
            await _measured(f"POST /api/jobs, {CLIENTS} clients", create, CREATES * 4 // 5, CLIENTS),
            await _measured(f"GET /api/jobs/ID, {CLIENTS} clients", read, READS, CLIENTS),
        ]


async def _measured(name: str, ask: Callable[[], Awaitable[None]], count: int, clients: int) -> str:
    took: list[float] = []
    errors = 0
    left = iter(range(count))

    async def client() -> None:
        nonlocal errors
        for _ in left:
            began = time.perf_counter()
            try:
                await ask()
            except httpx.HTTPError:
                errors += 1
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = count / (time.perf_counter() - began)
    took.sort()
    p50, p95, most = took[count // 2], took[int(count * 0.95)], took[-1]
    return f"{name:34}{count:>9}{errors:>8}{rate:>10.0f}{p50:>8.1f}{p95:>8.1f}{most:>8.1f}"


if __name__ == "__main__":
    main()
