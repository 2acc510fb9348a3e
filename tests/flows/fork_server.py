"""Starts runs of `run_clip.py` in processes that have imported everything already, which saves two seconds for each.

`python fork_server.py SOCKET` imports the flow and listens. For every connection it forks a process and tells how it
ended. The process leads a session of its own, so it can be killed with all of its children.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PID_BYTES = 8
RUN = str(Path(__file__).with_name("run_clip.py"))


class ForkedRun:
    """A run of `run_clip.py` as a process of the fork server, with what tests need of `subprocess.Popen`."""

    def __init__(self, address: Path, arguments: list[str], environment: dict[str, str]) -> None:
        reading, writing = os.pipe()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(str(address))
        request = json.dumps([arguments, environment]).encode()
        socket.send_fds(self._connection, [len(request).to_bytes(4)], [writing])
        self._connection.sendall(request)
        os.close(writing)
        self.stdout = os.fdopen(reading, encoding="utf-8", errors="replace")
        self.pid = int.from_bytes(self._connection.recv(PID_BYTES, socket.MSG_WAITALL))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while the process runs."""
        try:
            return self.wait(0.001)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                ended = self._connection.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired(RUN, timeout or 0) from None
            assert ended, "the fork server has ended"
            self.returncode = int(ended)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """The output, once the process has ended."""
        output = self.stdout.read()
        self.wait(timeout)
        self._connection.close()
        self.stdout.close()
        return output, None

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def serve(address: str) -> None:
    """Serve until killed; a process between us and each run waits for its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                watch(connection)
            connection.close()


def watch(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, (output,), _, _ = socket.recv_fds(connection, 4, 1)
    with connection.makefile("rb") as request:
        arguments, environment = json.loads(request.read(int.from_bytes(size)))
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(arguments, environment, output)
        raise SystemExit
    os.close(output)
    connection.sendall(pid.to_bytes(PID_BYTES))
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it any more
        connection.sendall(str(ended).encode())
    os._exit(0)


def run(arguments: list[str], environment: dict[str, Any], output: int) -> None:
    """Become the run: its session, output, environment and arguments."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [RUN, *arguments]
    runpy.run_path(RUN, run_name="__main__")


if __name__ == "__main__":
    from deployments import local_run

    local_run.quiet_prefect()
    import flows.clip  # noqa: F401

    serve(sys.argv[1])
