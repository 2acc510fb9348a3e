"""Starts flow runs in processes that have imported everything, which saves several seconds for each.

A standby process imports the flow once and waits at a socket. The worker's command for a run, `python -m
infra.prefect.warm_runs SOCKET`, has it fork a process that becomes the run. The command lives as long as the run: it
passes signals on and ends as the run does, and if it is killed, so is the run. If nothing waits at the socket, the
command becomes Prefect's own, which starts the run more slowly.
"""

import contextlib
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Never

ENGINE = "prefect.engine"
ADDRESS = "KANGKLIP_STANDBY"
"""Environment variable with the standby process's socket."""
FORWARDED = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 0.1
_LENGTH_BYTES = 4


def command() -> str | None:
    """The worker's command for a run, if there is a standby process on this machine."""
    address = os.environ.get(ADDRESS)
    return shlex.join([sys.executable, "-m", __name__, address]) if address else None


@contextmanager
def standby(address: Path, flow: str) -> Generator[None]:
    """Keep a standby process for the flow in the module `flow` while the body runs. It ends with this process."""
    address.unlink(missing_ok=True)
    argv = [sys.executable, "-m", __name__, str(address), flow]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        os.environ[ADDRESS] = str(address)
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            process.terminate()


def serve(address: str, modules: Sequence[str]) -> None:
    """Import the modules, then fork a process for each run until standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; our parent ends us
    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _watch(connection)
            connection.close()


def _watch(connection: socket.socket) -> Never:
    """Fork the run that a command asks for, pass its signals on, and tell it how the run ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, 3)
    request = connection.recv(int.from_bytes(size), socket.MSG_WAITALL)
    environment, folder = json.loads(request)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become_run(environment, folder, streams)
    for stream in streams:
        os.close(stream)
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if select.select([connection], [], [], _POLL_SECONDS)[0]:
            asked = connection.recv(1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, asked[0] if asked else signal.SIGKILL)
            if not asked:
                os._exit(1)
    with contextlib.suppress(OSError):
        connection.sendall(str(os.waitstatus_to_exitcode(ended[1])).encode())
    os._exit(0)


def _become_run(environment: dict[str, str], folder: str, streams: Sequence[int]) -> Never:
    for stream, place in zip(streams, range(3), strict=True):
        os.dup2(stream, place)
        os.close(stream)
    for number in FORWARDED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [ENGINE]
    status = 1
    try:
        runpy.run_module(ENGINE, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(status)


def run(address: str) -> None:
    """Have the standby process start the run of this process's environment, and end as the run does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError:
        os.execv(sys.executable, [sys.executable, "-m", ENGINE])  # noqa: S606 no shell is wanted
    request = json.dumps([dict(os.environ), str(Path.cwd())]).encode()
    socket.send_fds(connection, [len(request).to_bytes(_LENGTH_BYTES)], [0, 1, 2])
    connection.sendall(request)
    for number in FORWARDED:
        signal.signal(number, lambda received, _: connection.sendall(bytes([received])))
    ended = int(connection.recv(16) or b"1")
    if ended < 0:
        if -ended in FORWARDED:
            signal.signal(-ended, signal.SIG_DFL)
        os.kill(os.getpid(), -ended)
    sys.exit(ended)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        serve(sys.argv[1], [ENGINE, *sys.argv[2:]])
    else:
        run(sys.argv[1])
