"""Keeps the sources of recent jobs on this machine, so that a recut need not download its source again.

They are hard links to files of the jobs' work folders, in one folder a job. Kept files go after a day, or sooner if
they take too much space. Whatever goes wrong here is only logged: a run then downloads its source.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Generator
from pathlib import Path

from infra.jobs.store import JobStore

logger = logging.getLogger(__name__)

KEPT_SECONDS = 86400.0
KEPT_BYTES = 4 * 1024**3
KEPT_SHARE = 0.1
"""Of the disk's space that would be free if nothing were kept."""


def keep(job_id: str, path: Path, data_dir: Path) -> None:
    """Keep a source file of the job, unless it alone would take too much space."""
    target = _folder(job_id, data_dir) / path.name
    with _logged():
        if path.stat().st_size > _most(data_dir, _files(data_dir)):
            return
        for folder in (target.parent.parent, target.parent):  # others may not list jobs
            folder.mkdir(exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            target.hardlink_to(path)
        os.utime(target)
    drop_old(data_dir)


def take(job_id: str, path: Path, size: int, data_dir: Path) -> bool:
    """Put the kept file of this name at `path`. False if it is not kept, or no longer has its size in bytes."""
    kept = _folder(job_id, data_dir) / path.name
    with _logged():
        if not kept.is_file():
            return False
        if kept.stat().st_size != size:  # a power failure can cut a file short
            kept.unlink(missing_ok=True)
            return False
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(kept)
        return True
    return False


def forget(job_id: str, data_dir: Path) -> None:
    """Keep nothing of the job any longer."""
    shutil.rmtree(_folder(job_id, data_dir), ignore_errors=True)


def forget_deleted(data_dir: Path, jobs: JobStore) -> None:
    """Keep nothing of jobs that were deleted, perhaps by another machine."""
    for folder in data_dir.glob("sources/*"):
        if jobs.was_deleted(folder.name):
            forget(folder.name, data_dir)


def drop_old(data_dir: Path) -> None:
    """Delete what was last used a day ago, and the least recently used files beyond the limits."""
    with _logged():
        if not (kept := _files(data_dir)):
            return
        total, most = sum(size for _, size, _ in kept), _most(data_dir, kept)
        for used_at, size, path in sorted(kept):
            if used_at > time.time() - KEPT_SECONDS and total <= most:
                return
            path.unlink(missing_ok=True)
            total -= size
            with contextlib.suppress(OSError):  # it holds other files
                path.parent.rmdir()


def _files(data_dir: Path) -> list[tuple[float, int, Path]]:
    """When each kept file was last used, in seconds since the epoch; its size in bytes; and where it is."""
    found: list[tuple[float, int, Path]] = []
    for path in data_dir.glob("sources/*/*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            found.append((about.st_mtime, about.st_size, path))
    return found


def _most(data_dir: Path, kept: list[tuple[float, int, Path]]) -> float:
    """How many bytes may be kept."""
    free = shutil.disk_usage(data_dir).free + sum(size for _, size, _ in kept)
    return min(KEPT_BYTES, KEPT_SHARE * free)


@contextlib.contextmanager
def _logged() -> Generator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("Sources are not kept: %s", error)


def _folder(job_id: str, data_dir: Path) -> Path:
    return data_dir / "sources" / job_id
