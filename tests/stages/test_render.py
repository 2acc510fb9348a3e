"""Clips rendered from small, awkward sources. Framing decisions are tested elsewhere."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tasks.core.appearance import Ratio
from tasks.core.captions.presets import CLASSIC
from tasks.core.edit.drawing import Drawing
from tasks.core.edl import EdlClip, Span
from tasks.core.output.clip_checks import check_clip
from tasks.core.output.render_plan import Correction, RenderOptions
from tasks.core.picture.camera import CropKey, Shot
from tasks.core.picture.framing_choice import Split
from tasks.core.transcript import Segment, Word
from tasks.engines.ffmpeg import EncoderChoice, nvenc_works, run
from tasks.engines.output.encode import encode
from tasks.engines.output.measurements import measure_clip
from tasks.engines.output.picture_meter import is_mark
from tasks.engines.weights import WeightsMissing
from tasks.stages import framing
from tasks.stages import render as stage
from tasks.stages.render import RenderedClip, RenderResult, encoder_threads, parallel_clips, render_clip, render_clips
from tests.engines.picture.test_filters import combed_share
from tests.small_media import drawing, ffmpeg, footage

OPTIONS = RenderOptions(width=270, height=480, preset="ultrafast")
TONE = "anoisesrc=c=pink:a=0.3:d=6:r=48000:seed=1"
WORDS = [
    Word(word=w, start=0.6 + 0.5 * i, end=1.0 + 0.5 * i)
    for i, w in enumerate(["every", "word", "is", "shown", "here", "now"])
]
SPEECH = [Segment(text="", start=0, duration=6, words=WORDS)]


def picture(rate: str = "30", size: str = "640x360", more: str = "") -> str:
    return f"testsrc2=s={size}:r={rate}:d=5{more}"


def source(path: Path, video: str, *more: str, sound: str = TONE) -> Path:
    plain = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "5"]
    ffmpeg("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound, *plain, *more, path)
    return path


def cut(*spans: tuple[float, float]) -> EdlClip:
    return EdlClip(index=1, title="t", hook="h", segments=[Span(start=a, end=b) for a, b in spans])


def render_all(
    clips: list[EdlClip], path: Path, out: Path, progress: Callable[[float], None] = lambda share: None
) -> RenderResult:
    """Two clips at once."""

    def draw(drawing: Drawing, tell: Callable[[float], None]) -> RenderedClip:
        return render_clip(drawing, footage(path), OPTIONS, out, tell)

    return render_clips([drawing(clip, SPEECH) for clip in clips], draw, 2, progress)


def rendered(path: Path, out: Path, clip: EdlClip | None = None, words: list[Segment] | None = None) -> RenderedClip:
    speech = SPEECH if words is None else words
    return render_clip(drawing(clip or cut((0.5, 3.5)), speech), footage(path), OPTIONS, out)


def faults(clip: RenderedClip) -> list[str]:
    measure = measure_clip(clip.path, clip.source, clip.look)
    checks = check_clip(
        measure, clip.clip, OPTIONS, clip.source_black, clip.source_frozen, clip.drawing.captioned, clip.clip.duration
    )
    return [f"{c.name}: {c.measured}" for c in checks if not c.ok]


def frames(path: Path) -> list[np.ndarray]:
    """Frames as RGB arrays (height, width, 3)."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def tagged_picture(transfer: str, primaries: str = "unknown", matrix: str = "unknown", more: str = "") -> str:
    tags = f"setparams=color_trc={transfer}:color_primaries={primaries}:colorspace={matrix}"
    return picture(more=f",format=yuv420p10le{more},{tags}")


