"""Encodes a clip once: crop path, scale, captions and loudness together, with x264 or NVENC."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import floor
from operator import sub
from pathlib import Path
from typing import Any

import ffmpeg

from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import Piece, RenderOptions, RenderPlan, path_expression, reels
from tasks.core.output.shown_picture import KEY_FRAME_SECONDS
from tasks.core.picture.placement import WHOLE, Layout, placed, rows_above
from tasks.core.picture.reframe import upper_half
from tasks.engines.ffmpeg import EncoderChoice, run
from tasks.engines.footage import Footage
from tasks.engines.output.picture_meter import PictureMeter
from tasks.engines.picture.filters import apply, to_bt709
from tasks.engines.picture.frames import display_filters, seek_options
from tasks.engines.sound import loudness

_MAX_SLOWDOWN = 60
"""An encode that takes more than this many times the clip's length counts as stuck."""
_BLUR = 12
"""The blurred background is made at a twelfth of the clip's size, where blurring is almost free."""
_BACKGROUND = {"fit": (3, 0.55), "cover": (9, 0.4)}
"""How blurred and how bright the background is. Captions lie on that of a cover, whose yellow must not pass for a
spoken word, nor the letters of a cover for a caption."""


@dataclass(frozen=True)
class Edit:
    """The clip to make: its picture, its loudness, its captions as an ASS script, and the folder of their font face."""

    plan: RenderPlan
    loud: loudness.LoudnessPlan
    captions: str
    fonts: Path


def encode(
    edit: Edit,
    footage: Footage,
    options: RenderOptions,
    encoder: EncoderChoice,
    decoder: dict[str, str],
    out: Path,
    meter: PictureMeter,
) -> None:
    """Write the clip to `out`, renamed into place once it is complete, while the meter watches its picture.

    `decoder` has input options for the picture, as returned by `hwaccel`.

    Raises:
        FfmpegError: the encode failed or is stuck.
    """
    plan, loud = edit.plan, edit.loud
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as work:
        script, half_done = Path(work) / "captions.ass", Path(work) / out.name
        script.write_text(edit.captions, encoding="utf-8")
        framed = _picture(plan, footage, decoder, options)
        picture = framed.filter("ass", filename=str(script), fontsdir=str(edit.fonts)).split()
        sound = loudness.sound(
            footage.audio, [(s.start, plan.seconds(s)) for s in plan.segments], loud.gain, loud.ceiling
        )
        clip = ffmpeg.output(
            picture[0], sound, str(half_done), **_codec(options, encoder, plan), **_SOUND_CODEC, **_CONTAINER
        )
        arguments = ffmpeg.merge_outputs(meter.small(picture[1]), clip).get_args()
        run(_with_graph_in_file(arguments, Path(work)), 60 + _MAX_SLOWDOWN * plan.duration, read=meter.watch)
        half_done.replace(out)


_SOUND_CODEC = {"c:a": "aac", "b:a": "160k", "ar": loudness.SAMPLE_RATE}
_CONTAINER = {"movflags": "+faststart", "map_metadata": -1, "fflags": "+bitexact", "flags": "+bitexact"}


def _codec(options: RenderOptions, encoder: EncoderChoice, plan: RenderPlan) -> dict[str, Any]:
    common = {
        "c:v": encoder.name,
        "pix_fmt": "yuv420p",
        "r": f"{plan.rate_num}/{plan.rate_den}",
        "g": floor(KEY_FRAME_SECONDS * plan.rate),
    }
    if encoder.name == "h264_nvenc":
        return common | {"preset": "p4", "rc": "vbr", "cq": options.crf + 4, "b:v": 0, "profile:v": "high"}
    threads = {"threads:v": options.threads} if options.threads else {}
    return common | threads | {"preset": options.preset, "crf": options.crf, "profile:v": "high"}


def _with_graph_in_file(arguments: list[str], work: Path) -> list[str]:
    """Move the filter graph to a file: Linux limits an argument to 128 KiB, which a busy camera path exceeds."""
    at = arguments.index("-filter_complex")
    graph = work / "graph.txt"
    graph.write_text(arguments[at + 1], encoding="utf-8")
    return [*arguments[:at], "-/filter_complex", str(graph), *arguments[at + 2 :]]


