"""The cost for RENDER of reading the parts of the source with which its clips are compared."""

import resource
from pathlib import Path
from typing import Any

from tasks.core.captions.presets import CLASSIC
from tasks.core.edl import EdlClip, Span
from tasks.core.output.render_plan import RenderOptions
from tasks.core.picture.camera import Shot
from tasks.engines.output.envelope import sound_levels
from tasks.engines.output.source_frames import source_frames
from tasks.engines.probe import probe


def comparison_cpu(video: Path, encodes: list[dict[str, Any]], options: RenderOptions) -> float:
    """CPU seconds of this process for the frames and the sound levels of all encoded ranges."""
    info, before = probe(video), _own_cpu()
    for encode in encodes:
        spans = [Span(start=start, end=start + seconds) for start, seconds in encode["ranges"]]
        clip = EdlClip(index=1, title="", hook="", segments=spans)
        whole = [[Shot(start=span.start, end=span.end, layout="fit")] for span in spans]
        source_frames(video, info, clip, whole, options, [CLASSIC.band((options.width, options.height))])
        sound_levels(video, encode["ranges"], info.audio_index)
    return _own_cpu() - before


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
