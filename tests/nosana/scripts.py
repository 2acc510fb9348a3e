"""What becomes of a deployment once it is started, by name.

A script begins when the deployment is RUNNING and paid for; when it returns, Nosana sets the deployment to
STOPPED. `run` really runs the container's command.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.nosana.container import run
from tests.nosana.states import STEP, Deployment, ended, failed_host, handed_in

Script = Callable[[Deployment], Awaitable[None]]

STARTING = 0.005
"""Seconds that a deployment is STARTING; it can be neither stopped nor started meanwhile."""
SLOW_STARTING = 10 * STEP


def ends_with(code: int, *, line: str = "the last line", **more: Any) -> Script:
    """A job that waits for a host, runs and ends; `more` as for `ended`."""

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
    """The host fails, not the container: there was none."""

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
    job.end(result=handed_in([]))


async def result_none(deployment: Deployment) -> None:
    job = deployment.list_job()
    job.run()
    job.end(result=None)


async def no_credits(deployment: Deployment) -> None:
    """Until somebody tops up; whoever walked away without stopping it pays for it then."""
    if await deployment.wait_for_funds():
        await ends_with(0)(deployment)


async def not_listed(deployment: Deployment) -> None:
    for _ in range(6):
        deployment.say("JOB_LIST_ERROR", "The market does not answer.")
        if await deployment.wait(2 * STEP):
            return
    deployment.move("ERROR")
    await deployment.stopping.wait()


async def listed_late(deployment: Deployment) -> None:
    """RUNNING, and no job for a while."""
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


def named(script: str | Script) -> Script:
    """The script of that name; "exit 3" ends with 3, and so any number."""
    if not isinstance(script, str):
        return script
    if script.startswith("exit "):
        return ends_with(int(script.removeprefix("exit ")))
    return SCRIPTS[script]


async def play(deployment: Deployment, script: Script, affords: Callable[[Deployment], bool]) -> None:
    """A deployment's life from STARTING to STOPPED, which it reaches when its jobs have ended, however they did."""
    await asyncio.sleep(SLOW_STARTING if script is slow_start else STARTING)
    deployment.move("RUNNING")
    while not affords(deployment):
        if not await deployment.wait_for_funds():
            break
    else:
        await script(deployment)
    await asyncio.sleep(STEP)
    deployment.move("STOPPED")
