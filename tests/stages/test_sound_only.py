"""Sources that have only sound: they get a picture, and their clips a waveform."""

from pathlib import Path

import av
import numpy as np
import pytest

from tasks.core.appearance import Ratio
from tasks.core.captions.presets import SIDE
from tasks.core.captions.waveform import PLACES
from tasks.core.edl import EdlClip, Span
from tasks.core.errors import NoAudio, SourceTooLong
from tasks.core.output.render_plan import RenderOptions
from tasks.core.picture.framing_choice import Crop, Fit, Framing, People, Screen
from tasks.core.picture.placement import placed
from tasks.core.transcript import Segment, Word
from tasks.engines.footage import Footage
from tasks.engines.output.measurements import measure_clip
from tasks.engines.source.cover import MAX_PIXELS
from tasks.stages.download import DownloadOptions, LocalSource, acquire_file
from tasks.stages.publish import verify_clips
from tasks.stages.render import RenderedClip, render_clip
from tests.folders import MEDIA
from tests.small_media import drawing, ffmpeg

OPTIONS = RenderOptions(width=270, height=480, preset="ultrafast")
START, SECONDS = 66.4, 8.5
WORDS = [
    Word(word=word, start=START + 0.1 + n, end=START + 0.9 + n)
    for n, word in enumerate(["Walter", "came", "in", "one", "night", "with", "toast"])
]
SPEECH = [Segment(text="", start=START, duration=SECONDS, words=WORDS)]
CLIP = EdlClip(index=1, title="", hook="", segments=[Span(start=START, end=START + SECONDS)])
BLUE, YELLOW = "color=0x3050a0:size=400x300", "color=0xffe100:size=400x300"
COVERED = ("-map", "0:a", "-map", "1:v", "-c:v", "png", "-disposition:v", "attached_pic")


def sound_file(path: Path, *more: object, cover: str = "", seconds: float = 180) -> Path:
    """The sample's sound, with a cover that ffmpeg's source of this description draws."""
    if cover:
        ffmpeg("-f", "lavfi", "-i", cover, "-frames:v", "1", path.with_suffix(".png"))
    picture = ("-i", path.with_suffix(".png"), *COVERED) if cover else ("-vn",)
    ffmpeg("-t", seconds, "-i", MEDIA / "sample.mp4", *picture, *more, path)
    return path


@pytest.fixture(scope="module")
def podcast(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    folder = tmp_path_factory.mktemp("podcast")
    file = sound_file(folder / "a.mp3", "-b:a", "64k", cover=BLUE)
    return acquire_file(file, "A podcast.mp3", DownloadOptions(), folder / "out")


def draw(source: LocalSource, folder: Path, framing: Framing | None = None, ratio: Ratio | None = None) -> RenderedClip:
    wanted = drawing(CLIP, SPEECH).model_copy(update={"ratio": ratio})
    if framing:
        wanted = wanted.model_copy(update={"framing": [framing]})
    return render_clip(wanted, Footage(source.video, source.audio, source.info), OPTIONS, folder)


@pytest.fixture(scope="module")
def drawn(podcast: LocalSource, tmp_path_factory: pytest.TempPathFactory) -> RenderedClip:
    return draw(podcast, tmp_path_factory.mktemp("drawn"))


def frames(clip: RenderedClip) -> np.ndarray:
    """Each frame as (rows, columns, RGB)."""
    with av.open(str(clip.path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def faults(clip: RenderedClip) -> list[str]:
    found = verify_clips([clip], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS)
    (checked,) = found.clips
    return [f"{check.name}: {check.measured}" for check in checked.checks if not check.ok]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.mp3", ("-b:a", "64k")),
        ("a.m4a", ()),
        ("a.aac", ()),
        ("a.ogg", ("-c:a", "libvorbis")),
        ("a.opus", ()),
        ("a.flac", ()),
        ("a.wav", ()),
        ("a.mka", ("-c:a", "libopus")),
    ],
)
def test_sound_in_any_format_becomes_a_source_with_a_picture(tmp_path: Path, name: str, arguments: tuple[str, ...]):
    """Its first second is as loud as that of the sample at the same times."""
    file = sound_file(tmp_path / name, *arguments, seconds=20)
    got = acquire_file(file, name, DownloadOptions(), tmp_path / "out")
    assert got.info.is_cover
    codec = "opus" if name == "a.mka" else "aac"
    assert (got.info.width, got.info.height, got.info.video_codec, got.info.audio_codec) == (1080, 1080, "h264", codec)
    assert got.info.duration == pytest.approx(20, abs=0.1)
    assert got.meta.title == "a"
    assert got.warnings == ["the source has only sound and no cover; its title is shown"]
    ours, theirs = (loudness(path) for path in (got.audio, MEDIA / "sample.mp4"))
    shifts = {lag: np.corrcoef(ours[100:1500], theirs[100 + lag : 1500 + lag])[0, 1] for lag in range(-20, 21)}
    assert abs(max(shifts, key=shifts.__getitem__)) <= 3


def loudness(path: Path) -> np.ndarray:
    """The level of each hundredth of a second."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 48000)
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate(parts)[: 20 * 48000]
    whole = samples[: len(samples) // 480 * 480].reshape(-1, 480)
    return np.log10(np.maximum((whole**2).mean(axis=1), 1e-8))


def test_the_cover_of_a_file_is_its_picture(podcast: LocalSource):
    assert (podcast.info.width, podcast.info.height) == (400, 300)
    assert podcast.warnings == ["the source has only sound; its cover is shown"]
    with av.open(str(podcast.video)) as container:
        container.seek(100 * av.time_base)
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(frame.astype(int) - (48, 80, 160)).max() <= 6


@pytest.mark.parametrize("spoiled", ["too large", "damaged"])
def test_a_cover_that_cannot_be_decoded_is_replaced(tmp_path: Path, spoiled: str):
    side = int(MAX_PIXELS**0.5) + 100 if spoiled == "too large" else 300
    file = sound_file(tmp_path / "a.mp3", cover=f"color=red:size={side}x{side}", seconds=3)
    if spoiled == "damaged":
        content = bytearray(file.read_bytes())
        at = content.index(b"IDAT")
        content[at : at + 40] = bytes(40)
        file.write_bytes(content)
    got = acquire_file(file, "a.mp3", DownloadOptions(), tmp_path / "out")
    assert got.warnings == ["the source has only sound, and its cover cannot be decoded; its title is shown"]
    assert got.info.width == 1080


def test_a_cover_of_one_pixel_is_shown(tmp_path: Path):
    file = sound_file(tmp_path / "a.mp3", cover="color=red:size=1x1", seconds=3)
    assert acquire_file(file, "a.mp3", DownloadOptions(), tmp_path / "out").info.width > 0


def test_a_folder_may_have_any_name(tmp_path: Path):
    """ffmpeg's filters take commas, colons and quotes in a path for their own."""
    folder = tmp_path / "it's, a:folder [1]"
    folder.mkdir()
    file = sound_file(tmp_path / "a.mp3", seconds=3)
    assert acquire_file(file, "a.mp3", DownloadOptions(), folder).info.width == 1080


def test_a_file_with_only_a_cover_is_refused(tmp_path: Path):
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        YELLOW,
        "-c:v",
        "png",
        "-disposition:v",
        "attached_pic",
        "-frames:v",
        "1",
        tmp_path / "a.mp4",
    )
    with pytest.raises(NoAudio):
        acquire_file(tmp_path / "a.mp4", "a.mp4", DownloadOptions(), tmp_path / "out")


