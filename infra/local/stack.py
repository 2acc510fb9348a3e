"""The embedded stack: Valkey, an S3 server, a Prefect server and a process worker, from wheels.

`LocalStack` starts the servers that the settings do not name, on loopback, with their data in one folder. The first
process that uses the stack starts the supervisor, others join, and the stack stops when the last one leaves. A service
that dies is restarted on its port, and so is the supervisor.

This module does not import Prefect, which reads its settings at import: call `apply` first.
"""

# redis-py leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import redis
from pydantic import SecretStr

from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError, InfraError, StackError
from infra.jobs.connection import state_errors
from infra.local import services
from infra.local.services import SERVERS, Home, Service, ServiceState
from infra.settings import Settings

_log = logging.getLogger(__name__)
_POLL = 0.1  # seconds
_GIVE_UP_DEATHS = 3
_MIN_FREE_BYTES = 256 * 1024 * 1024
_MIN_FREE_SHARE = 0.011  # the S3 server refuses writes when less than 1 % of the disk is free
_MISSING = "its program is missing; install it with: pip install '.[local]'"
_LABELS = {
    Service.VALKEY: "Valkey",
    Service.S3: "the S3 server",
    Service.PREFECT: "the Prefect server",
    Service.WORKER: "the worker",
}


@dataclass(frozen=True)
class ServiceStatus:
    name: str
    ok: bool
    detail: str


