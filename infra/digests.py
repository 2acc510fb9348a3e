"""The SHA-256 of a file's content, used to name and verify objects in the bucket."""

import hashlib
from io import BufferedReader
from pathlib import Path


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return sha256_in(file)


def sha256_in(file: BufferedReader) -> str:
    """64 hex digits over the rest of an open file, from its current position."""
    return hashlib.file_digest(file, "sha256").hexdigest()
