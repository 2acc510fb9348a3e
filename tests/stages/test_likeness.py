"""Clips compared with their source: broken ones are detected, good ones of every kind pass."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.core.edl import EdlClip, Span
from tasks.core.output.clip_checks import check_clip
from tasks.core.output.render_plan import RenderOptions
from tasks.core.picture.camera import CropKey, Shot
from tasks.engines.output.measurements import _key_frames, measure_clip
from tasks.stages import framing
from tasks.stages.render import RenderedClip, render_clip
from tests.folders import MEDIA
from tests.small_media import drawing, ffmpeg, footage

pytestmark = pytest.mark.long

OPTIONS = RenderOptions(width=180, height=320, preset="ultrafast")
START, END = 4.0, 12.0
COMPARED = {"sound", "picture", "mono", "no silent stretch", "no frozen stretch", "no black stretch"}


def cut(start: float = START, end: float = END) -> EdlClip:
    return EdlClip(index=1, title="t", hook="h", segments=[Span(start=start, end=end)])


def rendered(source: Path, out: Path, clip: EdlClip | None = None) -> RenderedClip:
    return render_clip(drawing(clip or cut()), footage(source), OPTIONS, out)


def broken_checks(clip: RenderedClip, path: Path | None = None, *, decoded: bool = True) -> set[str]:
    """Names of the failed checks among those that compare with the source.

    The picture is the `decoded` one, or what the encoder was given if the file has the same key frames.
    """
    measure = measure_clip(path or clip.path, clip.source, clip.look, drawn=None if decoded else clip.drawn)
    assert len(measure.frame_matches) >= 5
    checks = check_clip(measure, clip.clip, OPTIONS, clip.source_black, clip.source_frozen, clip.drawing.captioned)
    return {c.name for c in checks if not c.ok} & COMPARED


def assert_good(clip: RenderedClip) -> None:
    """All checks pass, of the file's picture and of that which the encoder was given; the file's key frames show it."""
    assert broken_checks(clip) == set()
    assert broken_checks(clip, decoded=False) == set()
    measure = measure_clip(clip.path, clip.source, clip.look)
    assert clip.drawn
    assert clip.drawn.frames == measure.frames
    assert clip.drawn.is_like(_key_frames(clip.path, measure))
    apart = [
        abs(one.distance - other.distance)
        for one, other in zip(measure.frame_matches, clip.drawn.shown.frame_matches, strict=True)
    ]
    assert max(apart) < 0.1


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 s of the sample's sound with a picture that changes all the time."""
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    moving = "testsrc2=s=320x180:r=25:d=16,hue=h=20*t,rotate=a=0.2*t:c=gray"
    speech = ["-ss", "20", "-t", "16", "-i", MEDIA / "sample.mp4"]
    shape = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "75", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    ffmpeg("-f", "lavfi", "-i", moving, *speech, "-map", "0:v", "-map", "1:a", *shape, path)
    return path


