"""Makes `sample.mp4` and `short.mp4` and their ground truth from `talk.json`.

    apt-get install festival festvox-us-slt-hts
    python3 -m venv /tmp/sample && /tmp/sample/bin/pip install \
        scikit-image opencv-python-headless pillow fontpkg-poppins imageio-ffmpeg
    /tmp/sample/bin/python tests/media/make_sample.py

It takes a few minutes and is needed only when the talk changes: its results are committed.
"""

import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import speech
import stage
from speech import RATE, Line, Samples, SpokenLine
from stage import FPS, HEIGHT, WIDTH

HERE = Path(__file__).parent
BEFORE = 0.8
"""Seconds before the first word."""

ENCODER = """
    -vf scale=out_color_matrix=bt709:out_range=tv,format=yuv420p
    -c:v libx264 -preset veryslow -tune animation -crf 31
    -x264-params keyint=250:colorprim=bt709:transfer=bt709:colormatrix=bt709
    -c:a aac -b:a 40k -ar 48000 -ac 1
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact -movflags +faststart
"""
"""Small enough to commit: about 130 kbit/s in all."""


@dataclass(frozen=True)
class Shot:
    """Frames `first` to `last`, both shown, of one view; `lines` are the words on its slide."""

    first: int
    last: int
    view: str
    lines: tuple[str, ...]


def main() -> None:
    talk = json.loads((HERE / "talk.json").read_text())
    script = [
        Line(section["name"], text, section["speed"], section["gain"], after)
        for section in talk["sections"]
        for text, after in section["lines"]
    ]
    samples, spoken = speech.speak(script, BEFORE)
    frames = int(len(samples) / RATE * FPS)
    shots = plan_shots(talk, spoken, frames)
    make("sample", talk, samples, spoken, shots, 0, frames)
    first, end = excerpt(talk["short"], spoken, shots)
    make("short", talk, samples, spoken, shots, first, end)


def excerpt(name: str, spoken: list[SpokenLine], shots: list[Shot]) -> tuple[int, int]:
    """Frames of one section: from the cut before its first word up to 0.6 s after its last."""
    lines = [line for line in spoken if line.section == name]
    first = max(shot.first for shot in shots if shot.first / FPS <= lines[0].start)
    return first, int((lines[-1].end + 0.6) * FPS)


def plan_shots(talk: dict[str, Any], spoken: list[SpokenLine], frames: int) -> list[Shot]:
    """Place each cut on the first frame after the middle of the silence before its line."""
    firsts: list[int] = []
    looks: list[tuple[str, tuple[str, ...]]] = []
    for section in talk["sections"]:
        begin = next(n for n, line in enumerate(spoken) if line.section == section["name"])
        for shot in section["shots"]:
            number = begin + shot["line"]
            silence = (spoken[number - 1].end, spoken[number].start) if number else (0.0, 0.0)
            firsts.append(int(np.ceil(sum(silence) / 2 * FPS)))
            looks.append((shot["view"], tuple(talk["slides"].get(shot.get("slide"), ()))))
    return [Shot(a, b - 1, *look) for (a, b), look in zip(pairwise([*firsts, frames]), looks, strict=True)]


