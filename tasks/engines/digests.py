"""The SHA-256 of a file. `infra` has its own version, because stages and engines do not import it."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
