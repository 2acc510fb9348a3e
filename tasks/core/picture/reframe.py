"""Frame a range: each shot gets a crop that rests or moves, or the whole frame.

A shot (between two cuts) is split where the camera changes its subject. Each part is framed separately,
so the camera never pans across a cut or from one person to another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tasks.core.picture.camera import CropKey, FaceBox, Picture, RangeAnalysis, Shot
from tasks.core.picture.close_up import from_closer
from tasks.core.picture.fit_window import sized_to_faces
from tasks.core.picture.framing_choice import Crop, Fit, Framing, People, Screen, Split
from tasks.core.picture.placement import MOST_ABOVE, Layout, rows_above
from tasks.core.picture.rest_or_pan import Frame, Subject, extent, fit, fit_crop, fits, frame_part, still
from tasks.core.picture.said import NOTHING_SAID, Said, Turn
from tasks.core.picture.screen import face_crop
from tasks.core.picture.shadow import Shadow, shadow_of
from tasks.core.picture.speaker import CLEAR_LEAD, MIN_DWELL, Subjects, lead, runs_of, subjects
from tasks.core.picture.tracks import Array, Track, track_faces
from tasks.core.picture.two_people import two_people
from tasks.core.picture.voices import TALKING, are_quick

NEAR_TURN = 0.6
"""Seconds from the beginning of a turn within which a change of the speaker is moved there."""
MOST_MISSED = 0.02
"""Share of what people with known faces say that may be said while another is shown. With more, both are shown."""
MOSTLY = 0.5
"""Share of a part in which a face's voice must be heard for it to be the speaker's."""
SLIVER = 0.4
"""Seconds; cuts inside a range are never closer than this."""
SAME_ASPECT = 0.02
MIN_EVIDENCE_SECONDS = 0.8
"""Shortest part whose mouth motion proves anything."""
ASKED = "asked for"
"""Reason of a framing that a person chose."""
NO_TWO = "no two people found"
"""End of the reason of a shot that was to show two people."""
CLEARLY_LARGER = 1.8
"""Ratio of areas at which the larger face is the subject even if no speaker is known."""


def frame_range(
    view: RangeAnalysis,
    source: tuple[int, int],
    output: tuple[int, int],
    asked: Framing | None = None,
    said: Said = NOTHING_SAID,
) -> list[Shot]:
    """Shots that cover the range without gaps, each with its framing and the reason for it.

    `source` is the width and height of the frame as displayed, `output` that of the clip. If a shot has bars,
    only the picture inside them is shown, unless a crop or a screen was asked for. Within a shot, the camera comes
    closer or goes back only where a sentence begins.
    """
    if isinstance(asked, Crop):
        frame = fit_crop(source, output)
        return [_zoomed(asked, _crop_at(asked.at, view, frame), frame)]
    if isinstance(asked, Split):
        return [_split_at(asked, view, fit_crop(source, upper_half(output)))]
    if isinstance(asked, Fit):
        return _fit_each_picture(view)
    frame_uncut = _separate if isinstance(asked, People) else _over_face if isinstance(asked, Screen) else _follow
    framed = [
        (shot, picture)
        for start, end, picture in _between_cuts(view)
        for shot in _frame_picture(
            _Uncut(view, start, end, source, source, output, said.between(start, end)), picture, frame_uncut
        )
    ]
    return _absorb_slivers(framed)


def shadows(view: RangeAnalysis, source: tuple[int, int], output: tuple[int, int]) -> list[Shadow]:
    """What would be shown of the shots with two people if mouths alone might split the picture."""
    found: list[Shadow] = []
    for start, end, picture in _between_cuts(view):
        inside = _inside(view, start, end, picture) if picture else view
        size = (picture.width, picture.height) if picture else source
        tracks, times = _tracks(inside, start, end)
        half = fit_crop(size, upper_half(output))
        crops = two_people(tracks, times, size, (half.crop_width, half.crop_height)) if len(times) else None
        shadow = shadow_of(tracks, times, (start, end), fit_crop(size, output), crops)
        found += [shadow] if shadow else []
    return found


def upper_half(output: tuple[int, int]) -> tuple[int, int]:
    """The size of a split picture's upper part, with even sides; the lower one has the other rows."""
    return output[0], 2 * round(output[1] / 4)


def _crop_at(at: float, view: RangeAnalysis, frame: Frame) -> Shot:
    """One resting crop whose middle is at a share of the frame's longer side."""
    whole = frame.width if frame.axis == "x" else frame.height
    corner = float(np.clip(at * whole - frame.length / 2, 0, frame.room))
    return still(view.start, view.end, frame, corner, ASKED, 0)


