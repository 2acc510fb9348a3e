"""Speaks a list of lines with Festival's HTS voice and returns the true time of every word.

Needs Debian's `festival` and `festvox-us-slt-hts`, and numpy.
"""

import json
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 32_000
"""Samples per second that the voice produces."""

LEAD, TAIL = 0.06, 0.12
"""Seconds of a line's silence that are kept before its first and after its last word."""

Samples = npt.NDArray[np.float32]

VOICE = r"""
(voice_cmu_us_slt_arctic_hts)
(define (spell token)
  (if (item.daughters token) (format out "=\n"))
  (mapcar (lambda (word)
    (if (not (equal? 0.0 (item.feat word "word_end")))
      (format out "%.4f %.4f\n" (item.feat word "word_start") (item.feat word "word_end"))))
    (item.daughters token)))
(define (say text wav times speed)
  (set! hts_engine_params (append cmu_us_slt_arctic_hts::hts_engine_params (list (list "-r" speed))))
  (set! utt (utt.synth (eval (list 'Utterance 'Text text))))
  (utt.save.wave utt wav 'riff)
  (set! out (fopen times "w"))
  (mapcar spell (utt.relation.items utt 'Token))
  (fclose out))
"""


@dataclass(frozen=True)
class Line:
    """One sentence: text, speed (1 is the voice's normal pace), gain, and seconds of silence after it."""

    section: str
    text: str
    speed: float
    gain: float
    after: float


@dataclass(frozen=True)
class SpokenWord:
    word: str
    start: float
    end: float


@dataclass(frozen=True)
class SpokenLine:
    section: str
    text: str
    words: list[SpokenWord]

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end


def speak(lines: list[Line], before: float) -> tuple[Samples, list[SpokenLine]]:
    """Samples at `RATE`, peak 0.7, and the lines with times in seconds from the first sample."""
    with tempfile.TemporaryDirectory() as folder:
        takes = synthesise(lines, Path(folder))
    clock = before
    parts = [silence(before)]
    spoken: list[SpokenLine] = []
    for line, (voice, words) in zip(lines, takes, strict=True):
        begin = max(0.0, words[0].start - LEAD)
        finish = min(len(voice) / RATE, words[-1].end + TAIL)
        take = faded(voice[round(begin * RATE) : round(finish * RATE)]) * line.gain
        shift = clock - round(begin * RATE) / RATE
        moved = [SpokenWord(word.word, word.start + shift, word.end + shift) for word in words]
        spoken.append(SpokenLine(line.section, line.text, moved))
        rest = silence(max(0.0, line.after - LEAD - TAIL))
        parts += [take, rest]
        clock += (len(take) + len(rest)) / RATE
    samples = np.concatenate(parts)
    return 0.7 * samples / np.abs(samples).max() + room_tone(len(samples)), spoken


def synthesise(lines: list[Line], folder: Path) -> list[tuple[Samples, list[SpokenWord]]]:
    calls = [
        f"(say {json.dumps(line.text)} {json.dumps(str(folder / f'{n}.wav'))}"
        f" {json.dumps(str(folder / f'{n}.txt'))} {line.speed})"
        for n, line in enumerate(lines)
    ]
    script = folder / "talk.scm"
    script.write_text(VOICE + "\n".join(calls) + "\n")
    subprocess.run(["festival", "-b", str(script)], check=True)
    return [
        (read_wave(folder / f"{n}.wav"), word_times(line.text, (folder / f"{n}.txt").read_text()))
        for n, line in enumerate(lines)
    ]


def word_times(text: str, report: str) -> list[SpokenWord]:
    """Festival's tokens are the text split at white space; a token such as `46` is spoken as several words."""
    words: list[SpokenWord] = []
    tokens = [block.strip().split("\n") for block in report.split("=\n")[1:]]
    for written, rows in zip(text.split(), tokens, strict=True):
        times = [[float(number) for number in row.split()] for row in rows]
        words.append(SpokenWord(written.strip('"'), times[0][0], times[-1][1]))
    return words


def read_wave(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        if file.getframerate() != RATE:
            message = f"{path} has {file.getframerate()} samples per second, not {RATE}"
            raise ValueError(message)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return samples.astype(np.float32) / np.float32(32768)


def write_wave(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes())


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def faded(take: Samples) -> Samples:
    """Fade 10 ms at both ends, so that joins do not click."""
    ramp = np.minimum(1, np.arange(len(take)) / (0.01 * RATE)).astype(np.float32)
    return take * ramp * ramp[::-1]


def room_tone(count: int) -> Samples:
    """Soft noise at about -62 dBFS, like a microphone in a quiet hall instead of digital silence."""
    noise = np.random.default_rng(4).standard_normal(count + 63).astype(np.float32)
    soft = np.convolve(noise, np.hanning(64), "valid")
    return (soft / soft.std() * 10 ** (-62 / 20)).astype(np.float32)
