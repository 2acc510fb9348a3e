"""The SHA-256 of a file's content. Stages and engines do not import `infra`, which has its own version."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
