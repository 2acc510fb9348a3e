"""RENDER: make clips from their drawings and the source, with one encode each and several in parallel."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from pydantic import BaseModel, Field

from tasks.core.captions import ass as captions
from tasks.core.captions.card import SECONDS, lay_out_card, with_card
from tasks.core.captions.presets import Band, Look
from tasks.core.captions.waveform import heights, with_waveform
from tasks.core.edit.drawing import Drawing
from tasks.core.edl import EdlClip
from tasks.core.errors import MediaError
from tasks.core.media import MediaInfo
from tasks.core.object_keys import clip_name
from tasks.core.output.faces_shown import covers_faces, faces_shown
from tasks.core.output.render_plan import (
    Correction,
    RenderOptions,
    on_clip_clock,
    plan,
)
from tasks.core.output.shown_picture import DrawnPicture
from tasks.core.output.source_match import BINS_PER_SECOND, SourceExcerpt, covered_rows, framings
from tasks.core.picture.camera import Shot
from tasks.core.picture.face_log import face_log, face_log_clip
from tasks.core.picture.framing_choice import FINDS_FACES
from tasks.engines import memory
from tasks.engines.captions import fonts, line_breaks
from tasks.engines.ffmpeg import EncoderChoice, FfmpegError, choose_encoder, hwaccel, stop_all
from tasks.engines.footage import Footage
from tasks.engines.hardware import cpu_cores
from tasks.engines.output.encode import Edit, encode
from tasks.engines.output.envelope import sound_levels
from tasks.engines.output.picture_meter import Painted, PictureMeter
from tasks.engines.output.source_frames import source_frames
from tasks.engines.sound.loudness import plan_loudness
from tasks.stages.framing import FaceDetection, FramedClip, frame_clip, frozen_as_shown, parts_warnings

_log = logging.getLogger(__name__)

_ENCODE_SHARE = 0.8
"""Share of a clip's time spent encoding; the rest is analysis."""


def look_of(drawing: Drawing, shots: Sequence[Shot], *, lowered: bool = False) -> Look:
    """How the captions look in these shots."""
    return replace(drawing.look, is_split=all(shot.layout == "split" for shot in shots), lowered=lowered)


class RenderedClip(BaseModel):
    """A finished file with the data for its checks and manifest. Time ranges are on the clip's clock.

    `card` is the rows of the hook's card, which is shown over the first seconds. `lowered` says that captions in the
    middle would cover faces, or the edge of a picture that does not fill the clip's. `drawn` is what the encoder was
    given; it is None for encoders other than x264, whose files are decoded to see what they show.
    """

    drawing: Drawing
    path: Path
    shots: list[Shot]
    source_black: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    source_frozen: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    source: SourceExcerpt
    drawn: DrawnPicture | None = None
    card: Band | None = None
    lowered: bool = False
    face_log: dict[str, Any] = Field(default_factory=dict[str, Any])
    faces: FaceDetection = Field(default_factory=FaceDetection)
    encoder: str
    encoder_reason: str
    gain: float
    source_loudness: float
    source_true_peak: float
    warnings: list[str] = Field(default_factory=list[str])

    @property
    def clip(self) -> EdlClip:
        return self.drawing.clip

    @property
    def look(self) -> Look:
        return look_of(self.drawing, self.shots, lowered=self.lowered)


class FailedClip(BaseModel):
    """A clip that could not be rendered: the source is damaged there, or the encode took too long."""

    clip: EdlClip
    reason: str


class RenderResult(BaseModel):
    """The clips in EDL order, the failed clips, and `face_log.json`."""

    clips: list[RenderedClip]
    failed: list[FailedClip] = Field(default_factory=list[FailedClip])
    face_log: dict[str, Any]


Draw = Callable[[Drawing, Callable[[float], None]], RenderedClip]
"""Draws one clip, and tells the share (0 to 1) that is done."""


