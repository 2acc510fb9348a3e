"""The input of the stages after TRANSCRIPT, as one value."""

from dataclasses import dataclass
from pathlib import Path

from tasks.core.media import MediaInfo
from tasks.core.transcript import Speech


@dataclass(frozen=True)
class Footage:
    """A source on this machine: its video and audio, both starting at time 0, and its transcript."""

    video: Path
    audio: Path
    info: MediaInfo
    speech: Speech
