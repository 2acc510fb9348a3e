"""The analysis of a range, on small generated videos and on the sample talk."""

import json
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from tasks.core.errors import ProgramStopped, UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.picture.camera import Shot
from tasks.core.picture.reframe import frame_range
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.picture.frames import small_frames, small_size
from tasks.engines.picture.vision import analyse_range
from tasks.engines.probe import probe
from tasks.engines.weights import yunet
from tests.folders import FOOTAGE, MEDIA
from tests.small_media import ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CLIP = (1080, 1920)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(yunet())


def shared_footage(name: str) -> Path:
    path = FOOTAGE / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path


def analyse(path, detector, start=0.0, end=None, fps=None):
    info = probe(path)
    end = info.duration if end is None else end
    return analyse_range(path, info, start, end, fps or min(info.fps, 30), detector, FFMPEG)


def analyse_and_frame(path, detector, **range_):
    view, info = analyse(path, detector, **range_), probe(path)
    return view, frame_range(view, (info.width, info.height), CLIP)


def lavfi(*parts: str) -> list[str]:
    """ffmpeg arguments for these test pictures of 2 s, one after the other."""
    inputs = [word for part in parts for word in ("-f", "lavfi", "-i", part)]
    chain = "".join(f"[{n}:v]" for n in range(len(parts))) + f"concat=n={len(parts)}:v=1[v]"
    return [*inputs, "-filter_complex", chain, "-map", "[v]"]


@pytest.fixture(scope="module")
def three_shots(tmp_path_factory) -> Path:
    """Three shots of 2 s at 320x180 and 25 fps: a test picture, a moving fractal, another test picture."""
    path = tmp_path_factory.mktemp("shots") / "shots.mp4"
    common = "size=320x180:rate=25"
    ffmpeg(*lavfi(f"testsrc={common}:d=2", f"mandelbrot={common},trim=end=2", f"rgbtestsrc={common}:d=2"), *H264, path)
    return path