def _zoomed(asked: Crop, shot: Shot, frame: Frame) -> Shot:
    """The shot with a smaller crop, which moves along both sides of the frame."""
    if asked.zoom == 1:
        return shot
    middles = (asked.at, asked.cross) if frame.axis == "x" else (asked.cross, asked.at)
    width, height = (max(2 * round(side / asked.zoom / 2), 2) for side in (shot.crop_width, shot.crop_height))
    x, y = (
        float(np.clip(middle * whole - side / 2, 0, whole - side))
        for middle, whole, side in zip(middles, (frame.width, frame.height), (width, height), strict=True)
    )
    key = CropKey(t=shot.start, x=round(x, 1), y=round(y, 1))
    return shot.model_copy(update={"crop_width": width, "crop_height": height, "keys": [key]})


def _split_at(asked: Split, view: RangeAnalysis, frame: Frame) -> Shot:
    upper, lower = (_crop_at(at, view, frame) for at in (asked.upper, asked.lower))
    return upper.model_copy(update={"layout": "split", "keys": [*upper.keys, *lower.keys]})


def _fit_each_picture(view: RangeAnalysis) -> list[Shot]:
    """The whole picture of each shot, without bars; one shot if there are none."""
    if not any(view.pictures):
        return [fit(view.start, view.end, ASKED, 0)]
    whole = [(fit(start, end, ASKED, 0), picture) for start, end, picture in _between_cuts(view)]
    return [_to_whole_frame(shot, picture) if picture else shot for shot, picture in whole]


def _between_cuts(view: RangeAnalysis) -> list[tuple[float, float, Picture | None]]:
    """Start, end and picture of each shot."""
    pictures = view.pictures or [None] * (len(view.cuts) + 1)
    begins = {view.start: pictures[0]}
    begins |= {t: p for t, p in zip(view.cuts, pictures[1:], strict=True) if view.start < t < view.end}
    return [(start, end, begins[start]) for start, end in pairwise([*sorted(begins), view.end])]


@dataclass(frozen=True)
class _Uncut:
    """A stretch of the source between two cuts: the faces in it, and what is said.

    Sizes are (width, height): of the whole frame, of the picture inside its bars, and of the clip.
    """

    view: RangeAnalysis
    start: float
    end: float
    frame: tuple[int, int]
    size: tuple[int, int]
    output: tuple[int, int]
    said: Said

    @property
    def tracks(self) -> tuple[list[Track], Array]:
        """The faces, and the times at which faces were looked for."""
        return _tracks(self.view, self.start, self.end)

    def inside(self, picture: Picture) -> "_Uncut":
        """The same in the coordinates of the picture inside the frame's bars."""
        view = _inside(self.view, self.start, self.end, picture)
        return replace(self, view=view, size=(picture.width, picture.height))

    def at_rest(self, layout: Layout, size: tuple[int, int], corners: Sequence[tuple[float, float]]) -> Shot:
        """One shot with crops at rest, of this width and height, whose upper left corners are these."""
        keys = [CropKey(t=self.start, x=round(x, 1), y=round(y, 1)) for x, y in corners]
        width, height = size
        return Shot(start=self.start, end=self.end, layout=layout, crop_width=width, crop_height=height, keys=keys)


def _frame_picture(uncut: _Uncut, picture: Picture | None, frame_uncut: Callable[[_Uncut], list[Shot]]) -> list[Shot]:
    """The shots between two cuts, framed inside their picture, in coordinates of the whole frame."""
    if picture is None:
        return frame_uncut(uncut)
    return [_to_whole_frame(shot, picture) for shot in frame_uncut(uncut.inside(picture))]


def _inside(view: RangeAnalysis, start: float, end: float, picture: Picture) -> RangeAnalysis:
    """The faces of a shot in the coordinates of its picture."""
    faces = [_to_picture(face, picture) for face in view.faces if start <= face.t < end]
    return view.model_copy(update={"faces": faces})


def _to_picture(face: FaceBox, picture: Picture) -> FaceBox:
    """The face in the picture's coordinates."""
    return face.model_copy(update={"x": face.x - picture.left, "y": face.y - picture.top})


def _to_whole_frame(shot: Shot, picture: Picture) -> Shot:
    """A shot of the picture in the whole frame's coordinates."""
    reason = shot.reason if shot.layout == "screen" else f"{shot.reason}; bars around the picture are cropped"
    if shot.layout == "fit" and not shot.keys:
        keys = [CropKey(t=shot.start, x=picture.left, y=picture.top)]
        size = {"crop_width": picture.width, "crop_height": picture.height}
        return shot.model_copy(update={"keys": keys, "reason": reason, **size})
    keys = [CropKey(t=key.t, x=key.x + picture.left, y=key.y + picture.top) for key in shot.keys]
    return shot.model_copy(update={"keys": keys, "reason": reason})


