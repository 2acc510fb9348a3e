"""`kangklip up`, everything on this machine, and `kangklip api`, the API alone."""

import contextlib
import errno
import socket
import sys
from functools import partial
from pathlib import Path

import uvicorn
from rich.panel import Panel
from rich.table import Table

from deployments.api.connections import BACKLOG, server_options
from deployments.console import console, out
from deployments.recovery import Reconciler
from deployments.registry.register import register
from infra import settings
from infra.errors import ConfigError
from infra.jobs import schema
from infra.jobs.record import Job
from infra.jobs.store import JobStore
from infra.local.parts import SERVERS, WORK_POOL, Part
from infra.local.stack import LocalStack
from infra.prefect.runs import PrefectRuns
from infra.settings import Settings

STOP_SECONDS = 3
"""How long open streams may continue when the API stops; the page reconnects by itself."""
NEEDED = ("redis_url", "r2_endpoint", "r2_access_key_id", "r2_secret_access_key", "prefect_api_url", "callback_token")


def up(port: int, prefect_port: int, *, worker: bool) -> None:
    """Run the embedded stack, the API with its page and a worker until stopped.

    Raises:
        ConfigError: a port is taken.
        StackError: a part does not start.
    """
    configured = settings.load()
    if configured.prefect_api_url is None and prefect_port == port:
        raise ConfigError(f"The page and the Prefect UI cannot both have port {port}; give one another port.")
    listener = _bound(configured.host, port)
    parts = (*SERVERS, Part.WORKER) if worker else SERVERS
    with (
        console.status("Starting") as shown,
        LocalStack(configured, parts, prefect_port=prefect_port, progress=shown.update) as stack,
    ):
        stack.apply()
        schema.update(stack.settings)
        shown.update("Registering the deployments")
        register(str(stack.settings.prefect_api_url), pools=[WORK_POOL])
        shown.update("Looking for jobs that were left")
        left = _take_up(stack.settings)
        shown.stop()
        log = stack.home.logs / f"api-{port}.log"  # several may share a data folder, none a port
        out.print(_screen(stack, port, log, worker=worker))
        for job in left:
            out.print(_taken_up(job), soft_wrap=True)
        _serve(listener, log)
        shown.start()
        shown.update("Stopping; nothing is lost")


def api() -> None:
    """Run the API alone against the servers that the environment names.

    Raises:
        ConfigError: a server is not named, or the port is taken.
    """
    configured = settings.load()
    missing = [name.upper() for name in NEEDED if not getattr(configured, name)]
    if missing:
        raise ConfigError(f"The API needs {', '.join(missing)}; to have the servers embedded, run: kangklip up")
    listener = _bound(configured.host, configured.port)
    console.print(f"KangKlip's API listens on http://{configured.host}:{configured.port}")
    _serve(listener)


def _take_up(configured: Settings) -> list[Job]:
    """Resume the jobs that an earlier `kangklip up` left unfinished, and return them."""
    store = JobStore.from_settings(configured)
    if store is None:
        return []
    with contextlib.closing(PrefectRuns.from_settings(configured)) as runs:
        return Reconciler(store, runs).resume_interrupted()


def _taken_up(job: Job) -> str:
    return f"Taking up again: {job.job_id}, which was at {job.stage} ({job.progress:.0f} %)"


def _bound(host: str, port: int) -> socket.socket:
    """A socket bound to the port, which reserves it until we listen.

    Raises:
        ConfigError: another program listens there, the port needs more privileges, or the host is not this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise ConfigError(f"HOST {host} is no address; 127.0.0.1 is this machine alone, 0.0.0.0 all of it.") from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _port_fault(host, port, error) from None
    return listener


def _listen(listener: socket.socket) -> None:
    """Listen on the bound socket.

    Raises:
        ConfigError: another program bound the port at the same time, and listened first.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        listener.close()
        raise _port_fault(host, port, error) from None


def _port_fault(host: str, port: int, error: OSError) -> ConfigError:
    causes = {
        errno.EADDRINUSE: f"Port {port} is taken; choose another, or stop what listens there.",
        errno.EACCES: f"Port {port} takes more rights; choose one from 1024 on.",
        errno.EADDRNOTAVAIL: f"HOST {host} is no address of this machine; 127.0.0.1 is the machine alone.",
    }
    other = f"Port {port} of {host} cannot be had ({error.strerror}); choose another."
    return ConfigError(causes.get(error.errno or 0, other))


def _serve(listener: socket.socket, log: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM; the log goes to the file, or to standard output without one."""
    from deployments.api.app import build  # noqa: PLC0415 it reads the environment that the stack has filled

    _listen(listener)
    options = server_options(settings.load())
    config = uvicorn.Config(partial(build, log), factory=True, timeout_graceful_shutdown=STOP_SECONDS, **options)
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def _screen(stack: LocalStack, port: int, log: Path, *, worker: bool) -> Panel:
    """What runs where, and how to stop it."""
    configured = stack.settings
    ui = str(configured.prefect_api_url).removesuffix("/").removesuffix("/api")
    table = Table.grid(padding=(0, 3))
    table.add_row("page and API", f"http://{configured.host}:{port}")
    table.add_row("Prefect UI", ui)
    table.add_row("worker", "runs one job at a time" if worker else "none: jobs stay QUEUED")
    table.add_row("Redis", _where(configured, "redis_url", stack))
    table.add_row("bucket", _where(configured, "r2_endpoint", stack))
    table.add_row("data", str(configured.data_dir))
    table.add_row("log", str(log))
    return Panel.fit(table, title="KangKlip is up", subtitle="Ctrl-C stops it")


def _where(configured: Settings, name: str, stack: LocalStack) -> str:
    part = {"redis_url": Part.VALKEY, "r2_endpoint": Part.S3}[name]
    if part in stack.needed:
        return "embedded"
    return f"as {name.upper()} says" if name == "redis_url" else str(configured.r2_endpoint)
