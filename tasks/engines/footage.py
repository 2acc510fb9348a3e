"""What the stages after TRANSCRIPT work on, as one value."""

from dataclasses import dataclass
from pathlib import Path

from tasks.core.media import MediaInfo
from tasks.core.transcript import Speech


@dataclass(frozen=True)
class Footage:
    """A source on this machine: its picture and its sound, which start at the same time 0, and what is said in it."""

    video: Path
    audio: Path
    info: MediaInfo
    speech: Speech
