"""The control plane with a long queue: the same requests before 10,000 jobs wait, and while they do.

The order is fixed: first a stack with no jobs but those of this measurement, then the same stack with the queue, so a
machine that slows down in between counts against us. Keys and limits are switched on throughout, far above what is
created, so that what checks them is measured too. Every job has its run on the Prefect server. Those that are not timed
are made by the job store and by Prefect's backfill of a schedule: over HTTP, one by one, the Prefect server alone takes
30 ms or more for each. `QUEUED` sets another number.

The limits are tried with the queue, by another process of the API that has small ones.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import redis

from infra.jobs.ids import new_job_id
from infra.jobs.record import Requester
from infra.jobs.store import JobStore
from infra.local.services import Service
from infra.local.stack import LocalStack
from infra.prefect.runs import PrefectRuns
from infra.prefect.server import PrefectServer
from tests.bench.http_timing import BODY, HEADING, Timing, running_api, timed
from tests.bench.processes import cpu_seconds, resident_mb

QUEUED = int(os.environ.get("QUEUED", "10000"))
MOST = 1.5
"""How many times as long a request may take with the queue, at the 95th percentile."""
MOST_API_MB = 40.0
"""What the API's process may grow by with the queue."""
CREATES, READS, LISTS, SCRAPES = 200, 4000, 100, 10
READERS, BATCH = 4, 200
IDLE_SECONDS = 30.0
MANY, FEW, NEW = ({"x-api-key": f"key-of-{name}"} for name in ("many", "few", "new"))
OPERATOR = {"x-operator-key": "key-of-operator"}
KEYS = {"API_KEYS": "many:key-of-many,few:key-of-few,new:key-of-new", "OPERATOR_KEY": "key-of-operator"}
AMPLE = {"CREATE_RATE_PER_MINUTE": "100000", "MAX_QUEUED": "1000000", "MAX_QUEUED_PER_KEY": "1000000"}
FEW_JOBS, RATE, STREAMS, LEFT, OWN = 5, 30, 4, 10, 3
"""Jobs of a client that came early; and the limits tried at the end: `LEFT` more jobs of all, `OWN` of that client."""
_CREATE, _READ, _API_MB = "POST /api/jobs", "GET /api/jobs/ID", "memory of the API, MB"
_LIMITED = (_CREATE, _READ)


def measure(stack: LocalStack) -> list[str]:
    """Print what the queue costs; return what was exceeded or not kept."""
    began = time.monotonic()
    with running_api(KEYS | AMPLE) as (url, pid):
        scene = _Scene(stack, url, pid)
        scene.first = asyncio.run(scene.create(FEW_JOBS, FEW))
        print(f"\n{HEADING}\nempty", flush=True)
        empty, idle = scene.rows(), scene.idle()
        filling = time.monotonic()
        scene.fill(QUEUED - scene.waiting())
        print(f"{scene.waiting()} jobs wait; that took {time.monotonic() - filling:.0f} s", flush=True)
        full, busy = scene.rows(), scene.idle()
        waiting = scene.waiting()
    _print(empty, full, idle, busy, waiting)
    broken = _broken_limits(waiting, scene.first)
    print(f"limits: {'; '.join(broken) or 'all kept'}")
    print(f"the whole took {time.monotonic() - began:.0f} s", flush=True)
    return [*_exceeded(empty, full, idle, busy), *broken]


def _print(
    empty: list[Timing], full: list[Timing], idle: dict[str, float], busy: dict[str, float], waiting: int
) -> None:
    print(f"\n{'p95 ms':34}{'empty':>9}{f'{waiting} wait':>14}{'ratio':>8}")
    for one, other in zip(empty, full, strict=True):
        print(f"{one.name:34}{one.p95:>9.1f}{other.p95:>14.1f}{other.p95 / one.p95:>8.2f}")
    print(f"{'':34}{'empty':>9}{f'{waiting} wait':>14}")
    for name, before in idle.items():
        print(f"{name:34}{before:>9.1f}{busy[name]:>14.1f}")