def _picture(plan: RenderPlan, footage: Footage, decoder: dict[str, str], options: RenderOptions) -> Any:
    pieces = [piece for segment in plan.segments for piece in segment.pieces]
    runs = _runs(pieces)
    taken = [piece.frames for piece in pieces]
    for one in runs:
        taken[one.places[-1]] += one.spare
    frames = _cut_from_reels(plan, footage, decoder, taken)
    crops = [_cropped(*both) for both in zip(frames, pieces, strict=True)]
    shown: dict[int, Any] = {}
    for kind in {one.kind: None for one in runs}:
        alike = [one for one in runs if one.kind == kind]
        places = [place for one in alike for place in one.places]
        framed = _framed(_concat([crops[i] for i in places]), pieces[places[0]], footage.info, options)
        counts = [sum(taken[i] for i in one.places) for one in alike]
        parts = _cut_apart(framed, counts, [one.spare for one in alike])
        shown |= zip((one.places[0] for one in alike), parts, strict=True)
    whole = _concat([shown[i] for i in sorted(shown)])
    return whole.filter("setparams", color_primaries="bt709", color_trc="bt709", colorspace="bt709", range="tv")


@dataclass(frozen=True)
class _Run:
    """Consecutive pieces that the same filters frame, by their places.

    `spare` is 1 if those filters frame another run later on, else 0: one more frame is taken then, because a part of
    a stream counts as over once a frame after it arrives, and until then the other run's frames would wait in memory.
    """

    kind: str
    places: list[int]
    spare: int


def _runs(pieces: Sequence[Piece]) -> list[_Run]:
    """All pieces, framed by as few filters as possible.

    Each filter keeps some 10 of its frames until the end of the clip: with filters of its own, a shot costs 20 MB.
    """
    found = [(kind, list(places)) for kind, places in groupby(range(len(pieces)), key=lambda i: _kind(pieces[i]))]
    kinds = [kind for kind, _ in found]
    return [_Run(kind, places, int(kind in kinds[n + 1 :])) for n, (kind, places) in enumerate(found)]


def _kind(piece: Piece) -> str:
    """The same for pieces that the same filters frame: those that are only cropped, or of equal layout and place."""
    return "cropped" if _is_cropped(piece) else piece.model_copy(update={"first": 0, "frames": 0}).model_dump_json()


def _is_cropped(piece: Piece) -> bool:
    return piece.layout in ("still", "pan")


def _cut_from_reels(plan: RenderPlan, footage: Footage, decoder: dict[str, str], taken: list[int]) -> list[Any]:
    """The first frames of each piece, as many as are `taken`, cut from what is decoded in one go."""
    frames: list[Any] = []
    for reel in reels(plan):
        source = ffmpeg.input(f"file:{footage.video}", **seek_options(reel[0].segment.start), **decoder).video
        upright = apply(source, display_filters(footage.info, plan.rate, reel[0].segment.scan))
        firsts = [on_reel.first + piece.first for on_reel in reel for piece in on_reel.segment.pieces]
        counts = taken[len(frames) : len(frames) + len(firsts)]
        frames += [_cut(*one) for one in zip(_copies(upright, len(firsts)), firsts, counts, strict=True)]
    return frames


def _cut_apart(frames: Any, counts: list[int], spare: list[int]) -> list[Any]:
    """Consecutive parts of so many frames, each without its spare ones at the end."""
    if len(counts) == 1:
        return [frames]
    lasting, firsts = map(sub, counts, spare), accumulate(counts[:-1], initial=0)
    return [_cut(*one) for one in zip(_copies(frames, len(counts)), firsts, lasting, strict=True)]


def _copies(frames: Any, count: int) -> list[Any]:
    if count == 1:
        return [frames]
    copies = frames.split()
    return [copies[i] for i in range(count)]


