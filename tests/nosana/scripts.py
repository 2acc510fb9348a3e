"""Scripts by name: what happens to a deployment once it is started.

A script begins when the deployment is RUNNING and paid for. When it returns, the deployment becomes STOPPED. `run`
really runs the container's command.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.nosana.container import run
from tests.nosana.states import STEP, Deployment, ended, failed_host, result_of

Script = Callable[[Deployment], Awaitable[None]]

STARTING_SECONDS = 0.005
"""Seconds that a deployment is STARTING, when it can be neither stopped nor started."""
SLOW_STARTING_SECONDS = 10 * STEP


def ends_with(code: int, *, line: str = "the last line", **more: Any) -> Script:
    """A job that waits for a host, runs and ends with `code`; `more` goes to `ended`."""

    async def script(deployment: Deployment) -> None:
        job = deployment.list_job()
        if await deployment.wait():
            job.end("STOPPED", result=None)
            return
        job.run()
        if await deployment.wait():
            job.end("STOPPED", result=ended(None, reason={"jobStopped": True}))
        else:
            job.end(result=ended(code, line, **more))

    return script


def fails_with(event: str) -> Script:
    """The host fails before there is a container."""

    async def script(deployment: Deployment) -> None:
        job = deployment.list_job()
        if await deployment.wait():
            job.end("STOPPED", result=None)
        else:
            job.run()
            job.end(result=failed_host(event))

    return script


async def never_claimed(deployment: Deployment) -> None:
    job = deployment.list_job()
    await deployment.stopping.wait()
    job.end("STOPPED", result=None)


async def hangs(deployment: Deployment) -> None:
    job = deployment.list_job()
    await deployment.wait()
    job.run()
    if await deployment.wait(deployment.timeout):
        job.end("STOPPED", result=ended(None, reason={"jobStopped": True}))
    else:
        job.end(result=ended(None, reason={"jobExpired": True}))


async def result_late(deployment: Deployment) -> None:
    job = deployment.list_job()
    job.run()
    job.end(result=None)
    await asyncio.sleep(10 * STEP)
    job.result = ended(0)


async def result_lost(deployment: Deployment) -> None:
    job = deployment.list_job()
    job.run()
    job.end(result=result_of([]))


async def result_none(deployment: Deployment) -> None:
    job = deployment.list_job()
    job.run()
    job.end(result=None)


async def no_credits(deployment: Deployment) -> None:
    """Waits for a top-up, then runs and costs credits unless it was stopped."""
    if await deployment.wait_for_funds():
        await ends_with(0)(deployment)


async def not_listed(deployment: Deployment) -> None:
    for _ in range(6):
        deployment.add_event("JOB_LIST_ERROR", "The market does not answer.")
        if await deployment.wait(2 * STEP):
            return
    deployment.move("ERROR")
    await deployment.stopping.wait()


async def listed_late(deployment: Deployment) -> None:
    """RUNNING without a job for a while."""
    if not await deployment.wait(10 * STEP):
        await ends_with(0)(deployment)


slow_start = ends_with(0)

SCRIPTS: dict[str, Script] = {
    "ok": ends_with(0),
    "never claimed": never_claimed,
    "hangs": hangs,
    "expired": ends_with(0, reason={"jobExpired": True}),
    "image": fails_with("image-pull-error"),
    "resource": fails_with("resource-error"),
    "runtime": fails_with("container-runtime-error"),
    "host shut down": ends_with(1, reason={"hostShutDown": True}),
    "out of memory": ends_with(137, state={"OOMKilled": True}),
    "result late": result_late,
    "result lost": result_lost,
    "result none": result_none,
    "no credits": no_credits,
    "not listed": not_listed,
    "listed late": listed_late,
    "slow start": slow_start,
    "run": run,
}


def script_named(script: str | Script) -> Script:
    """The script with that name; "exit N" ends with status N."""
    if not isinstance(script, str):
        return script
    if script.startswith("exit "):
        return ends_with(int(script.removeprefix("exit ")))
    return SCRIPTS[script]


async def play(deployment: Deployment, script: Script, affords: Callable[[Deployment], bool]) -> None:
    """A deployment's life from STARTING to STOPPED, which follows when its jobs have ended."""
    await asyncio.sleep(SLOW_STARTING_SECONDS if script is slow_start else STARTING_SECONDS)
    deployment.move("RUNNING")
    while not affords(deployment):
        if not await deployment.wait_for_funds():
            break
    else:
        await script(deployment)
    await asyncio.sleep(STEP)
    deployment.move("STOPPED")