def crop_of(shots: list[Shot], t: float) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of the crop at `t`, or None for the whole frame."""
    shot = [shot for shot in shots if shot.start <= t + 1e-6][-1]
    if shot.layout == "fit":
        return None
    times = [key.t for key in shot.keys]
    x, y = (np.interp(t, times, [getattr(key, axis) for key in shot.keys]) for axis in "xy")
    return x, y, x + shot.crop_width, y + shot.crop_height


def share_inside(path, detector, view, shots, every=6) -> float:
    """The share of faces, detected again at a larger size, that are completely inside the crop."""
    info = probe(path)
    size = small_size(info, 640)
    scale = info.width / size[0]
    inside = []
    frames = small_frames(path, info, (view.start, view.end), fps=view.fps, size=size, ffmpeg=FFMPEG)
    for number, planes in enumerate(frames):
        t = view.start + number / view.fps
        crop = crop_of(shots, t)
        if number % every or crop is None:
            continue
        for face in detector.detect(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), t, scale):
            within = (
                crop[0] <= face.x - face.width / 2 and face.x + face.width / 2 <= crop[2],
                crop[1] <= face.y - face.height / 2 and face.y + face.height / 2 <= crop[3],
            )
            inside.append(all(within))
    assert len(inside) > 10
    return float(np.mean(inside))


def test_cuts_are_found_on_the_sources_clock(three_shots, detector):
    assert analyse(three_shots, detector).cuts == pytest.approx([2.0, 4.0])
    late = analyse(three_shots, detector, start=1.0, end=3.5)
    assert late.cuts == pytest.approx([2.0])
    assert late.samples[0] == 1.0


def test_a_range_is_sampled_about_five_times_a_second(three_shots, detector):
    view = analyse(three_shots, detector)
    assert 25 <= len(view.samples) <= 35
    assert max(np.diff(view.samples)) <= 0.25


def test_frames_match_an_encode_of_the_range(tmp_path):
    source, out = tmp_path / "source.mp4", tmp_path / "cut.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:d=4", *H264, source)
    ffmpeg("-ss", "1.3", "-t", "2", "-i", source, "-vf", "fps=fps=25:start_time=0", *H264, "-crf", "5", out)
    encoded = list(small_frames(out, probe(out), (0, 2), fps=25, size=(160, 90), ffmpeg=FFMPEG))
    looked = list(small_frames(source, probe(source), (1.3, 3.3), fps=25, size=(160, 90), ffmpeg=FFMPEG))
    assert len(looked) == len(encoded) == 50
    for number in range(2, 48):
        apart = [np.abs(other.astype(int) - looked[number]).mean() for other in encoded]
        assert np.argmin(apart) == number


def test_a_killed_decoder_is_not_the_end_of_the_picture(tmp_path):
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nhead -c 21600 /dev/zero\nkill -9 $$\n")
    killed.chmod(0o700)
    info = MediaInfo(duration=2, size_bytes=1, container="any", width=160, height=90)
    frames = small_frames(tmp_path / "any", info, (0, 2), fps=25, size=(160, 90), ffmpeg=str(killed))
    assert next(frames).shape == (135, 160)
    with pytest.raises(ProgramStopped):
        next(frames)


class FailsAfterThreeFrames(FaceDetector):
    """A detector that passes OpenCV an invalid frame from the fourth on."""

    frames_seen = 0

    def rows(self, frame_bgr: np.ndarray) -> np.ndarray:
        self.frames_seen += 1
        return super().rows(frame_bgr if self.frames_seen <= 3 else frame_bgr.astype(np.float64)[..., 0])


def test_a_failing_detector_leaves_the_rest_without_faces_and_is_reported(caplog):
    view = analyse(MEDIA / "sample.mp4", FailsAfterThreeFrames(yunet()), end=3.0)
    assert view.fault
    assert "error" in view.fault
    assert len({face.t for face in view.faces}) == 3
    assert view.samples[-1] > 2.5
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_working_detector_reports_no_fault(three_shots, detector):
    assert analyse(three_shots, detector).fault is None


def test_black_and_frozen_stretches_are_reported(tmp_path, detector):
    path, common = tmp_path / "still.mp4", "size=320x180:rate=25"
    parts = (
        f"mandelbrot={common},trim=end=2",
        f"color=black:{common.replace('size', 's')}:d=2",
        f"mandelbrot={common},trim=end=2",
    )
    ffmpeg(*lavfi(*parts), *H264, path)
    view = analyse(path, detector)
    assert view.black == [pytest.approx((2.0, 4.0), abs=0.05)]
    assert view.frozen == [pytest.approx((2.0, 4.0), abs=0.09)]


@pytest.mark.parametrize("colour", ["black", "0x501010", "white", "gray"])
def test_bars_are_found_per_shot(tmp_path, detector, colour):
    path, common = tmp_path / "bars.mp4", "size=320x180:rate=25"
    bars = f"pad=320:180:(ow-iw)/2:(oh-ih)/2:{colour},setsar=1"
    parts = (
        f"testsrc2={common}:d=2,format=yuv420p,setsar=1",
        f"mandelbrot=size=320x120:rate=25,trim=end=2,format=yuv420p,{bars}",
        f"testsrc2=size=100x180:rate=25:d=2,format=yuv420p,{bars}",
    )
    ffmpeg(*lavfi(*parts), *H264, "-crf", "10", path)
    full, letterbox, pillarbox = analyse(path, detector).pictures
    assert full is None
    assert (letterbox.top, letterbox.height, letterbox.width) == (
        pytest.approx(30, abs=3),
        pytest.approx(118, abs=4),
        320,
    )
    assert (pillarbox.left, pillarbox.width, pillarbox.height) == (
        pytest.approx(110, abs=3),
        pytest.approx(98, abs=4),
        180,
    )


def test_a_range_past_the_end_counts_as_frozen_there(three_shots, detector):
    view = analyse(three_shots, detector, start=5.0, end=9.0)
    assert (view.start, view.end) == (5.0, 9.0)
    assert view.frozen[-1][1] == pytest.approx(9.0)


def test_a_variable_rate_keeps_its_clock(three_shots, tmp_path, detector):
    path = tmp_path / "vfr.mp4"
    keep = "select='if(lt(t,3),not(mod(n,3)),1)'"
    ffmpeg("-i", three_shots, "-vf", keep, "-fps_mode", "vfr", *H264, path)
    assert analyse(path, detector, fps=25.0).cuts == pytest.approx([2.0, 4.0], abs=0.13)


def test_a_rotated_recording_is_analysed_upright(tmp_path, detector):
    path, plain = tmp_path / "turned.mp4", tmp_path / "plain.mp4"
    ffmpeg("-t", "1", "-i", MEDIA / "sample.mp4", "-an", "-vf", "transpose=cclock", *H264, plain)
    ffmpeg("-display_rotation", "-90", "-i", plain, "-c", "copy", path)
    truth = json.loads((MEDIA / "sample.json").read_text())["face"][0]
    view = analyse(path, detector)
    assert probe(path).width == 1280
    assert view.faces
    assert all(abs(face.x - truth["x"]) < 0.2 * truth["w"] for face in view.faces)


def test_damaged_frames_do_not_stop_the_analysis(three_shots, tmp_path, detector):
    data = bytearray(three_shots.read_bytes())
    random = np.random.default_rng(0)
    middle = range(len(data) // 3, len(data) // 2)
    for at in random.choice(middle, 60, replace=False):
        data[at] ^= 0xFF
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    view = analyse_range(path, probe(three_shots), 0.0, 6.0, 25.0, detector, FFMPEG)
    assert len(view.samples) >= 20


def test_a_file_that_cannot_be_decoded_is_unreadable(three_shots, tmp_path, detector):
    path = tmp_path / "cut_short.mp4"
    path.write_bytes(three_shots.read_bytes()[:1000])
    with pytest.raises(UnreadableMedia, match="No picture could be decoded"):
        analyse_range(path, probe(three_shots), 0.0, 2.0, 25.0, detector, FFMPEG)


def test_the_samples_cuts_are_found_and_its_speaker_kept(detector):
    path, truth = MEDIA / "sample.mp4", json.loads((MEDIA / "sample.json").read_text())
    view, shots = analyse_and_frame(path, detector, start=84.0, end=112.0)
    assert view.cuts == pytest.approx([cut for cut in truth["cuts"] if 84 < cut < 112], abs=0.05)
    faces = [face for face in truth["face"] if 84 <= face["t"] < 112]
    inside = [
        crop[0] <= f["x"] - f["w"] / 2 and f["x"] + f["w"] / 2 <= crop[2]
        for f in faces
        if (crop := crop_of(shots, f["t"]))
    ]
    assert len(inside) > 0.9 * len(faces)
    assert np.mean(inside) >= 0.98


@pytest.fixture(scope="module")
def dialog(tmp_path_factory) -> Path:
    """The sample's speaker twice, side by side: for 3 s only the left one moves, then only the right one."""
    path = tmp_path_factory.mktemp("dialog") / "dialog.mp4"
    halves = "[0:v]trim=end=3,setpts=PTS-STARTPTS,crop=640:720:0:0,split[a][b];[b]hflip[c];"
    left = "[a]tpad=stop_mode=clone:stop_duration=3[l];"
    right = "[c]tpad=start_mode=clone:start_duration=3[r];"
    ffmpeg(
        "-t",
        "4",
        "-i",
        MEDIA / "sample.mp4",
        "-filter_complex",
        f"{halves}{left}{right}[l][r]hstack[v]",
        "-map",
        "[v]",
        *H264,
        path,
    )
    return path