def test_sound_that_is_too_long_is_refused(tmp_path: Path):
    file = sound_file(tmp_path / "a.mp3", seconds=20)
    with pytest.raises(SourceTooLong):
        acquire_file(file, "a.mp3", DownloadOptions(max_seconds=10), tmp_path / "out")


def test_a_clip_of_sound_meets_the_output_contract(drawn: RenderedClip):
    assert faults(drawn) == []
    assert [shot.layout for shot in drawn.shots] == ["cover"]


def test_the_cover_is_above_the_waveform_and_the_captions(drawn: RenderedClip):
    picture = frames(drawn)[30].astype(int)
    left, top, width, height = placed("cover", (400, 300), (270, 480))
    assert np.abs(picture[top + 4 : top + height - 4, left + 4 : left + width - 4] - (48, 80, 160)).max() <= 12
    assert drawn.look.band((270, 480)).top > (top + height) / 480
    rows = slice(round(PLACES[0].top * 480), round(PLACES[0].bottom * 480))
    heard, coming = (picture[rows, columns].mean(axis=2) for columns in (slice(22, 130), slice(140, 248)))
    assert heard.max() > 200 > coming.max() > 90


def test_the_waveform_moves_with_the_sound(drawn: RenderedClip):
    """In a second, by a fifth of the width that shows five seconds."""
    rows = slice(round(PLACES[0].top * 480), round(PLACES[0].bottom * 480))
    whites = (frames(drawn)[:, rows, 22:130].mean(axis=3) > 120).sum(axis=1).astype(float)
    step = round((1 - 2 * SIDE) * 270 / 5)
    moved = np.corrcoef(whites[60][step:].ravel(), whites[90][:-step].ravel())[0, 1]
    still = np.corrcoef(whites[60].ravel(), whites[90].ravel())[0, 1]
    assert moved > max(0.7, still + 0.2)


@pytest.mark.parametrize("ratio", ["1:1", "4:5", "16:9"])
def test_a_clip_of_sound_can_have_any_ratio(podcast: LocalSource, tmp_path: Path, ratio: Ratio):
    assert faults(draw(podcast, tmp_path, ratio=ratio)) == []


@pytest.mark.parametrize(
    ("framing", "layout"),
    [
        (Fit(kind="fit"), "fit"),
        (Crop(kind="crop", at=0.2), "still"),
        (People(kind="people"), "cover"),
        (Screen(kind="screen"), "cover"),
    ],
    ids=["fit", "crop", "people", "screen"],
)
def test_a_person_may_frame_a_cover(podcast: LocalSource, tmp_path: Path, framing: Framing, layout: str):
    clip = draw(podcast, tmp_path, framing)
    assert ([shot.layout for shot in clip.shots], clip.warnings) == ([layout], [])
    assert faults(clip) == []


def test_a_yellow_cover_is_no_caption(tmp_path: Path):
    """The highlighted word is looked for where the blurred cover is."""
    file = sound_file(tmp_path / "a.mp3", cover=YELLOW, seconds=90)
    source = acquire_file(file, "a.mp3", DownloadOptions(), tmp_path / "out")
    footage = Footage(source.video, source.audio, source.info)
    clip = render_clip(drawing(CLIP), footage, OPTIONS, tmp_path)
    measured = measure_clip(clip.path, clip.source, clip.look)
    assert {pixels for _, pixels in measured.highlight} == {0}