def _exceeded(empty: list[Timing], full: list[Timing], idle: dict[str, float], busy: dict[str, float]) -> Iterator[str]:
    """What took too long or too much with the queue, and which requests failed."""
    for one, other in zip(empty, full, strict=True):
        if other.name in _LIMITED and other.p95 > MOST * one.p95:
            yield f"{other.name}: {other.p95 / one.p95:.2f} times as long with a queue, at most {MOST}"
        if one.errors + other.errors:
            yield f"{one.name}: {one.errors} and {other.errors} errors"
    if (grown := busy[_API_MB] - idle[_API_MB]) > MOST_API_MB:
        yield f"{_API_MB}: {grown:.0f} more with a queue, at most {MOST_API_MB:.0f}"


class _Scene:
    """One API on one stack."""

    def __init__(self, stack: LocalStack, url: str, pid: int) -> None:
        self._url, self._pid, self._stack = url, pid, stack
        self._runs = PrefectRuns.from_settings(stack.settings)
        self._redis = redis.Redis.from_url(stack.environment()["REDIS_URL"], decode_responses=True)
        self.first = ""

    def rows(self) -> list[Timing]:
        """How long requests take now."""
        return asyncio.run(self._rows())

    async def _rows(self) -> list[Timing]:
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:

            def get(path: str, headers: dict[str, str]) -> Callable[[], Awaitable[object]]:
                async def ask() -> None:
                    (await client.get(path, headers=headers)).raise_for_status()

                return ask

            async def create() -> None:
                (await client.post("/api/jobs", json=BODY, headers=MANY)).raise_for_status()

            async def submit() -> None:
                await asyncio.to_thread(self._runs.submit, new_job_id(), 1, BODY)

            asked = [
                (_CREATE, create, CREATES, 1),
                ("the Prefect server's part of it", submit, CREATES, 1),
                (_READ, get(f"/api/jobs/{self.first}", FEW), READS, READERS),
                ("GET /api/jobs, the newest", get("/api/jobs?limit=100", OPERATOR), LISTS, 1),
                ("GET /api/jobs, a key's old ones", get("/api/jobs?limit=100", FEW), LISTS, 1),
                ("GET /metrics", get("/metrics", OPERATOR), SCRAPES, 1),
            ]
            rows: list[Timing] = []
            for each in asked:
                rows.append(await timed(*each))
                print(rows[-1], flush=True)
            return rows

    async def create(self, count: int, headers: dict[str, str]) -> str:
        """Create jobs over HTTP; returns the first one's id."""
        async with httpx.AsyncClient(base_url=self._url, timeout=120) as client:
            answers = [await client.post("/api/jobs", json=BODY, headers=headers) for _ in range(count)]
        return answers[0].raise_for_status().json()["job_id"]

    def fill(self, count: int) -> None:
        """Let so many more jobs of one client wait, each with its run."""
        jobs = JobStore.from_settings(self._stack.settings)
        assert jobs is not None
        with PrefectServer(str(self._stack.settings.prefect_api_url)) as server:
            run_ids = _scheduled_runs(server, count)
        for run_id in run_ids:
            job_id = new_job_id()
            jobs.create(job_id, json.dumps(BODY), Requester(owner="many", client="key many"))
            jobs.set_run(job_id, 1, run_id)

    def idle(self) -> dict[str, float]:
        """Memory, and CPU while nobody asks anything: the reconcilers', and what they cause in the servers."""
        processes = {"the API": self._pid}
        for name, service in (("Valkey", Service.VALKEY), ("Prefect", Service.PREFECT)):
            if pid := self._stack.pid(service):
                processes[name] = pid
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        time.sleep(IDLE_SECONDS)
        found = {
            f"CPU of {name} at rest, %": (cpu_seconds(pid) - before[name]) / IDLE_SECONDS * 100
            for name, pid in processes.items()
        }
        found |= {f"memory of {name}, MB": resident_mb(pid) for name, pid in processes.items()}
        return found | {"data in Valkey, MB": float(self._redis.info("memory")["used_memory"]) / 1e6}

    def waiting(self) -> int:
        return int(self._redis.hlen("kangklip:waiting"))


