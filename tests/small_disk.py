"""A small disk that can be filled to its last byte."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.required import missing


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system in memory at `folder`; mounting it needs Linux and root."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], check=False)
    if made.returncode:
        missing("SMALL_DISK", "needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Take all space on the disk while the block runs."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        for size in (1 << 20, 4096):  # files that grow meanwhile take the rest
            while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) >= size:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free // size * size)
    try:
        yield
    finally:
        filler.unlink()
