"""The SHA-256 of a file's content, by which objects in the bucket are named and checked."""

import hashlib
from io import BufferedReader
from pathlib import Path


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return sha256_in(file)


def sha256_in(file: BufferedReader) -> str:
    """64 hex digits over what an open file holds from its position on."""
    return hashlib.file_digest(file, "sha256").hexdigest()