def _scheduled_runs(server: PrefectServer, count: int) -> list[str]:
    """Make runs of clip/local that are due, one for each second until now, and return their ids."""
    deployment = server.request("GET", "deployments/name/clip/local")["id"]
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=count)
    rule = f"DTSTART:{first:%Y%m%dT%H%M%S}\nRRULE:FREQ=SECONDLY;COUNT={count}"
    parameters = {"request": BODY, "job_id": new_job_id(), "attempt": 1}
    schedule = {"schedule": {"rrule": rule, "timezone": "UTC"}, "active": True, "parameters": parameters}
    server.request("POST", f"deployments/{deployment}/schedules", [schedule])
    for start in range(0, count, BATCH):
        begin = first + timedelta(seconds=start)
        window = {"start_time": begin.isoformat(), "end_time": (begin + timedelta(seconds=BATCH - 1)).isoformat()}
        window |= {"min_runs": BATCH, "max_runs": BATCH, "min_time": float(BATCH)}
        server.request("POST", f"deployments/{deployment}/schedule", window)
    found: list[str] = []
    chosen = {"flow_runs": {"tags": {"all_": ["auto-scheduled"]}}, "sort": "ID_DESC", "limit": BATCH}
    while page := server.request("POST", "flow_runs/filter", chosen | {"offset": len(found)}):
        found += [run["id"] for run in page]
    assert len(set(found)) == count, f"{len(set(found))} runs instead of {count}"
    return found


def _broken_limits(waiting: int, job_id: str) -> list[str]:
    """The limits that are not kept while so many jobs wait, tried by an API with small ones."""
    small = {"CREATE_RATE_PER_MINUTE": str(RATE), "MAX_QUEUED": str(waiting + LEFT)}
    small |= {"MAX_QUEUED_PER_KEY": str(FEW_JOBS + OWN), "MAX_EVENT_STREAMS": str(STREAMS)}
    with running_api(KEYS | small) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        time.sleep(60 - time.time() % 60 if time.time() % 60 > 30 else 0)  # rates are counted by the clock's minute

        def create(headers: dict[str, str], times: int) -> list[str]:
            answers = [client.post("/api/jobs", json=BODY, headers=headers) for _ in range(times)]
            return [answer.json().get("detail", "created").partition(";")[0] for answer in answers]

        full, own_full = "too many jobs are waiting", "too many of your jobs are waiting"
        new = LEFT - OWN
        found = {
            "waiting jobs of a client": (create(FEW, OWN + 1), ["created"] * OWN + [own_full]),
            "waiting jobs of the one with the queue": (create(MANY, 1), [own_full]),
            "waiting jobs of all": (create(NEW, new + 1), ["created"] * new + [full]),
            "jobs in a minute": (create(NEW, RATE - new), [full] * (RATE - new - 1) + ["too many jobs"]),
            "size of a body": (client.post("/api/jobs", content=b" " * (2**20 + 1), headers=NEW).status_code, 413),
            "event streams": (_opened_streams(client, job_id, STREAMS + 2), [200] * STREAMS + [429] * 2),
        }
    return [f"{name}: {answer}, not {expected}" for name, (answer, expected) in found.items() if answer != expected]


def _opened_streams(client: httpx.Client, job_id: str, count: int) -> list[int]:
    """The statuses of so many event streams that are open at once."""
    with contextlib.ExitStack() as opened:
        path = f"/api/jobs/{job_id}/events"
        return [opened.enter_context(client.stream("GET", path)).status_code for _ in range(count)]