@pytest.fixture(scope="module")
def good_clip(source: Path, tmp_path_factory: pytest.TempPathFactory) -> RenderedClip:
    return rendered(source, tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def clip_of_another_time(source: Path, tmp_path_factory: pytest.TempPathFactory) -> RenderedClip:
    return rendered(source, tmp_path_factory.mktemp("elsewhere"), cut(START - 3, END - 3))


def test_a_good_clip_passes(good_clip: RenderedClip):
    assert_good(good_clip)


SOUND = ("-c:v", "copy", "-c:a", "aac", "-b:a", "160k")
LATE = {"sound", "no silent stretch"}
BROKEN: dict[str, tuple[Sequence[str], set[str]]] = {
    "60 ms late": (("-af", "adelay=60:all=1", *SOUND), {"sound"}),
    "60 ms early": (("-af", "atrim=start=0.06,asetpts=PTS-STARTPTS", *SOUND), {"sound"}),
    "drifting": (("-af", "asetrate=48000*1.015,aresample=48000", *SOUND), {"sound"}),
    "late from the middle on": (
        ("-af", "aselect='not(between(t,3,3.2))',asetpts=N/SR/TB,apad=whole_dur=8", *SOUND), LATE
    ),
    "opposite channels": (("-af", "aeval=val(0)|-1*val(1):c=same", *SOUND), {"mono"}),
    "opposite for a part": (("-af", r"aeval=val(0)|(1-2*gt(t\,5))*val(1):c=same", *SOUND), {"mono"}),
    "a silence": (("-af", "volume=0:enable='between(t,2,2.4)'", *SOUND), {"no silent stretch"}),
    "frozen at its start": (
        ("-vf", "select='gt(t,1)',tpad=start_duration=1.04:start_mode=clone,setpts=N/25/TB", "-preset", "ultrafast"),
        {"picture"},
    ),
    "another size of crop": (("-vf", "crop=iw/2:ih/2,scale=180:320,setsar=1", "-preset", "ultrafast"), {"picture"}),
    "upside down": (("-vf", "vflip", "-preset", "ultrafast"), {"picture"}),
    "half a second late": (
        ("-vf", "tpad=start_duration=0.48:start_mode=clone", "-shortest", "-preset", "ultrafast"), {"picture"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_clip_fails_the_right_check(good_clip: RenderedClip, tmp_path: Path, name: str):
    how, names = BROKEN[name]
    path = tmp_path / "broken.mp4"
    ffmpeg("-i", good_clip.path, *how, path)
    assert broken_checks(good_clip, path) == names
    assert broken_checks(good_clip, path, decoded=False) == names


def test_picture_or_sound_of_another_time_fails(
    good_clip: RenderedClip, clip_of_another_time: RenderedClip, tmp_path: Path
):
    for name, streams in {"picture": ("1:v", "0:a"), "sound": ("0:v", "1:a")}.items():
        path = tmp_path / f"{name}.mp4"
        maps = [x for stream in streams for x in ("-map", stream)]
        ffmpeg("-i", good_clip.path, "-i", clip_of_another_time.path, *maps, "-c", "copy", path)
        assert broken_checks(good_clip, path) - {"no silent stretch"} == {name}


MUSIC = "0.2*sin(2*PI*t*220*pow(2,floor(mod(t*2,8))/12))*exp(-4*mod(t,0.5))"
KINDS: dict[str, tuple[str, str]] = {
    "fast motion": ("testsrc2=s=640x180:r=30,crop=320:180:x='160+160*sin(6*t)':y=0", "anoisesrc=c=pink:a=0.3:seed=1"),
    "mandelbrot": ("mandelbrot=s=320x180:r=25:start_scale=1:end_scale=0.05:end_pts=250", f"aevalsrc='{MUSIC}'"),
    "dark": ("testsrc2=s=320x180:r=25,lutyuv=y='16+(val-16)*0.06':u=128:v=128", "anoisesrc=c=brown:a=0.5:seed=2"),
    "flashes": ("color=black:s=320x180:r=30,drawbox=w=iw:h=ih:color=white:t=fill:enable='lt(mod(t,0.5),0.1)'",
                "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,0.5),0.1)'"),
    "noise": ("nullsrc=s=320x180:r=25,geq=lum='random(1)*255':cb=128:cr=128", "anoisesrc=c=white:a=0.2:seed=3"),
    "tone": ("smptebars=s=320x180:r=25", "sine=f=440"),
    "10 pictures a second": ("testsrc2=s=320x180:r=10", f"aevalsrc='{MUSIC}|{MUSIC}*0.3'"),
    "nearly silent speech": ("testsrc2=s=320x180:r=25,hue=s=0", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_good_clips_of_every_kind_pass(tmp_path: Path, name: str):
    picture, sound = KINDS[name]
    path = tmp_path / "a.mp4"
    quiet = ["-ss", "20", "-i", MEDIA / "sample.mp4", "-af", "volume=-35dB"]
    heard = ["-f", "lavfi", "-i", sound] if sound else quiet
    shape = ["-t", "8", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    ffmpeg("-f", "lavfi", "-i", picture, *heard, "-map", "0:v", "-map", "1:a", *shape, path)
    assert_good(rendered(path, tmp_path / "out", cut(1.3, 7.3)))


@pytest.mark.parametrize("layout", ["still", "pan", "fit", "fit without bars"])
def test_clips_of_every_layout_pass(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str):
    def framed(view, size, output, asked, sentences) -> list[Shot]:
        left, right = CropKey(t=START, x=0, y=0), CropKey(t=END, x=216, y=0)
        inner = Shot(
            start=START, end=END, layout="fit", crop_width=240, crop_height=140, keys=[CropKey(t=START, x=40, y=20)]
        )
        return {
            "still": [Shot(start=START, end=END, layout="still", crop_width=102, crop_height=180, keys=[right])],
            "pan": [Shot(start=START, end=END, layout="pan", crop_width=102, crop_height=180, keys=[left, right])],
            "fit": [Shot(start=START, end=END, layout="fit")],
            "fit without bars": [inner],
        }[layout]  # fmt: skip

    monkeypatch.setattr(framing, "frame_range", framed)
    assert_good(rendered(source, tmp_path))


def test_a_clip_of_two_segments_passes(source: Path, tmp_path: Path):
    spans = [Span(start=9, end=13), Span(start=1, end=5)]
    clip = EdlClip(index=1, title="t", hook="h", segments=spans)
    assert_good(rendered(source, tmp_path, clip))


def test_a_source_with_one_key_frame_is_compared_near_it(source: Path, tmp_path: Path):
    path = tmp_path / "a.mp4"
    ffmpeg("-i", source, "-c:v", "libx264", "-g", 9999, "-bf", 3, "-sc_threshold", 0, "-c:a", "copy", path)
    clip = rendered(path, tmp_path / "out")
    assert max(frame.t for frame in clip.source.frames) < 5.5
    assert_good(clip)
    late = tmp_path / "late.mp4"
    ffmpeg("-i", clip.path, *BROKEN["half a second late"][0], late)
    assert broken_checks(clip, late) == {"picture"}
