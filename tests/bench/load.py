"""Measures the API under load: `make load`, at most 15 minutes on two cores.

First, another process uploads a gigabyte, creates 500 jobs and reads 20,000 statuses. Then, on a stack of its own,
come the same requests before 10,000 jobs wait and while they do (`tests/bench/long_queue.py`).

The API runs like `kangklip api`, in a separate process, on an embedded stack without a worker. Standard output gets
tables: requests, errors, requests per second, p50, p95 and maximum in milliseconds, and resident memory.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.registry.register import register
from infra import settings
from infra.jobs.ids import new_job_id
from infra.local.services import WORK_POOL
from infra.local.stack import LocalStack
from infra.prefect.runs import PrefectRuns
from tests.bench import long_queue
from tests.bench.http_timing import BODY, HEADING, NO_LIMITS, Timing, running_api, timed
from tests.bench.processes import Sampler, resident_mb

CREATES, READS = 500, 20_000
CLIENTS = 16
MIB, UPLOAD_MIB = 1024 * 1024, 1024


def main() -> None:
    with _fresh_stack() as stack, running_api(NO_LIMITS) as (url, pid):
        upload = _upload(url, pid)
        before = resident_mb(pid)
        rows = asyncio.run(_load(url, PrefectRuns.from_settings(stack.settings)))
        after = resident_mb(pid)
    print(HEADING)
    for row in rows:
        print(row)
    print(upload)
    print(f"memory of the API: {before:.0f} MB before, {after:.0f} MB after", flush=True)
    with _fresh_stack() as stack:
        faults = long_queue.measure(stack)
    if faults:
        raise SystemExit("\n".join(faults))


@contextlib.contextmanager
def _fresh_stack() -> Iterator[LocalStack]:
    """An empty stack in a folder of its own, which the environment names meanwhile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patched:
        configured = settings.load().model_copy(update={"data_dir": Path(folder)})
        with LocalStack(configured) as stack:
            for name, value in (stack.environment() | {"CALLBACK_TOKEN": "load"}).items():
                patched.setenv(name, value)
            register(str(stack.settings.prefect_api_url), pools=[WORK_POOL])
            yield stack


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


async def _load(url: str, runs: PrefectRuns) -> list[Timing]:
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
            await timed("POST /api/jobs, one after another", create, CREATES // 5, 1),
            await timed("the Prefect server's part of it", submit, CREATES // 5, 1),
            await timed(f"POST /api/jobs, {CLIENTS} clients", create, CREATES * 4 // 5, CLIENTS),
            await timed(f"GET /api/jobs/ID, {CLIENTS} clients", read, READS, CLIENTS),
        ]


if __name__ == "__main__":
    main()