HEVC_10_BIT = ("-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le")
SOURCES = {
    "60 fps": (picture("60"), (), "a.mp4"),
    "NTSC": (picture("30000/1001"), (), "a.mp4"),
    "10 fps": (picture("10"), (), "a.mp4"),
    "variable rate": (picture(more=r",select='lt(mod(n\,7)\,4)'"), ("-fps_mode", "vfr"), "a.mkv"),
    "HEVC 10 bit": (picture(), HEVC_10_BIT, "a.mp4"),
    "odd size, 4:4:4": (picture(size="641x363"), ("-pix_fmt", "yuv444p"), "a.mkv"),
    "anamorphic": (picture("25", "720x576", ",setsar=64/45"), (), "a.mp4"),
    "vertical": (picture(size="360x640"), (), "a.mp4"),
    "square": (picture(size="400x400"), (), "a.mp4"),
    "mono 22 kHz": (picture(), ("-ac", "1", "-ar", "22050"), "a.mp4"),
    "5.1": (picture(), ("-ac", "6"), "a.mkv"),
    "full range": (picture(more=",format=yuvj420p"), ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"), "a.mov"),
    "PQ": (tagged_picture("smpte2084", "bt2020", "bt2020nc"), HEVC_10_BIT, "a.mp4"),
    "PQ, only the transfer told": (tagged_picture("smpte2084"), HEVC_10_BIT, "a.mp4"),
    "HLG, only the transfer told": (tagged_picture("arib-std-b67"), HEVC_10_BIT, "a.mp4"),
    "PQ without a matrix": (tagged_picture("smpte2084", "bt2020"), HEVC_10_BIT, "a.mp4"),
    "PQ of constant luminance": (
        tagged_picture("smpte2084", "bt2020", "bt2020c"),
        ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le"),
        "a.mkv",
    ),
    "dark PQ": (tagged_picture("smpte2084", "bt2020", "bt2020nc", ",lutyuv=y=val*0.32"), HEVC_10_BIT, "a.mp4"),
    "interlaced": (picture("50", more=",interlace=scan=tff,setfield=tff"), ("-x264-params", "tff=1"), "a.mp4"),
    "RGB with alpha": (
        picture(more=",format=gbrap,colorchannelmixer=aa=0.5"),
        ("-c:v", "ffv1", "-pix_fmt", "gbrap"),
        "a.mkv",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SOURCES)
def test_awkward_sources_give_valid_clips(tmp_path: Path, name: str):
    video, more, file = SOURCES[name]
    assert faults(rendered(source(tmp_path / file, video, *more), tmp_path / "out")) == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("source") / "plain.mp4", picture())


def test_the_same_input_gives_the_same_file(plain: Path, tmp_path: Path):
    files = [rendered(plain, tmp_path / name).path.read_bytes() for name in ("a", "b")]
    assert hashlib.sha256(files[0]).digest() == hashlib.sha256(files[1]).digest()


def test_only_the_clip_is_left_behind(plain: Path, tmp_path: Path):
    rendered(plain, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["clip_01.mp4"]


def test_a_failed_encode_leaves_nothing(plain: Path, tmp_path: Path):
    options = OPTIONS.model_copy(update={"preset": "no such preset"})
    with pytest.raises(Exception, match="ffmpeg exited"):
        render_clip(drawing(cut((0, 1))), footage(plain), options, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(nvenc_works(), reason="needs an NVENC that fails")
def test_a_failing_gpu_falls_back_to_the_cpu_and_says_so(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stage, "choose_encoder", lambda wish: EncoderChoice("h264_nvenc", "believed in"))
    clip = rendered(plain, tmp_path / "out")
    assert clip.encoder == "libx264"
    assert "the GPU failed" in clip.encoder_reason
    assert faults(clip) == []


def test_only_files_of_x264_are_known_by_what_was_drawn(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What another encoder makes of it is decoded."""
    assert rendered(plain, tmp_path / "a").drawn

    def with_x264(edit, source, options, encoder, *more) -> None:
        encode(edit, source, options, EncoderChoice("libx264", ""), *more)

    monkeypatch.setattr(stage, "choose_encoder", lambda wish: EncoderChoice("h264_nvenc", "believed in"))
    monkeypatch.setattr(stage, "encode", with_x264)
    clip = rendered(plain, tmp_path / "b")
    assert (clip.encoder, clip.drawn) == ("h264_nvenc", None)
    assert faults(clip) == []


def test_interlaced_fields_leave_no_combs_in_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fields = "testsrc2=s=640x480:r=50:d=2,scroll=h=0.012,interlace=scan=tff:lowpass=0,setfield=tff"
    path = source(tmp_path / "a.mp4", fields, "-crf", "8", "-x264-params", "tff=1")

    def framed(view, size, output, asked, sentences) -> list[Shot]:
        keys = [CropKey(t=0.5, x=180, y=0)]
        return [Shot(start=0.5, end=1.5, layout="still", crop_width=270, crop_height=480, keys=keys)]

    monkeypatch.setattr(framing, "frame_range", framed)
    clip = rendered(path, tmp_path / "out", cut((0.5, 1.5)), [])
    before, after = (combed_share(np.stack(frames(file))[..., 1]) for file in (path, clip.path))
    assert before > 0.02
    assert after < 0.1 * before


def test_hdr_with_the_transfer_tag_alone_looks_like_hdr_with_all_tags(tmp_path: Path):
    def shown(name: str, video: str) -> np.ndarray:
        path = source(tmp_path / f"{name}.mp4", video, *HEVC_10_BIT, "-t", "1")
        return frames(rendered(path, tmp_path / name, cut((0.2, 0.7)), []).path)[5].astype(int)

    every, some = (
        shown("all", tagged_picture("smpte2084", "bt2020", "bt2020nc")),
        shown("some", tagged_picture("smpte2084")),
    )
    assert np.abs(every - some).mean() < 1
    assert np.abs(every - shown("sdr", tagged_picture("bt709", "bt709", "bt709"))).mean() > 10


def mean_colours(path: Path, times: list[float]) -> list[tuple[int, ...]]:
    shown = frames(path)
    return [tuple(round(v / 255) for v in shown[round(t * 30)][:200].mean(axis=(0, 1))) for t in times]


def test_segments_are_joined_with_their_own_picture_and_sound(tmp_path: Path):
    parts = [f"color={c}:s=360x640:r=30:d=2" for c in ("red", "lime", "blue")]
    inputs = [x for part in parts for x in ("-f", "lavfi", "-i", part)]
    tones = "aevalsrc='0.3*sin(2*PI*t*if(lt(t,2),300,if(lt(t,4),900,2700)))':d=6:s=48000"
    path = tmp_path / "rgb.mkv"
    ffmpeg(
        *inputs,
        "-f",
        "lavfi",
        "-i",
        tones,
        "-filter_complex",
        "[0][1][2]concat=n=3",
        "-map",
        "3:a",
        "-c:a",
        "pcm_s16le",
        path,
    )
    clip = rendered(path, tmp_path / "out", cut((4.2, 5.7), (0.3, 1.3), (2.4, 3.4)), [])
    assert (
        mean_colours(clip.path, [0.1, 1.4, 1.6, 2.4, 2.6, 3.4]) == [(0, 0, 1)] * 2 + [(1, 0, 0)] * 2 + [(0, 1, 0)] * 2
    )
    with av.open(str(clip.path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    pitches = [np.argmax(np.abs(np.fft.rfft(sound[round(t * 48000) :][:9600]))) * 5 for t in (0.6, 1.9, 2.9)]
    assert pitches == [2700, 300, 900]


def test_a_cover_picture_is_not_taken_for_the_video(tmp_path: Path):
    film, covered = source(tmp_path / "film.mp4", picture()), tmp_path / "covered.mp4"
    cover = ("-f", "lavfi", "-i", "color=red:s=64x64:d=0.04")
    streams = ("-map", "1:v", "-map", "0:v", "-map", "0:a")
    ffmpeg(
        "-i",
        film,
        *cover,
        *streams,
        "-c:v:0",
        "mjpeg",
        "-c:v:1",
        "copy",
        "-c:a",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        covered,
    )
    clip = rendered(covered, tmp_path / "out")
    assert faults(clip) == []
    assert frames(clip.path)[10].std() > 20


def test_a_rotated_source_is_rendered_upright(tmp_path: Path):
    straight = source(tmp_path / "s.mp4", "color=red:s=360x640:r=30:d=5,drawbox=w=iw:h=ih/2:color=blue:t=fill")
    lying = tmp_path / "lying.mp4"
    ffmpeg("-i", straight, "-vf", "transpose=2", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "copy", lying)
    turned = tmp_path / "turned.mp4"
    run(["-display_rotation", "-90", "-i", str(lying), "-c", "copy", str(turned)], 30)
    picture = frames(rendered(turned, tmp_path / "out", words=[]).path)[30]
    assert picture[100].mean(axis=0).argmax() == 2
    assert picture[400].mean(axis=0).argmax() == 0


def test_a_circle_stays_round(tmp_path: Path):
    inside = r"lt(hypot((X-360)*64/45\,Y-288)\,150)"
    disc = f"color=black:s=720x576:r=25:d=1.2,geq=lum='255*{inside}':cb=128:cr=128,setsar=64/45"
    clip = rendered(source(tmp_path / "a.mp4", disc), tmp_path / "out", cut((0, 1)), [])
    white = frames(clip.path)[20].mean(axis=2) > 180
    wide, tall = np.ptp(np.flatnonzero(white.any(axis=0))), np.ptp(np.flatnonzero(white.any(axis=1)))
    assert wide == pytest.approx(tall, rel=0.06)


def test_framing_changes_exactly_at_the_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    halves = "color=red:s=640x360:r=30:d=5,drawbox=x=iw/2:w=iw/2:h=ih:color=blue:t=fill"
    path = source(tmp_path / "a.mp4", halves)

    def framed(view, size, output, asked, sentences) -> list[Shot]:
        left, right = ([CropKey(t=0, x=x, y=0)] for x in (0, 430))
        crop = {"layout": "still", "crop_width": 202, "crop_height": 360}
        return [Shot(start=0.5, end=1.5, keys=left, **crop), Shot(start=1.5, end=3.5, keys=right, **crop)]

    monkeypatch.setattr(framing, "frame_range", framed)
    shown = [f[50].mean(axis=0).argmax() for f in frames(rendered(path, tmp_path / "out", words=[]).path)]
    assert shown == [0] * 30 + [2] * 60


@pytest.mark.parametrize("ratio", ["9:16", "4:5", "16:9"])
def test_two_parts_of_the_picture_are_shown_one_above_the_other(tmp_path: Path, ratio: Ratio):
    sides = "testsrc2=s=640x360:r=30:d=5,drawbox=w=80:h=ih:color=red:t=fill,drawbox=x=560:w=80:h=ih:color=blue:t=fill"
    path = source(tmp_path / "a.mp4", sides, "-crf", "12")
    asked = drawing(cut((0.5, 3.5))).model_copy(
        update={"framing": [Split(kind="split", upper=0.0, lower=1.0)], "ratio": ratio, "words": []}
    )
    made = render_clip(asked, footage(path), OPTIONS, tmp_path / "out")
    size = OPTIONS.at_ratio(ratio)
    shown = frames(made.path)[30].astype(int)
    assert shown.shape == (size.height, size.width, 3)
    middle = 2 * round(size.height / 4)
    assert shown[middle - 12 : middle - 4, 2:12].mean(axis=(0, 1)).argmax() == 0
    assert shown[middle + 4 : middle + 12, -12:-2].mean(axis=(0, 1)).argmax() == 2
    measure = measure_clip(made.path, made.source, made.look)
    checks = check_clip(measure, made.clip, size, made.source_black, made.source_frozen, [], 3.0)
    assert [f"{check.name}: {check.measured}" for check in checks if not check.ok] == []
    assert {box.box.top > 0.4 for box in made.source.frames} == {True, False}


def test_a_pan_moves_the_crop_steadily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = source(tmp_path / "a.mp4", "color=black:s=640x360:r=30:d=5,drawbox=x=300:w=40:h=ih:color=white:t=fill")

    def framed(view, size, output, asked, sentences) -> list[Shot]:
        keys = [CropKey(t=0.5, x=140, y=0), CropKey(t=3.5, x=290, y=0)]
        return [Shot(start=0.5, end=3.5, layout="pan", crop_width=202, crop_height=360, keys=keys)]

    monkeypatch.setattr(framing, "frame_range", framed)
    shown = frames(rendered(path, tmp_path / "out", words=[]).path)
    places = [float(np.flatnonzero(f[50].mean(axis=1) > 128).mean()) / (270 / 202) for f in shown[:85]]
    expected = [320 - (140 + 150 * n / 90) for n in range(85)]
    assert np.abs(np.array(places) - expected).max() < 2


def test_a_crop_of_a_still_region_is_not_a_frozen_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    still = "[0]trim=end_frame=1,loop=-1:1,setpts=N/30/TB,crop=iw/2:ih:iw/2:0[r];[1][r]overlay=320:0:shortest=1"
    path, moving = tmp_path / "a.mp4", picture()
    ffmpeg("-f", "lavfi", "-i", moving, "-f", "lavfi", "-i", moving, "-f", "lavfi", "-i", TONE,
           "-filter_complex", f"{still}[v]", "-map", "[v]", "-map", "2:a", "-c:v", "libx264", "-preset", "ultrafast",
           "-c:a", "aac", "-t", "5", path)  # fmt: skip

    def framed(view, size, output, asked, sentences) -> list[Shot]:
        keys = [CropKey(t=0.5, x=420, y=0)]
        return [Shot(start=0.5, end=3.5, layout="still", crop_width=202, crop_height=360, keys=keys)]

    monkeypatch.setattr(framing, "frame_range", framed)
    clip = rendered(path, tmp_path / "out")
    assert measure_clip(clip.path, clip.source, clip.look).frozen
    assert faults(clip) == []


def highlighted(frame: np.ndarray) -> int:
    """The number of highlighted pixels in the caption area."""
    band = frame[round(0.65 * 480) : round(0.81 * 480)].astype(int)
    return int(((band[..., 0] > 190) & (band[..., 1] > 160) & (band[..., 2] < 110)).sum())


def test_captions_are_visible_exactly_while_words_are_spoken(tmp_path: Path):
    path = source(tmp_path / "a.mp4", "color=gray:s=640x360:r=30:d=5")
    words = [Word(word="First", start=1.0, end=1.4), Word(word="second", start=2.6, end=3.0)]
    clip = rendered(path, tmp_path / "out", words=[Segment(text="", start=0, duration=5, words=words)])
    shown = [highlighted(f) > 30 for f in frames(clip.path)]
    assert not any(shown[:14])
    assert all(shown[16:27])
    assert not any(shown[40:62])
    assert all(shown[64:75])


def test_the_highlight_is_on_its_word(tmp_path: Path):
    path = source(tmp_path / "a.mp4", "color=gray:s=640x360:r=30:d=5")
    words = [Word(word=w, start=0.5 + i, end=1.5 + i) for i, w in enumerate(("one", "two", "six"))]
    shown = frames(rendered(path, tmp_path / "out", words=[Segment(text="", start=0, duration=5, words=words)]).path)
    yellow = [(f[..., 0] > 190) & (f[..., 1] > 160) & (f[..., 2] < 110) for f in (shown[15], shown[45], shown[75])]
    places = [np.flatnonzero(y.any(axis=0)).mean() for y in yellow]
    assert places[0] < places[1] < places[2]
    assert abs(places[1] - 135) < 30


def test_captions_follow_the_direction_of_the_clips_language(plain: Path, tmp_path: Path):
    def captioned(language: str, own: str | None) -> bytes:
        words = [
            Word(word=w, start=1 + i / 4, end=1.25 + i / 4) for i, w in enumerate(["Google", "أعلنت", "New", "Phone"])
        ]
        segments = [Segment(text="", start=1, duration=1, words=words, language=own)]
        drawn = drawing(cut((1, 2)), segments, language)
        return render_clip(drawn, footage(plain), OPTIONS, tmp_path).path.read_bytes()

    assert captioned("en", "ar") == captioned("ar", None) != captioned("en", None)


def test_without_words_no_caption_is_drawn(tmp_path: Path):
    path = source(tmp_path / "a.mp4", "color=gray:s=640x360:r=30:d=5")
    grey = frames(rendered(path, tmp_path / "out", words=[]).path)[30]
    assert np.ptp(grey[330:400].astype(int)) < 12


def test_sound_and_picture_stay_in_sync(tmp_path: Path):
    flash = r"color=black:s=640x360:r=30:d=5,drawbox=w=iw:h=ih:color=white:t=fill:enable='between(t\,2\,2.2)'"
    beep = "aevalsrc='0.5*sin(2*PI*1000*t)*between(t,2,2.2)+0.001*sin(t)':d=5:s=48000"
    clip = rendered(source(tmp_path / "a.mp4", flash, sound=beep), tmp_path / "out", words=[])
    light = next(n for n, f in enumerate(frames(clip.path)) if f.mean() > 100) / 30
    with av.open(str(clip.path)) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert light == pytest.approx(1.5, abs=0.034)
    assert np.argmax(np.abs(heard) > 0.05) / 48000 == pytest.approx(light, abs=0.04)


def test_clips_are_returned_in_order_with_a_face_log_and_rising_progress(plain: Path, tmp_path: Path):
    clips = [cut((0.5, 2.5)), cut((2.5, 4.5)).model_copy(update={"index": 2})]
    reports: list[float] = []
    done = render_all(clips, plain, tmp_path, reports.append)
    assert [c.path.name for c in done.clips] == ["clip_01.mp4", "clip_02.mp4"]
    assert done.failed == []
    assert [row["index"] for row in done.face_log["clips"]] == [1, 2]
    assert reports == sorted(reports)
    assert reports[-1] == 1.0


def test_a_failed_clip_does_not_stop_the_others(plain: Path, tmp_path: Path):
    clips = [cut((90, 92)), cut((0.5, 2.5)).model_copy(update={"index": 2})]
    done = render_all(clips, plain, tmp_path)
    assert [c.clip.index for c in done.clips] == [2]
    assert [f.clip.index for f in done.failed] == [1]
    assert done.failed[0].reason


def test_every_clip_may_fail_without_an_error(plain: Path, tmp_path: Path):
    done = render_all([cut((90, 92))], plain, tmp_path)
    assert done.clips == []
    assert done.failed[0].reason


def test_without_the_face_model_the_whole_frame_is_shown_with_a_warning(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def missing():
        raise WeightsMissing("No weights for the face detector.")

    monkeypatch.setattr(framing, "yunet", missing)
    clips = [cut((0.5, 2.5))]
    result = render_all(clips, plain, tmp_path)
    assert (result.face_log["backend"], result.face_log["reason"]) == (None, "model_missing")
    assert {shot.layout for shot in result.clips[0].shots} == {"fit"}
    assert "model_missing" in result.clips[0].warnings[-1]


def test_a_correction_changes_loudness_and_length(plain: Path, tmp_path: Path):
    correction = Correction(extra_gain=-3, dropped_frames=4)
    done = render_clip(drawing(cut((0.5, 3.5)), SPEECH), footage(plain), OPTIONS, tmp_path, correction=correction)
    measure = measure_clip(done.path, done.source, done.look)
    assert measure.integrated == pytest.approx(-17, abs=0.6)
    assert measure.duration == pytest.approx(3 - 4 / 30, abs=0.002)


def test_highlight_detection_ignores_white_and_grey():
    luma, chroma = np.array([[200, 235, 128]]), np.array([[[26, 128, 128]], [[150, 128, 128]]])
    assert is_mark(CLASSIC.preset.mark, luma, *chroma).tolist() == [[True, False, False]]


def test_parallel_encodes_are_bounded_by_clips_and_the_setting():
    assert parallel_clips(OPTIONS, 1) == 1
    assert parallel_clips(OPTIONS, 2) == 2
    assert parallel_clips(OPTIONS.model_copy(update={"parallel": 3}), 5) == 3


def test_only_clips_that_another_will_follow_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stage, "cpu_cores", lambda: 8)
    assert [encoder_threads(clip, 5, 4) for clip in range(5)] == [2, 2, 2, 2, None]
    assert [encoder_threads(clip, 2, 2) for clip in range(2)] == [None, None]
    assert encoder_threads(0, 3, 16) is None
    assert encoder_threads(0, 17, 16) == 1
