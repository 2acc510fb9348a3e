"""A Nosana worker in a separate process that kills itself with SIGKILL at a chosen step."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

STEPS = ["before create", "after create", "after start", "while running", "before archive", "after archive"]


def die_at(step: str, pool: str, api_url: str) -> int | None:
    """The exit code of the worker's process: that of SIGKILL if it reached the step."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["infra.nosana.worker"])
    process = server.Process(target=_work, args=(step, pool, api_url, dict(os.environ)))
    process.start()
    process.join(60)
    return process.exitcode


def _work(step: str, pool: str, api_url: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from infra.nosana import rental
    from infra.nosana.client import NosanaClient
    from infra.nosana.worker import NosanaWorker

    moment, _, what = step.partition(" ")
    others = {"start": (rental, "ensure_started"), "running": (NosanaClient, "jobs")}
    owner, name = others.get(what, (NosanaClient, what))
    setattr(owner, name, _deadly(getattr(owner, name), moment))

    async def serve() -> None:
        async with NosanaWorker(work_pool_name=pool) as worker:
            await worker.get_and_submit_flow_runs()

    with temporary_settings({PREFECT_API_URL: api_url}):
        asyncio.run(serve())


def _deadly(method: Callable[..., Any], moment: str) -> Callable[..., Any]:
    left = 1

    async def called(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await method(*args, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return called
