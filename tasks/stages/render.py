"""RENDER: vertical clips from an EDL and its source, with one encode each and several at a time."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field

from tasks.core.captions import ass as captions
from tasks.core.edl import EdlClip
from tasks.core.errors import MediaError, UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.object_keys import clip_name
from tasks.core.output.render_plan import (
    Correction,
    RenderOptions,
    frame_rate,
    on_clip_clock,
    plan,
    words_on_clip_clock,
)
from tasks.core.output.source_match import SoundLevels, SourceExcerpt
from tasks.core.picture.camera import RangeAnalysis, Shot
from tasks.core.picture.motion import is_frozen, motion_inside, shown_boxes, stretches
from tasks.core.picture.reframe import face_log, face_log_clip, frame_range
from tasks.core.transcript import Word
from tasks.engines.captions import fonts, line_breaks
from tasks.engines.ffmpeg import EncoderChoice, FfmpegError, choose_encoder, ffmpeg_exe, hwaccel, stop_all
from tasks.engines.footage import Footage
from tasks.engines.hardware import cpu_cores
from tasks.engines.output.encode import Edit, encode
from tasks.engines.output.envelope import levels
from tasks.engines.output.source_frames import source_frames
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.picture.vision import SHORTEST_STRETCH, analyse_range
from tasks.engines.sound.loudness import plan_loudness
from tasks.engines.weights import WeightsMissing, yunet

_log = logging.getLogger(__name__)

_ENCODE_SHARE = 0.8
"""Share of a clip's time spent encoding; the rest is analysis."""


class Faces(BaseModel):
    """Why no faces were looked for, in the contract's word and in words for people; nothing where they were."""

    reason: Literal["model_missing", "face_detect_failed"] | None = None
    error: str | None = None

    @property
    def warning(self) -> str | None:
        return f"faces were not looked for to the end ({self.reason}): {self.error}" if self.reason else None


class RenderedClip(BaseModel):
    """A finished file with all data for its checks and record. Time ranges and words are on the clip's clock."""

    clip: EdlClip
    path: Path
    shots: list[Shot]
    words: list[Word] = Field(default_factory=list[Word])
    source_black: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    source_frozen: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    source: SourceExcerpt
    face_log: dict[str, Any] = Field(default_factory=dict[str, Any])
    faces: Faces = Field(default_factory=Faces)
    encoder: str
    encoder_reason: str
    gain: float
    source_loudness: float
    source_true_peak: float
    warnings: list[str] = Field(default_factory=list[str])


class FailedClip(BaseModel):
    """A clip that could not be rendered: the source is damaged there, or the encode took too long."""

    clip: EdlClip
    reason: str


class RenderResult(BaseModel):
    """The clips in EDL order, the failed ones, and `face_log.json`."""

    clips: list[RenderedClip]
    failed: list[FailedClip] = Field(default_factory=list[FailedClip])
    face_log: dict[str, Any]


def render_clips(
    clips: list[EdlClip],
    footage: Footage,
    options: RenderOptions,
    out_dir: Path,
    progress: Callable[[float], None],
    finished: Callable[[RenderedClip], object] | None = None,
) -> RenderResult:
    """Render every clip of an EDL into `out_dir` as clip_01.mp4 and so on.

    `progress` is called with the share (0 to 1) that is done, `finished` with each clip as soon as it is
    done, on a worker thread.
    """
    done: dict[int, float] = {}
    lock = threading.Lock()
    whole = sum(clip.duration for clip in clips) or 1.0

    def tell(clip: EdlClip, share: float) -> None:
        with lock:
            done[clip.index] = share * clip.duration
            progress(min(sum(done.values()) / whole, 1.0))

    def make(clip: EdlClip) -> RenderedClip:
        made = render_clip(clip, footage, options, out_dir, partial(tell, clip))
        if finished:
            finished(made)
        return made

    with ThreadPoolExecutor(parallel(options, len(clips))) as pool:
        jobs = {pool.submit(make, clip): clip for clip in clips}
        try:
            outcomes = [_outcome(job, clip) for job, clip in jobs.items()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while wait(jobs, timeout=0.2).not_done:  # a thread between two ffmpegs starts its next
                stop_all()
            raise
    rendered = [outcome for outcome in outcomes if isinstance(outcome, RenderedClip)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedClip)]
    faces = next((clip.faces for clip in rendered if clip.faces.reason), Faces())
    log = face_log([clip.face_log for clip in rendered], cv2.__version__, faces.reason, faces.error)
    return RenderResult(clips=rendered, failed=failed, face_log=log)


def _outcome(job: "Future[RenderedClip]", clip: EdlClip) -> RenderedClip | FailedClip:
    """The clip, or why it failed. A full disk or a killed program is not the clip's fault and is raised."""
    try:
        return job.result()
    except (MediaError, FfmpegError) as error:
        return FailedClip(clip=clip, reason=str(error).splitlines()[0])


