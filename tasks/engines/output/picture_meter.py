"""Measures a clip's picture from small frames, ten a second, while ffmpeg encodes or decodes the clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from tasks.core.captions.card import SECONDS
from tasks.core.captions.presets import Band, Colour, Look
from tasks.core.output.clip_checks import CAPTION_PIXELS
from tasks.core.output.shown_picture import THUMBNAIL, DrawnPicture, ShownPicture
from tasks.core.output.source_match import (
    CHROMA,
    LUMA,
    SAMPLES_PER_SECOND,
    Box,
    ClipFrames,
    SourceFrame,
    covered_rows,
)
from tasks.core.picture.motion import difference, is_black, stretches
from tasks.engines.output.poster import PosterFrames, look
from tasks.engines.output.source_frames import part_of

SAMPLE_SIDE = 270
"""Pixels of the shorter side: a quarter of the usual clip's width. Smaller clips are not scaled."""
SHORTEST_STRETCH = 0.5
FROZEN_DIFFERENCE = 0.02
"""Grey levels of 255; stricter than for sources, so that slow motion does not count as frozen after encoding."""
GREY = 128
"""Chroma of grey."""


@dataclass(frozen=True)
class Painted:
    """What is drawn over a clip of `seconds` seconds and `size` pixels: captions, and perhaps a card at its start.

    `places` are the parts of the picture that can be compared with frames of the source.
    """

    size: tuple[int, int]
    seconds: float
    look: Look
    card: Band | None
    places: frozenset[Box]

    @property
    def captions(self) -> Band:
        return self.look.band(self.size)

    @property
    def carded(self) -> int:
        """Sampled frames that show the card."""
        return round(SECONDS * SAMPLES_PER_SECOND) + 1 if self.card else 0


class PictureMeter:
    """Watches a clip's small frames, and measures each as it comes.

    Args:
        painted: what to expect in the clip.
        tell: called with the seconds that have been watched.
    """

    def __init__(self, painted: Painted, tell: Callable[[float], None] | None = None) -> None:
        self.width, self.height = small_size(painted.size)
        self._painted, self._tell, self._captions = painted, tell, painted.captions
        self._parts = {box: ClipFrames(box) for box in painted.places}
        self._poster = PosterFrames(painted.seconds)
        self._black, self._frozen, self._highlight = list[bool](), list[bool](), list[int]()
        self._thumbnails = bytearray()

    def small(self, stream: Any) -> Any:
        """The small frames of an ffmpeg stream, as an output to standard output, which `watch` reads."""
        sampled = stream.filter("fps", SAMPLES_PER_SECOND, start_time=0)
        scaled = sampled.filter("scale", self.width, self.height, flags="fast_bilinear")
        return scaled.output("pipe:1", f="rawvideo", pix_fmt="yuv420p")

    def watch(self, pipe: IO[bytes]) -> None:
        """Measure all frames that the pipe brings."""
        size = self.width * self.height * 3 // 2
        previous = None
        while len(data := pipe.read(size)) == size:
            previous = self._measure(data, previous)
            if self._tell:
                self._tell(len(self._black) / SAMPLES_PER_SECOND)

    def shown(self, wanted: Sequence[SourceFrame]) -> ShownPicture:
        """The measurements, once all has been watched; `wanted` is what the source shows at the places."""
        covered = covered_rows(self._captions, self._painted.card)
        compared = [self._parts[frame.box].match(frame, covered) for frame in wanted]
        candidates, fault = self._poster.candidates()
        return ShownPicture(
            black=stretches(self._black, 0.0, SAMPLES_PER_SECOND, SHORTEST_STRETCH),
            frozen=stretches(self._frozen, 0.0, SAMPLES_PER_SECOND, SHORTEST_STRETCH),
            highlight=[(n / SAMPLES_PER_SECOND, pixels) for n, pixels in enumerate(self._highlight)],
            frame_matches=[one for one in compared if one],
            poster_candidates=candidates,
            poster_fault=fault,
        )

    def drawn(self, wanted: Sequence[SourceFrame], frames: int) -> DrawnPicture:
        """The measurements of `frames` pictures that were handed to the encoder, to compare with its file."""
        return DrawnPicture(shown=self.shown(wanted), frames=frames, thumbnails=bytes(self._thumbnails))

    def _measure(self, data: bytes, previous: np.ndarray | None) -> np.ndarray:
        """Take one frame; returns what the next one is compared with."""
        luma, chroma = self._planes(data)
        picture = np.delete(luma, self._band(self.height), axis=0)[::2, ::2]
        change, sample = difference(picture, previous), len(self._black)
        highlighted = int(self._is_mark(luma[::2, ::2], *chroma)[self._band(self.height // 2)].sum())
        is_captioned = highlighted >= CAPTION_PIXELS or sample < self._painted.carded
        planes = np.frombuffer(data, np.uint8).reshape(self.height * 3 // 2, self.width)
        self._poster.see(look(planes, self._band(self.height), sample, change, is_captioned=is_captioned))
        self._black.append(is_black(picture))
        self._frozen.append(change < FROZEN_DIFFERENCE)
        self._highlight.append(highlighted)
        self._thumbnails += thumbnail(luma).tobytes()
        for box, frames in self._parts.items():
            frames.luma.append(part_of(luma, box, LUMA))
            frames.chroma.append(np.stack([part_of(plane, box, CHROMA) for plane in chroma]))
        return picture

    def _planes(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """The luma plane (height, width) and both chroma planes (2, height / 2, width / 2)."""
        flat = np.frombuffer(data, np.uint8)
        luma = self.width * self.height
        return flat[:luma].reshape(self.height, self.width), flat[luma:].reshape(2, self.height // 2, self.width // 2)

    def _band(self, height: int) -> slice:
        return slice(round(self._captions.top * height), round(self._captions.bottom * height))

    def _is_mark(self, luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
        return is_mark(self._painted.look.preset.mark, luma, blue, red)


def small_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height, in even pixels, of the small frames of a clip."""
    shrink = max(1.0, min(size) / SAMPLE_SIDE)
    return 2 * round(size[0] / shrink / 2), 2 * round(size[1] / shrink / 2)


def thumbnail(luma: np.ndarray) -> np.ndarray:
    """A luma plane in THUMBNAIL's size."""
    return part_of(luma, Box(), THUMBNAIL)


def is_mark(mark: Colour, luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    """Mask of pixels with the mark's colour, allowing for antialiasing and chroma subsampling.

    The colours of marks are saturated; antialiasing changes most the chroma that is farthest from grey.
    """
    _, cb, cr = _bt709(*mark)
    reach = (60, 30) if abs(cb - GREY) >= abs(cr - GREY) else (30, 60)
    near_blue, near_red = np.abs(blue.astype(int) - cb) < reach[0], np.abs(red.astype(int) - cr) < reach[1]
    return near_blue & near_red & (luma > 110)


def _bt709(red: int, green: int, blue: int) -> tuple[float, float, float]:
    """Y, Cb, Cr in limited range (ITU-R BT.709)."""
    y = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    return 16 + 219 * y, 128 + 224 * (blue / 255 - y) / 1.8556, 128 + 224 * (red / 255 - y) / 1.5748
