"""A function that raises, aborts or hangs in a process of its own costs that process, and no more than its time."""

import os
import subprocess
import time

import psutil
import pytest

from tests.gpu.apart import Failed, apart


def test_the_result_comes_back():
    assert apart(60, sorted, [3, 1, 2]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("function", "arguments", "why"),
    [
        (int, ("x",), "ValueError: invalid literal"),
        (os.abort, (), "its process was ended by SIGABRT"),
        (os._exit, (3,), "it exited with 3"),
    ],
)
def test_a_failure_names_its_cause(function, arguments, why):
    with pytest.raises(Failed, match=why):
        apart(60, function, *arguments)


def runs(pid: int) -> bool:
    """Whether it is neither gone nor a zombie that nobody has reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path):
    began = time.monotonic()
    pid = tmp_path / "pid"
    with pytest.raises(Failed, match="it did not end within 10 s"):
        apart(10, subprocess.call, ["sh", "-c", f"echo $$ >{pid}; exec sleep 600"])
    assert time.monotonic() - began < 30
    while runs(int(pid.read_text())):
        assert time.monotonic() - began < 60
        time.sleep(0.1)
