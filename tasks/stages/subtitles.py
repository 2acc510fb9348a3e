"""The subtitles of a clip."""

from tasks.core.captions.subtitles import cues, srt, vtt
from tasks.core.object_keys import SubtitleFormat
from tasks.engines.captions.line_breaks import reading_phrases
from tasks.stages.render import RenderedClip


def subtitle_texts(rendered: RenderedClip, duration: float) -> dict[SubtitleFormat, str]:
    """The clip's subtitles in each format; the clip lasts `duration` seconds."""
    drawing = rendered.drawing
    found = cues(reading_phrases(drawing.words), drawing.language, duration)
    return {"srt": srt(found), "vtt": vtt(found)}