def render_clips(
    drawings: list[Drawing],
    draw: Draw,
    parallel: int,
    progress: Callable[[float], None],
    stopping: threading.Event | None = None,
) -> RenderResult:
    """Draw every clip, `parallel` of them at once.

    Args:
        progress: called with the share (0 to 1) of all clips that is done, which never falls.
        stopping: set when the run is interrupted; nothing may be started from then on.
    """
    done: dict[int, float] = {}
    lock = threading.Lock()
    whole = sum(drawing.clip.duration for drawing in drawings) or 1.0

    def tell(clip: EdlClip, share: float) -> None:
        with lock:
            done[clip.index] = max(done.get(clip.index, 0.0), share * clip.duration)
            progress(min(sum(done.values()) / whole, 1.0))

    def make(drawing: Drawing) -> RenderedClip:
        made = draw(drawing, partial(tell, drawing.clip))
        tell(drawing.clip, 1.0)
        return made

    with ThreadPoolExecutor(parallel) as pool:
        jobs = {pool.submit(copy_context().run, make, drawing): drawing.clip for drawing in drawings}
        try:
            outcomes = [_outcome(job, clip) for job, clip in jobs.items()]
        except BaseException:
            (stopping or threading.Event()).set()
            pool.shutdown(wait=False, cancel_futures=True)
            while wait(jobs, timeout=0.2).not_done:  # a thread between two ffmpegs would start the next
                stop_all()
            raise
    rendered = [outcome for outcome in outcomes if isinstance(outcome, RenderedClip)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedClip)]
    faces = next((clip.faces for clip in rendered if clip.faces.reason), FaceDetection())
    log = face_log([clip.face_log for clip in rendered], cv2.__version__, faces.reason, faces.error)
    return RenderResult(clips=rendered, failed=failed, face_log=log)


def _outcome(job: "Future[RenderedClip]", clip: EdlClip) -> RenderedClip | FailedClip:
    """The clip, or why it failed. A full disk or a killed program is not the clip's fault and propagates."""
    try:
        return job.result()
    except (MediaError, FfmpegError) as error:
        return FailedClip(clip=clip, reason=str(error).splitlines()[0])


