"""`kangklip up` runs everything on this machine; `kangklip api` runs only the API."""

import contextlib
import errno
import socket
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path

import uvicorn
from rich.panel import Panel
from rich.table import Table

from deployments.api.connections import BACKLOG, server_options
from deployments.console import console, out
from deployments.job_reconciler import Reconciler
from deployments.registry.register import register
from infra import settings
from infra.errors import ConfigError
from infra.jobs import schema
from infra.jobs.record import Job
from infra.jobs.store import JobStore
from infra.local.services import SERVERS, WORK_POOL, Service
from infra.local.stack import LocalStack
from infra.prefect import warm_runs
from infra.prefect.runs import PrefectRuns
from infra.settings import Settings

STOP_SECONDS = 3
"""How long open streams may continue after the API is told to stop. The page reconnects by itself."""
REQUIRED = ("redis_url", "r2_endpoint", "r2_access_key_id", "r2_secret_access_key", "prefect_api_url", "callback_token")


def up(port: int, prefect_port: int, *, worker: bool) -> None:
    """Run the embedded servers, the API with its page, and a worker until stopped.

    Raises:
        ConfigError: a port is taken.
        StackError: a server does not start.
    """
    configured = settings.load()
    if configured.prefect_api_url is None and prefect_port == port:
        raise ConfigError(f"The page and the Prefect UI cannot both use port {port}; choose another for one of them.")
    listener = _bind(configured.host, port)
    services = (*SERVERS, Service.WORKER) if worker else SERVERS
    with (
        console.status("Starting") as shown,
        LocalStack(configured, services, prefect_port=prefect_port, progress=shown.update) as stack,
    ):
        stack.apply()
        schema.update(stack.settings)
        shown.update("Registering the deployments")
        register(str(stack.settings.prefect_api_url), pools=[WORK_POOL])
        shown.update("Looking for unfinished jobs")
        resumed = _resume_jobs(stack.settings)
        shown.stop()
        log = stack.home.logs / f"api-{port}.log"  # stacks may share a data folder, but not a port
        out.print(_panel(stack, port, log, worker=worker))
        for job in resumed:
            out.print(_resumption(job), soft_wrap=True)
        with _standby(stack, worker=worker):
            _serve(listener, log)
        shown.start()
        shown.update("Stopping; no job is lost")


@contextlib.contextmanager
def _standby(stack: LocalStack, *, worker: bool) -> Generator[None]:
    """Keep a process that starts recuts at once; only for our own worker, which is on this machine."""
    if not worker or Service.PREFECT not in stack.needed:
        yield
        return
    with warm_runs.standby(stack.home.path / "standby.sock", "flows.recut"):
        yield


def api() -> None:
    """Run only the API, against the servers named in the environment.

    Raises:
        ConfigError: a setting is missing, or the port is taken.
    """
    configured = settings.load()
    missing = [name.upper() for name in REQUIRED if not getattr(configured, name)]
    if missing:
        raise ConfigError(f"The API needs {', '.join(missing)}; for embedded servers, run: kangklip up")
    listener = _bind(configured.host, configured.port)
    console.print(f"KangKlip's API listens on http://{configured.host}:{configured.port}")
    _serve(listener)


def _resume_jobs(configured: Settings) -> list[Job]:
    """Resume and return the jobs that an earlier `kangklip up` left unfinished."""
    store = JobStore.from_settings(configured)
    if store is None:
        return []
    with contextlib.closing(PrefectRuns.from_settings(configured)) as runs:
        return Reconciler(store, runs).resume_interrupted()


def _resumption(job: Job) -> str:
    if job.again_at is not None:  # the record no longer says how far the attempt before came
        return f"Resuming {job.job_id} with attempt {job.attempt}"
    return f"Resuming {job.job_id} from {job.stage} ({job.progress:.0f} %)"


def _bind(host: str, port: int) -> socket.socket:
    """A socket bound to the port, which reserves it until we listen.

    Raises:
        ConfigError: the port is taken or privileged, or the host is not an address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise ConfigError(
            f"HOST {host} is not an address; use 127.0.0.1 for this machine only, 0.0.0.0 for all."
        ) from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _bind_error(host, port, error) from None
    return listener


def _listen(listener: socket.socket) -> None:
    """Listen on the bound socket.

    Raises:
        ConfigError: another program bound the same port and listened first.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        listener.close()
        raise _bind_error(host, port, error) from None


def _bind_error(host: str, port: int, error: OSError) -> ConfigError:
    causes = {
        errno.EADDRINUSE: f"Port {port} is taken; choose another, or stop the program that uses it.",
        errno.EACCES: f"Port {port} needs more privileges; choose 1024 or higher.",
        errno.EADDRNOTAVAIL: f"HOST {host} is not an address of this machine; use 127.0.0.1 for this machine only.",
    }
    other = f"Cannot use port {port} on {host} ({error.strerror}); choose another."
    return ConfigError(causes.get(error.errno or 0, other))


def _serve(listener: socket.socket, log: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM, logging to `log` or, if None, to standard output."""
    from deployments.api.app import build  # noqa: PLC0415 reads the environment that the stack has set

    _listen(listener)
    options = server_options(settings.load())
    config = uvicorn.Config(partial(build, log), factory=True, timeout_graceful_shutdown=STOP_SECONDS, **options)
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def _panel(stack: LocalStack, port: int, log: Path, *, worker: bool) -> Panel:
    """What runs where, and how to stop it."""
    configured = stack.settings
    ui = str(configured.prefect_api_url).removesuffix("/").removesuffix("/api")
    table = Table.grid(padding=(0, 3))
    table.add_row("page and API", f"http://{configured.host}:{port}")
    table.add_row("Prefect UI", ui)
    table.add_row("worker", "runs one job at a time" if worker else "none: jobs stay QUEUED")
    table.add_row("Redis", _location(configured, "redis_url", stack))
    table.add_row("bucket", _location(configured, "r2_endpoint", stack))
    table.add_row("data", str(configured.data_dir))
    table.add_row("log", str(log))
    return Panel.fit(table, title="KangKlip is up", subtitle="Ctrl-C stops it")


def _location(configured: Settings, name: str, stack: LocalStack) -> str:
    service = {"redis_url": Service.VALKEY, "r2_endpoint": Service.S3}[name]
    if service in stack.needed:
        return "embedded"
    return f"the one in {name.upper()}" if name == "redis_url" else str(configured.r2_endpoint)
