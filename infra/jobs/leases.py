"""Leases in Redis: who runs a job, or watches a rented machine. A lease that is not renewed expires.

redis-py's `Lock` does not suffice: it takes the lock with a command of its own, but the script that opens an attempt
must take the lease; once expired, it cannot be renewed even if nobody else has it; and its holder is a random token,
while ours names host and process, so that the lease of a dead process is dropped at once.
"""

import contextlib
import os
import secrets
import socket
from pathlib import Path
from typing import cast

from infra.jobs.connection import Connection, state_errors
from infra.jobs.keys import lease_key

LEASE_SECONDS = 30
"""How long a lease lasts without renewal; after that its holder counts as dead."""

# KEYS: lease. ARGV: holder, seconds. Takes or renews the lease; 0 if another holds it.
_HOLD = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

# KEYS: lease. ARGV: holder. Deletes the lease if that holder has it.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def watch_lease(flow_run_id: str) -> str:
    """Name of the lease held by the worker that rents a machine for a run and watches it."""
    return f"watch-{flow_run_id}"


class Leases:
    """The leases of one holder: each instance is another. `name` is a job id, or what `watch_lease` returns.

    Every method raises `StateError` when Redis does not answer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.holder = f"{_process_space()}:{os.getpid()}:{secrets.token_hex(8)}"

    def hold(self, name: str) -> bool:
        """Take or renew the lease; False if another holds it."""
        self.drop_dead(name)
        return self._connection.run_script(_HOLD, [lease_key(name)], [self.holder, LEASE_SECONDS]) == 1

    def release(self, name: str) -> None:
        """Give up the lease if we hold it."""
        self._connection.run_script(_RELEASE, [lease_key(name)], [self.holder])

    def is_held(self, name: str) -> bool:
        """Whether a live process holds the lease."""
        self.drop_dead(name)
        with state_errors():
            return self._connection.client.exists(lease_key(name)) == 1

    def drop_dead(self, name: str) -> None:
        """Delete the lease if its holder was a process of this machine that has died."""
        with state_errors():
            holder = cast("str | None", self._connection.client.get(lease_key(name)))
        if holder and holder != self.holder and _is_dead_process(holder):
            self._connection.run_script(_RELEASE, [lease_key(name)], [holder])


def _process_space() -> str:
    """Host, boot and PID namespace, within which a process id is unique."""
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):
        marks += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return "/".join(marks).replace(":", "-")


def _is_dead_process(holder: str) -> bool:
    """Whether the holder was a process in our own PID namespace and has ended."""
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
