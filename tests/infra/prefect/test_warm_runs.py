"""Runs that a standby process starts: they end as they should, get signals, and die with their command."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid

import pytest

from infra.prefect import warm_runs

COMMAND = [sys.executable, "-m", "infra.prefect.warm_runs"]


@pytest.fixture(scope="module")
def silent_server():
    """A server that takes connections and never answers, so a run waits for it as long as it lives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def address(silent_server, tmp_path_factory):
    """The socket of a standby process, whose runs ask the silent server."""
    place = tmp_path_factory.mktemp("standby") / "socket"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent_server.getsockname()[1]}/api")
        with warm_runs.standby(place, "json"):
            wait_for(place.exists)
            yield place
        assert warm_runs.command() is None


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(address, run_id) -> subprocess.Popen[str]:
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": run_id}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*COMMAND, str(address)], env=environment, text=True, **streams)


def waiting_run(address, silent_server) -> tuple[subprocess.Popen[str], socket.socket]:
    """A run that waits for the server's answer, and its connection there."""
    command = start(address, str(uuid.uuid4()))
    connection, _ = silent_server.accept()
    connection.settimeout(30)
    assert connection.recv(5) == b"GET /"
    return command, connection


def has_ended(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_run_prints_to_its_command_which_ends_as_it_does(address):
    command = start(address, "no id")
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "Invalid flow run id" in output


def test_a_signal_to_the_command_ends_the_run(address, silent_server):
    command, connection = waiting_run(address, silent_server)
    command.terminate()
    assert has_ended(connection)
    assert command.wait(30) == -signal.SIGTERM


def test_a_run_dies_with_its_command(address, silent_server):
    command, connection = waiting_run(address, silent_server)
    command.kill()
    command.wait(30)
    assert has_ended(connection)


def test_without_a_standby_process_the_command_becomes_prefects_own(tmp_path):
    command = start(tmp_path / "nobody", "no id")
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "Invalid flow run id" in output


def test_the_worker_gets_the_command_only_while_there_is_a_standby_process(address):
    assert warm_runs.command() == " ".join([*COMMAND, str(address)])
