"""A stop signal whose exception something swallowed is raised again."""

import contextlib
import os
import signal
import threading

import pytest
from prefect.exceptions import TerminationSignal

from infra.prefect import stop_signals


@pytest.fixture(params=[(signal.SIGTERM, TerminationSignal), (signal.SIGINT, KeyboardInterrupt)], ids=["TERM", "INT"])
def stop(request):
    """A stop signal, and what it raises wherever the main thread is."""
    number, error = request.param

    def raising(number, frame):
        raise error(number)

    before = signal.signal(number, raising)
    yield number, error
    signal.signal(number, before)


def swallowed(number):
    with contextlib.suppress(BaseException):  # as a careless library does
        os.kill(os.getpid(), number)


def test_it_is_raised_again_once(stop):
    number, error = stop
    with stop_signals.noted():
        swallowed(number)
        with pytest.raises(error):
            stop_signals.raise_swallowed()
        stop_signals.raise_swallowed()


def test_nothing_is_raised_without_one(stop):
    with stop_signals.noted():
        stop_signals.raise_swallowed()
    swallowed(stop[0])
    stop_signals.raise_swallowed()


def test_a_block_within_a_block_shares_what_was_noted(stop):
    number, error = stop
    with stop_signals.noted():
        with stop_signals.noted():
            swallowed(number)
        with pytest.raises(error):
            stop_signals.raise_swallowed()


def test_only_the_main_thread_is_stopped(stop):
    number, error = stop
    with stop_signals.noted():
        swallowed(number)
        other = threading.Thread(target=stop_signals.raise_swallowed)
        other.start()
        other.join()
        with pytest.raises(error):
            stop_signals.raise_swallowed()


def test_who_was_told_of_signals_before_is_told_again_afterwards():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    mine = signal.set_wakeup_fd(writer)
    try:
        with stop_signals.noted():
            pass
        assert signal.set_wakeup_fd(mine) == writer
    finally:
        signal.set_wakeup_fd(mine)
        os.close(reader)
        os.close(writer)