def make(
    name: str, talk: dict[str, Any], samples: Samples, spoken: list[SpokenLine], shots: list[Shot], first: int, end: int
) -> None:
    """Write `name`.mp4, showing the frames from `first` up to `end`, and `name`.json."""
    sound = samples[first * RATE // FPS : end * RATE // FPS]
    truth = tell(talk, spoken, shots, first, end)
    (HERE / f"{name}.json").write_text(layout(truth))
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "talk.wav"
        speech.write_wave(wave, sound)
        encode(HERE / f"{name}.mp4", wave, shots, mouths(samples), first, end)


def tell(talk: dict[str, Any], spoken: list[SpokenLine], shots: list[Shot], first: int, end: int) -> dict[str, Any]:
    """The ground truth of the frames from `first` up to `end`, in seconds from the first of them."""
    offset = first / FPS
    lines = [line for line in spoken if offset <= line.start and line.end <= end / FPS]
    kinds = {section["name"]: section["kind"] for section in talk["sections"]}
    sections = [
        {"name": name, "kind": kinds[name], **span([line for line in lines if line.section == name], offset)}
        for name in dict.fromkeys(line.section for line in lines)
    ]
    gaps = [(b.start - a.end, a.end, b.start) for a, b in pairwise(lines)]
    _, quiet, loud = max(gaps)
    return {
        "duration": (end - first) / FPS,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": FPS,
        "highlights": [
            {"name": section["name"], "start": section["start"], "end": section["end"]}
            for section in sections
            if section["kind"].startswith("highlight")
        ],
        "pause": {"start": seconds(quiet - offset), "end": seconds(loud - offset)},
        "cuts": [seconds(shot.first / FPS - offset) for shot in shots if first < shot.first < end],
        "sections": sections,
        "sentences": [{"text": line.text, "section": line.section, **span([line], offset)} for line in lines],
        "words": [
            {"word": word.word, "start": seconds(word.start - offset), "end": seconds(word.end - offset)}
            for line in lines
            for word in line.words
        ],
        "face": [key for shot in shots for key in faces(shot, first, end)],
    }


def faces(shot: Shot, first: int, end: int) -> list[dict[str, float | None]]:
    """The shot's keys inside the range; a shot without a face has two keys without a position."""
    begin, finish = max(shot.first, first), min(shot.last, end - 1)
    if begin > finish:
        return []
    if shot.view == "slide":
        return [
            {"t": seconds((frame - first) / FPS), "x": None, "y": None, "w": None, "h": None}
            for frame in (begin, finish)
        ]
    keys = [asdict(key) for key in stage.face_keys(stage.VIEWS[shot.view], shot.first, shot.last)]
    inside = [key for key in keys if begin <= round(key["t"] * FPS) <= finish]
    return [{"t": seconds(key["t"] - first / FPS), **{name: round(key[name], 1) for name in "xywh"}} for key in inside]


def span(lines: list[SpokenLine], offset: float) -> dict[str, float]:
    return {"start": seconds(lines[0].start - offset), "end": seconds(lines[-1].end - offset)}


def seconds(value: float) -> float:
    return round(value, 3)


def layout(truth: dict[str, Any]) -> str:
    """JSON with one item per line, so that diffs are readable."""
    rows = []
    for name, value in truth.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n    ".join(json.dumps(item) for item in value)
            rows.append(f'  "{name}": [\n    {items}\n  ]')
        else:
            rows.append(f'  "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(rows) + "\n}\n"


def mouths(samples: Samples) -> Samples:
    """How far the mouth is open at every frame, 0 to 1: the loudness of 80 ms around it."""
    step, reach = RATE // FPS, RATE // 25
    padded = np.pad(samples, reach)
    levels = [float(np.sqrt(np.mean(padded[n : n + 2 * reach] ** 2))) for n in range(0, len(samples) - step + 1, step)]
    return np.clip(np.array(levels, np.float32) / 0.16, 0, 1)


def encode(target: Path, wave: Path, shots: list[Shot], openings: Samples, first: int, end: int) -> None:
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    picture_in = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-"]
    command = [*ffmpeg, *picture_in, "-i", str(wave), *ENCODER.split(), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        for shot in shots:
            for frame in range(max(first, shot.first), min(end, shot.last + 1)):
                process.stdin.write(picture(shot, frame, float(openings[frame])).tobytes())
        process.stdin.close()
        if process.wait():
            message = f"ffmpeg failed to write {target}"
            raise RuntimeError(message)


def picture(shot: Shot, frame: int, mouth: float) -> stage.Picture:
    if shot.view == "slide":
        return stage.draw(frame / FPS, None, stage.slide(shot.lines, 1120), 80, 0)
    view = stage.VIEWS[shot.view]
    keys = stage.face_keys(view, shot.first, shot.last)
    times = [key.t for key in keys]
    x, width = (float(np.interp(frame / FPS, times, [getattr(key, name) for key in keys])) for name in "xw")
    screen = stage.slide(shot.lines, 530) if shot.lines and view.screen is not None else None
    return stage.draw(frame / FPS, (x, view.face_y, width / stage.FACE_W), screen, view.screen or 0, mouth)


if __name__ == "__main__":
    main()