class LocalStack:
    """The services that this process needs. They run as long as it uses them.

    Args:
        settings: the stack is in their `data_dir`; servers that they name are not started.
        needed: the services to start. A worker needs the Prefect server too.
        prefect_port: port of the Prefect server; 0 means any free port.
        progress: called with a short message about what `start` is waiting for.
    """

    def __init__(
        self,
        settings: Settings,
        needed: Iterable[Service] = SERVERS,
        prefect_port: int = 0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = Home(settings.data_dir / "stack")
        wanted = set(needed)
        if Service.WORKER in wanted:
            wanted.add(Service.PREFECT)
        self.needed = tuple(service for service in Service if service in wanted and not _is_external(service, settings))
        self._settings = settings
        self._prefect_port = prefect_port
        self._progress = progress
        self._share: BufferedRandom | None = None
        self._leaving = threading.Event()
        self._keeper: threading.Thread | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = 180) -> Self:
        """Start every needed service and wait until it answers.

        Raises:
            ConfigError: a requested port is taken, or the data folder cannot be used.
            StackError: a service does not start, or the disk is full. Nothing is left running.
        """
        if not self.needed or self._share is not None:
            return self
        deadline = time.monotonic() + timeout
        try:
            self._check()
            self._join(deadline)
            for service in self.needed:
                self._wait_until_up(service, deadline)
        except OSError as error:
            self.stop()
            raise StackError(f"The data folder {self.home.path} cannot be used: {error.strerror}.") from error
        except BaseException:
            self.stop()
            raise
        self._leaving.clear()
        self._keeper = threading.Thread(target=self._restart_supervisor, name="kangklip-stack", daemon=True)
        self._keeper.start()
        return self

    def stop(self, timeout: float = 40) -> None:
        """Leave the stack. The last user waits until everything has stopped."""
        if self._share is None:
            return
        self._leaving.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        last = _try_lock(self._share, fcntl.LOCK_EX)
        self._share.close()
        self._share = None
        deadline = time.monotonic() + timeout
        while last and _is_supervised(self.home) and time.monotonic() < deadline:
            time.sleep(_POLL)
        if self._supervisor is not None:
            self._supervisor.poll()

    def stays_up(self, service: Service) -> bool:
        """Whether the service keeps running after `stop`: it is external, or another process uses the stack."""
        return service not in self.needed or (self.home.lock.exists() and _is_supervised(self.home))

    def environment(self) -> dict[str, str]:
        """The environment variables for using the stack, passwords included."""
        variables = services.environment(self.home, self._ports())
        return variables | {"KANGKLIP_DATA_DIR": str(self._settings.data_dir), "R2_BUCKET": self._settings.r2_bucket}

    def apply(self) -> None:
        """Set the variables of `environment()` in this process. Call it before Prefect is imported."""
        os.environ.update(self.environment())

    @property
    def settings(self) -> Settings:
        """The settings, completed with the addresses and keys of the embedded services."""
        env = self.environment()
        found = {name: env.get(name.upper()) for name in ("r2_endpoint", "prefect_api_url")}
        hidden = ("redis_url", "r2_access_key_id", "r2_secret_access_key")
        found |= {name: SecretStr(env[name.upper()]) for name in hidden if name.upper() in env}
        return self._settings.model_copy(update={name: value for name, value in found.items() if value})

    @property
    def is_running(self) -> bool:
        """Whether the stack's supervisor is running, for any process."""
        return self.home.lock.exists() and _is_supervised(self.home)

    def pid(self, service: Service) -> int | None:
        """The service's process id, or None if it is not running."""
        return self._state(service)["pid"]

    def restart(self, service: Service, timeout: float = 60) -> None:
        """Kill the service and wait until it answers again on the same port."""
        old = self.pid(service)
        if old is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(old, signal.SIGKILL)
        deadline = time.monotonic() + timeout
        while self.pid(service) == old and time.monotonic() < deadline:
            time.sleep(_POLL)
        self._wait_until_up(service, deadline)

    def status(self) -> list[ServiceStatus]:
        """The state of each needed service, or whether it can be started. Does not wait."""
        return [self._status(service) for service in self.needed]

    def _status(self, service: Service) -> ServiceStatus:
        if services.program(service) is None:
            return ServiceStatus(service, ok=False, detail=_MISSING)
        if not self.is_running:
            return ServiceStatus(service, ok=True, detail="embedded; starts when needed")
        problem, port = self._problem(service), self._ports().get(service)
        up = f"embedded; up on port {port}" if port else "embedded; up"
        return ServiceStatus(service, problem is None, problem or up)

    def _check(self) -> None:
        """Check for problems before anything starts."""
        for service in self.needed:
            if services.program(service) is None:
                raise StackError(f"{_name(service)}: {_MISSING}")
        try:
            self.home.prepare()
            free = os.statvfs(self.home.path)
        except OSError as error:
            folder, reason = self._settings.data_dir, error.strerror
            raise ConfigError(
                f"The data folder {folder} cannot be used ({reason}); set KANGKLIP_DATA_DIR to another."
            ) from None
        need = max(_MIN_FREE_BYTES, int(free.f_blocks * free.f_frsize * _MIN_FREE_SHARE))
        if Service.S3 in self.needed and (room := free.f_bavail * free.f_frsize) < need:
            left = f"The disk of {self.home.path} has {room >> 20} MiB left"
            raise StackError(f"{left} and the stack needs {need >> 20}; free some space.")

    def _join(self, deadline: float) -> None:
        """Become a user of the stack, request our services, and start the supervisor if none is running."""
        share = self.home.users.open("a+b")
        if _try_lock(share, fcntl.LOCK_EX):  # no earlier user is left
            self.home.clear_requests()
        while not _try_lock(share, fcntl.LOCK_SH):  # the stack is stopping
            if time.monotonic() > deadline:
                share.close()
                raise StackError(f"The stack in {self.home.path} is still stopping; see {self.home.logs}.")
            time.sleep(_POLL)
        self._share = share
        self._request_services()
        self._supervise()

    def _request_services(self) -> None:
        live = self.home.state() if _is_supervised(self.home) else {}
        for service in self.needed:
            port = self._prefect_port if service is Service.PREFECT else 0
            if port and service in live and live[service]["port"] != port:
                self._progress(f"{_LABELS[service]} is already up on port {live[service]['port']}")
            elif port and service not in live and not services.is_free(service, port):
                raise ConfigError(
                    f"Port {port} for {_LABELS[service]} is taken; choose another, or stop the program that uses it."
                )
            if service not in self.home.requested_services():
                self.home.request_service(service, port)

    def _supervise(self) -> None:
        """Start the supervisor unless one holds the lock. It inherits our lock."""
        with self.home.lock.open("a+b") as lock:
            if not _try_lock(lock, fcntl.LOCK_EX):
                return
            self.home.reset_state()
            with (self.home.logs / "supervisor.log").open("ab") as log:
                self._supervisor = subprocess.Popen(
                    [sys.executable, "-m", "infra.local.supervisor", str(self.home.path), str(lock.fileno())],
                    cwd=Path(__file__).parents[2],
                    env=dict(os.environ) | _external_variables(self._settings),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )

    def _restart_supervisor(self) -> None:
        """Start a new supervisor whenever the current one has died."""
        while not self._leaving.wait(0.5):
            if not _is_supervised(self.home):
                _log.warning("The supervisor of the embedded stack has died; starting another.")
                try:
                    self._supervise()
                except OSError as error:
                    _log.warning("The supervisor of the embedded stack could not be started: %s", error.strerror)

    def _wait_until_up(self, service: Service, deadline: float) -> None:
        self._progress(f"waiting for {_LABELS[service]}")
        while (problem := self._problem(service)) is not None:
            state = self._state(service)
            if state["deaths"] >= _GIVE_UP_DEATHS and state["pid"] is None:
                raise StackError(f"{_name(service)} does not start: {state['detail']}. Log: {self.home.log(service)}")
            if time.monotonic() > deadline:
                raise StackError(f"{_name(service)} does not answer ({problem}). Log: {self.home.log(service)}")
            time.sleep(_POLL)
            self._supervise()

    def _problem(self, service: Service) -> str | None:
        """Why the service cannot be used, or None if it answers."""
        if self.pid(service) is None:
            return "it is not running"
        try:
            _PROBES[service](self.settings, self.home)
        except InfraError as error:
            return str(error)
        except (redis.RedisError, httpx.HTTPError, OSError) as error:
            return type(error).__name__
        return None

    def _state(self, service: Service) -> ServiceState:
        return self.home.state().get(service, services.idle_state())

    def _ports(self) -> dict[Service, int]:
        return {Service(name): state["port"] for name, state in self.home.state().items() if name in self.needed}