def _separate(uncut: _Uncut) -> list[Shot]:
    """Two people, one above the other. If they are not found, the camera follows."""
    if split := _two_people(uncut, "two people"):
        return [split]
    return [shot.model_copy(update={"reason": f"{shot.reason}; {NO_TWO}"}) for shot in _follow(uncut)]


def _two_people(uncut: _Uncut, reason: str) -> Shot | None:
    """Two people, one above the other, or None if they are not found."""
    frame = fit_crop(uncut.size, upper_half(uncut.output))
    tracks, times = uncut.tracks
    crops = two_people(tracks, times, uncut.size, (frame.crop_width, frame.crop_height))
    if crops is None:
        return None
    shot = uncut.at_rest("split", (crops.width, crops.height), [crops.upper, crops.lower])
    return shot.model_copy(update={"faces": len(tracks), "reason": reason})


def _over_face(uncut: _Uncut) -> list[Shot]:
    """The whole frame above its largest face. Without a face, or room for it, the whole frame alone."""
    tracks, times = uncut.tracks
    width, height = uncut.output
    below = height - rows_above(uncut.frame, uncut.output)
    if below < (1 - MOST_ABOVE) * height:
        return [fit(uncut.start, uncut.end, "no room for a face below the picture", len(tracks))]
    crop = face_crop(tracks, times, uncut.size, (width, below)) if len(times) else None
    if crop is None:
        return [fit(uncut.start, uncut.end, "no face found", 0)]
    shot = uncut.at_rest("screen", (crop.width, crop.height), [(crop.left, crop.top)])
    return [shot.model_copy(update={"faces": len(tracks), "reason": "the whole picture above the face"})]


def _tracks(view: RangeAnalysis, start: float, end: float) -> tuple[list[Track], Array]:
    """The faces of a shot, and the times at which faces were looked for."""
    times = [t for t in (view.samples or sorted({face.t for face in view.faces})) if start <= t < end]
    return track_faces([face for face in view.faces if start <= face.t < end], times), np.array(times)


def _follow(uncut: _Uncut) -> list[Shot]:
    """One shot between two cuts, split where the subject changes, and where the camera comes closer."""
    start, end, output, sentences = uncut.start, uncut.end, uncut.output, uncut.said.sentences
    frame = fit_crop(uncut.size, output)
    tracks, times = uncut.tracks
    if abs(frame.aspect - 1) <= SAME_ASPECT:
        reason = "the source has the clip's aspect ratio"
        whole = still(start, end, frame, frame.room / 2, reason, len(tracks))
        alone = len(tracks) == 1 and extent(tracks, times, frame, reason)
        return from_closer(whole, alone, frame, output, sentences) if alone else [whole]
    if not tracks:
        return [fit(start, end, "no face found", 0)]
    together = extent(tracks, times, frame, "the only face" if len(tracks) == 1 else f"all {len(tracks)} faces fit")
    if all(track.present(times).all() for track in tracks) and fits(together, frame):
        parts: list[_Part] = [(together, start, end)]
    else:
        who = subjects(tracks, times, uncut.said.turns)
        quick = f"quick turns: a camera that follows would miss {who.missed:.0%} of what is said"
        is_too_quick = who.missed >= MOST_MISSED and are_quick(uncut.said.turns, start, end)
        if is_too_quick and (split := _two_people(uncut, quick)):
            return [split]
        parts = _parts(uncut, frame, who)
    framed = [
        shot
        for part, a, b in parts
        for shot in from_closer(frame_part(part, a, b, frame), part, frame, output, sentences)
    ]
    return [sized_to_faces(shot, tracks, frame) if shot.layout == "fit" else shot for shot in _join_fits(framed)]


_Part = tuple[Subject | str, float, float]
"""Part of a shot: its subject, or the reason it has none, and its start and end."""


