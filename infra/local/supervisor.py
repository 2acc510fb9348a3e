"""The process that starts the services, restarts them when they die, and stops them when the last user leaves.

    python -m infra.local.supervisor FOLDER LOCK_FD

It holds the folder's lock through the inherited descriptor, starts the services in `wanted/`, and exits when no process
shares `users.lock`. The kernel releases the locks of a dead process, so it does not matter whether a user left, was
interrupted or was killed. On Linux the services die with the supervisor; elsewhere, the next supervisor first kills
leftover processes, which it finds by their mark.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from infra.local import services
from infra.local.services import Home, Service, ServiceState

_TICK = 0.15  # seconds
_SWEEP = 5.0  # seconds
_QUICK_DEATH = 5.0  # seconds
_LOG_LIMIT = 5 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """The process of a service, with its starts and deaths."""

    port: int
    is_fixed: bool = False
    process: subprocess.Popen[bytes] | None = None
    grace: float = 0.0
    started: float = 0.0
    next_start: float = 0.0
    starts: int = 0
    deaths: int = 0
    detail: str = ""

    def state(self) -> ServiceState:
        return {
            "pid": self.process.pid if self.process else None,
            "port": self.port,
            "starts": self.starts,
            "deaths": self.deaths,
            "detail": self.detail,
        }


@dataclass
class Supervisor:
    """Runs the services of one embedded stack."""

    home: Home
    children: dict[Service, Child] = field(default_factory=dict[Service, Child])
    last_ports: dict[Service, int] = field(default_factory=dict[Service, int])
    _is_written: bool = True

    def run(self) -> None:
        """Run until nobody uses the stack or SIGTERM arrives, then stop all services in order."""
        sweep(self.home.secrets.mark)
        self.last_ports = {
            Service(name): state["port"] for name, state in self.home.state().items() if name in set(Service)
        }
        signal.signal(signal.SIGTERM, _exit)
        with self.home.users.open("wb") as users:
            try:
                while not _has_no_users(users.fileno()):
                    self._tick()
                    time.sleep(_TICK)
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                self._stop_all()
                sweep(self.home.secrets.mark)

    def _tick(self) -> None:
        before = {service: child.state() for service, child in self.children.items()}
        for service, port in self.home.requested_services().items():
            if service not in self.children:
                self.children[service] = Child(
                    port or self._choose_port(service, self.last_ports.get(service, 0)), bool(port)
                )
        for service, child in self.children.items():
            if child.process is not None and (code := child.process.poll()) is not None:
                self._note_death(service, child, code)
            if child.process is None and time.monotonic() >= child.next_start:
                self._start(service, child)
        if before != {service: child.state() for service, child in self.children.items()} or not self._is_written:
            self._write()

    def _choose_port(self, service: Service, last: int) -> int:
        """The last port if it is free, so that addresses stay valid, else another. The worker has none."""
        if service is Service.WORKER:
            return 0
        taken = {child.port for name, child in self.children.items() if name is not service}
        if last and last not in taken and services.is_free(service, last):
            return last
        return services.free_port(service, taken)

    def _note_death(self, service: Service, child: Child, code: int) -> None:
        lived = time.monotonic() - child.started
        child.process = None
        child.deaths = child.deaths + 1 if lived < _QUICK_DEATH else 1
        child.next_start = time.monotonic() + min(0.1 * 2**child.deaths, 10)
        child.detail = f"ended with {code} after {lived:.1f} s: {_last_line(self.home.log(service))}"
        _log(f"{service} {child.detail}")

    def _start(self, service: Service, child: Child) -> None:
        ports = {service: child.port for service, child in self.children.items()}
        if service is Service.WORKER and not _answers(services.environment(self.home, ports).get("PREFECT_API_URL")):
            child.next_start = time.monotonic() + 0.5
            return
        if child.deaths == child.starts > 0 and not child.is_fixed:  # it was never up: its port may be taken
            child.port = self._choose_port(service, child.port)
            ports[service] = child.port
        log = self.home.log(service)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        try:
            command = services.command(service, self.home, ports)
        except OSError as error:
            child.detail, child.next_start = f"cannot be set up: {error.strerror}", time.monotonic() + 1
            return
        with log.open("ab") as output:
            child.process = subprocess.Popen(
                command.argv,
                env=command.env,
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        child.grace, child.started, child.starts = command.grace, time.monotonic(), child.starts + 1
        _log(f"{service} started as {child.process.pid} on port {child.port}")

    def _stop_all(self) -> None:
        """Stop the worker first, because its runs need the servers, then all servers at once."""
        worker = [child for service, child in self.children.items() if service is Service.WORKER]
        servers = [child for service, child in self.children.items() if service is not Service.WORKER]
        for group in (worker, servers):
            _stop([(child.process, child.grace) for child in group if child.process is not None])
        self.children.clear()
        _log("stopped")

    def _write(self) -> None:
        """Write the state of the running services and the last ports of the others."""
        resting = {service: services.idle_state(port) for service, port in self.last_ports.items()}
        try:
            running = {service: child.state() for service, child in self.children.items()}
            self.home.write_state(resting | running, supervisor=os.getpid())
        except OSError as error:  # a full disk: the services keep running, and the next tick tries again
            self._is_written = False
            _log(f"stack.json could not be written: {error.strerror}")
        else:
            self._is_written = True


def sweep(mark: str) -> None:
    """Kill leftover processes of an earlier stack in this folder, found by their mark, and wait until they exit."""
    deadline = time.monotonic() + _SWEEP
    while (leftover := _marked_processes(mark)) and time.monotonic() < deadline:
        for process in leftover:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
                _log(f"killed leftover process {process.pid}")
        time.sleep(_TICK)


def _marked_processes(mark: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _has_mark(process, mark)]


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return any(mark in text for text in (*process.cmdline(), *process.environ().values()))
    except (psutil.Error, OSError):
        return False  # it has exited, or belongs to another user


def _stop(processes: list[tuple[subprocess.Popen[bytes], float]]) -> None:
    """Send SIGTERM to each process group, and SIGKILL after its grace period."""
    for process, _ in processes:
        _signal_group(process, signal.SIGTERM)
    begun = time.monotonic()
    for process, grace in processes:
        try:
            process.wait(max(begun + grace - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            _log(f"{process.pid} did not stop within {grace:.0f} s; killing it")
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit()


def _has_no_users(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answers(api_url: str | None) -> bool:
    url = api_url or os.environ.get("PREFECT_API_URL", "")
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as response:  # noqa: S310 - an address of our own
            return response.status == 200
    except (OSError, ValueError):
        return False


def _die_with_parent() -> None:
    """On Linux, have the kernel kill this child when the supervisor dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # the disk is full
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)  # noqa: T201 - standard output is the supervisor's log


if __name__ == "__main__":
    # The lock's descriptor stays open as long as this process lives; children must not inherit it.
    os.set_inheritable(int(sys.argv[2]), False)
    Supervisor(Home(Path(sys.argv[1]))).run()