def _is_supervised(home: Home) -> bool:
    with home.lock.open("a+b") as lock:
        return not _try_lock(lock, fcntl.LOCK_EX)


def _name(service: Service) -> str:
    return _LABELS[service][0].upper() + _LABELS[service][1:]


def _is_external(service: Service, settings: Settings) -> bool:
    external = {
        Service.VALKEY: settings.redis_url,
        Service.S3: settings.r2_endpoint,
        Service.PREFECT: settings.prefect_api_url,
    }
    return bool(external.get(service))


def _external_variables(settings: Settings) -> dict[str, str]:
    """The environment variables of the servers that the settings name, for the worker's runs."""
    shown = {"R2_ENDPOINT": settings.r2_endpoint, "PREFECT_API_URL": settings.prefect_api_url}
    hidden = {
        "REDIS_URL": settings.redis_url,
        "R2_ACCESS_KEY_ID": settings.r2_access_key_id,
        "R2_SECRET_ACCESS_KEY": settings.r2_secret_access_key,
    }
    revealed = {name: secret.get_secret_value() for name, secret in hidden.items() if secret}
    return {name: value for name, value in shown.items() if value} | revealed | {"R2_BUCKET": settings.r2_bucket}


def _try_lock(file: BufferedRandom, kind: int) -> bool:
    try:
        fcntl.flock(file.fileno(), kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _probe_valkey(settings: Settings, _home: Home) -> None:
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    with redis.Redis.from_url(url, socket_timeout=2) as client, state_errors():
        client.ping()


def _probe_s3(settings: Settings, _home: Home) -> None:
    """Put an object, because the port opens long before the server accepts writes."""
    store = ArtifactStore.from_settings(settings, attempts=1)
    store.ensure_bucket()
    store.probe()


def _probe_prefect(settings: Settings, _home: Home) -> None:
    httpx.get(f"{settings.prefect_api_url}/health", timeout=2).raise_for_status()


def _probe_worker(settings: Settings, home: Home) -> None:
    """Ask the Prefect server whether our worker is online."""
    url = f"{settings.prefect_api_url}/work_pools/{services.WORK_POOL}/workers/filter"
    found = httpx.post(url, json={}, timeout=5).raise_for_status().json()
    if not any(worker["name"] == services.worker_name(home) and worker["status"] == "ONLINE" for worker in found):
        raise StackError("it has not sent a heartbeat yet")


_PROBES: dict[Service, Callable[[Settings, Home], None]] = {
    Service.VALKEY: _probe_valkey,
    Service.S3: _probe_s3,
    Service.PREFECT: _probe_prefect,
    Service.WORKER: _probe_worker,
}