def _cut(frames: Any, first: int, count: int) -> Any:
    return frames.filter("trim", start_frame=first, end_frame=first + count).filter("setpts", "PTS-STARTPTS")


def _concat(streams: Sequence[Any]) -> Any:
    """The streams one after the other. Their frames may differ in size, if what follows scales them."""
    return streams[0] if len(streams) == 1 else ffmpeg.concat(*streams, v=1, a=0, unsafe=1)


def _cropped(frames: Any, piece: Piece) -> Any:
    """The piece's frames, cropped along the camera's path if they are shown that way."""
    if not _is_cropped(piece):
        return frames
    x = path_expression([(key.t, key.x) for key in piece.keys])
    y = path_expression([(key.t, key.y) for key in piece.keys])
    return frames.filter("crop", w=piece.crop_width, h=piece.crop_height, x=x, y=y, exact=1)


def _framed(frames: Any, piece: Piece, info: MediaInfo, options: RenderOptions) -> Any:
    """Frames of pieces of one kind, as the clip shows them. Only cropped ones have been cropped already."""
    size = info.width, info.height
    if piece.layout == "fit" and piece.crop_width:
        size, corner = (piece.crop_width, piece.crop_height), piece.keys[0]
        frames = frames.filter("crop", w=size[0], h=size[1], x=corner.x, y=corner.y, exact=1)
    if piece.layout == "split":
        framed = _split(frames, piece, info, options)
    elif piece.layout == "screen":
        framed = _over_face(frames, piece, info, options)
    elif piece.layout in WHOLE:
        framed = _fitted(frames, piece.layout, size, info, options)
    else:
        framed = apply(frames, to_bt709(info, options.width, options.height))
    return framed.filter("format", "yuv420p").filter("setsar", 1)


def _split(frames: Any, piece: Piece, info: MediaInfo, options: RenderOptions) -> Any:
    """Two crops of the same frames, one above the other."""
    width, upper = upper_half((options.width, options.height))
    heights, copies = (upper, options.height - upper), frames.split()
    size = {"w": piece.crop_width, "h": piece.crop_height, "exact": 1}
    parts = [
        apply(copies[i].filter("crop", **size, x=key.x, y=key.y), to_bt709(info, width, heights[i]))
        for i, key in enumerate(piece.keys)
    ]
    return ffmpeg.filter([part.filter("setsar", 1) for part in parts], "vstack")


def _over_face(frames: Any, piece: Piece, info: MediaInfo, options: RenderOptions) -> Any:
    """The whole frame above a crop of it."""
    above, copies = rows_above((info.width, info.height), (options.width, options.height)), frames.split()
    face = copies[1].filter(
        "crop", w=piece.crop_width, h=piece.crop_height, x=piece.keys[0].x, y=piece.keys[0].y, exact=1
    )
    parts = [
        apply(part, to_bt709(info, options.width, rows))
        for part, rows in ((copies[0], above), (face, options.height - above))
    ]
    return ffmpeg.filter([part.filter("setsar", 1) for part in parts], "vstack")


def _fitted(frames: Any, layout: Layout, size: tuple[int, int], info: MediaInfo, options: RenderOptions) -> Any:
    """Whole frames, fitted into the clip over a blurred and darkened copy of themselves that fills it."""
    whole, tiny = (options.width, options.height), (_even(options.width / _BLUR), _even(options.height / _BLUR))
    place = placed(layout, size, whole)
    copies = frames.split()
    filling = copies[0].filter("scale", *tiny, force_original_aspect_ratio="increase", flags="area")
    behind = apply(filling.filter("crop", *tiny), to_bt709(info, *tiny))
    sigma, brightness = _BACKGROUND[layout]
    behind = behind.filter("gblur", sigma=sigma).filter("lutyuv", y=f"16+(val-16)*{brightness}").filter("scale", *whole)
    front = apply(copies[1], to_bt709(info, place.width, place.height))
    return ffmpeg.overlay(behind, front, x=place.left, y=place.top)


def _even(side: float) -> int:
    return 2 * round(side / 2)
