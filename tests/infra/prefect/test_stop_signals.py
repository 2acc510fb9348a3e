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
    """A stop signal and the exception it raises in the main thread."""
    number, error = request.param

    def raising(number, frame):
        raise error(number)

    before = signal.signal(number, raising)
    yield number, error
    signal.signal(number, before)


def send_and_swallow(number):
    with contextlib.suppress(BaseException):  # as a careless library does
        os.kill(os.getpid(), number)


def test_a_swallowed_signal_is_raised_again_once(stop):
    number, error = stop
    with stop_signals.recorded():
        send_and_swallow(number)
        with pytest.raises(error):
            stop_signals.raise_pending()
        stop_signals.raise_pending()


def test_nothing_is_raised_without_a_swallowed_signal(stop):
    with stop_signals.recorded():
        stop_signals.raise_pending()
    send_and_swallow(stop[0])
    stop_signals.raise_pending()


def test_nested_blocks_share_a_noted_signal(stop):
    number, error = stop
    with stop_signals.recorded():
        with stop_signals.recorded():
            send_and_swallow(number)
        with pytest.raises(error):
            stop_signals.raise_pending()


def test_only_the_main_thread_raises_it_again(stop):
    number, error = stop
    with stop_signals.recorded():
        send_and_swallow(number)
        other = threading.Thread(target=stop_signals.raise_pending)
        other.start()
        other.join()
        with pytest.raises(error):
            stop_signals.raise_pending()


def test_an_earlier_wakeup_descriptor_is_restored():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    mine = signal.set_wakeup_fd(writer)
    try:
        with stop_signals.recorded():
            pass
        assert signal.set_wakeup_fd(mine) == writer
    finally:
        signal.set_wakeup_fd(mine)
        os.close(reader)
        os.close(writer)