def _parts(uncut: _Uncut, frame: Frame, found: Subjects) -> list[_Part]:
    """The parts of a shot in each of which one is shown."""
    (tracks, times), (who, heard, _) = uncut.tracks, found
    runs = runs_of(who)
    edges = [uncut.start, *(float(times[a - 1] + times[a]) / 2 for a, _ in runs[1:]), uncut.end]
    for cut, (a, _) in enumerate(runs[1:], start=1):
        edges[cut] = _at_turn(
            edges[cut - 1 : cut + 2], [t for t in uncut.said.turns if found.faces.get(t.speaker) == who[a]]
        )
    is_voice = [who[a] >= 0 and float((heard[a:b] == who[a]).mean()) >= MOSTLY for a, b in runs]
    chosen = [
        (_heard if is_heard else _choose)(tracks, int(who[a]), times[a:b], frame)
        for (a, b), is_heard in zip(runs, is_voice, strict=True)
    ]
    chosen[1:] = [_with_change_reason(part) for part in chosen[1:]]
    return [(part, *span) for part, span in zip(chosen, pairwise(edges), strict=True)]


def _at_turn(edges: Sequence[float], turns: Sequence[Turn]) -> float:
    """The second of three edges, or the beginning of a turn nearby, if the parts on both sides stay long enough."""
    before, edge, after = edges
    nearest = min((turn.start for turn in turns), key=lambda start: abs(start - edge), default=edge)
    is_near = abs(nearest - edge) <= NEAR_TURN
    return nearest if is_near and nearest - before >= MIN_DWELL and after - nearest >= MIN_DWELL else edge


def _with_change_reason(part: Subject | str) -> Subject | str:
    """Mention in a part's reason that it begins with a cut made by us."""
    if isinstance(part, str):
        return part
    return replace(part, reason=f"{'speaker' if part.is_speaking else 'subject'} change: {part.reason}")


def _heard(tracks: list[Track], subject: int, times: Array, frame: Frame) -> Subject:
    """The one whose voice is heard."""
    return replace(extent([tracks[subject]], times, frame, "speaking, by voice and mouth"), is_speaking=True)


def _choose(tracks: list[Track], subject: int, times: Array, frame: Frame) -> Subject | str:
    """Whom to show while `subject` has the liveliest face (-1: there is no face)."""
    if subject < 0:
        return "no face found"
    here = [track for track in tracks if track.present(times).mean() >= 0.5]
    if len(here) <= 1:
        return extent([tracks[subject]], times, frame, "the only face")
    motion, ratio = lead(tracks, subject, times)
    if motion >= TALKING and ratio >= CLEAR_LEAD and times[-1] - times[0] >= MIN_EVIDENCE_SECONDS:
        reason = f"speaking, {ratio:.1f} times the others' mouth motion"
        return replace(extent([tracks[subject]], times, frame, reason), is_speaking=True)
    together = extent(here, times, frame, f"all {len(here)} faces fit")
    if fits(together, frame):
        return together
    areas = [float(np.mean(track.column("width", times) * track.column("height", times))) for track in here]
    order = np.argsort(areas)
    if areas[order[-1]] >= CLEARLY_LARGER * areas[order[-2]]:
        return extent([here[order[-1]]], times, frame, f"the largest of {len(here)} faces, none known to speak")
    return f"{len(here)} faces too far apart for one crop, none known to speak"


def _join_fits(parts: list[Shot]) -> list[Shot]:
    """Merge adjacent parts of a shot that both show the whole frame."""
    joined = parts[:1]
    for part in parts[1:]:
        if part.layout == joined[-1].layout == "fit":
            joined[-1] = joined[-1].model_copy(update={"end": part.end})
        else:
            joined.append(part)
    return joined


def _absorb_slivers(framed: list[tuple[Shot, Picture | None]]) -> list[Shot]:
    """Frame a sliver of a shot at either end of the range like its neighbour, at rest, unless their bars differ."""
    shots = [shot for shot, _ in framed]
    pictures = [picture for _, picture in framed]
    if len(shots) > 1 and shots[0].end - shots[0].start < SLIVER and pictures[0] == pictures[1]:
        shots = [_reframed_like(shots[0], shots[1], 0), *shots[1:]]
    if len(shots) > 1 and shots[-1].end - shots[-1].start < SLIVER and pictures[-1] == pictures[-2]:
        shots = [*shots[:-1], _reframed_like(shots[-1], shots[-2], -1)]
    return shots


def _reframed_like(sliver: Shot, neighbour: Shot, nearest: int) -> Shot:
    is_moving = neighbour.layout == "pan"
    kept = neighbour.keys[nearest:][:1] if is_moving else neighbour.keys
    keys = [key.model_copy(update={"t": sliver.start}) for key in kept]
    layout = "still" if is_moving else neighbour.layout
    reason = "too short for its own framing"
    return neighbour.model_copy(
        update={"start": sliver.start, "end": sliver.end, "layout": layout, "keys": keys, "reason": reason}
    )
