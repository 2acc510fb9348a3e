"""Leases in Redis. A process holds one while it runs a job or watches a rented machine; without renewal it expires.

redis-py's `Lock` does not suffice. The script that opens an attempt must take the lease, but `Lock` takes it with its
own command. An expired `Lock` cannot be renewed, even if nobody else has taken it. And our holder names the host and
process, so that the lease of a dead process can be released at once.
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from typing import cast

from infra.errors import StateError
from infra.jobs.connection import Connection, state_errors
from infra.jobs.keys import lease_key

logger = logging.getLogger(__name__)
LEASE_SECONDS = 30
"""A lease expires after this long without renewal; its holder then counts as dead."""

# Takes or renews the lease; returns 0 if another holder has it. KEYS: lease. ARGV: holder, seconds.
_HOLD = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

# Deletes the lease if this holder has it. KEYS: lease. ARGV: holder.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def watch_lease(flow_run_id: str) -> str:
    """The name of the lease of the worker that rents and watches a machine for this run."""
    return f"watch-{flow_run_id}"


class Leases:
    """Takes and releases leases as one holder; each instance is a different holder.

    A lease's `name` is a job id or the result of `watch_lease`. Every method raises `StateError` if Redis does not
    answer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.holder = f"{_process_space()}:{os.getpid()}:{secrets.token_hex(8)}"

    @contextlib.contextmanager
    def kept(self, name: str) -> Generator[bool]:
        """Hold the lease, as a holder of its own, while the body runs. Yields False if another has it."""
        own, done = Leases(self._connection), threading.Event()
        if not own.hold(name):
            yield False
            return
        keeper = threading.Thread(target=own._renew, args=[name, done], daemon=True, name="lease")
        keeper.start()
        try:
            yield True
        finally:
            done.set()
            keeper.join()
            with contextlib.suppress(StateError):  # it expires
                own.release(name)

    def _renew(self, name: str, done: threading.Event) -> None:
        while not done.wait(LEASE_SECONDS / 3):
            try:
                self.hold(name)
            except StateError as error:
                logger.warning("The lease %s could not be renewed: %s", name, error)

    def hold(self, name: str) -> bool:
        """Take or renew the lease. False if another holder has it."""
        self.release_if_dead(name)
        return self._connection.run_script(_HOLD, [lease_key(name)], [self.holder, LEASE_SECONDS]) == 1

    def release(self, name: str) -> None:
        """Release the lease if we hold it."""
        self._connection.run_script(_RELEASE, [lease_key(name)], [self.holder])

    def is_held(self, name: str) -> bool:
        """Whether a live process holds the lease."""
        self.release_if_dead(name)
        with state_errors():
            return self._connection.client.exists(lease_key(name)) == 1

    def release_if_dead(self, name: str) -> None:
        """Delete the lease if its holder was a process on this machine that has died."""
        with state_errors():
            holder = cast("str | None", self._connection.client.get(lease_key(name)))
        if holder and holder != self.holder and _is_dead_process(holder):
            self._connection.run_script(_RELEASE, [lease_key(name)], [holder])


def _process_space() -> str:
    """The host, boot and PID namespace, within which a process id is unique."""
    ids = [socket.gethostname()]
    with contextlib.suppress(OSError):
        ids += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return "/".join(ids).replace(":", "-")


def _is_dead_process(holder: str) -> bool:
    """Whether the holder was a process in our PID namespace and has ended."""
    space, _, rest = holder.partition(":")
    pid = rest.partition(":")[0]
    if space != _process_space() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
