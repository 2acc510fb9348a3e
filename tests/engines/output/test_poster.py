"""Posters of made clips: a face with eyes that are open, painted shut or blurred, and pictures without a face."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.core.errors import UnreadableMedia
from tasks.core.output.poster import choose_poster
from tasks.core.output.source_match import SoundLevels, SourceExcerpt
from tasks.engines.output import poster as engine
from tasks.engines.output.measurements import measure_clip
from tasks.engines.output.poster import MAX_BYTES, write_poster
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.weights import WeightsMissing, yunet
from tests.folders import MEDIA
from tests.small_media import ffmpeg

NO_SOURCE = SourceExcerpt(sound=SoundLevels(channels=[], mono=[]), frames=[])
FACE_AT = 14
"""Seconds into the short sample, where the face is large."""


@pytest.fixture(scope="module")
def open_eyes(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("face") / "open.png"
    ffmpeg("-ss", FACE_AT, "-i", MEDIA / "short.mp4", "-vf", "crop=404:720:413:0", "-frames:v", 1, path)
    return cv2.imread(str(path))


@pytest.fixture(scope="module")
def closed_eyes(open_eyes: np.ndarray) -> np.ndarray:
    """The same face with a lid of skin, and a line of lashes, painted over each eye."""
    (row,) = FaceDetector(yunet()).rows(open_eyes)
    painted = open_eyes.copy()
    for x, y in (row[4:6].round().astype(int), row[6:8].round().astype(int)):
        skin = np.median(open_eyes[y + 20 : y + 30, x - 8 : x + 8].reshape(-1, 3), axis=0)
        cv2.ellipse(painted, (int(x), int(y)), (20, 11), 0, 0, 360, skin.tolist(), -1)
        cv2.line(painted, (int(x) - 16, int(y) + 6), (int(x) + 16, int(y) + 6), (skin * 0.4).tolist(), 2)
    return painted


def show(path: Path, *scenes: tuple[np.ndarray, float]) -> Path:
    """A clip that shows each picture for some seconds."""
    inputs: list[object] = []
    for number, (picture, seconds) in enumerate(scenes):
        still = path.with_name(f"{number}.png")
        cv2.imwrite(str(still), picture)
        inputs += ["-loop", 1, "-framerate", 25, "-t", seconds, "-i", still]
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    graph = f"concat=n={len(scenes)},scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{tags}"
    ffmpeg(*inputs, "-filter_complex", graph, "-c:v", "libx264", "-preset", "veryfast", path)
    return path


def chosen(clip: Path) -> float:
    return choose_poster(measure_clip(clip, NO_SOURCE).poster_candidates).t


def test_the_poster_shows_open_eyes_and_a_sharp_face(tmp_path: Path, open_eyes: np.ndarray, closed_eyes: np.ndarray):
    blurred = cv2.GaussianBlur(open_eyes, (0, 0), 4)
    clip = show(tmp_path / "a.mp4", (closed_eyes, 1.4), (blurred, 1), (open_eyes, 2), (closed_eyes, 1), (open_eyes, 1))
    assert 2.4 <= chosen(clip) < 4.4
    assert 1 <= chosen(show(tmp_path / "b.mp4", (blurred, 1), (open_eyes, 1.5), (closed_eyes, 1))) < 2.5


def test_no_poster_is_black_white_or_beside_a_cut(tmp_path: Path, open_eyes: np.ndarray):
    black, white = np.zeros_like(open_eyes), np.full_like(open_eyes, 255)
    clip = show(tmp_path / "a.mp4", (black, 1), (open_eyes, 1), (white, 0.2), (open_eyes, 1), (black, 2))
    assert any(abs(chosen(clip) - middle) <= 0.4 for middle in (1.5, 2.7))


def test_a_clip_without_a_face_has_a_sharp_poster(tmp_path: Path):
    noise = np.random.default_rng(1).integers(0, 255, (36, 20)).astype(np.uint8)
    sharp = cv2.cvtColor(cv2.resize(noise, (404, 720), interpolation=cv2.INTER_NEAREST), cv2.COLOR_GRAY2BGR)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 8)
    assert 1 <= chosen(show(tmp_path / "a.mp4", (blurred, 1), (sharp, 1), (blurred, 1))) < 2


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_a_very_short_clip_has_a_poster(tmp_path: Path, open_eyes: np.ndarray, seconds: float):
    clip = show(tmp_path / "a.mp4", (open_eyes, seconds))
    write_poster(clip, chosen(clip), tmp_path / "a.jpg")
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == open_eyes.shape


def test_the_written_frame_is_the_chosen_one_in_its_colours(tmp_path: Path, open_eyes: np.ndarray):
    """One frame in five differs; what is written is what was measured at that time."""
    marked = open_eyes.copy()
    marked[:200] = (200, 60, 20)
    scenes = [(marked if n % 5 == 2 else open_eyes, 0.2) for n in range(25)]
    clip = show(tmp_path / "a.mp4", *scenes)
    for t in (0.0, 0.5, 1.5, 2.5, 3.4, 4.9):
        write_poster(clip, t, tmp_path / "a.jpg")
        wanted = marked if int(t / 0.2 + 1e-6) % 5 == 2 else open_eyes
        picture = cv2.imread(str(tmp_path / "a.jpg")).astype(float)
        assert np.abs(picture - wanted).mean() < 4, t


def test_a_poster_of_noise_stays_within_its_size(tmp_path: Path):
    noise = np.random.default_rng(1).integers(0, 255, (1920, 1080, 3)).astype(np.uint8)
    clip = show(tmp_path / "a.mp4", (noise, 0.2))
    write_poster(clip, 0.0, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").stat().st_size <= MAX_BYTES


def test_without_weights_a_sharp_frame_is_chosen_and_the_reason_told(
    tmp_path: Path, open_eyes: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    def missing():
        raise WeightsMissing("No weights for the face detector.")

    monkeypatch.setattr(engine, "yunet", missing)
    blurred = cv2.GaussianBlur(open_eyes, (0, 0), 4)
    measured = measure_clip(show(tmp_path / "a.mp4", (blurred, 1), (open_eyes, 1)), NO_SOURCE)
    assert measured.poster_fault == "No weights for the face detector."
    assert {candidate.face for candidate in measured.poster_candidates} == {None}
    assert choose_poster(measured.poster_candidates).t >= 1


def test_a_file_that_is_no_video_has_no_poster(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableMedia):
        write_poster(tmp_path / "a.mp4", 0.0, tmp_path / "a.jpg")
