"""A PostgreSQL server for tests, from Debian's package."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.required import missing

DEBIAN = Path("/usr/lib/postgresql")


@contextlib.contextmanager
def postgres(port: int) -> Iterator[str]:
    """A server on this port of loopback with an empty database; yields its address as Prefect wants it."""
    programs = next(iter(sorted(DEBIAN.glob("*/bin"), reverse=True)), None)
    if programs is None:
        missing("POSTGRES", "no PostgreSQL: install postgresql")
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        data, secret = Path(folder) / "data", Path(folder) / "password"
        secret.write_text(password)
        owner: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:  # it refuses to run as root
            owner |= {"user": "postgres", "group": "postgres", "extra_groups": []}
            for path in (folder, secret):
                shutil.chown(path, "postgres")
        initial = ["-D", data, "-U", "prefect", "--pwfile", secret, "-A", "scram-sha-256", "--no-sync"]
        subprocess.run([programs / "initdb", *initial], check=True, **owner)
        options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
        with subprocess.Popen([programs / "postgres", "-D", data, *options], **owner) as process:
            try:
                _wait([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], process)
                yield f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{port}/postgres"
            finally:
                process.send_signal(signal.SIGINT)  # it ends its sessions


def _wait(is_ready: list[Any], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(is_ready, check=False).returncode:
        assert process.poll() is None, "PostgreSQL did not start"
        assert time.monotonic() < deadline, "PostgreSQL did not start in time"
        time.sleep(0.2)