def parallel(options: RenderOptions, clips: int) -> int:
    """Number of clips to render at a time: one per two cores, but at least two, to analyse one while encoding one."""
    return max(1, min(options.parallel or max(2, cpu_cores() // 2), clips))


def render_clip(
    clip: EdlClip,
    footage: Footage,
    options: RenderOptions,
    out_dir: Path,
    progress: Callable[[float], None] | None = None,
    correction: Correction | None = None,
) -> RenderedClip:
    """Render one clip: analyse its picture, frame it, measure its sound, encode once."""
    correction, progress = correction or Correction(), progress or _unheard
    info = footage.info
    fonts.use_only_our_fonts()
    out_dir.mkdir(parents=True, exist_ok=True)
    detector, faces = _face_detector()
    views = _views(clip, footage, options, detector)
    faces = next((Faces(reason="face_detect_failed", error=view.fault) for view in views if view.fault), faces)
    shots = [frame_range(view, (info.width, info.height), (options.width, options.height)) for view in views]
    planned = plan(clip, shots, info, options, correction.shorter, [view.scan for view in views])
    words = words_on_clip_clock(clip, footage.speech.segments)
    language = footage.speech.language_of((span.start, span.end) for span in clip.segments)
    ranges = [(s.start, planned.seconds(s)) for s in planned.segments]
    sound = plan_loudness(footage.audio, ranges, correction)
    progress(1 - _ENCODE_SHARE)
    out = out_dir / clip_name(clip.index)
    font = fonts.choose_font(word.word for word in words)
    phrased = line_breaks.reading_phrases(words)
    script = captions.ass(phrased, (options.width, options.height), language, font.face.name, font.em_share)
    encoder = _encode_clip(Edit(planned, sound, script, font.folder), footage, options, out, progress)
    progress(1.0)
    flat = [shot for of_range in shots for shot in of_range]
    return RenderedClip(
        clip=clip,
        path=out,
        shots=flat,
        words=words,
        source_black=on_clip_clock(clip, [s for view in views for s in view.black]),
        source_frozen=on_clip_clock(clip, _frozen_as_shown(views, shots, info)),
        source=SourceExcerpt(
            sound=_source_levels(clip, footage), frames=source_frames(footage.video, info, clip, shots, options)
        ),
        face_log=face_log_clip(clip.index, flat, *views),
        faces=faces,
        encoder=encoder.name,
        encoder_reason=encoder.reason,
        gain=round(sound.gain, 2),
        source_loudness=sound.source.integrated,
        source_true_peak=sound.source.true_peak,
        warnings=[warning for warning in (sound.warning, font.warning(language), faces.warning) if warning],
    )


def _encode_clip(
    edit: Edit, footage: Footage, options: RenderOptions, out: Path, progress: Callable[[float], None]
) -> EncoderChoice:
    """Encode the clip into `out`; returns the encoder used."""

    def tell(seconds: float) -> None:
        progress(1 - _ENCODE_SHARE * (1 - min(seconds / edit.plan.duration, 1.0)))

    def draw(encoder: EncoderChoice, decoder: dict[str, str]) -> None:
        encode(edit, footage, options, encoder, decoder, out, tell)

    return _draw_on_gpu_or_cpu(draw, choose_encoder(options.encoder), hwaccel(footage.video))


def _source_levels(clip: EdlClip, footage: Footage) -> SoundLevels:
    """Levels of the chosen audio track, read from the source file if it still has its sound."""
    spans = [(span.start, span.duration) for span in clip.segments]
    info = footage.info
    return levels(footage.video, spans, info.audio_index) if info.audio_codec else levels(footage.audio, spans)


def _frozen_as_shown(views: list[RangeAnalysis], shots: list[list[Shot]], info: MediaInfo) -> list[tuple[float, float]]:
    """Time ranges of the source without motion inside the crop; the rest of the frame may move."""
    frozen: list[tuple[float, float]] = []
    for view, of_range in zip(views, shots, strict=True):
        times = view.start + np.arange(len(view.motion)) / view.fps
        motion = motion_inside(view.motion, shown_boxes(of_range, times, (info.width, info.height)))
        frozen += stretches([is_frozen(changed) for changed in motion], view.start, view.fps, SHORTEST_STRETCH)
    return frozen


def _draw_on_gpu_or_cpu(
    draw: Callable[[EncoderChoice, dict[str, str]], None], encoder: EncoderChoice, decoder: dict[str, str]
) -> EncoderChoice:
    """The encoder that drew the clip. If the GPU fails midway or has no free session, the CPU takes over."""
    try:
        draw(encoder, decoder)
    except FfmpegError as error:
        if encoder.name == "libx264" and not decoder:
            raise
        encoder = EncoderChoice("libx264", f"the GPU gave up: {str(error).splitlines()[-1]}")
        _log.warning("Rendering on the CPU: %s", encoder.reason)
        draw(encoder, {})
    return encoder


def _unheard(share: float) -> None:
    """Ignore progress."""


def _face_detector() -> tuple[FaceDetector | None, Faces]:
    """The face detector, or None and why. Without one the camera shows the whole frame."""
    try:
        return FaceDetector(yunet()), Faces()
    except WeightsMissing as error:
        return None, Faces(reason="model_missing", error=str(error))
    except cv2.error as error:
        return None, Faces(reason="face_detect_failed", error=str(error))


def _views(
    clip: EdlClip, footage: Footage, options: RenderOptions, detector: FaceDetector | None
) -> list[RangeAnalysis]:
    video, info = footage.video, footage.info
    rate = float(frame_rate(info.pictures_per_second, options.max_fps))
    if any(span.start >= info.duration for span in clip.segments):
        raise UnreadableMedia(f"The video ends after {info.duration:.1f} s, before the clip does.")
    return [analyse_range(video, info, span.start, span.end, rate, detector, ffmpeg_exe()) for span in clip.segments]
