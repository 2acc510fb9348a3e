"""A source on this machine, as one value."""

from dataclasses import dataclass
from pathlib import Path

from tasks.core.media import MediaInfo


@dataclass(frozen=True)
class Footage:
    """Video and audio, both starting at time 0."""

    video: Path
    audio: Path
    info: MediaInfo
