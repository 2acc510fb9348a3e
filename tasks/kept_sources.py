"""Keeps the sources of recent jobs on this machine, so that a recut need not download its source again.

They are hard links to files of the jobs' work folders. What is kept is gone after a day, or earlier if it is much.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

KEPT_SECONDS = 86400.0
KEPT_BYTES = 4 * 1024**3
KEPT_SHARE = 0.1
"""Of the disk's space that would be free if nothing were kept."""


def keep(job_id: str, path: Path, data_dir: Path) -> None:
    """Keep a source file of the job, and drop what is too old or too much."""
    target = _folder(job_id, data_dir) / path.name
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        target.hardlink_to(path)
    with contextlib.suppress(FileNotFoundError):  # another process may have dropped it
        os.utime(target)
    drop_old(data_dir)


def take(job_id: str, path: Path, data_dir: Path) -> bool:
    """Put the kept file of this name at `path`. False if it is not kept."""
    try:
        path.hardlink_to(_folder(job_id, data_dir) / path.name)
    except FileNotFoundError:
        return False
    except FileExistsError:
        pass
    return True


def forget(job_id: str, data_dir: Path) -> None:
    """Keep nothing of the job any longer."""
    shutil.rmtree(_folder(job_id, data_dir), ignore_errors=True)


def drop_old(data_dir: Path) -> None:
    """Delete what was last used a day ago, and the least recently used files beyond the limits."""
    kept: list[tuple[float, int, Path]] = []
    for path in data_dir.glob("sources/*/*"):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            kept.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in kept)
    most = min(KEPT_BYTES, KEPT_SHARE * (shutil.disk_usage(data_dir).free + total))
    for used_at, size, path in sorted(kept):
        if used_at > time.time() - KEPT_SECONDS and total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size
        with contextlib.suppress(OSError):  # it holds other files
            path.parent.rmdir()


def _folder(job_id: str, data_dir: Path) -> Path:
    return data_dir / "sources" / job_id