def test_the_camera_cuts_to_the_one_who_speaks(dialog, detector):
    _, (first, second) = analyse_and_frame(dialog, detector, end=6.0)
    assert first.layout == second.layout == "still"
    assert first.keys[0].x < 300
    assert second.keys[0].x > 640
    assert second.start == pytest.approx(3.0, abs=0.6)
    assert "speaker change" in second.reason


def test_a_real_dialog_is_cut_at_the_change_of_speaker(detector):
    _, (first, second) = analyse_and_frame(shared_footage("dialog_2p_1080p.mp4"), detector)
    assert first.keys[0].x + first.crop_width < 960 < second.keys[0].x
    assert second.start == pytest.approx(5.0, abs=0.5)


@pytest.mark.parametrize("name", ["talking_head_ui.mp4", "head_square_1.mp4", "vertical_hevc_talk.mp4"])
def test_a_real_speaker_stays_in_the_picture(name, detector):
    path = shared_footage(name)
    view, shots = analyse_and_frame(path, detector, end=6.0)
    assert {shot.layout for shot in shots} == {"still"}
    assert share_inside(path, detector, view, shots) >= 0.98


def test_people_seen_from_behind_get_the_whole_frame(detector):
    _, shots = analyse_and_frame(shared_footage("people_from_behind.mp4"), detector, end=20.0)
    assert {shot.layout for shot in shots} == {"fit"}


def test_a_stage_with_cuts_keeps_the_singer(detector):
    view, shots = analyse_and_frame(shared_footage("stage_crowd_cuts.mp4"), detector)
    assert len(view.cuts) >= 3
    singer = next(shot for shot in shots if shot.start <= 5 < shot.end)
    assert singer.layout in {"still", "pan"}
    assert crop_of(shots, 5.0)[0] < 225 < crop_of(shots, 5.0)[2]
