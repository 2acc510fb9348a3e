"""Remembers where files are being uploaded to, so that a later call continues an upload that was interrupted.

There is one small document for each upload in the data folder. An upload belongs to an API, and to a file as it is:
its path, size and time of change.
"""

import contextlib
import hashlib
import json
import os
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

USUAL_SECONDS = 86_400
"""Life of an upload whose server does not tell when it ends."""


class _Remembered(BaseModel):
    where: str
    expires_at: float


class UnfinishedUpload:
    """What is remembered of the upload of one file to one API. A folder that cannot be written remembers nothing."""

    def __init__(self, folder: Path, api: str, file: Path) -> None:
        """`folder` is the data folder, `api` the API's address."""
        found = file.stat()
        about = json.dumps([api.rstrip("/"), os.fspath(file.resolve()), found.st_size, found.st_mtime_ns])
        self._folder = folder / "uploads"
        self._path = self._folder / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.json"

    def where(self) -> str | None:
        """The upload's path on the API's server, or None if there is none that could be continued."""
        self._sweep()
        found = _read(self._path)
        return found.where if found else None

    def remember(self, where: str, expires: str) -> None:
        """Remember an upload. `expires` is the Upload-Expires header, or empty."""
        entry = _Remembered(where=where, expires_at=_seconds(expires))
        part = self._path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(entry.model_dump_json(), encoding="utf-8")
            part.replace(self._path)

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Forget uploads that have expired, of any file."""
        for path in self._folder.glob("*.json"):
            found = _read(path)
            if found is None or found.expires_at <= time.time():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _read(path: Path) -> _Remembered | None:
    try:
        return _Remembered.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _seconds(expires: str) -> float:
    try:
        return parsedate_to_datetime(expires).timestamp()
    except ValueError:
        return time.time() + USUAL_SECONDS
