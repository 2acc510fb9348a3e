"""A host that really runs the container's command, as a process on this machine."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from typing import Any, Self

import psutil

from tests.folders import ROOT
from tests.nosana.states import Deployment, ended, failed_host, log

KILL_AFTER_SECONDS = 10.0
"""Seconds between SIGTERM and SIGKILL, as in container engines."""
LOG_LINES = 200


async def run(deployment: Deployment) -> None:
    """Run the first operation's command with the definition's environment and nothing of this machine's."""
    args = deployment.body["job_definition"]["ops"][0]["args"]
    job = deployment.list_job()
    if await deployment.wait():
        job.end("STOPPED", result=None)
        return
    job.run()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        env = {"PATH": os.environ["PATH"], "HOME": home, "KANGKLIP_DATA_DIR": f"{home}/data"} | args.get("env", {})
        try:
            container = await Container.start(command(args), env)
        except OSError:
            job.end(result=failed_host("container-runtime-error"))
            return
        expired = not await container.ends_within(deployment.timeout, deployment.stopping)
        code = await container.end()
        stopped = deployment.stopping.is_set() and not expired
        reason = {"jobExpired": expired, "jobStopped": stopped}
        job.end("STOPPED" if stopped else "COMPLETED", result=ended(code, *await container.logs(), reason=reason))


def command(args: dict[str, Any]) -> list[str]:
    """A string goes to the shell, a list is used unchanged; the image's python is this interpreter."""
    words = [*_words(args.get("entrypoint", [])), *_words(args.get("cmd", []))]
    return [sys.executable, *words[1:]] if words[:1] == ["python"] else words


class Container:
    """A process and everything it starts. They end together, as in a container."""

    def __init__(self, process: asyncio.subprocess.Process, home: str | None) -> None:
        self._process = process
        self._home = home
        streams = {"stdout": process.stdout, "stderr": process.stderr}
        self._lines: list[dict[str, str]] = []
        self._reading = [asyncio.create_task(self._read(kind, stream)) for kind, stream in streams.items() if stream]

    @classmethod
    async def start(cls, words: list[str], env: dict[str, str]) -> Self:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *words, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, limit=1 << 20, start_new_session=True
        )
        return cls(process, env.get("HOME"))

    async def ends_within(self, seconds: float, stopping: asyncio.Event | None = None) -> bool:
        """Whether the process ended, or a stop was requested, within `seconds`.

        It polls, because asyncio's `wait` also waits for the processes that inherited the output.
        """
        deadline = time.monotonic() + seconds
        while self._process.returncode is None and not (stopping and stopping.is_set()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def end(self) -> int:
        """End the process; returns its exit status, or 128 plus the number of the signal that ended it."""
        try:
            if self._process.returncode is None:
                self._process.terminate()
                await self.ends_within(KILL_AFTER_SECONDS)
        finally:  # the double may stop before that time is over
            self._kill_all()
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def _kill_all(self) -> None:
        """Kill the process group, and what left it, by its home folder: Prefect's engine has a session of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in psutil.process_iter() if self._home not in (None, os.environ.get("HOME")) else ():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == self._home:
                    process.kill()

    async def logs(self) -> list[dict[str, str]]:
        await asyncio.gather(*self._reading)
        return self._lines[-LOG_LINES:]

    async def _read(self, kind: str, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self._lines.append(log(kind, line.decode(errors="replace").rstrip("\n")))


def _words(command: str | list[str]) -> list[str]:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else command