def parallel_clips(options: RenderOptions, clips: int) -> int:
    """Clips to render in parallel: one per two cores, but at least two, to analyse one while encoding another."""
    return max(1, min(options.parallel or max(2, cpu_cores() // 2), clips))


def encoder_threads(clip: int, clips: int, parallel: int) -> int | None:
    """Threads of x264 for a clip (counted from 0), if another will follow it: its share of the cores.

    Each thread holds frames of its own, 80 MB in all on two cores. A clip that none follows may be encoded alone at
    the end; x264 chooses for it.
    """
    return max(1, cpu_cores() // parallel) if max(clip + 1, parallel) < clips else None


def render_clip(
    drawing: Drawing,
    footage: Footage,
    options: RenderOptions,
    out_dir: Path,
    progress: Callable[[float], None] | None = None,
    correction: Correction | None = None,
) -> RenderedClip:
    """Render one clip: analyse and frame its picture, measure its sound, write its captions, encode once.

    What needs no result of the picture's analysis, or of the encode, is done beside them.
    """
    correction, progress = correction or Correction(), progress or _ignore_progress
    clip, options = drawing.clip, options.at_ratio(drawing.ratio)
    fonts.use_only_our_fonts()
    out_dir.mkdir(parents=True, exist_ok=True)
    out = out_dir / clip_name(clip.index)
    size = (options.width, options.height)
    cut = partial(plan, clip, info=footage.info, options=options, dropped_frames=correction.dropped_frames)
    with ThreadPoolExecutor(1) as beside:
        unframed = cut([[] for _ in clip.segments])
        spans = [(segment.start, unframed.seconds(segment)) for segment in unframed.segments]
        loudness = beside.submit(copy_context().run, plan_loudness, footage.audio, spans, correction)
        picture = frame_clip(drawing, footage, options)
        frames, sound = cut(picture.shots, scans=picture.scans), loudness.result()
        progress(1 - _ENCODE_SHARE)
        lowered = _lowers_captions(drawing, picture, footage.info, options)
        look = look_of(drawing, picture.all_shots, lowered=lowered)
        text = _caption_clip(drawing, look, picture, frames.duration, footage, options)
        covered = covered_rows(look.band(size), text.card)
        excerpt = beside.submit(copy_context().run, _source_excerpt, drawing, footage, picture.shots, options, covered)
        places = (where for shot in picture.all_shots for _, where in framings(shot, shot.start, footage.info, options))
        painted = Painted(size, frames.duration, look, text.card, frozenset(places))
        edit = Edit(frames, sound, text.script, text.font.folder)
        encoder, meter = _encode_clip(edit, painted, footage, options, out, progress)
    parts, source = parts_warnings(drawing, picture), excerpt.result()
    progress(1.0)
    return RenderedClip(
        drawing=drawing,
        path=out,
        shots=picture.all_shots,
        source_black=on_clip_clock(clip, picture.black),
        source_frozen=on_clip_clock(clip, frozen_as_shown(picture, footage.info)),
        source=source,
        drawn=meter.drawn(source.frames, frames.frames) if encoder.name == "libx264" else None,
        card=text.card,
        lowered=lowered,
        face_log=face_log_clip(clip.index, picture.all_shots, *picture.views, shadow=picture.shadow),
        faces=picture.faces,
        encoder=encoder.name,
        encoder_reason=encoder.reason,
        gain=round(sound.gain, 2),
        source_loudness=sound.source.integrated,
        source_true_peak=sound.source.true_peak,
        warnings=[warning for warning in (sound.warning, *text.warnings, picture.faces.warning, *parts) if warning],
    )


@dataclass(frozen=True)
class _Captions:
    """A clip's captions and card as an ASS script, their font, the rows of the card, and warnings."""

    script: str
    font: fonts.FontChoice
    card: Band | None
    warnings: list[str]


def _lowers_captions(drawing: Drawing, picture: FramedClip, info: MediaInfo, options: RenderOptions) -> bool:
    """Whether captions in the middle would cover a face, or lie on the edge of a picture that is fitted in.

    Where faces were not looked for, they may be anywhere.
    """
    if picture.shows_cover:
        return False
    looked_for = picture.faces.reason is None and all(isinstance(asked, FINDS_FACES) for asked in drawing.framing)
    if not looked_for or any(shot.layout == "fit" for shot in picture.all_shots):
        return True
    faces = faces_shown(drawing.clip, picture.views, picture.shots, info, options)
    return covers_faces(faces, look_of(drawing, picture.all_shots).rows((options.width, options.height)))


def _caption_clip(
    drawing: Drawing, look: Look, picture: FramedClip, seconds: float, footage: Footage, options: RenderOptions
) -> _Captions:
    words, language = drawing.captioned, drawing.language
    hook = captions.spelled(drawing.card, look, language)
    font = fonts.choose_font([hook, *(captions.spelled(word.word, look, language) for word in words)], look.preset.face)
    size, face = (options.width, options.height), font.typeface
    script = captions.ass(line_breaks.reading_phrases(words), size, language, face, look)
    faces = faces_shown(drawing.clip, picture.views, picture.shots, footage.info, options, SECONDS) if hook else []
    card = lay_out_card(hook, size, face, faces, look.band(size) if words else None) if hook else None
    warnings = [] if card or not hook else ["the hook is not shown: there is no room beside captions and faces"]
    if picture.shows_cover:
        spans = [(span.start, span.duration) for span in drawing.clip.segments]
        bars = heights(sound_levels(footage.audio, spans).channels, BINS_PER_SECOND)
        script = with_waveform(script, bars, size, face, look.band(size))
    if card:
        script = with_card(script, card, size, face, language, seconds)
    if lacking := font.warning(language):
        warnings.append(lacking)
    return _Captions(script, font, card.band if card else None, warnings)


def _encode_clip(
    edit: Edit,
    painted: Painted,
    footage: Footage,
    options: RenderOptions,
    out: Path,
    progress: Callable[[float], None],
) -> tuple[EncoderChoice, PictureMeter]:
    """Encode the clip into `out`; returns the encoder used, and the meter that has watched the picture."""

    def tell(seconds: float) -> None:
        progress(1 - _ENCODE_SHARE * (1 - min(seconds / edit.plan.duration, 1.0)))

    def draw(encoder: EncoderChoice, decoder: dict[str, str]) -> PictureMeter:
        meter = PictureMeter(painted, tell)
        encode(edit, footage, options, encoder, decoder, out, meter)
        return meter

    return _draw_on_gpu_or_cpu(draw, choose_encoder(options.encoder), hwaccel(footage.video))


def _source_excerpt(
    drawing: Drawing, footage: Footage, shots: list[list[Shot]], options: RenderOptions, covered: list[Band]
) -> SourceExcerpt:
    """What the source sounds and looks like during the clip. The sound is read from the video file if it has any."""
    clip, video, info = drawing.clip, footage.video, footage.info
    spans = [(span.start, span.duration) for span in clip.segments]
    sound = sound_levels(video, spans, info.audio_index) if info.audio_codec else sound_levels(footage.audio, spans)
    frames = source_frames(video, info, clip, shots, options, covered)
    memory.give_back()
    return SourceExcerpt(sound=sound, frames=frames)


def _draw_on_gpu_or_cpu(
    draw: Callable[[EncoderChoice, dict[str, str]], PictureMeter], encoder: EncoderChoice, decoder: dict[str, str]
) -> tuple[EncoderChoice, PictureMeter]:
    """The encoder that rendered the clip, and the meter. If the GPU fails or has no session, the CPU takes over."""
    try:
        return encoder, draw(encoder, decoder)
    except FfmpegError as error:
        if encoder.name == "libx264" and not decoder:
            raise
        encoder = EncoderChoice("libx264", f"the GPU failed: {str(error).splitlines()[-1]}")
        _log.warning("Rendering on the CPU: %s", encoder.reason)
        return encoder, draw(encoder, {})


def _ignore_progress(share: float) -> None:
    """Do nothing."""
