"""UPLOAD's checks: clips that violate the output contract are fixed, replaced or dropped."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, Field

from tasks.core.edl import EdlClip
from tasks.core.errors import MediaError, NoClips
from tasks.core.object_keys import SubtitleFormat, poster_name, subtitle_name
from tasks.core.output.check import Check
from tasks.core.output.clip_checks import ClipMeasurements, check_clip, check_words
from tasks.core.output.manifest import ClipEntry, DroppedClip
from tasks.core.output.poster import choose_poster
from tasks.core.output.render_plan import Correction, RenderOptions, correction_for
from tasks.core.titles.headline import fallback_title
from tasks.engines.digests import sha256_of
from tasks.engines.ffmpeg import FfmpegError
from tasks.engines.hardware import cpu_cores
from tasks.engines.output.measurements import measure_clip
from tasks.engines.output.poster import write_poster
from tasks.stages.render import FailedClip, RenderedClip
from tasks.stages.subtitles import subtitle_texts

RenderOne = Callable[[EdlClip, Correction], RenderedClip]
"""Renders one clip: `tasks.stages.render.render_clip` with its other arguments bound."""


class VerifiedClip(ClipEntry):
    """A clip on disk that meets the output contract, its poster, and its subtitles by format."""

    path: Path
    poster_path: Path
    subtitle_texts: dict[SubtitleFormat, str]

    @property
    def entry(self) -> ClipEntry:
        """What the manifest says of it."""
        return ClipEntry.model_validate(self.model_dump(exclude={"path", "poster_path", "subtitle_texts"}))


class Published(BaseModel):
    """The clips to publish, the dropped clips with reasons, and warnings for the user."""

    clips: list[VerifiedClip]
    dropped: list[DroppedClip] = Field(default_factory=list[DroppedClip])
    warnings: list[str] = Field(default_factory=list[str])


class _Verdict(BaseModel):
    """The checks of one file. `measurements` is None if the file cannot be read."""

    rendered: RenderedClip
    measurements: ClipMeasurements | None
    checks: list[Check]

    @property
    def measured(self) -> ClipMeasurements:
        """The measurements of a file that can be read, as one without faults can."""
        if self.measurements is None:
            raise ValueError(self.reason)
        return self.measurements

    @property
    def faults(self) -> list[Check]:
        return [c for c in self.checks if not c.ok]

    @property
    def reason(self) -> str:
        return "; ".join(f"{c.name}: {c.measured}, wanted {c.wanted}" for c in self.faults)


def verify_clips(
    rendered: Sequence[RenderedClip | FailedClip],
    render_one: RenderOne,
    reserve: list[EdlClip],
    options: RenderOptions,
    longest: float | None = None,
    progress: Callable[[float], None] | None = None,
    *,
    by_person: bool = False,
) -> Published:
    """Check every clip against the output contract.

    A clip with only fixable faults is rendered once more. If it still fails, or has other faults, the
    next candidate of `reserve` replaces it, under its index.

    Args:
        rendered: RENDER's clips; those that failed there are replaced too.
        longest: the requested length in seconds, which no clip may exceed.
        progress: called with the share (0 to 1) of clips that are done.
        by_person: a person has written titles and hooks, which may then have words that nobody says.

    Raises:
        NoClips: no clip is left.
        DiskFull: there is no space to render; that is no reason to drop clips.
    """
    verifier = _Verifier(render_one, options, longest, list(reserve), by_person=by_person)
    with ThreadPoolExecutor(cpu_cores()) as pool:
        verdicts = list(pool.map(verifier.judge, [clip for clip in rendered if isinstance(clip, RenderedClip)]))
    accepted = [v.rendered.clip for v in verdicts if not v.faults]
    for done, verdict in enumerate(verdicts):
        verifier.settle(verdict, accepted)
        if progress:
            progress((done + 1) / len(rendered))
    for failure in (clip for clip in rendered if isinstance(clip, FailedClip)):
        verifier.replace(failure.clip, failure.reason, accepted)
    if not verifier.clips:
        reasons = "; ".join(f"clip {d.index}: {d.reason}" for d in verifier.dropped)
        raise NoClips(f"No clip meets the output contract ({reasons}).")
    verifier.clips.sort(key=lambda entry: entry.clip.index)
    return Published(clips=verifier.clips, dropped=verifier.dropped, warnings=verifier.warnings)


class _Verifier:
    """Checks clips one by one and collects the decisions."""

    def __init__(
        self,
        render_one: RenderOne,
        options: RenderOptions,
        longest: float | None,
        reserve: list[EdlClip],
        *,
        by_person: bool,
    ) -> None:
        self.render_one, self.options, self.longest, self.reserve = render_one, options, longest, reserve
        self.by_person = by_person
        self.clips: list[VerifiedClip] = []
        self.dropped: list[DroppedClip] = []
        self.warnings: list[str] = []

    def judge(self, rendered: RenderedClip) -> _Verdict:
        """Measure a file and check it against the contract."""
        try:
            measurements = measure_clip(rendered.path, rendered.source, rendered.look, rendered.card, rendered.drawn)
        except MediaError as error:
            unreadable = Check(name="readable", ok=False, measured=error.message, wanted="a file that decodes")
            return _Verdict(rendered=rendered, measurements=None, checks=[unreadable])
        black, frozen = rendered.source_black, rendered.source_frozen
        options, words = self.options.at_ratio(rendered.drawing.ratio), rendered.drawing.captioned
        checks = check_clip(measurements, rendered.clip, options, black, frozen, words, self.longest)
        if not self.by_person:
            checks.append(check_words(rendered.clip))
        return _Verdict(rendered=rendered, measurements=measurements, checks=checks)

    def settle(self, verdict: _Verdict, accepted: list[EdlClip]) -> None:
        """Accept a clip, fix it, or replace it."""
        history: list[str] = []
        if verdict.faults and verdict.measurements and all(c.fixable for c in verdict.faults):
            correction = correction_for(
                verdict.measurements.integrated, verdict.measurements.true_peak, [c.name for c in verdict.faults]
            )
            history = [f"rendered again: {verdict.reason}"]
            again = self._render_and_judge(verdict.rendered.clip, correction)
            if isinstance(again, str):
                return self.replace(verdict.rendered.clip, f"{verdict.reason}; {again}", accepted)
            verdict = again
        if verdict.faults:
            return self.replace(verdict.rendered.clip, verdict.reason, accepted)
        return self._accept(verdict, history)

    def replace(self, clip: EdlClip, reason: str, accepted: list[EdlClip]) -> None:
        """Drop `clip` and publish the next candidate that overlaps no accepted clip."""
        self._drop(clip, reason)
        while self.reserve:
            candidate = self.reserve.pop(0)
            if any(_overlaps(candidate, other) for other in accepted):
                continue
            candidate = _with_index(clip.index, candidate)
            verdict = self._render_and_judge(candidate, Correction())
            if isinstance(verdict, str):
                self._drop(candidate, verdict)
            elif verdict.faults:
                self._drop(candidate, verdict.reason)
            else:
                accepted.append(verdict.rendered.clip)
                return self._accept(verdict, [f"replaces “{clip.title}”: {reason}"])
        return self.warnings.append(f"clip {clip.index} was dropped, and no other candidate could replace it")

    def _render_and_judge(self, clip: EdlClip, correction: Correction) -> _Verdict | str:
        """Render and judge a clip, or return the reason why that failed."""
        try:
            return self.judge(self.render_one(clip, correction))
        except (MediaError, FfmpegError) as error:
            return f"it could not be rendered: {str(error).splitlines()[0]}"

    def _drop(self, clip: EdlClip, reason: str) -> None:
        self.dropped.append(DroppedClip(index=clip.index, title=clip.title, reason=reason))

    def _accept(self, verdict: _Verdict, history: list[str]) -> None:
        rendered, measured = verdict.rendered, verdict.measured
        texts = subtitle_texts(rendered, measured.duration)
        poster = rendered.path.with_name(poster_name(rendered.clip.index))
        write_poster(rendered.path, choose_poster(measured.poster_candidates).t, poster)
        warnings = list(rendered.warnings)
        if measured.poster_fault:
            warnings.append(f"no faces were looked for when its poster was chosen: {measured.poster_fault}")
        if measured.is_as_drawn is False:
            warnings.append("its file does not show what was drawn; all of it was decoded and measured")
        self.warnings += [f"clip {rendered.clip.index}: {warning}" for warning in warnings]
        self.clips.append(
            VerifiedClip(
                clip=rendered.clip,
                path=rendered.path,
                poster_path=poster,
                file=rendered.path.name,
                subtitles={form: subtitle_name(rendered.clip.index, form) for form in texts},
                subtitle_texts=texts,
                poster=poster.name,
                duration=measured.duration,
                size_bytes=rendered.path.stat().st_size,
                sha256=sha256_of(rendered.path),
                checks=verdict.checks,
                encoder=rendered.encoder,
                encoder_reason=rendered.encoder_reason,
                gain_db=rendered.gain,
                history=history,
                warnings=warnings,
            )
        )


def _with_index(index: int, clip: EdlClip) -> EdlClip:
    """The clip with another index, and a matching title if its title is the fallback."""
    title = fallback_title(index) if clip.title == fallback_title(clip.index) else clip.title
    return clip.model_copy(update={"index": index, "title": title})


def _overlaps(one: EdlClip, other: EdlClip) -> bool:
    return any(a.start < b.end and b.start < a.end for a in one.segments for b in other.segments)
